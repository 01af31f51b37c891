package loadgen

// mix is a stateless random function of two words (splitmix64's finaliser).
func mix(a, b uint64) uint64 {
	z := a*0x9e3779b97f4a7c15 + b + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// value of a float series in a round. seed is the series' own. As on real
// fleets, many counters stand still, some grow by whole numbers and few by
// fractions of seconds; gauges are whole numbers or fractions.
func value(k kind, seed uint64, round int) float64 {
	noise := mix(seed, uint64(round))
	switch k {
	case constant:
		return float64(seed % 3)
	case counter:
		rate := seed >> 8 % 200
		switch seed % 8 {
		case 0, 1, 2: // an error path that nobody takes
			return float64(rate)
		case 3: // seconds
			return float64(rate)*0.13*float64(round) + float64(noise%1000)/8192
		default:
			return float64(seed>>40%1e6 + rate*uint64(round) + noise%(rate+1))
		}
	default:
		if seed%4 == 0 {
			return float64(noise%10000) / 9973
		}
		return float64(seed>>20%4096*4096 + noise%256*4096)
	}
}

// nativeHistogram is an exponential native histogram with integer counts.
type nativeHistogram struct {
	count, zeroCount uint64
	sum              float64
	schema           int32
	offset           int32    // of the only span
	counts           []uint64 // absolute, per bucket
}

// histogramValue fills h with the histogram of a series in a round: a bell of
// request durations whose buckets only grow.
func histogramValue(h *nativeHistogram, seed uint64, round int) {
	const width = 16
	h.schema = 3
	h.offset = int32(seed%64) - 48
	h.zeroCount = seed >> 8 % 3 * uint64(round)
	h.count = h.zeroCount
	h.counts = h.counts[:0]
	for i := range uint64(width) {
		rate := min(i+1, width-i) * (seed>>16%9 + 1)
		n := rate*uint64(round+1) + mix(seed+i, uint64(round))%rate
		h.counts = append(h.counts, n)
		h.count += n
	}
	h.sum = float64(h.count) * 0.0625
}
