package proto_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/weir-metrics/weir/proto"
)

const (
	testSeed   = 0x5eed
	maxSymbols = 1 << 20
)

// decoded is a request in plain Go, whichever decoder read it.
type decoded struct {
	series   []decodedSeries
	metadata []proto.Metadata // of version 1
}

type decodedSeries struct {
	labels     []labels.Label // in the order of the request
	reason     proto.Reason   // why the labels cannot be read, or proto.OK
	floats     []proto.Float
	histograms []proto.Histogram
	exemplars  []exemplar.Exemplar
	refused    int             // exemplars whose labels are not valid
	metadata   *proto.Metadata // of version 2; nil: the series says nothing
	key        proto.Hash
	counts     proto.Counts
}

// scan reads a request with the scanner under test. The buffer is overwritten
// before it returns, so that everything that should have been copied must be.
func scan(v proto.Version, message []byte) (decoded, error) {
	return scanWith(new(proto.Request), v, slices.Clone(message))
}

// scanWith reads the request in buf, and overwrites buf.
func scanWith(r *proto.Request, v proto.Version, buf []byte) (d decoded, err error) {
	defer func() {
		for i := range buf {
			buf[i] = 0xdb
		}
	}()
	if err := r.Reset(v, buf, testSeed, maxSymbols); err != nil {
		return d, err
	}
	for {
		var s proto.Series
		more, err := r.Next(&s)
		if err != nil {
			return d, err
		}
		if !more {
			break
		}
		one, err := scanSeries(r, v, &s)
		if err != nil {
			return d, err
		}
		d.series = append(d.series, one)
	}
	err = r.MetadataV1(func(m proto.Metadata) { d.metadata = append(d.metadata, cloneMetadata(m)) })
	return d, err
}

func scanSeries(r *proto.Request, v proto.Version, s *proto.Series) (decodedSeries, error) {
	var (
		f   proto.Frame
		rej proto.Rejections
		out = decodedSeries{key: s.Key, counts: s.Counts()}
	)
	out.labels, out.reason = r.AppendLabels(nil, s)
	for i, l := range out.labels {
		out.labels[i] = labels.Label{Name: strings.Clone(l.Name), Value: strings.Clone(l.Value)}
	}
	if out.reason != proto.OK {
		out.labels = nil
	}
	if (out.reason == proto.SymbolInvalid) == s.Cacheable() {
		panic(fmt.Sprintf("reason %s, but Cacheable is %t", out.reason.ID(), s.Cacheable()))
	}
	if err := r.AppendSamples(&f, s, 0, &rej); err != nil {
		return out, err
	}
	out.floats, out.histograms, out.exemplars = f.Floats, f.Histograms, f.Exemplars
	out.refused = rej.Counts[proto.ExemplarInvalid].Exemplars
	if got := (proto.Counts{Samples: len(f.Floats), Histograms: len(f.Histograms), Exemplars: len(f.Exemplars) + out.refused}); got != out.counts {
		panic(fmt.Sprintf("Counts says %+v, AppendSamples found %+v", out.counts, got))
	}
	if v == proto.V2 && r.MetadataHash(s) != 0 {
		m := cloneMetadata(r.Metadata(s, "the_name"))
		out.metadata = &m
	}
	return out, nil
}

func cloneMetadata(m proto.Metadata) proto.Metadata {
	return proto.Metadata{Family: strings.Clone(m.Family), Metadata: metadata.Metadata{
		Type: m.Type, Help: strings.Clone(m.Help), Unit: strings.Clone(m.Unit),
	}}
}

// generatedV1 reads a version 1 request with the generated code.
func generatedV1(message []byte) (d decoded, err error) {
	var m prompb.WriteRequest
	if err := m.Unmarshal(message); err != nil {
		return d, err
	}
	for _, ts := range m.Timeseries {
		var s decodedSeries
		for _, l := range ts.Labels {
			s.labels = append(s.labels, labels.Label{Name: l.Name, Value: l.Value})
		}
		for _, x := range ts.Samples {
			s.floats = append(s.floats, proto.Float{T: x.Timestamp, V: x.Value})
		}
		for _, h := range ts.Histograms {
			one := proto.Histogram{T: h.Timestamp, H: h.ToIntHistogram()}
			if h.IsFloatHistogram() {
				one.FH = h.ToFloatHistogram()
			}
			knownHint(&one, int32(h.ResetHint))
			s.histograms = append(s.histograms, one)
		}
		for _, x := range ts.Exemplars {
			var b labels.ScratchBuilder
			var ls []labels.Label
			for _, l := range x.Labels {
				ls = append(ls, labels.Label{Name: l.Name, Value: l.Value})
			}
			s.addExemplar(x.ToExemplar(&b, nil), storable(ls))
		}
		d.series = append(d.series, s)
	}
	for _, m := range m.Metadata {
		d.metadata = append(d.metadata, proto.Metadata{Family: m.MetricFamilyName, Metadata: metadata.Metadata{
			Type: typeV1(m.Type), Help: m.Help, Unit: m.Unit,
		}})
	}
	return d, nil
}

// typeV1 maps a metric type by its name in the protocol.
func typeV1(t prompb.MetricMetadata_MetricType) model.MetricType {
	switch t {
	case prompb.MetricMetadata_COUNTER, prompb.MetricMetadata_GAUGE, prompb.MetricMetadata_HISTOGRAM, prompb.MetricMetadata_GAUGEHISTOGRAM,
		prompb.MetricMetadata_SUMMARY, prompb.MetricMetadata_INFO, prompb.MetricMetadata_STATESET:
		return model.MetricType(strings.ToLower(t.String()))
	}
	return model.MetricTypeUnknown
}

// generatedV2 reads a version 2 request with the generated code.
func generatedV2(message []byte) (d decoded, err error) {
	var m writev2.Request
	if err := m.Unmarshal(message); err != nil {
		return d, err
	}
	for _, ts := range m.Timeseries {
		var s decodedSeries
		s.labels, s.reason = resolve(ts.LabelsRefs, m.Symbols)
		for _, x := range ts.Samples {
			s.floats = append(s.floats, proto.Float{T: x.Timestamp, ST: x.StartTimestamp, V: x.Value})
		}
		for _, h := range ts.Histograms {
			one := proto.Histogram{T: h.Timestamp, ST: h.StartTimestamp, H: h.ToIntHistogram()}
			if h.IsFloatHistogram() {
				one.FH = h.ToFloatHistogram()
			}
			knownHint(&one, int32(h.ResetHint))
			s.histograms = append(s.histograms, one)
		}
		for _, x := range ts.Exemplars {
			var b labels.ScratchBuilder
			ls, reason := resolve(x.LabelsRefs, m.Symbols)
			e, err := x.ToExemplar(&b, m.Symbols)
			s.addExemplar(e, err == nil && reason == proto.OK && storable(ls))
		}
		if md := ts.Metadata; md.Type != 0 || md.HelpRef != 0 || md.UnitRef != 0 {
			if x, err := ts.ToMetadata(m.Symbols); err == nil {
				s.metadata = &proto.Metadata{Family: "the_name", Metadata: x}
			}
		}
		d.series = append(d.series, s)
	}
	return d, nil
}

func resolve(refs []uint32, symbols []string) ([]labels.Label, proto.Reason) {
	var out []labels.Label
	for i, ref := range refs {
		if int(ref) >= len(symbols) || len(refs)%2 != 0 {
			return nil, proto.SymbolInvalid
		}
		if i%2 == 1 {
			out = append(out, labels.Label{Name: symbols[refs[i-1]], Value: symbols[ref]})
		}
	}
	return out, proto.OK
}

// knownHint undoes the truncation of a counter reset hint that the generated
// code converts to a byte: a hint that nobody defined is unknown.
func knownHint(h *proto.Histogram, hint int32) {
	if 0 <= hint && hint <= int32(histogram.GaugeType) {
		return
	}
	if h.H != nil {
		h.H.CounterResetHint = histogram.UnknownCounterReset
	} else {
		h.FH.CounterResetHint = histogram.UnknownCounterReset
	}
}

// addExemplar takes an exemplar over. To the scanner every exemplar has a
// timestamp, if only 0.
func (s *decodedSeries) addExemplar(e exemplar.Exemplar, valid bool) {
	if !valid {
		s.refused++
		return
	}
	e.HasTs = true
	s.exemplars = append(s.exemplars, e)
}

// storable says which exemplar labels are taken: UTF-8, with unique names, and
// together not longer than OpenMetrics allows.
func storable(ls []labels.Label) bool {
	seen, runes := map[string]bool{}, 0
	for _, l := range ls {
		if l.Name == "" || !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value) || seen[l.Name] {
			return false
		}
		seen[l.Name] = true
		runes += utf8.RuneCountInString(l.Name) + utf8.RuneCountInString(l.Value)
	}
	return runes <= exemplar.ExemplarMaxLabelSetLength
}

// String spells d out, floats as their bits, so that two of them are equal when
// the texts are, and a difference can be read.
func (d decoded) String() string {
	var b strings.Builder
	for i, s := range d.series {
		fmt.Fprintf(&b, "series %d %s\n", i, s.reason.ID())
		for _, l := range s.labels {
			fmt.Fprintf(&b, "  label %q=%q\n", l.Name, l.Value)
		}
		for _, x := range s.floats {
			fmt.Fprintf(&b, "  float %x at %d from %d\n", math.Float64bits(x.V), x.T, x.ST)
		}
		for _, h := range s.histograms {
			fmt.Fprintf(&b, "  %s\n", histogramString(h))
		}
		for _, e := range s.exemplars {
			fmt.Fprintf(&b, "  exemplar %s %x at %d %t\n", e.Labels, math.Float64bits(e.Value), e.Ts, e.HasTs)
		}
		fmt.Fprintf(&b, "  exemplars refused %d\n", s.refused)
		if m := s.metadata; m != nil {
			fmt.Fprintf(&b, "  metadata %q %s %q %q\n", m.Family, m.Type, m.Help, m.Unit)
		}
	}
	for _, m := range d.metadata {
		fmt.Fprintf(&b, "metadata %q %s %q %q\n", m.Family, m.Type, m.Help, m.Unit)
	}
	return b.String()
}

func histogramString(h proto.Histogram) string {
	if x := h.H; x != nil && h.FH == nil {
		return fmt.Sprintf("histogram at %d from %d: hint %d schema %d zero %x %d count %d sum %x +%v %v -%v %v custom %x",
			h.T, h.ST, x.CounterResetHint, x.Schema, math.Float64bits(x.ZeroThreshold), x.ZeroCount, x.Count, math.Float64bits(x.Sum),
			x.PositiveSpans, x.PositiveBuckets, x.NegativeSpans, x.NegativeBuckets, bits(x.CustomValues))
	}
	if x := h.FH; x != nil && h.H == nil {
		return fmt.Sprintf("float histogram at %d from %d: hint %d schema %d zero %x %x count %x sum %x +%v %x -%v %x custom %x",
			h.T, h.ST, x.CounterResetHint, x.Schema, math.Float64bits(x.ZeroThreshold), math.Float64bits(x.ZeroCount),
			math.Float64bits(x.Count), math.Float64bits(x.Sum),
			x.PositiveSpans, bits(x.PositiveBuckets), x.NegativeSpans, bits(x.NegativeBuckets), bits(x.CustomValues))
	}
	return fmt.Sprintf("broken histogram %+v", h)
}

func bits(fs []float64) []uint64 {
	out := make([]uint64, len(fs))
	for i, f := range fs {
		out[i] = math.Float64bits(f)
	}
	return out
}
