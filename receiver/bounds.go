package receiver

import (
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// bounds are what a sample must keep whatever its series.
type bounds struct {
	min, max int64 // ms
	newest   int64 // timestamp of all that were looked at, ms
	now      time.Time
	lim      *tenant.Limits
}

// check drops from the end of the frame's columns, from nf, nh and ne on, what
// is out of bounds, and counts it under series i.
func (b *bounds) check(req *request, i uint32, nf, nh, ne int) {
	f := &req.frame
	outside := false
	for j := nf; j < len(f.Floats); j++ {
		t := f.Floats[j].T
		b.newest = max(b.newest, t)
		outside = outside || t > b.max || t < b.min
	}
	if outside {
		f.Floats = keep(f.Floats, nf, func(s *proto.Float) bool {
			return b.inTime(req, i, s.T, proto.Counts{Samples: 1})
		})
	}
	for j := nh; j < len(f.Histograms); j++ {
		b.newest = max(b.newest, f.Histograms[j].T)
	}
	if nh < len(f.Histograms) {
		f.Histograms = keep(f.Histograms, nh, func(h *proto.Histogram) bool {
			return b.inTime(req, i, h.T, proto.Counts{Histograms: 1}) && b.histogram(req, i, h)
		})
	}
	for j := ne; j < len(f.Exemplars); j++ {
		if f.Exemplars[j].Ts > b.max {
			f.Exemplars = keep(f.Exemplars, ne, func(e *exemplar.Exemplar) bool {
				return e.Ts <= b.max || b.inTime(req, i, e.Ts, proto.Counts{Exemplars: 1})
			})
			break
		}
	}
}

// keep filters s[from:] in place.
func keep[T any](s []T, from int, ok func(*T) bool) []T {
	n := from
	for j := from; j < len(s); j++ {
		if ok(&s[j]) {
			s[n] = s[j]
			n++
		}
	}
	clear(s[n:])
	return s[:n]
}

func (b *bounds) inTime(req *request, i uint32, t int64, c proto.Counts) bool {
	switch {
	case t > b.max:
		req.rejected.Add(proto.SampleTooFarInFuture, c, i, t, func() string {
			return fmt.Sprintf("%s ahead of this server's clock, the limit future_grace is %s; check the sender's clock",
				proto.Span(b.now.UnixMilli(), t), b.lim.FutureGrace)
		})
	case t < b.min:
		req.rejected.Add(proto.SampleTooOld, c, i, t, func() string {
			return fmt.Sprintf("%s behind this server's clock, the limit past_grace is %s",
				proto.Span(t, b.now.UnixMilli()), b.lim.PastGrace)
		})
	default:
		return true
	}
	return false
}

// histogram checks a native histogram and brings a resolution that is finer
// than the store's to the store's finest.
func (b *bounds) histogram(req *request, i uint32, h *proto.Histogram) bool {
	one := proto.Counts{Histograms: 1}
	if n := buckets(h); n > b.lim.MaxHistogramBuckets {
		req.rejected.Add(proto.HistogramTooManyBuckets, one, i, h.T, func() string {
			return fmt.Sprintf("%d buckets, the limit max_histogram_buckets is %d", n, b.lim.MaxHistogramBuckets)
		})
		return false
	}
	err := checkIndexes(h)
	switch {
	case err != nil:
	case h.H != nil:
		if fine(h.H.Schema) {
			err = h.H.ReduceResolution(histogram.ExponentialSchemaMax)
		}
		if err == nil {
			err = h.H.Validate()
		}
	default:
		if fine(h.FH.Schema) {
			err = h.FH.ReduceResolution(histogram.ExponentialSchemaMax)
		}
		if err == nil {
			err = h.FH.Validate()
		}
	}
	if err != nil {
		req.rejected.Add(proto.HistogramInvalid, one, i, h.T, err.Error)
	}
	return err == nil
}

// checkIndexes wants buckets that hold numbers there are: those of the Prometheus
// library that add histograms up count on it, and panic otherwise.
func checkIndexes(h *proto.Histogram) error {
	var (
		schema int32
		sides  [2][]histogram.Span
	)
	if h.H != nil {
		schema, sides = h.H.Schema, [...][]histogram.Span{h.H.PositiveSpans, h.H.NegativeSpans}
	} else {
		schema, sides = h.FH.Schema, [...][]histogram.Span{h.FH.PositiveSpans, h.FH.NegativeSpans}
	}
	if histogram.IsCustomBucketsSchema(schema) {
		return nil // as many as they have bounds
	}
	// Of schema 0, bucket i ends at 2 to the power of i, and a float64 is at most
	// 2^1024 and at least 2^-1074. Each schema above has twice as many.
	const powers = 1100
	limit := min(int64(powers)<<min(max(schema, 0), 32), math.MaxInt32)
	for _, spans := range sides {
		index := int64(0)
		for _, s := range spans {
			index += int64(s.Offset)
			if index < -limit || index+int64(s.Length) > limit {
				return fmt.Errorf("a bucket at the index %d, which no number can be in at schema %d", index, schema)
			}
			index += int64(s.Length)
		}
	}
	return nil
}

func fine(schema int32) bool {
	return histogram.IsExponentialSchemaReserved(schema) && schema > histogram.ExponentialSchemaMax
}

func buckets(h *proto.Histogram) int {
	if h.H != nil {
		return len(h.H.PositiveBuckets) + len(h.H.NegativeBuckets)
	}
	return len(h.FH.PositiveBuckets) + len(h.FH.NegativeBuckets)
}
