package proto

// indexPage is the number of hashes in a page: 1 KiB, so that a small tenant
// stays small.
const indexPage = 64

// Index numbers hashes in the order they were added, and finds the number of a
// hash: an open-addressing table over pages that never move. A caller that asks
// in the order of adding can guess the number and check it with Is, which walks
// memory in order. It holds nothing the garbage collector must look into.
//
// Reading may run concurrently, adding not.
type Index struct {
	pages []*[indexPage]Hash
	slots []slot // a power of two, at most half full
	n     uint32
}

// slot refers to a hash. The tag, which is a part of it, spares whoever looks for
// another one a look at its page, which is seldom in a cache.
type slot struct {
	next uint32 // number+1 of the hash, 0: free
	tag  uint32
}

func tagOf(h Hash) uint32 { return uint32(h.Hi) }

// Len is the number of hashes added.
func (x *Index) Len() int { return int(x.n) }

// Is reports whether i is the number of h.
func (x *Index) Is(i uint32, h Hash) bool {
	return i < x.n && x.pages[i/indexPage][i%indexPage] == h
}

// At returns the hash with number i, which must exist.
func (x *Index) At(i uint32) Hash { return x.pages[i/indexPage][i%indexPage] }

// Find returns the number of h.
func (x *Index) Find(h Hash) (uint32, bool) {
	if len(x.slots) == 0 {
		return 0, false
	}
	mask, tag := uint64(len(x.slots)-1), tagOf(h)
	for p := h.Lo & mask; ; p = (p + 1) & mask {
		s := x.slots[p]
		if s.next == 0 {
			return 0, false
		}
		if s.tag == tag && x.At(s.next-1) == h {
			return s.next - 1, true
		}
	}
}

// Add adds h, which must not be in x yet, and returns its number.
func (x *Index) Add(h Hash) uint32 {
	if 2*int(x.n+1) > len(x.slots) {
		x.slots = make([]slot, max(16, 2*len(x.slots)))
		for i := range x.n {
			x.place(x.At(i), i)
		}
	}
	if int(x.n) == len(x.pages)*indexPage {
		x.pages = append(x.pages, new([indexPage]Hash))
	}
	i := x.n
	x.n++
	x.pages[i/indexPage][i%indexPage] = h
	x.place(h, i)
	return i
}

func (x *Index) place(h Hash, i uint32) {
	mask := uint64(len(x.slots) - 1)
	p := h.Lo & mask
	for x.slots[p].next != 0 {
		p = (p + 1) & mask
	}
	x.slots[p] = slot{next: i + 1, tag: tagOf(h)}
}
