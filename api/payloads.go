package api

import (
	"maps"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/stats"
)

// queryResult is the data of query and query_range.
type queryResult struct {
	value parser.Value
	stats stats.QueryStats // nil: not asked for
}

func (q queryResult) encode(e *encoder) {
	e.raw(`{"resultType":"`)
	e.raw(string(q.value.Type()))
	e.raw(`","result":`)
	switch v := q.value.(type) {
	case promql.Matrix:
		e.matrix(v)
	case promql.Vector:
		e.vector(v)
	case promql.Scalar:
		// Unlike other values, never in exponential form.
		e.raw(`[`)
		e.buf = appendSeconds(e.buf, v.T)
		e.raw(`,"`)
		e.buf = strconv.AppendFloat(e.buf, v.V, 'f', -1, 64)
		e.raw(`"]`)
	case promql.String:
		e.raw(`[`)
		e.buf = appendSeconds(e.buf, v.T)
		e.raw(`,`)
		e.string(v.V)
		e.raw(`]`)
	}
	if q.stats != nil {
		e.raw(`,"stats":`)
		e.marshal(q.stats)
	}
	e.raw(`}`)
}

// Bytes of JSON around the values, about.
const (
	pointSize    = 24 // [1700000000,"12345.67"],
	bucketSize   = 48
	elementSize  = 32
	quotingBytes = 6 // of a label: "name":"value",
)

func (q queryResult) size() (n int64) {
	switch v := q.value.(type) {
	case promql.Matrix:
		for _, s := range v {
			n += elementSize + labelsSize(s.Metric) + int64(len(s.Floats))*pointSize
			for _, p := range s.Histograms {
				n += histogramSize(p.H)
			}
		}
	case promql.Vector:
		for _, s := range v {
			n += elementSize + labelsSize(s.Metric) + pointSize
			if s.H != nil {
				n += histogramSize(s.H)
			}
		}
	case promql.String:
		n = int64(len(v.V))
	}
	return n
}

func labelsSize(ls labels.Labels) (n int64) {
	ls.Range(func(l labels.Label) { n += int64(len(l.Name)+len(l.Value)) + quotingBytes })
	return n
}

func histogramSize(h *histogram.FloatHistogram) int64 {
	return 2*pointSize + int64(len(h.PositiveBuckets)+len(h.NegativeBuckets)+1)*bucketSize
}

func (e *encoder) matrix(m promql.Matrix) {
	e.raw(`[`)
	for i, s := range m {
		e.comma(i)
		e.raw(`{"metric":`)
		e.labels(s.Metric)
		if len(s.Floats) > 0 {
			e.raw(`,"values":[`)
			for i, p := range s.Floats {
				e.comma(i)
				e.point(p.T, p.F)
				e.rest()
			}
			e.raw(`]`)
		}
		if len(s.Histograms) > 0 {
			e.raw(`,"histograms":[`)
			for i, p := range s.Histograms {
				e.comma(i)
				e.histogramPoint(p.T, p.H)
				e.rest()
			}
			e.raw(`]`)
		}
		e.raw(`}`)
		e.rest()
	}
	e.raw(`]`)
}

func (e *encoder) vector(v promql.Vector) {
	e.raw(`[`)
	for i, s := range v {
		e.comma(i)
		e.raw(`{"metric":`)
		e.labels(s.Metric)
		if s.H == nil {
			e.raw(`,"value":`)
			e.point(s.T, s.F)
		} else {
			e.raw(`,"histogram":`)
			e.histogramPoint(s.T, s.H)
		}
		e.raw(`}`)
		e.rest()
	}
	e.raw(`]`)
}

// stringList is the data of labels and label values.
type stringList []string

func (l stringList) encode(e *encoder) {
	e.raw(`[`)
	for i, s := range l {
		e.comma(i)
		e.string(s)
		e.rest()
	}
	e.raw(`]`)
}

func (l stringList) size() (n int64) {
	for _, s := range l {
		n += int64(len(s)) + 3
	}
	return n
}

// seriesList is the data of series.
type seriesList []labels.Labels

func (l seriesList) encode(e *encoder) {
	e.raw(`[`)
	for i, ls := range l {
		e.comma(i)
		e.labels(ls)
		e.rest()
	}
	e.raw(`]`)
}

func (l seriesList) size() (n int64) {
	for _, ls := range l {
		n += labelsSize(ls) + 3
	}
	return n
}

// exemplarList is the data of query_exemplars.
type exemplarList []exemplar.QueryResult

func (l exemplarList) encode(e *encoder) {
	e.raw(`[`)
	for i, r := range l {
		e.comma(i)
		e.raw(`{"seriesLabels":`)
		e.labels(r.SeriesLabels)
		e.raw(`,"exemplars":[`)
		for i, ex := range r.Exemplars {
			e.comma(i)
			e.raw(`{"labels":`)
			e.labels(ex.Labels)
			e.raw(`,"value":`)
			e.buf = appendValue(e.buf, ex.Value)
			e.raw(`,"timestamp":`)
			e.buf = appendSeconds(e.buf, ex.Ts)
			e.raw(`}`)
			e.rest()
		}
		e.raw(`]}`)
		e.rest()
	}
	e.raw(`]`)
}

func (l exemplarList) size() (n int64) {
	for _, r := range l {
		n += elementSize + labelsSize(r.SeriesLabels)
		for _, ex := range r.Exemplars {
			n += elementSize + labelsSize(ex.Labels) + pointSize
		}
	}
	return n
}

// metadataMap is the data of metadata, by metric family.
type metadataMap map[string][]metadata.Metadata

func (m metadataMap) encode(e *encoder) {
	e.raw(`{`)
	for i, family := range slices.Sorted(maps.Keys(m)) {
		e.comma(i)
		e.string(family)
		e.raw(`:[`)
		for i, md := range m[family] {
			e.comma(i)
			e.raw(`{"type":`)
			e.string(string(md.Type))
			e.raw(`,"unit":`)
			e.string(md.Unit)
			e.raw(`,"help":`)
			e.string(md.Help)
			e.raw(`}`)
			e.rest()
		}
		e.raw(`]`)
	}
	e.raw(`}`)
}

func (m metadataMap) size() (n int64) {
	for family, sayings := range m {
		n += int64(len(family)) + elementSize
		for _, md := range sayings {
			n += int64(len(md.Help)+len(md.Unit)) + elementSize
		}
	}
	return n
}

// object is data that encoding/json knows how to write.
type object struct{ value any }

func (o object) encode(e *encoder) { e.marshal(o.value) }

// size implements payload. Objects are small.
func (o object) size() int64 { return 0 }
