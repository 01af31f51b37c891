package receiver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// The model is the receiver without anything that makes it fast: it decodes a
// request with the generated code, and applies the documented rules to each
// series anew. What the receiver remembers of earlier requests must not show.

// outcome is what must become of a request.
type outcome struct {
	stored   []string       // lines of recording.stored
	written  proto.Counts   // without metadata
	refused  map[string]int // by reason and type, without the metadata of version 2
	metadata []string       // of version 1: lines of recording.said
	stated   []statement    // of version 2: what series say of their families
}

// statement is what a series says of its family. The receiver passes it on when
// the series did not say the same before.
type statement struct {
	series string // as the request spells it
	what   string // the statement as it was sent
	passed string // what becomes of it: a line of recording.said, or the reason why it is refused
}

// modelSeries is a series as the generated code reads it.
type modelSeries struct {
	labels   []labels.Label
	broken   bool // its symbol references
	recorded recordedSeries
	refused  int // exemplars
	stated   *proto.Metadata
}

func decide(v proto.Version, message []byte, lim *tenant.Limits, now time.Time) outcome {
	out := outcome{refused: map[string]int{}}
	all, metadata := decode(v, message)
	for _, s := range all {
		canonical, reason := judge(lim, s)
		if reason != proto.OK {
			c := map[string]int{"float": len(s.recorded.floats), "histogram": len(s.recorded.histograms), "exemplar": len(s.recorded.exemplars) + s.refused}
			if c["float"]+c["histogram"]+c["exemplar"] == 0 {
				c["metadata"] = 1
			}
			for kind, n := range c {
				out.refuse(reason, kind, n)
			}
			continue
		}
		out.refuse(proto.ExemplarInvalid, "exemplar", s.refused)
		out.samples(canonical, s.recorded, lim, now)
		if s.stated != nil {
			family := *s.stated
			family.Family = canonical.Get("__name__")
			if len(s.recorded.histograms) == 0 {
				family.Family = familyOf(family.Family, string(family.Type))
			}
			line, reason := judgeMetadata(lim, family)
			out.stated = append(out.stated, statement{fmt.Sprintf("%q", s.labels), metadataLine(*s.stated), line + reason})
		}
	}
	for _, m := range metadata {
		if line, reason := judgeMetadata(lim, m); reason == "" {
			out.metadata = append(out.metadata, line)
		} else {
			out.refused["metadata "+reason]++
		}
	}
	sort.Strings(out.stored)
	sort.Strings(out.metadata)
	return out
}

func (o *outcome) refuse(reason proto.Reason, kind string, n int) {
	if n > 0 {
		o.refused[kind+" "+reason.ID()] += n
	}
}

// samples applies the rules that do not depend on the series.
func (o *outcome) samples(ls labels.Labels, s recordedSeries, lim *tenant.Limits, now time.Time) {
	early := func(t int64) bool { return lim.PastGrace > 0 && t < now.Add(-lim.PastGrace).UnixMilli() }
	late := func(t int64) bool { return t > now.Add(lim.FutureGrace).UnixMilli() }
	in := recordedSeries{labels: ls}
	for _, x := range s.floats {
		switch {
		case late(x.T):
			o.refuse(proto.SampleTooFarInFuture, "float", 1)
		case early(x.T):
			o.refuse(proto.SampleTooOld, "float", 1)
		case x.V == refusedValue:
			o.refuse(proto.SampleOutOfOrder, "float", 1)
		default:
			in.floats = append(in.floats, x)
		}
	}
	for _, h := range s.histograms {
		switch stored, reason := judgeHistogram(lim, h); {
		case late(h.T):
			o.refuse(proto.SampleTooFarInFuture, "histogram", 1)
		case early(h.T):
			o.refuse(proto.SampleTooOld, "histogram", 1)
		case reason != proto.OK:
			o.refuse(reason, "histogram", 1)
		default:
			in.histograms = append(in.histograms, stored)
		}
	}
	for _, e := range s.exemplars {
		if late(e.Ts) {
			o.refuse(proto.SampleTooFarInFuture, "exemplar", 1)
			continue
		}
		in.exemplars = append(in.exemplars, e)
	}
	o.stored = append(o.stored, in.lines()...)
	o.written.Add(proto.Counts{Samples: len(in.floats), Histograms: len(in.histograms), Exemplars: len(in.exemplars)})
}

var (
	legacyLabel  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	legacyMetric = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
)

// judge decides about a series.
func judge(lim *tenant.Limits, s modelSeries) (labels.Labels, proto.Reason) {
	if s.broken {
		return labels.EmptyLabels(), proto.SymbolInvalid
	}
	var ls []labels.Label
	for _, l := range s.labels {
		if l.Name == "" || l.Value != "" {
			ls = append(ls, l)
		}
	}
	if len(ls) > lim.MaxLabelsPerSeries {
		return labels.EmptyLabels(), proto.LabelsTooMany
	}
	sort.SliceStable(ls, func(i, j int) bool { return ls[i].Name < ls[j].Name })
	named := false
	for i, l := range ls {
		reason := proto.OK
		switch {
		case i > 0 && ls[i-1].Name == l.Name:
			reason = proto.LabelNameDuplicate
		case len(l.Name) > lim.MaxLabelNameBytes:
			reason = proto.LabelNameTooLong
		case len(l.Value) > lim.MaxLabelValueBytes:
			reason = proto.LabelValueTooLong
		case l.Name == "", !utf8.ValidString(l.Name), lim.LegacyNamesOnly && !legacyLabel.MatchString(l.Name):
			reason = proto.LabelNameInvalid
		case !utf8.ValidString(l.Value):
			reason = proto.LabelValueInvalid
		case l.Name == "__name__" && lim.LegacyNamesOnly && !legacyMetric.MatchString(l.Value):
			reason = proto.MetricNameInvalid
		}
		if reason != proto.OK {
			return labels.EmptyLabels(), reason
		}
		named = named || l.Name == "__name__"
	}
	if !named {
		return labels.EmptyLabels(), proto.MetricNameMissing
	}
	return labels.New(ls...), proto.OK
}

// judgeHistogram decides about a histogram with the library that stores it.
func judgeHistogram(lim *tenant.Limits, h proto.Histogram) (proto.Histogram, proto.Reason) {
	var (
		n   int
		err error
	)
	if h.H != nil {
		h.H = h.H.Copy()
		n = len(h.H.PositiveBuckets) + len(h.H.NegativeBuckets)
		if 8 < h.H.Schema && h.H.Schema <= 52 {
			err = h.H.ReduceResolution(8)
		}
		if err == nil {
			err = h.H.Validate()
		}
	} else {
		h.FH = h.FH.Copy()
		n = len(h.FH.PositiveBuckets) + len(h.FH.NegativeBuckets)
		if 8 < h.FH.Schema && h.FH.Schema <= 52 {
			err = h.FH.ReduceResolution(8)
		}
		if err == nil {
			err = h.FH.Validate()
		}
	}
	switch {
	case n > lim.MaxHistogramBuckets:
		return h, proto.HistogramTooManyBuckets
	case err != nil:
		return h, proto.HistogramInvalid
	}
	return h, proto.OK
}

// judgeMetadata decides about what is said of a family.
func judgeMetadata(lim *tenant.Limits, m proto.Metadata) (line, reason string) {
	room := lim.MaxMetadataBytes - len(m.Family) - len(m.Unit)
	switch {
	case room < 0:
		return "", proto.MetadataTooLong.ID()
	case m.Family == "", !utf8.ValidString(m.Family), !utf8.ValidString(m.Help), !utf8.ValidString(m.Unit):
		return "", proto.MetadataInvalid.ID()
	}
	for len(m.Help) > room {
		_, n := utf8.DecodeLastRuneInString(m.Help)
		m.Help = m.Help[:len(m.Help)-n]
	}
	return metadataLine(m), ""
}

func familyOf(name, typ string) string {
	suffixes := map[string]string{"histogram": "_bucket|_sum|_count|_gsum|_gcount", "gaugehistogram": "_bucket|_sum|_count|_gsum|_gcount", "summary": "_sum|_count"}[typ]
	if suffixes == "" {
		return name
	}
	return regexp.MustCompile("^(.+?)("+suffixes+")$").ReplaceAllString(name, "$1")
}

// decode reads a request with the generated code.
func decode(v proto.Version, message []byte) (all []modelSeries, metadata []proto.Metadata) {
	if v == proto.V1 {
		var m prompb.WriteRequest
		if err := m.Unmarshal(message); err != nil {
			panic(err)
		}
		for _, ts := range m.Timeseries {
			var s modelSeries
			s.labels = labelsOfV1(ts.Labels)
			for _, x := range ts.Samples {
				s.recorded.floats = append(s.recorded.floats, proto.Float{T: x.Timestamp, V: x.Value})
			}
			for _, h := range ts.Histograms {
				s.addHistogram(h.Timestamp, 0, h.IsFloatHistogram(), h)
			}
			for _, e := range ts.Exemplars {
				s.addExemplar(labelsOfV1(e.Labels), false, e.Value, e.Timestamp)
			}
			all = append(all, s)
		}
		for _, md := range m.Metadata {
			one := proto.Metadata{Family: md.MetricFamilyName}
			one.Type, one.Help, one.Unit = metricType(md.Type.String()), md.Help, md.Unit
			metadata = append(metadata, one)
		}
		return all, metadata
	}
	var m writev2.Request
	if err := m.Unmarshal(message); err != nil {
		panic(err)
	}
	for _, ts := range m.Timeseries {
		var s modelSeries
		s.labels, s.broken = labelsOfV2(ts.LabelsRefs, m.Symbols)
		for _, x := range ts.Samples {
			s.recorded.floats = append(s.recorded.floats, proto.Float{T: x.Timestamp, ST: x.StartTimestamp, V: x.Value})
		}
		for _, h := range ts.Histograms {
			s.addHistogram(h.Timestamp, h.StartTimestamp, h.IsFloatHistogram(), h)
		}
		for _, e := range ts.Exemplars {
			ls, broken := labelsOfV2(e.LabelsRefs, m.Symbols)
			s.addExemplar(ls, broken, e.Value, e.Timestamp)
		}
		if md := ts.Metadata; md.Type != 0 || md.HelpRef != 0 || md.UnitRef != 0 {
			one := new(proto.Metadata)
			one.Type = metricType(strings.TrimPrefix(md.Type.String(), "METRIC_TYPE_"))
			one.Help, one.Unit = m.Symbols[md.HelpRef], m.Symbols[md.UnitRef]
			s.stated = one
		}
		all = append(all, s)
	}
	return all, nil
}

func (s *modelSeries) addHistogram(t, st int64, float bool, h interface {
	ToIntHistogram() *histogram.Histogram
	ToFloatHistogram() *histogram.FloatHistogram
}) {
	one := proto.Histogram{T: t, ST: st}
	if float {
		one.FH = h.ToFloatHistogram()
	} else {
		one.H = h.ToIntHistogram()
	}
	s.recorded.histograms = append(s.recorded.histograms, one)
}

func (s *modelSeries) addExemplar(ls []labels.Label, broken bool, v float64, t int64) {
	seen, runes := map[string]bool{}, 0
	for _, l := range ls {
		broken = broken || l.Name == "" || seen[l.Name] || !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value)
		seen[l.Name] = true
		runes += utf8.RuneCountInString(l.Name) + utf8.RuneCountInString(l.Value)
	}
	if broken || runes > exemplar.ExemplarMaxLabelSetLength {
		s.refused++
		return
	}
	s.recorded.exemplars = append(s.recorded.exemplars, exemplar.Exemplar{Labels: labels.New(ls...), Value: v, Ts: t, HasTs: true})
}

func metricType(name string) model.MetricType {
	if name == "UNSPECIFIED" {
		return model.MetricTypeUnknown
	}
	return model.MetricType(strings.ToLower(name))
}

func labelsOfV1(ls []prompb.Label) (out []labels.Label) {
	for _, l := range ls {
		out = append(out, labels.Label{Name: l.Name, Value: l.Value})
	}
	return out
}

func labelsOfV2(refs []uint32, symbols []string) (out []labels.Label, broken bool) {
	if len(refs)%2 != 0 {
		return nil, true
	}
	for i := 0; i < len(refs); i += 2 {
		if int(refs[i]) >= len(symbols) || int(refs[i+1]) >= len(symbols) {
			return nil, true
		}
		out = append(out, labels.Label{Name: symbols[refs[i]], Value: symbols[refs[i+1]]})
	}
	return out, false
}

// What random requests are made of.

// someLimits are near to what the series below keep.
var someLimits = rapid.Custom(func(t *rapid.T) tenant.Limits {
	lim := tenant.DefaultLimits()
	lim.MaxLabelsPerSeries = rapid.IntRange(3, 6).Draw(t, "labels")
	lim.MaxLabelNameBytes = rapid.SampledFrom([]int{8, 12}).Draw(t, "name bytes")
	lim.MaxLabelValueBytes = rapid.SampledFrom([]int{10, 14}).Draw(t, "value bytes")
	lim.MaxHistogramBuckets = rapid.IntRange(2, 6).Draw(t, "buckets")
	lim.MaxMetadataBytes = rapid.SampledFrom([]int{8, 16, 100}).Draw(t, "metadata bytes")
	lim.PastGrace = rapid.SampledFrom([]time.Duration{0, 30 * time.Minute}).Draw(t, "past grace")
	lim.LegacyNamesOnly = rapid.IntRange(0, 3).Draw(t, "legacy") == 0
	return lim
})

// someSeriesLabels are mostly valid.
var someSeriesLabels = rapid.Custom(func(t *rapid.T) []labels.Label {
	ls := pairs("__name__", rapid.SampledFrom([]string{"up", "x_sum", "x_count", "größe", "a b"}).Draw(t, "metric"))
	for _, name := range []string{"a", "job", "größe", "instance"} {
		if rapid.Bool().Draw(t, name) {
			ls = append(ls, pairs(name, rapid.SampledFrom([]string{"1", "2", "ünï", ""}).Draw(t, "value"))...)
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "spoil") > 0 {
		return ls
	}
	switch i := rapid.IntRange(0, len(ls)-1).Draw(t, "which"); rapid.IntRange(0, 9).Draw(t, "how") {
	case 0:
		ls = slices.Delete(ls, i, i+1)
	case 1:
		ls[0].Value = ""
	case 2:
		ls = append(ls, ls[i])
	case 3:
		ls = append(ls, pairs("", rapid.SampledFrom([]string{"", "x"}).Draw(t, "value"))...)
	case 4:
		ls[i].Value = "\xff"
	case 5:
		ls = append(ls, pairs("\xff", "x")...)
	case 6:
		ls = append(ls, pairs("b", "x", "c", "x", "d", "", "e", "x", "f", "x")...)
	case 7:
		ls = append(ls, pairs(rapid.SampledFrom([]string{"long_name", "a_very_long_name"}).Draw(t, "name"), "x")...)
	case 8:
		ls = append(ls, pairs("v", rapid.SampledFrom([]string{"a long value", "a very long value"}).Draw(t, "value"))...)
	case 9:
		return nil
	}
	return ls
})

var someHistograms = []proto.Histogram{
	{H: oneBucket()},
	{FH: oneBucket().ToFloat(nil)},
	{H: &histogram.Histogram{}},
	{H: &histogram.Histogram{Schema: 9, Count: 6, PositiveSpans: []histogram.Span{{Offset: 1, Length: 4}}, PositiveBuckets: []int64{1, 0, 1, 0}}},
	{FH: &histogram.FloatHistogram{Schema: 10, Count: 6, NegativeSpans: []histogram.Span{{Offset: -3, Length: 3}}, NegativeBuckets: []float64{1, 2, 3}}},
	{H: &histogram.Histogram{Schema: histogram.CustomBucketsSchema, Count: 2, CustomValues: []float64{1, 2}, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 0}}},
	// Not valid.
	{H: &histogram.Histogram{Count: 1, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1}}},
	{FH: &histogram.FloatHistogram{Count: -1}},
	{H: &histogram.Histogram{Schema: 20, PositiveSpans: []histogram.Span{{Length: 9}}, PositiveBuckets: []int64{1}}},
	{FH: &histogram.FloatHistogram{Schema: 53}},
	{H: &histogram.Histogram{Schema: 100}},
	{H: &histogram.Histogram{Schema: histogram.CustomBucketsSchema, CustomValues: []float64{2, 1}}},
}

// A world is what the requests of one run have in common.
type world struct {
	series [][]labels.Label
	at     time.Time // no sample is near a bound
	clock  int64     // so that no two samples have the same time
}

func newWorld(t *rapid.T) *world {
	return &world{
		series: rapid.SliceOfN(someSeriesLabels, 1, 12).Draw(t, "series of the world"),
		at:     time.Now(),
	}
}

func (w *world) time(t *rapid.T) int64 {
	w.clock++
	offset := rapid.SampledFrom([]time.Duration{0, 0, 0, 0, -time.Hour, time.Hour}).Draw(t, "offset")
	return w.at.Add(offset).UnixMilli() - w.clock
}

// request is a random one.
func (w *world) request(t *rapid.T) (v proto.Version, message []byte) {
	v = rapid.SampledFrom(versions).Draw(t, "version")
	var all []series
	for range rapid.IntRange(0, 8).Draw(t, "series") {
		s := series{labels: slices.Clone(rapid.SampledFrom(w.series).Draw(t, "labels"))}
		if rapid.IntRange(0, 4).Draw(t, "reorder") == 0 && len(s.labels) > 0 {
			s.labels = rapid.Permutation(s.labels).Draw(t, "order")
		}
		for range rapid.IntRange(0, 3).Draw(t, "floats") {
			x := proto.Float{T: w.time(t), V: float64(w.clock)}
			if rapid.IntRange(0, 9).Draw(t, "to be refused") == 0 {
				x.V = refusedValue
			}
			if v == proto.V2 && rapid.Bool().Draw(t, "start") {
				x.ST = w.at.UnixMilli() - 100_000
			}
			s.floats = append(s.floats, x)
		}
		for range max(0, rapid.IntRange(-3, 2).Draw(t, "histograms")) {
			h := rapid.SampledFrom(someHistograms).Draw(t, "histogram")
			h.T = w.time(t)
			if v == proto.V2 && rapid.Bool().Draw(t, "start") {
				h.ST = w.at.UnixMilli() - 100_000
			}
			s.histograms = append(s.histograms, h)
		}
		for range max(0, rapid.IntRange(-3, 2).Draw(t, "exemplars")) {
			s.exemplars = append(s.exemplars, exemplarToSend{
				labels: rapid.SampledFrom([][]labels.Label{
					nil, pairs("trace_id", "5f2c"), pairs("b", "1", "a", "2"), pairs("", "x"), pairs("a", "1", "a", "2"), pairs("a", "\xff"), pairs("a", strings.Repeat("x", 130)),
				}).Draw(t, "exemplar labels"),
				v: float64(w.clock), t: w.time(t),
			})
		}
		if v == proto.V2 {
			s.typ = writev2.Metadata_MetricType(rapid.IntRange(0, 7).Draw(t, "type"))
			s.help = rapid.SampledFrom([]string{"", "", "Help.", "Another help text.", "Hälp, größer."}).Draw(t, "help")
			s.unit = rapid.SampledFrom([]string{"", "", "seconds", "\xff"}).Draw(t, "unit")
			s.extraRefs = rapid.SampledFrom([][]uint32{nil, nil, nil, nil, nil, nil, nil, {0}, {1, 1000}, {1000, 1001}}).Draw(t, "references")
		}
		all = append(all, s)
	}
	var metadata []prompb.MetricMetadata
	for range max(0, rapid.IntRange(-4, 2).Draw(t, "metadata")) {
		metadata = append(metadata, prompb.MetricMetadata{
			Type:             prompb.MetricMetadata_MetricType(rapid.IntRange(0, 7).Draw(t, "type")),
			MetricFamilyName: rapid.SampledFrom([]string{"up", "größe", "", "\xff", "a_family_name"}).Draw(t, "family"),
			Help:             rapid.SampledFrom([]string{"", "Help.", "Another help text.", "Hälp, größer.", "\xff"}).Draw(t, "help"),
			Unit:             rapid.SampledFrom([]string{"", "seconds", "\xff"}).Draw(t, "unit"),
		})
	}
	return v, marshalWith(v, metadata, all...)
}

// TestModel sends random requests behind each other, while limits change, the
// ingester forgets and fails, and verdicts are dropped for lack of room.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var (
			w     = newWorld(rt)
			lim   atomic.Pointer[tenant.Limits]
			known = said{}
		)
		s := newSetup(t, func(s *setup) {
			s.cfg.AdmissionEntries = rapid.SampledFrom([]int{1, 2, 5, 1000}).Draw(rt, "admission entries")
			s.limits = func(string) *tenant.Limits { return lim.Load() }
			s.memory.errorf = rt.Errorf
			s.memory.forgets = rapid.SampledFrom([]float64{0, 0.1, 0.5}).Draw(rt, "forgets")
			s.memory.moves = rapid.SampledFrom([]float64{0, 0.1, 0.5}).Draw(rt, "moves")
		})
		for range rapid.IntRange(1, 8).Draw(rt, "requests") {
			if lim.Load() == nil || rapid.IntRange(0, 3).Draw(rt, "change the limits") == 0 {
				next := someLimits.Draw(rt, "limits")
				lim.Store(&next)
			}
			v, message := w.request(rt)
			switch rapid.IntRange(0, 9).Draw(rt, "failure") {
			case 0:
				s.sendAndFail(rt, v, message, 1, unavailable(), http.StatusServiceUnavailable)
			case 1:
				s.sendAndFail(rt, v, message, 2, unavailable(), http.StatusServiceUnavailable)
				known.learn(decide(v, message, lim.Load(), time.Now()).stated)
			case 2:
				s.sendAndFail(rt, v, message, 1, proto.Errorf(proto.KindLimit, "weir-too-many-tenants", "x"), http.StatusTooManyRequests)
			case 3:
				s.sendMalformed(rt, v, append(slices.Clone(message), 0x2a, 0x0a, 0x05))
			}
			s.sendAndCompare(rt, v, message, lim.Load(), known)
			require.LessOrEqual(rt, s.counters(rt, "weir_receiver_admission_entries")[""], 2*s.cfg.AdmissionEntries)
		}
	})
}

// said is what each series may have said last of its family. It is more than
// one thing when a request contradicts itself.
type said map[string][]string

func (k said) learn(stated []statement) {
	now := said{}
	for _, x := range stated {
		if !slices.Contains(now[x.series], x.what) {
			now[x.series] = append(now[x.series], x.what)
		}
	}
	for series, what := range now {
		if len(what) > 1 {
			what = append(what, k[series]...)
		}
		k[series] = what
	}
}

// sendAndCompare sends a request and compares what becomes of it with the model.
func (s *setup) sendAndCompare(t *rapid.T, v proto.Version, message []byte, lim *tenant.Limits, known said) {
	before := s.counters(t, "weir_receiver_discarded_samples_total")
	hr, recorded := record(newRequest(v, message))
	w := s.serve(hr)
	want := decide(v, message, lim, time.Now())
	require.Equal(t, want.stored, recorded.stored())
	refused, total := map[string]int{}, 0
	for k, n := range s.counters(t, "weir_receiver_discarded_samples_total") {
		if reason, kind, _ := strings.Cut(k, " "); n > before[k] {
			refused[kind+" "+reason] = n - before[k]
			total += n - before[k]
		}
	}
	checkAnswer(t, w, v, want.written, total)
	if v == proto.V1 {
		// What is said again right behind is passed on once.
		require.LessOrEqual(t, len(recorded.said()), len(want.metadata))
		require.Equal(t, slices.Compact(want.metadata), slices.Compact(recorded.said()))
	} else {
		checkStatements(t, want.stated, recorded, refused, known)
		known.learn(want.stated)
	}
	require.Equal(t, want.refused, refused)
}

// checkStatements demands that new statements of version 2 were passed on, and
// nothing that was not said. Those that were refused are taken out of refused.
func checkStatements(t *rapid.T, stated []statement, recorded *recording, refused map[string]int, known said) {
	passed := map[string]int{}
	for _, line := range recorded.said() {
		passed[line]++
	}
	for _, reason := range []string{proto.MetadataInvalid.ID(), proto.MetadataTooLong.ID()} {
		if n := refused["metadata "+reason]; n > 0 {
			passed[reason] = n
			delete(refused, "metadata "+reason)
		}
	}
	least, most := map[string]int{}, map[string]int{}
	for _, x := range stated {
		most[x.passed]++
		if !slices.Contains(known[x.series], x.what) {
			least[x.passed]++
		}
	}
	for what, n := range passed {
		require.LessOrEqual(t, n, most[what], "passed on more often than it was said: %s", what)
	}
	for what, n := range least {
		if !strings.HasPrefix(what, "weir-") {
			n = 1 // what is said again right behind is passed on once
		}
		require.GreaterOrEqual(t, passed[what], n, "said for the first time, and not passed on: %s", what)
	}
}

// checkAnswer demands the answer to a request of which want was stored, and
// refused things were not.
func checkAnswer(t require.TestingT, w *httptest.ResponseRecorder, v proto.Version, want proto.Counts, refused int) {
	if refused == 0 {
		require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
	} else {
		require.Equal(t, http.StatusBadRequest, w.Code, w.Body.String())
		checkBody(t, w.Body.String())
	}
	got, told := written(t, w.Header())
	require.Equal(t, v == proto.V2 || refused > 0, told)
	if told {
		require.Equal(t, want, got)
	}
}

// sendAndFail sends a request while the ingester fails at its nth call. If there
// are not that many, the request succeeds.
func (s *setup) sendAndFail(t *rapid.T, v proto.Version, message []byte, n int, err error, status int) {
	s.memory.fail = func(call int) error {
		if call == n {
			return err
		}
		return nil
	}
	defer func() { s.memory.fail = nil }()
	hr, recorded := record(newRequest(v, message))
	w := s.serve(hr)
	if recorded.calls < n {
		require.Contains(t, []int{http.StatusNoContent, http.StatusBadRequest}, w.Code)
		return
	}
	require.Equal(t, status, w.Code)
	got, told := written(t, w.Header())
	require.Equal(t, v == proto.V2, told)
	require.Zero(t, got.Total())
}

// sendMalformed sends a request that ends within a field.
func (s *setup) sendMalformed(t *rapid.T, v proto.Version, message []byte) {
	hr, recorded := record(newRequest(v, message))
	w := s.serve(hr)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), "weir-request-malformed")
	require.Zero(t, recorded.calls)
}

// TestModelConcurrent sends random requests of many senders at once. The limits
// go to and fro between two versions: what becomes of a request must be right
// under one of them.
func TestModelConcurrent(t *testing.T) {
	const senders, requests = 8, 60
	type sent struct {
		v       proto.Version
		message []byte
	}
	seed := int(time.Now().UnixNano() % 1e9)
	t.Logf("seed %d", seed)
	var limits [2]tenant.Limits
	plan := rapid.Custom(func(t *rapid.T) (plan [senders][]sent) {
		limits[0], limits[1] = someLimits.Draw(t, "limits"), someLimits.Draw(t, "limits")
		w := newWorld(t)
		for i := range plan {
			for range requests {
				v, message := w.request(t)
				plan[i] = append(plan[i], sent{v, message})
			}
		}
		return plan
	}).Example(seed)

	var (
		current atomic.Pointer[tenant.Limits]
		calls   atomic.Int64
	)
	change := func(n int64) { next := limits[n%2]; current.Store(&next) }
	change(0)
	s := newSetup(t, func(s *setup) {
		s.cfg.AdmissionEntries = 10
		s.limits = func(string) *tenant.Limits {
			if n := calls.Add(1); n%5 == 0 {
				change(n / 5)
			}
			return current.Load()
		}
		s.memory.forgets, s.memory.moves = 0.1, 0.1
		s.memory.fail = func(int) error {
			if s.memory.random.IntN(20) == 0 {
				return unavailable()
			}
			return nil
		}
	})
	var senderGroup sync.WaitGroup
	for _, mine := range plan {
		senderGroup.Go(func() {
			for _, x := range mine {
				if t.Failed() {
					return
				}
				s.sendUntilTaken(t, x.v, x.message, &limits)
			}
		})
	}
	senderGroup.Wait()
	received, kept := s.counters(t, "weir_receiver_received_samples_total"), s.counters(t, "weir_receiver_written_samples_total")
	stored, refused := 0, 0
	for _, n := range kept {
		stored += n
	}
	for k, n := range s.counters(t, "weir_receiver_discarded_samples_total") {
		reason, kind, _ := strings.Cut(k, " ")
		kept[kind] += n
		if reason != "weir-starting" { // which is of whole requests
			refused += n
		}
	}
	require.Equal(t, received, kept, "everything received was either stored or refused")
	for _, x := range s.ledger.Senders(tenant.Anonymous) {
		stored -= x.Written
		refused -= x.Refused
	}
	require.Zero(t, stored, "the ledger knows who wrote everything that was stored")
	require.Zero(t, refused, "and who sent everything that was refused")
}

// sendUntilTaken repeats a request until it is answered for good, as a sender
// does, and compares what becomes of it with the model under either limits.
func (s *setup) sendUntilTaken(t *testing.T, v proto.Version, message []byte, limits *[2]tenant.Limits) {
	for {
		hr, recorded := record(newRequest(v, message))
		w := s.serve(hr)
		if w.Code == http.StatusServiceUnavailable {
			continue
		}
		if w.Code != http.StatusNoContent && w.Code != http.StatusBadRequest {
			t.Errorf("answered %d: %s", w.Code, w.Body)
			return
		}
		stored := recorded.stored()
		var wants []outcome
		for i := range limits {
			want := decide(v, message, &limits[i], time.Now())
			if slices.Equal(want.stored, stored) && want.answers(t, w) {
				return
			}
			wants = append(wants, want)
		}
		t.Errorf("of a request, version %s, this was stored:\n%s\nunder the limits it should be\n%s\nor\n%s\nanswered %d: %s",
			v, strings.Join(stored, "\n"), strings.Join(wants[0].stored, "\n"), strings.Join(wants[1].stored, "\n"), w.Code, w.Body)
		return
	}
}

// answers reports whether w is an answer to a request with the outcome o.
func (o *outcome) answers(t *testing.T, w *httptest.ResponseRecorder) bool {
	if len(o.refused) > 0 && w.Code != http.StatusBadRequest {
		return false
	}
	if got, told := written(t, w.Header()); told && got != o.written {
		return false
	}
	return true
}

// TestLimitsChangeMeanwhile serves a request under one version of the limits,
// and another one under the next version before the first has looked up its
// series: a verdict of the other version must not be used.
func TestLimitsChangeMeanwhile(t *testing.T) {
	narrow, wide := tenant.DefaultLimits(), tenant.DefaultLimits()
	narrow.MaxLabelsPerSeries = 1
	for _, c := range []struct {
		name        string
		first, next *tenant.Limits
		status      int
	}{
		{name: "to less", first: &wide, next: &narrow, status: http.StatusNoContent},
		{name: "to more", first: &narrow, next: &wide, status: http.StatusBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			var (
				calls  atomic.Int32
				called = make(chan struct{})
			)
			s := newSetup(t, func(s *setup) {
				s.limits = func(string) *tenant.Limits {
					if calls.Add(1) == 1 {
						close(called)
						return c.first
					}
					return c.next
				}
			})
			now := time.Now().UnixMilli()
			up := series{labels: pairs("__name__", "up", "job", "a"), floats: []proto.Float{{T: now, V: 1}}}
			// Many symbols take some milliseconds to hash, before the series are
			// looked up.
			m := requestV2([]series{up})
			for range 400_000 {
				m.Symbols = append(m.Symbols, "x")
			}
			message, err := m.Marshal()
			require.NoError(t, err)
			hr, recorded := record(newRequest(proto.V2, message))
			var answered sync.WaitGroup
			var w *httptest.ResponseRecorder
			answered.Go(func() { w = s.serve(hr) })
			<-called
			s.send(proto.V2, marshal(proto.V2, up))
			answered.Wait()
			require.Equal(t, c.status, w.Code, w.Body.String())
			require.Equal(t, c.status == http.StatusNoContent, len(recorded.stored()) == 1)
		})
	}
}
