package api_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/stats"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/querier"
	"github.com/weir-metrics/weir/tenant"
)

// everyRead is one request of each read, below a prefix.
var everyRead = []string{
	"query?time=300&query=up",
	"query_range?start=0&end=600&step=60&query=up",
	"query_exemplars?query=" + url.QueryEscape(`{"with.dots"}`),
	"series?match[]=up",
	"labels",
	"label/team/values",
	"metadata",
}

func TestTenantsDoNotSeeEachOther(t *testing.T) {
	s := newServer(t)
	for _, read := range everyRead {
		for _, prefix := range []string{"/api/v1/", "/prometheus/api/v1/"} {
			a := s.do(t, "GET", prefix+read, nil)
			b := s.do(t, "GET", prefix+read, nil, tenant.Header, teamB)
			c := s.do(t, "GET", prefix+read, nil, tenant.Header, "team-c")
			for _, w := range []*httptest.ResponseRecorder{a, b, c} {
				require.Equal(t, 200, w.Code, w.Body)
			}
			if read != "labels" {
				require.NotEqual(t, a.Body.String(), b.Body.String())
			}
			require.NotContains(t, a.Body.String(), teamB)
			require.NotContains(t, b.Body.String(), teamA)
			require.NotContains(t, c.Body.String(), "team-")
		}
	}
	require.Equal(t, s.source.opened.Load(), s.source.closed.Load())
}

func TestTenantErrors(t *testing.T) {
	s := newServer(t, noDBs)
	for _, read := range everyRead {
		w := s.do(t, "GET", "/api/v1/"+read, nil, tenant.Header, "")
		require.Equal(t, 401, w.Code)
		require.NotEmpty(t, w.Header().Get("WWW-Authenticate"))
		got := decode(t, w.Body.String())
		require.Equal(t, "unauthenticated", got.ErrorType)
		require.Contains(t, got.Error, "weir-tenant-missing")

		w = s.do(t, "GET", "/prometheus/api/v1/"+read, nil, tenant.Header, "a/b")
		require.Equal(t, 400, w.Code)
		require.Empty(t, w.Header().Get("WWW-Authenticate"))
		got = decode(t, w.Body.String())
		require.Equal(t, "bad_data", got.ErrorType)
		require.Contains(t, got.Error, "weir-tenant-invalid")
	}
}

// fakeEngine makes queries that end with result.
type fakeEngine struct {
	result promql.Result
	refuse error
	closed *int
}

func (f fakeEngine) NewInstantQuery(context.Context, storage.Queryable, promql.QueryOpts, string, time.Time) (promql.Query, error) {
	return f, f.refuse
}

func (f fakeEngine) NewRangeQuery(context.Context, storage.Queryable, promql.QueryOpts, string, time.Time, time.Time, time.Duration) (promql.Query, error) {
	return f, f.refuse
}

func (f fakeEngine) Exec(context.Context) *promql.Result { r := f.result; return &r }
func (f fakeEngine) Close()                              { *f.closed++ }
func (f fakeEngine) Statement() parser.Statement         { return nil }
func (f fakeEngine) Cancel()                             {}
func (f fakeEngine) Stats() *stats.Statistics {
	return &stats.Statistics{Samples: stats.NewQuerySamples(false)}
}
func (f fakeEngine) String() string { return "" }

func TestErrorTypes(t *testing.T) {
	ofKind := func(k proto.Kind) error { return proto.Errorf(k, "weir-test", "kind %d", k) }
	for _, tc := range []struct {
		name      string
		err       error
		status    int
		errorType string
		message   string // if not the error's
	}{
		{"evaluation", errors.New("many-to-many"), 422, "execution", ""},
		{"too many samples", promql.ErrTooManySamples("x"), 422, "execution", "weir-query-too-many-samples: query processing would load too many samples into memory in x; the limit is query.max_samples: select fewer series or a shorter range"},
		{"timeout", promql.ErrQueryTimeout("x"), 503, "timeout", ""},
		{"deadline", fmt.Errorf("select: %w", context.DeadlineExceeded), 503, "timeout", ""},
		{"canceled by us", promql.ErrQueryCanceled("x"), 503, "canceled", ""},
		{"context canceled by us", fmt.Errorf("select: %w", context.Canceled), 503, "canceled", ""},
		{"source", fmt.Errorf("expanding series: %w", &querier.SourceError{Err: io.ErrUnexpectedEOF}), 500, "internal", ""},
		{"crash", fmt.Errorf("unexpected error: %w", new(runtime.PanicNilError)), 500, "internal", ""},
		{"storage", promql.ErrStorage{Err: io.ErrUnexpectedEOF}, 500, "internal", ""},
		{"source was late", &querier.SourceError{Err: context.DeadlineExceeded}, 503, "timeout", ""},
		{"source unavailable", fmt.Errorf("expanding series: %w", &querier.SourceError{Err: ofKind(proto.KindUnavailable)}), 503, "unavailable", "weir-test: kind 8"},
		{"internal", ofKind(proto.KindInternal), 500, "internal", ""},
		{"bad data", ofKind(proto.KindBadData), 400, "bad_data", ""},
		{"too large", ofKind(proto.KindTooLarge), 422, "execution", ""},
		{"unsupported", ofKind(proto.KindUnsupported), 406, "not_acceptable", ""},
		{"unauthenticated", ofKind(proto.KindUnauthenticated), 401, "unauthenticated", ""},
		{"forbidden", ofKind(proto.KindForbidden), 403, "forbidden", ""},
		{"conflict", ofKind(proto.KindConflict), 409, "conflict", ""},
		{"limit", ofKind(proto.KindLimit), 429, "too_many_requests", ""},
		{"not found", ofKind(proto.KindNotFound), 404, "not_found", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			closed := 0
			s := newServer(t, noDBs, func(s *server) {
				s.deps.Engine = fakeEngine{result: promql.Result{Err: tc.err}, closed: &closed}
			})
			for _, read := range everyRead[:2] {
				w := s.do(t, "GET", "/api/v1/"+read, nil)
				require.Equal(t, tc.status, w.Code)
				require.Equal(t, "application/json", w.Header().Get("Content-Type"))
				message := tc.err.Error()
				if tc.message != "" {
					message = tc.message
				}
				require.Equal(t, envelope{Status: "error", ErrorType: tc.errorType, Error: message}, decode(t, w.Body.String()))
			}
			require.Equal(t, 2, closed)
			require.Equal(t, tc.status == 500, strings.Contains(s.logs.String(), "level=ERROR"))
		})
	}
}

func TestClientGone(t *testing.T) {
	closed := 0
	s := newServer(t, noDBs, func(s *server) {
		s.deps.Engine = fakeEngine{result: promql.Result{Err: promql.ErrQueryCanceled("x")}, closed: &closed}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, "GET", "/api/v1/query?query=up", nil)
	r.Header.Set(tenant.Header, teamA)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	require.Equal(t, 499, w.Code)
	require.Equal(t, "canceled", decode(t, w.Body.String()).ErrorType)
}

// TestSourceErrors fails every read of the source.
func TestSourceErrors(t *testing.T) {
	s := newServer(t, func(s *server) { s.source.err = errors.New("disk on fire") })
	for _, read := range everyRead {
		w := s.do(t, "GET", "/api/v1/"+read, nil)
		require.Equal(t, 500, w.Code, read)
		got := decode(t, w.Body.String())
		require.Equal(t, "internal", got.ErrorType)
		require.Contains(t, got.Error, "disk on fire")
	}
	s.source.err = proto.Errorf(proto.KindUnavailable, "weir-starting", "replaying")
	for _, read := range everyRead {
		w := s.do(t, "GET", "/api/v1/"+read, nil)
		require.Equal(t, 503, w.Code, read)
		require.Equal(t, "unavailable", decode(t, w.Body.String()).ErrorType)
	}
	s.source.err = nil
	s.source.beforeSelect = func(context.Context) error { return errors.New("index is broken") }
	for _, read := range []string{everyRead[0], everyRead[1], everyRead[3], "series?match[]=up&match[]=latency"} {
		w := s.do(t, "GET", "/api/v1/"+read, nil)
		require.Equal(t, 500, w.Code, read)
		require.Contains(t, decode(t, w.Body.String()).Error, "index is broken")
	}
	require.Equal(t, s.source.opened.Load(), s.source.closed.Load())
}

func TestPanics(t *testing.T) {
	s := newServer(t, func(s *server) {
		s.source.beforeSelect = func(context.Context) error { panic("select panics") }
	})
	// The engine turns panics of its own into errors, the API those of a handler.
	for _, read := range []string{everyRead[0], everyRead[3]} {
		w := s.do(t, "GET", "/api/v1/"+read, nil)
		require.Contains(t, []int{422, 500}, w.Code)
		require.Equal(t, "error", decode(t, w.Body.String()).Status)
	}
	w := s.do(t, "GET", "/api/v1/series?match[]=up", nil, "Accept-Encoding", "gzip")
	require.Equal(t, 500, w.Code)
	require.Equal(t, "internal", decode(t, w.Body.String()).ErrorType)
	require.NotContains(t, w.Body.String(), "select panics", "for the log only")
	require.Contains(t, s.logs.String(), "select panics")
	require.Contains(t, s.logs.String(), "series.go", "the stack")
	require.Equal(t, s.source.opened.Load(), s.source.closed.Load(), "a querier left open would keep blocks from deletion")

	aborting := newServer(t, noDBs, func(s *server) {
		s.deps.Writer = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/v1/write" {
				_, _ = w.Write([]byte("half of it"))
			}
			panic(http.ErrAbortHandler)
		})
	})
	for _, path := range []string{"/api/v1/write", "/api/v1/push"} {
		require.PanicsWithValue(t, http.ErrAbortHandler, func() { aborting.do(t, "POST", path, nil) })
	}
	late := newServer(t, noDBs, func(s *server) {
		s.deps.Writer = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("half of it"))
			panic("then this")
		})
	})
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { late.do(t, "POST", "/api/v1/push", nil) })
	require.Contains(t, late.logs.String(), "then this")
}

func TestGzip(t *testing.T) {
	s := newServer(t)
	const long = "/api/v1/query_range?start=0&end=600&step=1&query=up"
	plain := s.do(t, "GET", long, nil)
	require.Equal(t, strconv.Itoa(plain.Body.Len()), plain.Header().Get("Content-Length"))
	for _, tc := range []struct {
		accept string
		gzip   bool
	}{
		{"", false}, {"gzip", true}, {"GZIP", true}, {"deflate, gzip;q=0.5", true}, {"br, *", true}, {"identity", false},
		{"gzip;q=0", false}, {"gzip; q=0.000, *", false}, {"*;q=0", false}, {"gzipped", false},
	} {
		t.Run(tc.accept, func(t *testing.T) {
			w := s.do(t, "GET", long, nil, "Accept-Encoding", tc.accept)
			require.Equal(t, 200, w.Code)
			require.Equal(t, []string{"Accept-Encoding"}, w.Header().Values("Vary"))
			if !tc.gzip {
				require.Empty(t, w.Header().Get("Content-Encoding"))
				require.Equal(t, plain.Body.String(), w.Body.String())
				return
			}
			require.Equal(t, "gzip", w.Header().Get("Content-Encoding"))
			require.Less(t, w.Body.Len(), plain.Body.Len()/4)
			zr, err := gzip.NewReader(w.Body)
			require.NoError(t, err)
			body, err := io.ReadAll(zr)
			require.NoError(t, err)
			require.Equal(t, plain.Body.String(), string(body))
		})
	}
	short := s.do(t, "GET", "/api/v1/query?query=1&time=1", nil, "Accept-Encoding", "gzip")
	require.Empty(t, short.Header().Get("Content-Encoding"), "not worth it")
}

// TestLongAnswer has an answer that is sent in several pieces.
func TestLongAnswer(t *testing.T) {
	closed := 0
	matrix := make(promql.Matrix, 300)
	for i := range matrix {
		for ts := range int64(300) {
			matrix[i].Floats = append(matrix[i].Floats, promql.FPoint{T: ts * 15_000, F: float64(ts) / 7})
		}
	}
	s := newServer(t, noDBs, func(s *server) {
		s.deps.Engine = fakeEngine{result: promql.Result{Value: matrix}, closed: &closed}
	})
	srv := httptest.NewServer(s)
	defer srv.Close()
	var sizes []int
	for _, accept := range []string{"identity", "gzip"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/api/v1/query?query=x", nil)
		require.NoError(t, err)
		r.Header.Set(tenant.Header, teamA)
		r.Header.Set("Accept-Encoding", accept)
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		var body io.Reader = res.Body
		if accept == "gzip" {
			body, err = gzip.NewReader(res.Body)
			require.NoError(t, err)
		}
		text, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, int64(-1), res.ContentLength, "a stream")
		data := decode(t, string(text)).Data.(map[string]any)
		require.Len(t, data["result"], len(matrix))
		sizes = append(sizes, len(text))
	}
	require.Equal(t, sizes[0], sizes[1])
	require.Equal(t, 2, closed)
}

func TestMetadataLimits(t *testing.T) {
	s := newServer(t)
	for _, tc := range []struct {
		params, want string
	}{
		{"", `{"latency":[{"type":"histogram","unit":"seconds","help":""}],` +
			`"requests":[{"type":"counter","unit":"","help":"new <help>"},{"type":"counter","unit":"","help":"old help"}],` +
			`"up":[{"type":"gauge","unit":"","help":"is it up, a"}]}`},
		{"?limit=1", `{"latency":[{"type":"histogram","unit":"seconds","help":""}]}`},
		{"?limit=0", `{}`},
		{"?limit=-1&metric=up", `{"up":[{"type":"gauge","unit":"","help":"is it up, a"}]}`},
		{"?metric=requests&limit_per_metric=1", `{"requests":[{"type":"counter","unit":"","help":"new <help>"}]}`},
		{"?metric=requests&limit_per_metric=0", `{"requests":[{"type":"counter","unit":"","help":"new <help>"},{"type":"counter","unit":"","help":"old help"}]}`},
		{"?metric=nothing", `{}`},
	} {
		t.Run(tc.params, func(t *testing.T) {
			w := s.do(t, "GET", "/api/v1/metadata"+tc.params, nil)
			require.Equal(t, 200, w.Code)
			require.Equal(t, `{"status":"success","data":`+tc.want+`}`, w.Body.String())
		})
	}
	for params, want := range map[string]string{
		"?limit=x": "limit must be a number", "?limit_per_metric=1.5": "limit_per_metric must be a number",
	} {
		w := s.do(t, "GET", "/api/v1/metadata"+params, nil)
		require.Equal(t, 400, w.Code)
		require.Equal(t, envelope{Status: "error", ErrorType: "bad_data", Error: want}, decode(t, w.Body.String()))
	}
}

func TestStats(t *testing.T) {
	s := newServer(t)
	statsOf := func(value string) (map[string]any, []string) {
		e := decode(t, s.do(t, "GET", "/api/v1/query_range?start=0&end=600&step=60&query=up&stats="+value, nil).Body.String())
		st, _ := e.Data.(map[string]any)["stats"].(map[string]any)
		return st, e.Warnings
	}
	st, warnings := statsOf("")
	require.Nil(t, st)
	require.Empty(t, warnings)

	st, warnings = statsOf("true")
	require.Contains(t, st, "timings")
	require.NotContains(t, st["samples"], "totalQueryableSamplesPerStep")
	require.Empty(t, warnings)

	st, warnings = statsOf("all")
	require.Len(t, st["samples"].(map[string]any)["totalQueryableSamplesPerStep"], 11)
	require.Empty(t, warnings)

	st, warnings = statsOf("yes")
	require.Contains(t, st, "samples")
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], "deprecated")
}

func TestEscapedPath(t *testing.T) {
	s := newServer(t)
	w := s.do(t, "GET", "/api/v1/label/le%2Ebel/values", nil)
	require.Equal(t, []any{"dotted"}, decode(t, w.Body.String()).Data)
	w = s.do(t, "GET", "/api/v1/label/a%2Fb/values", nil)
	require.Equal(t, 200, w.Code, "a slash may be in a name")
	require.Equal(t, []any{}, decode(t, w.Body.String()).Data)
	w = s.do(t, "GET", "/api/v1/label/a%2F%FF/values", nil)
	require.Equal(t, 400, w.Code)
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, noDBs, func(s *server) {
			s.cfg.MaxConcurrent = 1
			s.cfg.Timeout = time.Minute
			s.source.beforeSelect = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		})
		end := func(read, errorType string, took time.Duration) string {
			t.Helper()
			start := time.Now()
			w := s.do(t, "GET", "/api/v1/"+read, nil)
			require.Equal(t, 503, w.Code, w.Body)
			e := decode(t, w.Body.String())
			require.Equal(t, errorType, e.ErrorType)
			require.Equal(t, took, time.Since(start))
			return e.Error
		}
		expect := func(read string, took time.Duration) {
			t.Helper()
			end(read, "timeout", took)
		}
		expect("query?query=up", time.Minute)
		expect("query?query=up&timeout=10s", 10*time.Second)
		expect("query?query=up&timeout=1h", time.Minute)
		expect("query_range?query=up&start=0&end=1&step=1&timeout=5", 5*time.Second)
		expect("series?match[]=up", time.Minute)

		// One place: the second waits for it, within its own time.
		go s.do(t, "GET", "/api/v1/query?query=up&timeout=30s", nil)
		synctest.Wait()
		require.Regexp(t, "^weir-query-queue-timeout: ", end("query?query=up&timeout=10s", "unavailable", 10*time.Second))

		// Ten may wait, the next is sent away at once.
		for range 10 {
			go s.do(t, "GET", "/api/v1/query?query=up&timeout=5s", nil)
		}
		synctest.Wait()
		require.Regexp(t, "^weir-query-queue-full: ", end("query?query=up", "unavailable", 0))
		time.Sleep(5 * time.Second)
		synctest.Wait() // until they are gone
		s.source.beforeSelect = nil
		require.Equal(t, 200, s.do(t, "GET", "/api/v1/query?query=up", nil).Code, "after 15 s more")
		synctest.Wait()
		require.Equal(t, s.source.opened.Load(), s.source.closed.Load())
	})
}
