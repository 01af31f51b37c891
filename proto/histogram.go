package proto

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
)

// wireHistogram is the Histogram message of both versions.
type wireHistogram struct {
	isFloat              bool // the count is one of float counts
	count, zeroCount     uint64
	countF, zeroCountF   float64
	sum, zeroThreshold   float64
	schema               int32
	posSpans, negSpans   []histogram.Span
	posDeltas, negDeltas []int64
	posCounts, negCounts []float64
	hint                 uint64
	t, st                int64
	custom               []float64
}

// readHistogram reads a Histogram message into memory of its own: the store
// keeps it.
func readHistogram(b []byte, v Version) (Histogram, bool) {
	var w wireHistogram
	for p := 0; p < len(b); {
		var f field
		if p = f.next(b, p); p < 0 {
			return Histogram{}, false
		}
		if f.id == 17 && v == V1 {
			continue // not known to version 1
		}
		if !w.set(&f) {
			return Histogram{}, false
		}
	}
	hint := histogram.UnknownCounterReset
	if w.hint <= uint64(histogram.GaugeType) {
		hint = histogram.CounterResetHint(w.hint)
	}
	out := Histogram{T: w.t, ST: w.st}
	if w.isFloat {
		out.FH = &histogram.FloatHistogram{
			CounterResetHint: hint, Schema: w.schema, ZeroThreshold: w.zeroThreshold,
			ZeroCount: w.zeroCountF, Count: w.countF, Sum: w.sum,
			PositiveSpans: w.posSpans, NegativeSpans: w.negSpans,
			PositiveBuckets: w.posCounts, NegativeBuckets: w.negCounts, CustomValues: w.custom,
		}
		return out, true
	}
	out.H = &histogram.Histogram{
		CounterResetHint: hint, Schema: w.schema, ZeroThreshold: w.zeroThreshold,
		ZeroCount: w.zeroCount, Count: w.count, Sum: w.sum,
		PositiveSpans: w.posSpans, NegativeSpans: w.negSpans,
		PositiveBuckets: w.posDeltas, NegativeBuckets: w.negDeltas, CustomValues: w.custom,
	}
	return out, true
}

// histogramWire is the wire type that each field must have; repeated numbers
// may be packed, which is wireBytes.
var histogramWire = [...]int{
	1: wireVarint, 2: wireI64, 3: wireI64, 4: wireVarint, 5: wireI64, 6: wireVarint, 7: wireI64,
	8: wireBytes, 9: wireVarint, 10: wireI64, 11: wireBytes, 12: wireVarint, 13: wireI64,
	14: wireVarint, 15: wireVarint, 16: wireI64, 17: wireVarint,
}

func packable(id int) bool { return id == 9 || id == 10 || id == 12 || id == 13 || id == 16 }

// set takes one field; false means that its wire type or content is wrong.
func (w *wireHistogram) set(f *field) bool {
	if f.id >= len(histogramWire) {
		return true
	}
	if f.wire != histogramWire[f.id] && (f.wire != wireBytes || !packable(f.id)) {
		return false
	}
	ok := true
	switch f.id {
	case 1:
		w.count, w.countF, w.isFloat = f.num, 0, false
	case 2:
		w.countF, w.count, w.isFloat = math.Float64frombits(f.num), 0, true
	case 3:
		w.sum = math.Float64frombits(f.num)
	case 4:
		w.schema = int32(zigzag(f.num & math.MaxUint32))
	case 5:
		w.zeroThreshold = math.Float64frombits(f.num)
	case 6:
		w.zeroCount, w.zeroCountF = f.num, 0
	case 7:
		w.zeroCountF, w.zeroCount = math.Float64frombits(f.num), 0
	case 8:
		w.negSpans, ok = appendSpan(w.negSpans, f.val)
	case 9:
		w.negDeltas, ok = appendDeltas(w.negDeltas, f)
	case 10:
		w.negCounts, ok = appendDoubles(w.negCounts, f)
	case 11:
		w.posSpans, ok = appendSpan(w.posSpans, f.val)
	case 12:
		w.posDeltas, ok = appendDeltas(w.posDeltas, f)
	case 13:
		w.posCounts, ok = appendDoubles(w.posCounts, f)
	case 14:
		w.hint = f.num
	case 15:
		w.t = int64(f.num)
	case 16:
		w.custom, ok = appendDoubles(w.custom, f)
	case 17:
		w.st = int64(f.num)
	}
	return ok
}

func appendSpan(dst []histogram.Span, b []byte) ([]histogram.Span, bool) {
	var s histogram.Span
	for p := 0; p < len(b); {
		var f field
		if p = f.next(b, p); p < 0 || (f.id <= 2 && f.wire != wireVarint) {
			return dst, false
		}
		switch f.id {
		case 1:
			s.Offset = int32(zigzag(f.num & math.MaxUint32))
		case 2:
			s.Length = uint32(f.num)
		}
	}
	return append(dst, s), true
}

func appendDeltas(dst []int64, f *field) ([]int64, bool) {
	if f.wire == wireVarint {
		return append(dst, zigzag(f.num)), true
	}
	n := 0
	for _, c := range f.val {
		if c < 0x80 {
			n++
		}
	}
	if dst == nil {
		dst = make([]int64, 0, n)
	}
	for p := 0; p < len(f.val); {
		var v uint64
		if v, p = uvarint(f.val, p); p < 0 {
			return dst, false
		}
		dst = append(dst, zigzag(v))
	}
	return dst, true
}

func appendDoubles(dst []float64, f *field) ([]float64, bool) {
	if f.wire == wireI64 {
		return append(dst, math.Float64frombits(f.num)), true
	}
	if len(f.val)%8 != 0 {
		return dst, false
	}
	if dst == nil {
		dst = make([]float64, 0, len(f.val)/8)
	}
	for p := 0; p < len(f.val); p += 8 {
		dst = append(dst, math.Float64frombits(le64(f.val, p)))
	}
	return dst, true
}
