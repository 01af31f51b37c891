package receiver_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/receiver"
	"github.com/weir-metrics/weir/relabel"
	"github.com/weir-metrics/weir/tenant"
)

var versions = []proto.Version{proto.V1, proto.V2}

const (
	headerSamples    = "X-Prometheus-Remote-Write-Samples-Written"
	headerHistograms = "X-Prometheus-Remote-Write-Histograms-Written"
	headerExemplars  = "X-Prometheus-Remote-Write-Exemplars-Written"
)

// setup is a receiver in front of an ingester in memory.
type setup struct {
	cfg    receiver.Config
	mode   tenant.Mode
	limits func(string) *tenant.Limits
	rules  *relabel.Rules // of every tenant
	secret []byte
	ing    receiver.Ingester // default: memory
	memory *memory
	budget *overload.Budget
	ledger *ledger.Ledger
	reg    *prometheus.Registry
	log    *syncBuffer
	*receiver.Receiver
}

func newSetup(tb testing.TB, change ...func(*setup)) *setup {
	tb.Helper()
	s := &setup{
		cfg: receiver.DefaultConfig(), mode: tenant.ModeNone, limits: defaultLimits(),
		memory: newMemory(tb), ledger: ledger.New(nil), reg: prometheus.NewRegistry(), log: new(syncBuffer),
	}
	s.ing = s.memory
	for _, f := range change {
		f(s)
	}
	require.Empty(tb, s.cfg.Validate("receiver"))
	s.Receiver = receiver.New(s.cfg, receiver.Deps{
		Ingester: s.ing, Tenants: tenant.NewDirectory(s.mode, tenant.DefaultSettings()), Settings: settingsOf(s.limits, s.rules), Ledger: s.ledger, Budget: s.budget, Secret: s.secret,
		Logger: slog.New(slog.NewTextHandler(s.log, nil)), Registry: s.reg,
	})
	return s
}

// settingsOf makes settings of limits, one version of each, all with the same
// rules.
func settingsOf(limits func(string) *tenant.Limits, rules *relabel.Rules) func(string) *tenant.Settings {
	var versions sync.Map // *tenant.Limits to *tenant.Settings
	return func(id string) *tenant.Settings {
		lim := limits(id)
		if set, ok := versions.Load(lim); ok {
			return set.(*tenant.Settings)
		}
		set, _ := versions.LoadOrStore(lim, &tenant.Settings{Limits: *lim, Rules: rules, State: tenant.StateActive})
		return set.(*tenant.Settings)
	}
}

func defaultLimits() func(string) *tenant.Limits {
	lim := tenant.DefaultLimits()
	return func(string) *tenant.Limits { return &lim }
}

// syncBuffer is a log that may be written and read at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newRequest is a remote-write request as Prometheus sends it. message is what
// becomes of it behind snappy.
func newRequest(v proto.Version, message []byte) *http.Request {
	hr := httptest.NewRequest(http.MethodPost, "/api/v1/push", bytes.NewReader(s2.EncodeSnappy(nil, message)))
	hr.Header.Set("Content-Type", contentType(v))
	hr.Header.Set("Content-Encoding", "snappy")
	hr.Header.Set("User-Agent", "Prometheus/3.15.0")
	hr.Header.Set("X-Prometheus-Remote-Write-Version", map[proto.Version]string{proto.V1: "0.1.0", proto.V2: "2.0.0"}[v])
	return hr
}

func (s *setup) serve(hr *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, hr)
	return w
}

func (s *setup) send(v proto.Version, message []byte) *httptest.ResponseRecorder {
	return s.serve(newRequest(v, message))
}

// written is what the answer says was stored; ok is false when it says nothing.
func written(tb require.TestingT, h http.Header) (c proto.Counts, ok bool) {
	n := 0
	for _, x := range []struct {
		header string
		to     *int
	}{{headerSamples, &c.Samples}, {headerHistograms, &c.Histograms}, {headerExemplars, &c.Exemplars}} {
		values := h.Values(x.header)
		if len(values) == 0 {
			continue
		}
		require.Len(tb, values, 1, x.header)
		var err error
		*x.to, err = strconv.Atoi(values[0])
		require.NoError(tb, err)
		n++
	}
	require.Contains(tb, []int{0, 3}, n, "all of the headers, or none")
	return c, n == 3
}

// counters are the values of a counter by its labels, joined with blanks in the
// order of their names.
func (s *setup) counters(tb require.TestingT, name string) map[string]int {
	out := map[string]int{}
	families, err := s.reg.Gather()
	require.NoError(tb, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			out[strings.Join(values, " ")] = int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	return out
}

// memory is an ingester that keeps everything, and checks what every frame must
// keep. It can be told to forget series, to change their handles, and to fail.
type memory struct {
	errorf func(format string, args ...any)

	mu      sync.Mutex
	random  *rand.Rand
	forgets float64           // the chance that a series is forgotten when a frame names it
	moves   float64           // the chance that it gets another handle
	fail    func(n int) error // asked before the nth Write of a request, from 1
	unkept  string            // metric family whose metadata is beyond the limit
	tenants map[string]map[proto.Hash]*kept
	ids     map[string]map[string]proto.Hash // by tenant and labels: never changes
}

// kept is a series that the memory knows.
type kept struct {
	labels labels.Labels
	known  bool
	handle uint32
	given  map[uint32]bool // every handle it ever had
}

func newMemory(tb testing.TB) *memory {
	return &memory{
		errorf: tb.Errorf, random: rand.New(rand.NewPCG(1, 2)),
		tenants: map[string]map[proto.Hash]*kept{}, ids: map[string]map[string]proto.Hash{},
	}
}

// A recording is what the ingester was given during one request. What it points
// to is not copied: the contract allows an ingester to keep it.
type recording struct {
	mu       sync.Mutex
	tenant   string
	series   []recordedSeries
	metadata []proto.Metadata
	calls    int
	writes   int // calls that did not fail
}

type recordedSeries struct {
	labels     labels.Labels
	floats     []proto.Float
	histograms []proto.Histogram
	exemplars  []exemplar.Exemplar
}

type recordingKey struct{}

// record makes the ingester note what it stores during hr.
func record(hr *http.Request) (*http.Request, *recording) {
	r := new(recording)
	return hr.WithContext(context.WithValue(hr.Context(), recordingKey{}, r)), r
}

// refusedValue is a sample value that the memory refuses, as out of order.
const refusedValue = -666

func (m *memory) Write(ctx context.Context, tenantID string, f *proto.Frame, reply *proto.Reply) error {
	r, _ := ctx.Value(recordingKey{}).(*recording)
	if r == nil {
		r = new(recording)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	r.tenant = tenantID
	if m.fail != nil {
		if err := m.fail(r.calls); err != nil {
			return err
		}
	}
	r.writes++
	if m.tenants[tenantID] == nil {
		m.tenants[tenantID], m.ids[tenantID] = map[proto.Hash]*kept{}, map[string]proto.Hash{}
	}
	m.learn(tenantID, f)
	var floats, histograms, exemplars uint32
	for i, s := range f.Series {
		one := recordedSeries{
			floats:     take(f.Floats, &floats, s.Floats),
			histograms: take(f.Histograms, &histograms, s.Histograms),
			exemplars:  take(f.Exemplars, &exemplars, s.Exemplars),
		}
		k := m.tenants[tenantID][s.ID]
		if k == nil || !k.known {
			reply.Unknown = append(reply.Unknown, uint32(i))
			continue
		}
		if s.Handle != proto.NoHandle && !k.given[s.Handle] {
			m.errorf("series %s came with the handle %d, which is another's", k.labels, s.Handle)
		}
		if m.random.Float64() < m.moves {
			k.handle = m.random.Uint32N(1 << 31)
			k.given[k.handle] = true
		}
		if s.Handle != k.handle {
			reply.Handles = append(reply.Handles, proto.SeriesHandle{Series: uint32(i), Handle: k.handle})
		}
		one.labels = k.labels
		one.floats = m.refuse(one.floats, uint32(i), reply)
		reply.Written.Add(proto.Counts{Samples: len(one.floats), Histograms: len(one.histograms), Exemplars: len(one.exemplars)})
		r.series = append(r.series, one)
	}
	if int(floats) != len(f.Floats) || int(histograms) != len(f.Histograms) || int(exemplars) != len(f.Exemplars) {
		m.errorf("the series have %d floats, %d histograms, %d exemplars; the columns %d, %d, %d",
			floats, histograms, exemplars, len(f.Floats), len(f.Histograms), len(f.Exemplars))
	}
	for i, said := range f.Metadata {
		if said.Family == m.unkept {
			reply.Families = append(reply.Families, uint32(i))
			continue
		}
		r.metadata = append(r.metadata, said)
		reply.Written.Metadata++
	}
	return nil
}

// learn takes the labels of a frame, after forgetting some of its series.
func (m *memory) learn(tenantID string, f *proto.Frame) {
	known, ids := m.tenants[tenantID], m.ids[tenantID]
	for _, s := range f.Series {
		if k := known[s.ID]; k != nil && m.random.Float64() < m.forgets {
			k.known = false
		}
	}
	last := -1
	for _, l := range f.Labels {
		if int(l.Series) <= last || int(l.Series) >= len(f.Series) {
			m.errorf("labels of series %d behind those of %d, in a frame of %d series", l.Series, last, len(f.Series))
			continue
		}
		last = int(l.Series)
		text, id := l.Labels.String(), f.Series[l.Series].ID
		if before, ok := ids[text]; ok && before != id {
			m.errorf("the labels %s have two identities", text)
		}
		ids[text] = id
		k := known[id]
		if k == nil {
			k = &kept{labels: l.Labels, given: map[uint32]bool{}}
			known[id] = k
		}
		if !labels.Equal(k.labels, l.Labels) {
			m.errorf("the labels %s and %s have one identity", k.labels, l.Labels)
		}
		if !k.known {
			k.known, k.handle = true, m.random.Uint32N(1<<31)
			k.given[k.handle] = true
		}
	}
}

func (m *memory) refuse(floats []proto.Float, series uint32, reply *proto.Reply) []proto.Float {
	var out []proto.Float
	for _, x := range floats {
		if x.V == refusedValue {
			reply.Rejected.Add(proto.SampleOutOfOrder, proto.Counts{Samples: 1}, series, x.T, func() string { return "too late, the limit out_of_order_window is 10m0s" })
			continue
		}
		out = append(out, x)
	}
	return out
}

func take[T any](column []T, at *uint32, n uint32) []T {
	from := *at
	*at += n
	return append([]T(nil), column[from:*at]...)
}

// stored spells out what was stored, in an order that does not depend on the
// frames it came in.
func (r *recording) stored() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, s := range r.series {
		out = append(out, s.lines()...)
	}
	sort.Strings(out)
	return out
}

func (s *recordedSeries) lines() (out []string) {
	name := s.labels.String()
	for _, x := range s.floats {
		out = append(out, fmt.Sprintf("%s float %x at %d from %d", name, math.Float64bits(x.V), x.T, x.ST))
	}
	for _, h := range s.histograms {
		if h.H != nil {
			out = append(out, fmt.Sprintf("%s histogram %s hint %d schema %d at %d from %d", name, h.H, h.H.CounterResetHint, h.H.Schema, h.T, h.ST))
		} else {
			out = append(out, fmt.Sprintf("%s float histogram %s hint %d schema %d at %d from %d", name, h.FH, h.FH.CounterResetHint, h.FH.Schema, h.T, h.ST))
		}
	}
	for _, e := range s.exemplars {
		out = append(out, fmt.Sprintf("%s exemplar %s %x at %d", name, e.Labels, math.Float64bits(e.Value), e.Ts))
	}
	return out
}

// said spells out the metadata that was stored.
func (r *recording) said() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, m := range r.metadata {
		out = append(out, metadataLine(m))
	}
	sort.Strings(out)
	return out
}

func metadataLine(m proto.Metadata) string {
	return fmt.Sprintf("%q %s %q %q", m.Family, m.Type, m.Help, m.Unit)
}

func contentType(v proto.Version) string {
	if v == proto.V2 {
		return "application/x-protobuf;proto=io.prometheus.write.v2.Request"
	}
	return "application/x-protobuf"
}

func kubeLabels(i int) [][2]string {
	return [][2]string{
		{"__name__", fmt.Sprintf("container_cpu_usage_seconds_total_%d", i%500)},
		{"cluster", "eu-central-1-production"}, {"container", fmt.Sprintf("app-%d", i%40)},
		{"cpu", "total"}, {"endpoint", "https-metrics"},
		{"id", fmt.Sprintf("/kubepods/burstable/pod%08x-11d2-4a5c-b7f4-%012x", i/100, i/100)},
		{"image", "registry.example.com/platform/service:v1.24.7"},
		{"instance", fmt.Sprintf("10.0.%d.%d:10250", i/100%250, i%250)}, {"job", "kubelet"},
		{"namespace", fmt.Sprintf("team-%d", i%60)}, {"node", fmt.Sprintf("ip-10-0-%d-%d.internal", i/100%250, i%250)},
		{"pod", fmt.Sprintf("service-%d-7d9c6b8f5d-%05x", i/10, i)},
	}
}

// encode is a request of n series from number from on, compressed.
func encode(v proto.Version, from, n int, ts int64) []byte {
	var all []series
	for i := from; i < from+n; i++ {
		s := series{floats: []proto.Float{{T: ts, V: float64(i) * 1.5}}, help: "Cumulative cpu time consumed.", typ: writev2.Metadata_METRIC_TYPE_COUNTER}
		for _, l := range kubeLabels(i) {
			s.labels = append(s.labels, labels.Label{Name: l[0], Value: l[1]})
		}
		all = append(all, s)
	}
	return s2.EncodeSnappy(nil, marshal(v, all...))
}

// series is one of a request to send.
type series struct {
	labels     []labels.Label
	floats     []proto.Float
	histograms []proto.Histogram
	exemplars  []exemplarToSend
	// Of version 2.
	typ        writev2.Metadata_MetricType
	help, unit string
	extraRefs  []uint32 // behind those of the labels
}

type exemplarToSend struct {
	labels []labels.Label
	v      float64
	t      int64
}

// pairs are labels, in this order.
func pairs(ss ...string) (out []labels.Label) {
	for i := 0; i < len(ss); i += 2 {
		out = append(out, labels.Label{Name: ss[i], Value: ss[i+1]})
	}
	return out
}

// marshal writes a request with the generated code.
func marshal(v proto.Version, all ...series) []byte {
	return marshalWith(v, nil, all...)
}

// marshalWith adds metadata messages, which version 1 has.
func marshalWith(v proto.Version, metadata []prompb.MetricMetadata, all ...series) []byte {
	var (
		b   []byte
		err error
	)
	if v == proto.V1 {
		b, err = requestV1(metadata, all).Marshal()
	} else {
		b, err = requestV2(all).Marshal()
	}
	if err != nil {
		panic(err)
	}
	return b
}

func requestV1(metadata []prompb.MetricMetadata, all []series) *prompb.WriteRequest {
	m := &prompb.WriteRequest{Metadata: metadata}
	for _, s := range all {
		var ts prompb.TimeSeries
		ts.Labels = labelsV1(s.labels)
		for _, x := range s.floats {
			ts.Samples = append(ts.Samples, prompb.Sample{Value: x.V, Timestamp: x.T})
		}
		for _, h := range s.histograms {
			if h.H != nil {
				ts.Histograms = append(ts.Histograms, prompb.FromIntHistogram(h.T, h.H))
			} else {
				ts.Histograms = append(ts.Histograms, prompb.FromFloatHistogram(h.T, h.FH))
			}
		}
		for _, e := range s.exemplars {
			ts.Exemplars = append(ts.Exemplars, prompb.Exemplar{Labels: labelsV1(e.labels), Value: e.v, Timestamp: e.t})
		}
		m.Timeseries = append(m.Timeseries, ts)
	}
	return m
}

func labelsV1(ls []labels.Label) (out []prompb.Label) {
	for _, l := range ls {
		out = append(out, prompb.Label{Name: l.Name, Value: l.Value})
	}
	return out
}

func requestV2(all []series) *writev2.Request {
	m := new(writev2.Request)
	symbols := writev2.NewSymbolTable()
	refs := func(ls []labels.Label) (out []uint32) {
		for _, l := range ls {
			out = append(out, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
		}
		return out
	}
	for _, s := range all {
		var ts writev2.TimeSeries
		ts.LabelsRefs = append(refs(s.labels), s.extraRefs...)
		for _, x := range s.floats {
			ts.Samples = append(ts.Samples, writev2.Sample{Value: x.V, Timestamp: x.T, StartTimestamp: x.ST})
		}
		for _, h := range s.histograms {
			if h.H != nil {
				ts.Histograms = append(ts.Histograms, writev2.FromIntHistogram(h.ST, h.T, h.H))
			} else {
				ts.Histograms = append(ts.Histograms, writev2.FromFloatHistogram(h.ST, h.T, h.FH))
			}
		}
		for _, e := range s.exemplars {
			ts.Exemplars = append(ts.Exemplars, writev2.Exemplar{LabelsRefs: refs(e.labels), Value: e.v, Timestamp: e.t})
		}
		ts.Metadata = writev2.Metadata{Type: s.typ, HelpRef: symbols.Symbolize(s.help), UnitRef: symbols.Symbolize(s.unit)}
		m.Timeseries = append(m.Timeseries, ts)
	}
	m.Symbols = symbols.Symbols()
	return m
}
