package api_test

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/querier"
	"github.com/weir-metrics/weir/tenant"
)

// dbSource is a Source over a TSDB per tenant. With err set every read fails.
type dbSource struct {
	dbs  map[string]*tsdb.DB
	meta map[string]map[string][]metadata.Metadata
	err  error

	beforeSelect   func(ctx context.Context) error
	opened, closed atomic.Int64
}

var _ querier.Source = (*dbSource)(nil)

func (s *dbSource) ChunkQuerier(tenantID string, mint, maxt int64) (storage.ChunkQuerier, error) {
	if s.err != nil {
		return nil, s.err
	}
	s.opened.Add(1)
	q := storage.NoopChunkedQuerier()
	if db := s.dbs[tenantID]; db != nil {
		var err error
		if q, err = db.ChunkQuerier(mint, maxt); err != nil {
			return nil, err
		}
	}
	return &fakeQuerier{q, s}, nil
}

// fakeQuerier counts its end, and does before a Select what the source says.
type fakeQuerier struct {
	storage.ChunkQuerier
	source *dbSource
}

func (f *fakeQuerier) Close() error {
	f.source.closed.Add(1)
	return f.ChunkQuerier.Close()
}

func (f *fakeQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.ChunkSeriesSet {
	if f.source.beforeSelect != nil {
		if err := f.source.beforeSelect(ctx); err != nil {
			return storage.ErrChunkSeriesSet(err)
		}
	}
	return f.ChunkQuerier.Select(ctx, sorted, hints, ms...)
}

func (s *dbSource) ExemplarQuerier(ctx context.Context, tenantID string) (storage.ExemplarQuerier, error) {
	if s.err != nil {
		return nil, s.err
	}
	if db := s.dbs[tenantID]; db != nil {
		return db.ExemplarQuerier(ctx)
	}
	return noExemplars{}, nil
}

type noExemplars struct{}

func (noExemplars) Select(int64, int64, ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	return nil, nil
}

func (s *dbSource) Metadata(_ context.Context, tenantID, metric string) (map[string][]metadata.Metadata, error) {
	if s.err != nil {
		return nil, s.err
	}
	found := map[string][]metadata.Metadata{}
	for family, m := range s.meta[tenantID] {
		if metric == "" || metric == family {
			found[family] = m
		}
	}
	return found, nil
}

func (s *dbSource) Extent(string) (mint, maxt int64, ok bool) {
	return math.MinInt64, math.MaxInt64, true
}

var _ api.Storage = (*dbSource)(nil)

func (s *dbSource) HeadStats(tenantID string, limit int) (*tsdb.Stats, int64, error) {
	if s.err != nil {
		return nil, 0, s.err
	}
	if db := s.dbs[tenantID]; db != nil {
		return db.Head().Stats(model.MetricNameLabel, limit), 11, nil
	}
	return &tsdb.Stats{IndexPostingStats: &index.PostingsStats{}}, 0, nil
}

func (s *dbSource) Blocks(tenantID string) ([]tsdb.BlockMeta, error) {
	if s.err != nil || s.dbs[tenantID] == nil {
		return nil, s.err
	}
	return s.dbs[tenantID].BlockMetas(), nil
}

func (s *dbSource) Replay() (done, of int) { return 2, 3 }

// Two tenants with series of the same names.
const (
	teamA = "team-a"
	teamB = "team-b"
)

// server is an API over two tenants' TSDBs, and what it was built of.
type server struct {
	http.Handler
	admin   http.Handler
	source  *dbSource
	deps    api.Deps
	cfg     api.Config
	reg     *prometheus.Registry
	flushed []string
	logs    *strings.Builder
}

// noDBs is a change that leaves the server without data.
func noDBs(s *server) { s.source.dbs = map[string]*tsdb.DB{} }

// newServer returns a server after change has had a look at its parts.
func newServer(t testing.TB, change ...func(*server)) *server {
	t.Helper()
	s := &server{
		cfg:  api.DefaultConfig(),
		reg:  prometheus.NewRegistry(),
		logs: &strings.Builder{},
		source: &dbSource{
			meta: map[string]map[string][]metadata.Metadata{teamA: someMetadata("a"), teamB: someMetadata("b")},
		},
	}
	s.deps = api.Deps{
		Settings:    api.Settings{YAML: "target: all\n", Flags: map[string]string{"target": "all"}, Retention: 15 * 24 * time.Hour},
		Querier:     querier.New(s.source),
		Tenants:     tenant.NewDirectory(tenant.ModeHeader, tenant.DefaultSettings()),
		Writer:      http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		OTLP:        http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusOK) }),
		Flush:       func(_ context.Context, tenantID string) error { s.flushed = append(s.flushed, tenantID); return nil },
		Storage:     s.source,
		Ready:       func() error { return nil },
		Registry:    s.reg,
		Gatherer:    s.reg,
		Logger:      slog.New(slog.NewTextHandler(s.logs, nil)),
		BuildInfo:   api.BuildInfo{Version: "1.2.3", Revision: "abc", GoVersion: "go1.26"},
		TenantStats: func() any { return []string{teamA} },
		TenantUsage: func(tenant string) any { return "of " + tenant },
		RelabelReport: func(tenant string, examples bool) any {
			return map[string]any{"tenant": tenant, "examples": examples}
		},
	}
	for _, c := range change {
		c(s)
	}
	require.Empty(t, s.cfg.Validate("query"))
	if s.source.dbs == nil {
		s.source.dbs = map[string]*tsdb.DB{teamA: newDB(t, teamA), teamB: newDB(t, teamB)}
	}
	s.deps.Querier = s.deps.Querier.WithLimits(s.cfg.SourceLimits())
	if s.deps.Engine == nil {
		s.deps.Engine = api.NewEngine(s.cfg, s.deps.Logger, nil)
	}
	surface := api.New(s.cfg, s.deps)
	s.Handler, s.admin = surface.Handler(), surface.AdminHandler()
	return s
}

func someMetadata(who string) map[string][]metadata.Metadata {
	return map[string][]metadata.Metadata{
		"up":       {{Type: model.MetricTypeGauge, Help: "is it up, " + who}},
		"requests": {{Type: model.MetricTypeCounter, Help: "new <help>"}, {Type: model.MetricTypeCounter, Help: "old help"}},
		"latency":  {{Type: model.MetricTypeHistogram, Unit: "seconds"}},
	}
}

// newDB returns a TSDB with ten minutes of a few series, a sample every 10 s
// from time 0 on.
func newDB(t testing.TB, who string) *tsdb.DB {
	t.Helper()
	db := fillDB(t, t.TempDir(), who)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// fillDB makes the TSDB of newDB in dir; the caller closes it.
func fillDB(t testing.TB, dir, who string) *tsdb.DB {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.EnableExemplarStorage = true
	opts.MaxExemplars = 100
	db, err := tsdb.Open(dir, nil, nil, opts, nil)
	require.NoError(t, err)

	app := db.AppenderV2(t.Context())
	add := func(ts int64, v float64, h *histogram.Histogram, ex []exemplar.Exemplar, lset ...string) {
		_, err := app.Append(0, labels.FromStrings(append(lset, "team", who)...), 0, ts, v, h, nil, storage.AppendV2Options{Exemplars: ex})
		require.NoError(t, err)
	}
	special := []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, 1e21, 1e-7, -0.5, math.MaxFloat64, 123456789}
	for i := range int64(60) {
		ts := i * 10_000
		add(ts, 1, nil, nil, "__name__", "up", "job", "a")
		add(ts, float64(i%2), nil, nil, "__name__", "up", "job", "b")
		add(ts, float64(i), nil, nil, "__name__", "requests", "job", "a", "path", "/<x>&\"y\"\\\n\x01é\u2028")
		add(ts, special[i%int64(len(special))], nil, nil, "__name__", "special")
		add(ts, 0, tsdbutil.GenerateTestHistogram(i), nil, "__name__", "latency", "job", "a")
		var ex []exemplar.Exemplar
		if i%20 == 0 {
			ex = []exemplar.Exemplar{{Labels: labels.FromStrings("trace_id", who+"-"+string(rune('0'+i/20))), Value: float64(i) / 3, Ts: ts + 7, HasTs: true}}
		}
		add(ts, float64(i), nil, ex, "__name__", "with.dots", "le.bel", "dotted", "naïve", "oui")
	}
	require.NoError(t, app.Commit())
	return db
}

// do sends a request as team-a; a query string in target, form as a POST body.
func (s *server) do(t testing.TB, method, target string, form url.Values, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	return send(t, s.Handler, method, target, form, headers...)
}

func send(t testing.TB, h http.Handler, method, target string, form url.Values, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequestWithContext(t.Context(), method, target, body)
	r.Header.Set(tenant.Header, teamA)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
