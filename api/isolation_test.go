package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/ingester"
	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/querier"
	"github.com/weir-metrics/weir/receiver"
	"github.com/weir-metrics/weir/tenant"
)

// TestIsolation has tenants, and teams within them, write series that are full of
// secrets: in names of metrics and labels, values, help texts, exemplars, and in
// what is refused. Then readers ask every route of both listeners for all they can
// think of, and guess. No answer may hold a secret of somebody whose series the
// reader may not read.
//
// A route that is not in the table of isolation_routes_test.go fails the test: say
// there how to ask it for what others have.
func TestIsolation(t *testing.T) {
	for name, readersOf := range map[string]func(*isolation) []reader{
		"header":   (*isolation).headerReaders,
		"required": (*isolation).credentialReaders,
	} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			i := newIsolation(t, tenant.Mode(name), rand.New(rand.NewPCG(seed, 0)))
			i.probe(readersOf(i))
		})
	}
}

// reader is who asks.
type reader struct {
	name   string
	header []string
	tenant string            // whose data it reads; empty: it should be told nothing
	reads  func(*owner) bool // whose series it may read; nil: nobody's
	policy bool              // it reads by a label policy
	// operator is who sees all that concerns every tenant, and so their names.
	operator bool
}

// owner is a team of a tenant, with the secrets that its series are full of.
type owner struct {
	tenant, team                                       string
	metric, label, value, help, exemplar, refused, job string
}

func (o *owner) secrets() []string {
	return []string{o.tenant, o.metric, o.label, o.value, o.help, o.exemplar, o.refused, o.job}
}

// isolation is a server with owners' series.
type isolation struct {
	*testing.T
	rnd         *rand.Rand
	surface     *api.API
	data, admin http.Handler
	mode        tenant.Mode
	credentials *reading
	issuer      *harness.Issuer
	writes      map[string][]string // headers of who writes for a tenant
	tenants     []string
	owners      []*owner
	now         time.Time
	told        map[string]bool // reader and route that answered with a secret that it may read
}

func newIsolation(t *testing.T, mode tenant.Mode, rnd *rand.Rand) *isolation {
	i := &isolation{T: t, rnd: rnd, mode: mode, credentials: newReading(), writes: map[string][]string{}, now: time.Now(), told: map[string]bool{}}
	i.issuer = harness.NewIssuer(t)
	directory := i.credentials.directory.WithAuth(tenant.Auth{Tokens: tokensOf(t, i.issuer)})
	if mode == tenant.ModeHeader {
		directory = tenant.NewDirectory(mode, tenant.DefaultSettings())
	}
	i.serve(directory)
	for range 3 {
		id := i.secret("tenant")
		i.tenants = append(i.tenants, id)
		i.writes[id] = []string{tenant.Header, id}
		if mode == tenant.ModeRequired {
			i.writes[id] = i.credentials.by(t, id, []string{"write", "admin"})
		}
		for _, team := range []string{"red", "blue"} {
			i.owners = append(i.owners, &owner{
				tenant: id, team: team, metric: i.secret("metric"), label: i.secret("label"), value: i.secret("value"),
				help: i.secret("help"), exemplar: i.secret("exemplar"), refused: i.secret("refused"), job: i.secret("job"),
			})
		}
	}
	for _, o := range i.owners {
		i.write(o, i.now)
		if o.tenant == i.tenants[0] { // which has blocks, and a head behind them
			i.mustSend(http.StatusNoContent, request{method: "POST", target: "/ingester/flush"}, i.writes[o.tenant])
			i.write(o, i.now.Add(time.Minute))
		}
	}
	return i
}

// serve starts an ingester, with a receiver and the API in front of it.
func (i *isolation) serve(directory *tenant.Directory) {
	logger := slog.New(slog.DiscardHandler)
	cfg := ingester.DefaultConfig()
	cfg.Disk.ReserveBytes = 0
	ing := ingester.New(cfg, ingester.Deps{Dir: i.TempDir(), Limits: directory.Limits, Logger: logger, Registry: prometheus.NewRegistry()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ing.Run(ctx) }()
	i.Cleanup(func() {
		cancel()
		require.NoError(i, <-done)
	})
	require.Eventually(i, func() bool { return ing.Ready() == nil }, 10*time.Second, time.Millisecond)
	s := newServer(i.T, noDBs, func(s *server) {
		usage := tenant.NewUsage(ing.ActiveSeries, s.reg)
		refusals := ledger.New(s.reg)
		recv := receiver.New(receiver.DefaultConfig(), receiver.Deps{
			Ingester: ing, Tenants: directory, Settings: directory.Settings, Usage: usage, Ledger: refusals,
			Secret: []byte("a secret of this test"), Logger: logger, Registry: prometheus.NewRegistry(),
		})
		s.deps.Querier, s.deps.Storage, s.deps.Tenants, s.deps.Usage = querier.New(ing), ing, directory, usage
		s.deps.Writer, s.deps.OTLP, s.deps.Flush, s.deps.Ready = recv, recv.OTLP(), ing.Flush, ing.Ready
		s.deps.Ledger, s.deps.Admits, s.deps.Series = refusals, recv.Admits, ing
		s.deps.RelabelReport = func(tenant string, examples bool) any { return recv.RelabelReports(tenant, examples) }
		s.deps.TenantStats = func() any { return ing.Tenants() }
		s.deps.TenantUsage = func(id string) any { return ing.UsageOf(id) }
	})
	deps := s.deps
	deps.Registry = nil // has these metrics
	i.surface = api.New(s.cfg, deps)
	i.data, i.admin = i.surface.Handler(), i.surface.AdminHandler()
}

// secret is a word that is nowhere else, and that nothing has to escape.
func (i *isolation) secret(what string) string {
	letters := make([]byte, 12)
	for n := range letters {
		letters[n] = 'a' + byte(i.rnd.IntN(26))
	}
	return "zq" + string(letters) + what
}

// headerReaders are whom a proxy names, rightly or not.
func (i *isolation) headerReaders() []reader {
	first, last := i.tenants[0], i.tenants[2]
	readers := []reader{
		{name: "a tenant without data", header: []string{tenant.Header, "nobody"}},
		{name: "two tenants", header: []string{tenant.Header, first + "|" + last}},
		{name: "two headers", header: []string{tenant.Header, first, tenant.Header, last}},
		{name: "a path", header: []string{tenant.Header, "x/../" + first}},
		{name: "no tenant", operator: true},
	}
	for _, id := range i.tenants {
		readers = append(readers, reader{name: id, header: []string{tenant.Header, id}, tenant: id, reads: of(id, "red", "blue")})
	}
	return readers
}

// of are teams of a tenant.
func of(id string, teams ...string) func(*owner) bool {
	return func(o *owner) bool { return o.tenant == id && slices.Contains(teams, o.team) }
}

// credentialReaders have credentials of every kind, with and without label
// policies, or none.
func (i *isolation) credentialReaders() []reader {
	first := i.tenants[0]
	token := func(id string, selectors ...string) []string {
		return i.credentials.byToken(i.T, i.issuer, id, []string{"read"}, selectors...)
	}
	read := func(id string, selectors ...string) []string {
		return i.credentials.by(i.T, id, []string{"read"}, selectors...)[:2]
	}
	unknown, _ := tenant.NewSecret()
	expired := i.credentials.by(i.T, first, []string{"read", "admin"})[:2]
	i.credentials.list[len(i.credentials.list)-1].Secrets[0].Expires = "2026-01-01T00:00:00Z"
	readers := []reader{
		{name: "expired", header: append(expired, tenant.Header, first)},
		{name: "expired, as another", header: append(slices.Clone(expired), tenant.Header, i.tenants[1])},
		{name: "a token for another tenant", header: append(token("nobody"), tenant.Header, first)},
		{name: "a token without a credential", header: bearer(i.issuer.Token(nil), tenant.Header, first)},
		{name: "none", header: []string{tenant.Header, first}},
		{name: "unknown", header: []string{"Authorization", "Bearer " + unknown, tenant.Header, first}},
		{name: "writer", header: i.credentials.by(i.T, first, []string{"write"})[:2]},
		{name: "rules", header: i.credentials.by(i.T, first, []string{"rules"})[:2]},
		{name: "a tenant without data", header: read("nobody")},
		{name: "for another tenant", header: append(read("nobody"), tenant.Header, first)},
		{name: "for two tenants", header: append(read(first), tenant.Header, first+"|"+i.tenants[1])},
		{name: "operator", header: i.credentials.by(i.T, "nobody", []string{"admin"})[:2], operator: true},
		{name: "nothing of it", header: read(first, `{team="nobody"}`, `{team=~"red|blue",env!=""}`)},
	}
	for _, id := range i.tenants {
		readers = append(readers,
			reader{name: id, header: read(id), tenant: id, reads: of(id, "red", "blue")},
			reader{name: id + " named", header: append(read(id), tenant.Header, id), tenant: id, reads: of(id, "red", "blue")},
			reader{name: id + " by token", header: token(id), tenant: id, reads: of(id, "red", "blue")},
			reader{name: id + " red by token", header: token(id, `{team="red"}`), tenant: id, reads: of(id, "red"), policy: true},
			reader{name: id + " red", header: read(id, `{team="red"}`), tenant: id, reads: of(id, "red"), policy: true},
			reader{name: id + " not red", header: read(id, `{team!="red",team!=""}`), tenant: id, reads: of(id, "blue"), policy: true},
			reader{name: id + " both", header: read(id, `{team="red"}`, `{team=~"r.*|blue"}`), tenant: id, reads: of(id, "red", "blue"), policy: true},
		)
	}
	for _, o := range i.owners {
		readers = append(readers, reader{name: o.tenant + " by label of " + o.team, header: read(o.tenant, `{`+o.label+`!=""}`), tenant: o.tenant, reads: of(o.tenant, o.team), policy: true})
	}
	return readers
}

// write sends an owner's series, and some that are refused.
func (i *isolation) write(o *owner, at time.Time) {
	i.Helper()
	now := at.UnixMilli()
	series := func(name string, labels ...string) prompb.TimeSeries {
		labels = append([]string{"__name__", name, "team", o.team, o.label, o.value}, labels...)
		s := prompb.TimeSeries{Exemplars: []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: o.exemplar}}, Value: 1, Timestamp: now}}}
		for n := 0; n < len(labels); n += 2 {
			s.Labels = append(s.Labels, prompb.Label{Name: labels[n], Value: labels[n+1]})
		}
		s.Samples = []prompb.Sample{{Timestamp: now - 30_000, Value: 1}, {Timestamp: now, Value: 2}}
		return s
	}
	native := series(o.metric + "_native")
	native.Samples, native.Histograms = nil, []prompb.Histogram{prompb.FromIntHistogram(now, &histogram.Histogram{
		Count: 3, Sum: 4, Schema: 1, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1},
	})}
	// What is said of a metric is for all who read one of its series: nothing of "shared".
	good := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series(o.metric), native, series("shared")}}
	for _, name := range []string{o.metric, o.metric + "_native", "unwritten" + o.metric} {
		good.Metadata = append(good.Metadata, prompb.MetricMetadata{MetricFamilyName: name, Type: prompb.MetricMetadata_GAUGE, Help: o.help, Unit: o.help})
	}
	i.mustSend(http.StatusNoContent, pushOf(i.T, good), i.writes[o.tenant])

	bad := series(o.metric, "why", o.refused)
	bad.Exemplars, bad.Samples = nil, []prompb.Sample{{Timestamp: 1, Value: 1}}
	i.mustSend(http.StatusBadRequest, pushOf(i.T, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{bad}}), i.writes[o.tenant])
	i.mustSend(http.StatusOK, exportOf(o, at), i.writes[o.tenant])
}

// pushOf is a request of remote write.
func pushOf(t *testing.T, message *prompb.WriteRequest) request {
	t.Helper()
	b, err := message.Marshal()
	require.NoError(t, err)
	return request{method: "POST", target: "/api/v1/push", body: s2.EncodeSnappy(nil, b), header: []string{
		"Content-Type", "application/x-protobuf", "Content-Encoding", "snappy",
	}}
}

// exportOf is a request of OTLP, as JSON, with a gauge.
func exportOf(o *owner, at time.Time) request {
	attribute := func(key, value string) map[string]any {
		return map[string]any{"key": key, "value": map[string]any{"stringValue": value}}
	}
	b, err := json.Marshal(map[string]any{"resourceMetrics": []any{map[string]any{
		"resource": map[string]any{"attributes": []any{attribute("service.name", o.job)}},
		"scopeMetrics": []any{map[string]any{"metrics": []any{map[string]any{
			"name": o.metric + "_otlp", "description": o.help,
			"gauge": map[string]any{"dataPoints": []any{map[string]any{
				"asDouble": 1, "timeUnixNano": fmt.Sprint(at.UnixNano()), "attributes": []any{attribute("team", o.team), attribute(o.label, o.value)},
			}}},
		}}}},
	}}})
	if err != nil {
		panic(err)
	}
	return request{method: "POST", target: "/otlp/v1/metrics", body: b, header: []string{"Content-Type", "application/json"}}
}

// request of somebody, whose headers are to be added.
type request struct {
	method, target string
	body           []byte
	header         []string
}

// send returns the status of an answer, and all of it, decompressed.
func (i *isolation) send(h http.Handler, r request, header []string) (status int, text []byte) {
	i.Helper()
	hr := httptest.NewRequestWithContext(i.Context(), r.method, r.target, bytes.NewReader(r.body))
	for _, list := range [][]string{r.header, header} {
		for n := 0; n < len(list); n += 2 {
			if list[n+1] != "" {
				hr.Header.Add(list[n], list[n+1])
			}
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, hr)
	body := w.Body.Bytes()
	if w.Header().Get("Content-Encoding") == "snappy" {
		var err error
		body, err = s2.Decode(nil, body)
		require.NoError(i, err)
	}
	var all bytes.Buffer
	require.NoError(i, w.Header().Write(&all))
	return w.Code, append(all.Bytes(), body...)
}

func (i *isolation) mustSend(status int, r request, header []string) {
	i.Helper()
	got, text := i.send(i.data, r, header)
	require.Equal(i, status, got, "%s: %s", r.target, text)
}

// rounds is how often each reader asks each route.
const rounds = 3

// probe has every reader ask every route.
func (i *isolation) probe(readers []reader) {
	asked := 0
	for _, rt := range i.routes() {
		for _, r := range readers {
			if r.operator && rt.Needs == "operators" || rt.Admin && i.mode == tenant.ModeHeader {
				continue // an operator, who may see who the tenants are
			}
			for range rounds {
				i.check(rt, r)
				asked++
			}
			// Who says nothing keeps secrets well: he must tell what may be told.
			for n := 0; rt.tells && r.tenant != "" && !(rt.whole && r.policy) && !i.told[r.name+" "+rt.Pattern]; n++ {
				require.Less(i, n, 1000, "%s tells %s nothing", rt.Pattern, r.name)
				i.check(rt, r)
				asked++
			}
		}
	}
	i.Logf("%d requests of %d readers", asked, len(readers))
}

// check asks a route in some way, and looks at the answer.
func (i *isolation) check(rt probed, r reader) {
	i.Helper()
	q := rt.ask(i, rt.Pattern)
	header := r.header
	if r.tenant != "" && !rt.whole && i.rnd.IntN(8) == 0 { // a second name
		header = append(slices.Clone(header), tenant.Header, i.any().tenant)
	}
	handler := i.data
	if rt.Admin {
		handler = i.admin
	}
	status, text := i.send(handler, q, header)
	what := fmt.Sprintf("%s %s (%.200q) by %s %q: %d %s", q.method, q.target, q.body, r.name, header, status, text)
	given, err := url.QueryUnescape(q.target)
	require.NoError(i, err)
	given += string(q.body) + strings.Join(header, " ")
	for _, o := range i.owners {
		for _, secret := range o.secrets() {
			switch {
			case !bytes.Contains(text, []byte(secret)) || strings.Contains(given, secret):
			case r.reads != nil && r.reads(o), secret == r.tenant:
				i.told[r.name+" "+rt.Pattern] = true
			default:
				require.Fail(i, "a secret was told", "%s of %s in %s", o.team, o.tenant, what)
			}
		}
	}
	if rt.whole && r.policy {
		require.Equal(i, http.StatusForbidden, status, what)
	}
}

// any returns one of the owners.
func (i *isolation) any() *owner { return i.owners[i.rnd.IntN(len(i.owners))] }
