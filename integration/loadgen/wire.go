package loadgen

import (
	"encoding/binary"
	"math"
)

// Tags are field number << 3 | wire type, as both protocols' .proto files
// number their fields: prompb/remote.proto and types.proto for 1.0,
// io/prometheus/write/v2/types.proto for 2.0.
const (
	tagV1TimeSeries = 1<<3 | 2
	tagV1Label      = 1<<3 | 2
	tagV1Histogram  = 4<<3 | 2

	tagV2Symbol     = 4<<3 | 2
	tagV2TimeSeries = 5<<3 | 2
	tagV2LabelsRefs = 1<<3 | 2
	tagV2Histogram  = 3<<3 | 2
	tagV2Metadata   = 5<<3 | 2

	tagSample = 2<<3 | 2 // the same in both
)

// sampleBytes is the encoded length of a Sample: tag and value, tag and
// timestamp. The timestamp takes six bytes from 1971 to 2109.
const sampleBytes = 1 + 8 + 1 + 6

// appendField appends a length-delimited field.
func appendField(dst []byte, tag byte, content string) []byte {
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(content)))
	return append(dst, content...)
}

// appendDouble appends a double field, zero or not.
func appendDouble(dst []byte, field byte, v float64) []byte {
	dst = append(dst, field<<3|1)
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

// appendVarint appends a varint field, zero or not.
func appendVarint(dst []byte, field byte, v uint64) []byte {
	dst = append(dst, field<<3)
	return binary.AppendUvarint(dst, v)
}

// zigzag maps signed to unsigned as protobuf's sint types do.
func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

// appendSampleHeader appends what precedes the value of a sample.
func appendSampleHeader(dst []byte) []byte { return append(dst, tagSample, sampleBytes, 1<<3|1) }

// appendSample appends value and timestamp behind a sample header.
func appendSample(dst []byte, v float64, timestamp int64) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	return appendVarint(dst, 2, uint64(timestamp))
}

// appendLabelsV1 appends repeated Label fields.
func appendLabelsV1(dst []byte, labels []label) []byte {
	for _, l := range labels {
		size := 2 + uvarintLen(len(l.name)) + len(l.name) + uvarintLen(len(l.value)) + len(l.value)
		dst = append(dst, tagV1Label)
		dst = binary.AppendUvarint(dst, uint64(size))
		dst = appendField(dst, 1<<3|2, l.name)
		dst = appendField(dst, 2<<3|2, l.value)
	}
	return dst
}

// symbols is a symbol table in encoded form. Reference 0 is the empty string.
type symbols struct {
	refs    map[string]uint32
	encoded []byte
}

func newSymbols() *symbols {
	s := &symbols{refs: map[string]uint32{}}
	s.ref("")
	return s
}

func (s *symbols) ref(text string) uint32 {
	if r, ok := s.refs[text]; ok {
		return r
	}
	r := uint32(len(s.refs))
	s.refs[text] = r
	s.encoded = appendField(s.encoded, tagV2Symbol, text)
	return r
}

// appendLabelsV2 appends the packed labels_refs field.
func appendLabelsV2(dst []byte, s *symbols, labels []label) []byte {
	size := 0
	for _, l := range labels {
		size += uvarintLen(int(s.ref(l.name))) + uvarintLen(int(s.ref(l.value)))
	}
	dst = append(dst, tagV2LabelsRefs)
	dst = binary.AppendUvarint(dst, uint64(size))
	for _, l := range labels {
		dst = binary.AppendUvarint(dst, uint64(s.ref(l.name)))
		dst = binary.AppendUvarint(dst, uint64(s.ref(l.value)))
	}
	return dst
}

// appendMetadataV2 appends the metadata field.
func appendMetadataV2(dst []byte, s *symbols, v *variant) []byte {
	help, unit := s.ref(v.help), s.ref(v.unit)
	size := 2 + 1 + uvarintLen(int(help)) + 1 + uvarintLen(int(unit))
	dst = append(dst, tagV2Metadata, byte(size))
	dst = appendVarint(dst, 1, uint64(v.metricType))
	dst = appendVarint(dst, 3, uint64(help))
	return appendVarint(dst, 4, uint64(unit))
}

// appendHistogram appends the content of a Histogram message, the same in both
// protocols. The packed lists are short enough for lengths of one byte per
// bucket times ten.
func appendHistogram(dst, scratch []byte, h *nativeHistogram, timestamp int64) []byte {
	dst = appendVarint(dst, 1, h.count)
	dst = appendDouble(dst, 3, h.sum)
	dst = appendVarint(dst, 4, zigzag(int64(h.schema)))
	dst = appendDouble(dst, 5, 0x1p-128)
	dst = appendVarint(dst, 6, h.zeroCount)

	span := appendVarint(scratch[:0], 1, zigzag(int64(h.offset)))
	span = appendVarint(span, 2, uint64(len(h.counts)))
	dst = appendField(dst, 11<<3|2, string(span))

	deltas := scratch[:0]
	last := uint64(0)
	for _, n := range h.counts {
		deltas = binary.AppendUvarint(deltas, zigzag(int64(n-last)))
		last = n
	}
	dst = appendField(dst, 12<<3|2, string(deltas))
	return appendVarint(dst, 15, uint64(timestamp))
}

func uvarintLen(v int) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
