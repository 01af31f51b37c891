package querier

// ordered elements have a total order.
type ordered[T any] interface{ before(T) bool }

// heapify makes h a binary heap: h[0] is before all others.
func heapify[T ordered[T]](h []T) {
	for i := len(h)/2 - 1; i >= 0; i-- {
		siftDown(h, i)
	}
}

// siftDown restores the heap h after h[i] grew.
func siftDown[T ordered[T]](h []T, i int) {
	for {
		least := i
		if l := 2*i + 1; l < len(h) && h[l].before(h[least]) {
			least = l
		}
		if r := 2*i + 2; r < len(h) && h[r].before(h[least]) {
			least = r
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// pop moves h[0] behind the end of the heap, and returns the heap without it.
func pop[T ordered[T]](h []T) []T {
	last := len(h) - 1
	h[0], h[last] = h[last], h[0]
	siftDown(h[:last], 0)
	return h[:last]
}
