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
	RelabelDropped // by the tenant's own rules: no refusal, its sender is told that it was written
	ValueRejected
	BoundLabelConflict
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
	MetadataLimit
	PointUntranslatable
	DeltaOutOfOrder
	DeltaTooManySeries
	SeriesLimit
	MetricSeriesLimit
	LabelSetSeriesLimit
	Quarantined
	LabelSetRate

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
	RelabelDropped:          "weir-relabel-dropped",
	ValueRejected:           "weir-value-rejected",
	BoundLabelConflict:      "weir-bound-label-conflict",
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
	MetadataLimit:           "weir-metadata-limit",
	PointUntranslatable:     "weir-otlp-point-untranslatable",
	DeltaOutOfOrder:         "weir-otlp-delta-out-of-order",
	DeltaTooManySeries:      "weir-otlp-delta-too-many-series",
	SeriesLimit:             "weir-series-limit",
	MetricSeriesLimit:       "weir-metric-series-limit",
	LabelSetSeriesLimit:     "weir-label-set-series-limit",
	Quarantined:             "weir-quarantined",
	LabelSetRate:            "weir-label-set-rate",
}

// ID returns the stable id of r.
func (r Reason) ID() string { return reasonIDs[r] }

// Rejections counts what was refused, by reason, and keeps an example of each.
type Rejections struct {
	Counts   [Reasons]Counts
	Examples []Example // in the order in which the reasons came up
	// Refused says what was refused of which series, in the order of the calls; a
	// series may be in it several times. It has the first maxRefused of a request, or
	// all when Track is set.
	Refused []Refused
	Track   bool
	total   int
}

// Refused is what was refused of one series for one reason.
type Refused struct {
	Reason Reason
	Series uint32 // index of the series in the request or frame it was found in, or NoSeries
	Counts Counts
	T      int64 // of the first such sample, ms; 0 when the whole series was refused
}

// maxRefused bounds what is remembered of a request that is full of refusals: it
// is for people, who need not see all of it.
const maxRefused = 4096

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
	if n == (Counts{}) {
		return // it is no first one either
	}
	first := r.Counts[reason] == Counts{}
	r.Counts[reason].Add(n)
	r.total += n.Total()
	r.add(Refused{Reason: reason, Series: series, Counts: n, T: t})
	if first {
		r.Examples = append(r.Examples, Example{Reason: reason, Series: series, T: t, Detail: detail()})
	}
}

// add remembers x, together with those before of the same series and reason: a
// series has many samples, which may be refused for two reasons by turns.
func (r *Rejections) add(x Refused) {
	n := len(r.Refused)
	for i := n - 1; i >= 0 && r.Refused[i].Series == x.Series; i-- {
		if r.Refused[i].Reason == x.Reason {
			r.Refused[i].Counts.Add(x.Counts)
			return
		}
	}
	if r.Track || n < maxRefused {
		r.Refused = append(r.Refused, x)
	}
}

// Total is the number of refusals of every kind.
func (r *Rejections) Total() int { return r.total }

// Merge adds what other counted; series translates its indexes.
func (r *Rejections) Merge(other *Rejections, series func(uint32) uint32) {
	if other.total == 0 {
		return
	}
	for _, e := range other.Examples {
		if r.Counts[e.Reason] == (Counts{}) {
			e.Series = series(e.Series)
			r.Examples = append(r.Examples, e)
		}
	}
	for _, x := range other.Refused {
		x.Series = series(x.Series)
		r.add(x)
	}
	for i := range other.Counts {
		r.Counts[i].Add(other.Counts[i])
	}
	r.total += other.total
}

// Reset empties r, keeping its memory.
func (r *Rejections) Reset() {
	r.Refused, r.Track = r.Refused[:0], false
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
