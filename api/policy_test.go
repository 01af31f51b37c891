package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/tenant"
)

// Two tenants: one that is read by a label policy, and one that has nothing but
// what the policy lets be read.
const (
	whole = "whole"
	only  = "only"
)

// reading are credentials that read a tenant, all of it or by selectors.
type reading struct {
	directory *tenant.Directory
	list      []tenant.Credential
}

func newReading() *reading {
	return &reading{directory: tenant.NewDirectory(tenant.ModeRequired, tenant.DefaultSettings())}
}

// by returns the header of a new credential that reads a tenant by selectors, or
// if there are none all of it.
func (r *reading) by(t *testing.T, tenantID string, scopes []string, selectors ...string) []string {
	t.Helper()
	secret, hash := tenant.NewSecret()
	r.add(t, tenant.Credential{Tenants: []string{tenantID}, Scopes: scopes, Readable: selectors, Secrets: []tenant.Secret{{SHA256: hash.String()}}})
	return []string{"Authorization", "Bearer " + secret, tenant.Header, ""}
}

// byToken is by, with a token of an issuer, that directory trusts.
func (r *reading) byToken(t *testing.T, issuer *harness.Issuer, tenantID string, scopes []string, selectors ...string) []string {
	t.Helper()
	subject := fmt.Sprintf("subject-%d", len(r.list))
	match := &tenant.TokenMatch{Issuer: issuer.URL, Claims: map[string][]string{"sub": {subject}}}
	r.add(t, tenant.Credential{Tenants: []string{tenantID}, Scopes: scopes, Readable: selectors, JWT: match})
	return bearer(issuer.Token(map[string]any{"sub": subject}))
}

func (r *reading) add(t *testing.T, c tenant.Credential) {
	t.Helper()
	c.ID = fmt.Sprintf("credential-%d", len(r.list))
	r.list = append(r.list, c)
	cs, errs := tenant.NewCredentials("credentials", slices.Clone(r.list), r.directory.Credentials())
	require.Empty(t, errs)
	r.directory.SetCredentials(cs)
}

// policySeries are the series of the tests of policies, of which each has the
// same timestamps: the last minutes, so that they can be federated.
func policySeries() []labels.Labels {
	var all []labels.Labels
	for _, metric := range []string{"up", "requests_total", "latency", "secret_total"} {
		for _, team := range []string{"", "a", "b"} {
			for _, env := range []string{"", "dev", "prod"} {
				b := labels.NewScratchBuilder(3)
				b.Add("__name__", metric)
				if env != "" {
					b.Add("env", env)
				}
				if team != "" {
					b.Add("team", team)
				}
				all = append(all, b.Labels())
			}
		}
	}
	return all
}

// metadataOf are the families that series belong to.
func metadataOf(all []labels.Labels) map[string][]metadata.Metadata {
	found := map[string][]metadata.Metadata{}
	for _, series := range all {
		family := strings.TrimSuffix(series.Get("__name__"), "_total")
		found[family] = []metadata.Metadata{{Type: model.MetricTypeCounter, Help: "of " + family}}
	}
	return found
}

// fillPolicyDB makes a TSDB of series. They end at end, ms.
func fillPolicyDB(t *testing.T, all []labels.Labels, end int64) *tsdb.DB {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.EnableExemplarStorage = true
	opts.MaxExemplars = 1000
	opts.StripeSize = 512
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	app := db.AppenderV2(t.Context())
	for i := range int64(8) {
		for _, series := range all {
			ts := end - (8-i)*15_000
			var h *histogram.Histogram
			if series.Get("__name__") == "latency" {
				h = tsdbutil.GenerateTestHistogram(i)
			}
			e := exemplar.Exemplar{Labels: labels.FromStrings("trace_id", series.Get("team")+series.Get("env")), Ts: ts, HasTs: true, Value: 1}
			_, err := app.Append(0, series, 0, ts, float64(i)*float64(series.Hash()%100), h, nil, storage.AppendV2Options{Exemplars: []exemplar.Exemplar{e}})
			require.NoError(t, err)
		}
	}
	require.NoError(t, app.Commit())
	return db
}

var policySelectors = []string{
	`{team="a"}`, `{team="b"}`, `{team!="a"}`, `{team=""}`, `{env="prod"}`, `{env!="prod"}`, `{env!="prod",team=~"a|b"}`,
	`{env=~"d.*|"}`, `up{team=~".+"}`, `{__name__=~"up|latency",env!~"dev"}`, `requests_total`, `{team="nobody"}`, `{__name__!="secret_total"}`,
}

// TestPolicyIsATenant asks everything that can be read of a tenant by a policy,
// and of a tenant that has nothing else, and compares.
func TestPolicyIsATenant(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		texts := rapid.SliceOfNDistinct(rapid.SampledFrom(policySelectors), 1, 3, rapid.ID).Draw(rt, "policy")
		policy, err := tenant.ParseLabelPolicy(texts)
		require.NoError(t, err)
		credentials := newReading()
		asOnly := credentials.by(t, only, []string{"read"})
		asWhole := credentials.by(t, whole, []string{"read"}, texts...)
		all := rapid.Permutation(policySeries()).Draw(rt, "series")[:rapid.IntRange(1, 36).Draw(rt, "how many")]
		readable := slices.DeleteFunc(slices.Clone(all), func(s labels.Labels) bool { return policy.First(s) < 0 })
		end := time.Now().UnixMilli()
		s := newServer(t, func(s *server) {
			s.source.dbs = map[string]*tsdb.DB{whole: fillPolicyDB(t, all, end), only: fillPolicyDB(t, readable, end)}
			s.source.meta = map[string]map[string][]metadata.Metadata{whole: metadataOf(all), only: metadataOf(readable)}
			s.deps.Tenants = credentials.directory
		})
		for _, target := range drawReads(rt, end) {
			want, got := s.do(t, "GET", target, nil, asOnly...), s.do(t, "GET", target, nil, asWhole...)
			require.Equal(t, want.Code, got.Code, "%s by %v: %s", target, texts, got.Body)
			require.Equal(t, sorted(t, want), sorted(t, got), "%s by %v", target, texts)
		}
		for _, typ := range []prompb.ReadRequest_ResponseType{asSamples, asChunks} {
			body := readBody(t, []prompb.ReadRequest_ResponseType{typ}, drawRead(rt, end))
			want, got := s.remoteRead(t, body, asOnly...), s.remoteRead(t, body, asWhole...)
			require.Equal(t, http.StatusOK, got.Code, got.Body)
			require.Equal(t, want.Body.String(), got.Body.String(), "%v by %v", typ, texts)
		}
	})
}

// drawReads returns a request for every endpoint whose answer has series in it.
func drawReads(t *rapid.T, end int64) []string {
	selector := rapid.SampledFrom([]string{
		`up`, `{__name__=~".+"}`, `{team="a"}`, `{team!="a",__name__!=""}`, `requests_total{env=""}`, `{env=~"dev|prod",team!=""}`, `latency`, `nothing`,
	})
	form := func(name string, values ...string) string { return url.Values{name: values}.Encode() }
	matches := func() string { return form("match[]", rapid.SliceOfN(selector, 1, 2).Draw(t, "match")...) }
	at := fmt.Sprintf("&start=%d&end=%d", end/1000-120, end/1000)
	sel := selector.Draw(t, "selector")
	query := fmt.Sprintf(rapid.SampledFrom([]string{
		"%s", "count(%s)", "sum by (team) (%s)", "count by (__name__) (%s)", "rate(%s[1m])", "absent(%s)", "count_over_time(%s[1m:10s])",
		"histogram_quantile(0.9, %s)", "count_values(\"v\", %s)", "scalar(%s)", "group without (env) (%s)",
		"%s or on () vector(1)", "%s unless on (team) up", "%[1]s * on (__name__, team, env) %[1]s",
	}).Draw(t, "query"), sel)
	api := "/api/v1/"
	reads := []string{
		api + "query?stats=all&" + form("query", query) + fmt.Sprintf("&time=%d", end/1000),
		api + "query_range?stats=all&step=10&" + form("query", query) + at,
		api + "query_exemplars?" + form("query", sel) + at,
		api + "series?" + matches() + at, api + "labels?" + at, api + "labels?" + matches() + at,
		api + "metadata", api + "metadata?limit=1", api + "metadata?metric=" + rapid.SampledFrom([]string{"up", "requests", "secret", "nothing"}).Draw(t, "metric"),
		api + "targets/metadata", api + "targets/metadata?limit=2", "/federate?" + matches(), "/federate?match[]={}",
		api + "format_query?" + form("query", query), api + "rules?" + matches(),
	}
	for _, name := range []string{"__name__", "team", "env", "lacking"} {
		reads = append(reads, api+"label/"+name+"/values?"+at, api+"label/"+name+"/values?"+matches()+at)
	}
	return reads
}

// drawRead returns a query of a remote read.
func drawRead(t *rapid.T, end int64) *prompb.Query {
	q := &prompb.Query{StartTimestampMs: end - rapid.Int64Range(0, 200_000).Draw(t, "start"), EndTimestampMs: end}
	for range rapid.IntRange(0, 2).Draw(t, "matchers") {
		q.Matchers = append(q.Matchers, rapid.SampledFrom([]*prompb.LabelMatcher{
			{Type: prompb.LabelMatcher_NEQ, Name: "__name__"}, {Name: "team", Value: "a"}, {Name: "team"},
			{Type: prompb.LabelMatcher_RE, Name: "env", Value: "dev|"}, {Type: prompb.LabelMatcher_NRE, Name: "team", Value: "a|b"},
		}).Draw(t, "matcher"))
	}
	return q
}

// sorted is an answer as text, without the time it took, and its lists in an
// order: series that nobody sorts come as they are found.
func sorted(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	if w.Header().Get("Content-Type") != "application/json" {
		lines := strings.Split(w.Body.String(), "\n")
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	e := decode(t, w.Body.String())
	if data, ok := e.Data.(map[string]any); ok {
		if stats, ok := data["stats"].(map[string]any); ok {
			delete(stats, "timings")
			samples := stats["samples"].(map[string]any)
			require.Contains(t, samples, "totalQueryableSamples")
			delete(samples, "peakSamples") // depends on which series comes first
		}
		sortList(t, data["result"])
	}
	sortList(t, e.Data)
	b, err := json.MarshalIndent(e, "", " ")
	require.NoError(t, err)
	return string(b)
}

func sortList(t *testing.T, v any) {
	t.Helper()
	list, ok := v.([]any)
	if !ok {
		return
	}
	slices.SortFunc(list, func(a, b any) int {
		x, err := json.Marshal(a)
		require.NoError(t, err)
		y, err := json.Marshal(b)
		require.NoError(t, err)
		return bytes.Compare(x, y)
	})
}

// TestPolicyRefusals asks by a policy for what describes the tenant as a whole.
func TestPolicyRefusals(t *testing.T) {
	credentials := newReading()
	some := credentials.by(t, teamA, []string{"read"}, `{team="nobody"}`)
	all := credentials.by(t, teamA, []string{"read", "admin"})
	s := newServer(t, func(s *server) { s.deps.Tenants = credentials.directory })
	for _, path := range []string{"status/tsdb", "status/tsdb/blocks"} {
		w := s.do(t, "GET", "/api/v1/"+path, nil, some...)
		require.Equal(t, http.StatusForbidden, w.Code)
		require.Contains(t, w.Body.String(), "weir-read-policy")
		require.Equal(t, http.StatusOK, s.do(t, "GET", "/api/v1/"+path, nil, all...).Code)
	}
	require.Contains(t, s.do(t, "GET", "/metrics", nil, all...).Body.String(), `weir_api_refused_reads_total{reason="weir-read-policy"} 2`)
}
