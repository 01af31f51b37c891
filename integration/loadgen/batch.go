package loadgen

import "encoding/binary"

// batch is the series of one request. Its label parts are encoded when it is
// built and again only when churn replaced one of its pods.
type batch struct {
	series  []int // numbers in the fleet
	replica int   // of an HA pair; -1: none

	head    []byte  // what precedes the series: the symbols of 2.0
	slab    []byte  // per series: prefix, then suffix
	entries []entry // per series
}

// entry is what a round needs of a series, laid out in the order of use.
type entry struct {
	seed       uint64 // of its values
	phase      int64  // of its timestamps within the interval, in ms
	prefix     uint32 // end of its prefix in the slab
	suffix     uint32 // end of its suffix
	generation int    // of its pod, that the slab was built for
	kind       kind
}

// encode builds the label parts for a round.
//
// The prefix of a float series is everything up to the value of its sample,
// with the tag and length of the TimeSeries. The prefix of a histogram series
// is only its labels, because the length of a histogram varies.
func (b *batch) encode(f *fleet, round int) {
	table := newSymbols()
	var labels []label
	var part, meta []byte
	b.slab, b.entries = b.slab[:0], b.entries[:0]
	for _, s := range b.series {
		generation := f.generation(f.pod(s), round)
		v := f.variant(s)
		labels = f.appendLabels(labels[:0], s, generation, b.replica)
		part, meta = part[:0], meta[:0]
		tag := byte(tagV1TimeSeries)
		if f.cfg.Protocol == V2 {
			tag = tagV2TimeSeries
			part = appendLabelsV2(part, table, labels)
			meta = appendMetadataV2(meta, table, v)
		} else {
			part = appendLabelsV1(part, labels)
		}
		if v.kind == native {
			b.slab = append(b.slab, part...)
		} else {
			b.slab = append(b.slab, tag)
			b.slab = binary.AppendUvarint(b.slab, uint64(len(part)+2+sampleBytes+len(meta)))
			b.slab = append(b.slab, part...)
			b.slab = appendSampleHeader(b.slab)
		}
		e := entry{seed: mix(f.cfg.Seed, uint64(s)|uint64(generation)<<40), phase: f.phase(s, b.replica), kind: v.kind, generation: generation}
		e.prefix = uint32(len(b.slab))
		b.slab = append(b.slab, meta...)
		e.suffix = uint32(len(b.slab))
		b.entries = append(b.entries, e)
	}
	b.head = nil
	if f.cfg.Protocol == V2 {
		b.head = table.encoded
	}
}

// current reports whether the label parts hold for a round.
func (b *batch) current(f *fleet, round int) bool {
	if f.cfg.Churn == 0 {
		return true
	}
	for i, s := range b.series {
		if f.generation(f.pod(s), round) != b.entries[i].generation {
			return false
		}
	}
	return true
}

// encoder holds the scratch of one sender.
type encoder struct {
	histogram nativeHistogram
	message   []byte
	packed    []byte
}

// appendRequest appends the request of a round, not compressed.
func (e *encoder) appendRequest(dst []byte, f *fleet, b *batch, round int) []byte {
	dst = append(dst, b.head...)
	at := f.roundStart(round)
	start := uint32(0)
	for i := range b.entries {
		s := &b.entries[i]
		prefix, suffix := b.slab[start:s.prefix], b.slab[s.prefix:s.suffix]
		start = s.suffix
		if s.kind == native {
			dst = e.appendHistogramSeries(dst, f.cfg.Protocol, prefix, suffix, s.seed, round, at+s.phase)
			continue
		}
		dst = append(dst, prefix...)
		dst = appendSample(dst, value(s.kind, s.seed, round), at+s.phase)
		dst = append(dst, suffix...)
	}
	return dst
}

// appendHistogramSeries appends a TimeSeries with one native histogram.
func (e *encoder) appendHistogramSeries(dst []byte, p Protocol, prefix, suffix []byte, seed uint64, round int, timestamp int64) []byte {
	histogramValue(&e.histogram, seed, round)
	if e.packed == nil {
		e.packed = make([]byte, 0, 1024)
	}
	e.message = appendHistogram(e.message[:0], e.packed, &e.histogram, timestamp)
	tag, field := byte(tagV1TimeSeries), byte(tagV1Histogram)
	if p == V2 {
		tag, field = tagV2TimeSeries, tagV2Histogram
	}
	size := len(prefix) + 1 + uvarintLen(len(e.message)) + len(e.message) + len(suffix)
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = append(dst, prefix...)
	dst = append(dst, field)
	dst = binary.AppendUvarint(dst, uint64(len(e.message)))
	dst = append(dst, e.message...)
	return append(dst, suffix...)
}
