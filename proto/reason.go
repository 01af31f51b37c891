package proto

import (
	"math"
	"time"
)

// Reason is why one series or sample of a request was refused while the rest
// was stored.
type Reason uint8

const (
	// OK is no reason: admitted.
	OK Reason = iota
	LabelsMalformed
	SymbolInvalid
	MetricNameMissing
	MetricNameInvalid
	LabelNameInvalid
	LabelValueInvalid
	LabelNameDuplicate
	LabelsTooMany
	LabelNameTooLong
	LabelValueTooLong
	SampleTooFarInFuture
	SampleTooOld
	SampleOutOfOrder
	SampleDuplicate
	HistogramInvalid
	HistogramTooManyBuckets
	ExemplarInvalid
	ExemplarOutOfOrder
	ExemplarWithoutSeries
	MetadataInvalid
	MetadataTooLong
	PointUntranslatable
	DeltaOutOfOrder
	DeltaTooManySeries

	// Reasons is the number of reasons.
	Reasons
)

// reasonIDs are stable: clients, alerts and docs/errors.md name them.
var reasonIDs = [Reasons]string{
	OK:                      "weir-ok",
	LabelsMalformed:         "weir-labels-malformed",
	SymbolInvalid:           "weir-symbol-invalid",
	MetricNameMissing:       "weir-metric-name-missing",
	MetricNameInvalid:       "weir-metric-name-invalid",
	LabelNameInvalid:        "weir-label-name-invalid",
	LabelValueInvalid:       "weir-label-value-invalid",
	LabelNameDuplicate:      "weir-label-name-duplicate",
	LabelsTooMany:           "weir-labels-too-many",
	LabelNameTooLong:        "weir-label-name-too-long",
	LabelValueTooLong:       "weir-label-value-too-long",
	SampleTooFarInFuture:    "weir-sample-too-far-in-future",
	SampleTooOld:            "weir-sample-too-old",
	SampleOutOfOrder:        "weir-sample-out-of-order",
	SampleDuplicate:         "weir-sample-duplicate",
	HistogramInvalid:        "weir-histogram-invalid",
	HistogramTooManyBuckets: "weir-histogram-too-many-buckets",
	ExemplarInvalid:         "weir-exemplar-invalid",
	ExemplarOutOfOrder:      "weir-exemplar-out-of-order",
	ExemplarWithoutSeries:   "weir-exemplar-without-series",
	MetadataInvalid:         "weir-metadata-invalid",
	MetadataTooLong:         "weir-metadata-too-long",
	PointUntranslatable:     "weir-otlp-point-untranslatable",
	DeltaOutOfOrder:         "weir-otlp-delta-out-of-order",
	DeltaTooManySeries:      "weir-otlp-delta-too-many-series",
}

// ID returns the stable id of r.
func (r Reason) ID() string { return reasonIDs[r] }

// maxExamples bounds the examples kept of one request's refusals.
const maxExamples = 8

// Rejections counts what was refused, by reason, and keeps a few examples.
type Rejections struct {
	Counts   [Reasons]Counts
	Examples []Example
	// Series are the indexes of the series that samples were refused of, in the
	// order of the calls, one perhaps several times. They are kept only when Track
	// is set.
	Series []uint32
	Track  bool
	total  int
}

// Example is one refused sample or series.
type Example struct {
	Reason Reason
	Series uint32 // index of the series in the request or frame it was found in, or NoSeries
	T      int64  // the sample's timestamp, ms; 0 when the whole series was refused
	Detail string // what the reason's id does not say: the value, the limit
}

// NoSeries is the series of what belongs to none, such as metadata of version 1.
const NoSeries = math.MaxUint32

// Add counts n refusals; detail makes the text of the example when this is the
// first of its reason, so that a request full of them costs one text.
func (r *Rejections) Add(reason Reason, n Counts, series uint32, t int64, detail func() string) {
	first := r.Counts[reason] == Counts{}
	r.Counts[reason].Add(n)
	r.total += n.Total()
	if r.Track && n.Samples+n.Histograms > 0 && series != NoSeries {
		r.Series = append(r.Series, series)
	}
	if first && len(r.Examples) < maxExamples {
		r.Examples = append(r.Examples, Example{Reason: reason, Series: series, T: t, Detail: detail()})
	}
}

// Total is the number of refusals of every kind.
func (r *Rejections) Total() int { return r.total }

// Merge adds what other counted; series translates its examples' indexes.
func (r *Rejections) Merge(other *Rejections, series func(uint32) uint32) {
	if other.total == 0 {
		return
	}
	for _, e := range other.Examples {
		if r.Counts[e.Reason] == (Counts{}) && len(r.Examples) < maxExamples {
			e.Series = series(e.Series)
			r.Examples = append(r.Examples, e)
		}
	}
	for _, s := range other.Series {
		r.Series = append(r.Series, series(s))
	}
	for i := range other.Counts {
		r.Counts[i].Add(other.Counts[i])
	}
	r.total += other.total
}

// Reset empties r, keeping its memory.
func (r *Rejections) Reset() {
	r.Series, r.Track = r.Series[:0], false
	if r.total == 0 && len(r.Examples) == 0 {
		return
	}
	clear(r.Counts[:])
	r.Examples = reset(r.Examples)
	r.total = 0
}

// Span says how far apart two timestamps (ms, from before to) are, however far.
func Span(from, to int64) string {
	d := to - from
	if d < 0 || d > math.MaxInt64/int64(time.Millisecond) {
		return "more than 292 years"
	}
	return (time.Duration(d) * time.Millisecond).String()
}
