package api_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	config_util "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

const (
	asSamples = prompb.ReadRequest_SAMPLES
	asChunks  = prompb.ReadRequest_STREAMED_XOR_CHUNKS
)

// readBody is the body of a remote-read request.
func readBody(t testing.TB, types []prompb.ReadRequest_ResponseType, queries ...*prompb.Query) []byte {
	t.Helper()
	req := prompb.ReadRequest{Queries: queries, AcceptedResponseTypes: types}
	b, err := req.Marshal()
	require.NoError(t, err)
	return s2.EncodeSnappy(nil, b)
}

// selecting is a query of all that one matcher selects.
func selecting(typ prompb.LabelMatcher_Type, name, value string) *prompb.Query {
	return &prompb.Query{
		StartTimestampMs: math.MinInt64, EndTimestampMs: math.MaxInt64,
		Matchers: []*prompb.LabelMatcher{{Type: typ, Name: name, Value: value}},
	}
}

func everything() *prompb.Query { return selecting(prompb.LabelMatcher_NEQ, "__name__", "") }

// remoteRead sends a body as team-a.
func (s *server) remoteRead(t testing.TB, body []byte, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/prometheus/api/v1/read", bytes.NewReader(body))
	r.Header.Set(tenant.Header, teamA)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// newReadDB returns a TSDB with every kind of sample, some late.
func newReadDB(t testing.TB) *tsdb.DB {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.OutOfOrderTimeWindow = time.Hour.Milliseconds()
	opts.EnableSTStorage = true
	opts.FloatChunkEncoding = chunkenc.EncXOR2 // encodings differ from what readers get
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	add := func(ts int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, name string) {
		app := db.AppenderV2(context.Background())
		_, err := app.Append(0, labels.FromStrings("__name__", name, "b", "2", "a", "1"), ts-5, ts, v, h, fh, storage.AppendV2Options{})
		require.NoError(t, err)
		require.NoError(t, app.Commit())
	}
	special := []float64{math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Float64frombits(value.StaleNaN), 0, 1e300, math.Float64frombits(0x7ff8_0000_dead_beef)}
	for i := range int64(300) {
		ts := i * 10_000
		add(ts, special[i%int64(len(special))], nil, nil, "floats")
		add(ts, 0, tsdbutil.GenerateTestHistogram(i%70), nil, "ints")
		add(ts, 0, nil, tsdbutil.GenerateTestFloatHistogram(i%70), "halves")
		add(ts, 0, tsdbutil.GenerateTestCustomBucketsHistogram(i), nil, "custom")
		add(ts, 0, nil, tsdbutil.GenerateTestCustomBucketsFloatHistogram(i), "custom_halves")
		add(ts, 0, tsdbutil.GenerateTestGaugeHistogram(i), nil, "gauges")
		if i < 200 {
			add(ts, float64(i), nil, nil, "mixed")
		} else {
			add(ts, 0, tsdbutil.GenerateTestHistogram(i), nil, "mixed")
		}
	}
	for i := range int64(200) { // between the others
		add(1_000_000+i*10_000+3, float64(i), nil, nil, "floats")
		add(1_000_000+i*10_000+3, 0, tsdbutil.GenerateTestHistogram(i), nil, "ints")
	}
	return db
}

// readQueries are requests of one or more queries.
func readQueries() map[string][]*prompb.Query {
	between := func(q *prompb.Query, start, end int64) *prompb.Query {
		q.StartTimestampMs, q.EndTimestampMs = start, end
		return q
	}
	hinted := func(q *prompb.Query, h prompb.ReadHints) *prompb.Query {
		q.Hints = &h
		return q
	}
	two := everything()
	two.Matchers = append(two.Matchers, &prompb.LabelMatcher{Type: prompb.LabelMatcher_NRE, Name: "__name__", Value: "custom.*|mixed"})
	return map[string][]*prompb.Query{
		"everything":    {everything()},
		"equal":         {selecting(prompb.LabelMatcher_EQ, "__name__", "floats")},
		"regex":         {selecting(prompb.LabelMatcher_RE, "__name__", "custom.*")},
		"two matchers":  {two},
		"nothing":       {selecting(prompb.LabelMatcher_EQ, "__name__", "none")},
		"no matchers":   {{StartTimestampMs: 0, EndTimestampMs: 1e9}},
		"no queries":    nil,
		"cut":           {between(everything(), 1_234_567, 2_345_003)},
		"one sample":    {between(everything(), 500_000, 500_000)},
		"between two":   {between(everything(), 500_001, 509_999)},
		"before":        {between(everything(), -1000, -1)},
		"after":         {between(everything(), 1e12, 2e12)},
		"inverted":      {between(everything(), 100_000, 50_000)},
		"hints":         {hinted(between(everything(), 0, 2e6), prompb.ReadHints{StartMs: 30_000, EndMs: 1_500_000, StepMs: 1000, Func: "rate", RangeMs: 500, By: true, Grouping: []string{"a"}})},
		"several":       {selecting(prompb.LabelMatcher_EQ, "__name__", "floats"), selecting(prompb.LabelMatcher_EQ, "a", "none"), between(everything(), 0, 40_000)},
		"the same once": {everything(), everything()},
	}
}

// TestRemoteReadSameAsPrometheus puts requests to us and to the handler of
// Prometheus over the same TSDB.
func TestRemoteReadSameAsPrometheus(t *testing.T) {
	db := newReadDB(t)
	s := newServer(t, func(s *server) { s.source.dbs = map[string]*tsdb.DB{teamA: db} })
	prometheus := remote.NewReadHandler(slog.New(slog.DiscardHandler), nil, db, func() config.Config { return config.Config{} }, 1e9, 1, 1<<20)
	for name, queries := range readQueries() {
		for _, typ := range []prompb.ReadRequest_ResponseType{asSamples, asChunks} {
			t.Run(name+"/"+typ.String(), func(t *testing.T) {
				body := readBody(t, []prompb.ReadRequest_ResponseType{typ}, queries...)
				ours := s.remoteRead(t, body)
				require.Equal(t, 200, ours.Code, ours.Body)
				theirs := httptest.NewRecorder()
				prometheus.ServeHTTP(theirs, httptest.NewRequest("POST", "/", bytes.NewReader(body)))
				require.Equal(t, 200, theirs.Code, theirs.Body)
				require.Equal(t, theirs.Header().Get("Content-Type"), ours.Header().Get("Content-Type"))
				require.Equal(t, theirs.Header().Get("Content-Encoding"), ours.Header().Get("Content-Encoding"))
				want := decodeRead(t, len(queries), theirs)
				got, encodings := decodeEncoded(t, len(queries), ours)
				for e := range encodings {
					require.LessOrEqual(t, e, prompb.Chunk_FLOAT_HISTOGRAM, "readers may not know it")
				}
				for i := range want {
					require.True(t, slices.IsSortedFunc(got[i], func(a, b readSeries) int { return labels.Compare(a.labels, b.labels) }))
					slices.SortFunc(want[i], func(a, b readSeries) int { return labels.Compare(a.labels, b.labels) })
					require.Equal(t, want[i], got[i])
				}
			})
		}
	}
	require.Equal(t, s.source.opened.Load(), s.source.closed.Load())
}

// readSeries is a series of an answer; samples are texts that show every bit.
type readSeries struct {
	labels  labels.Labels
	samples []string
}

// decodeRead decodes an answer of either type: series by query.
func decodeRead(t testing.TB, queries int, w *httptest.ResponseRecorder) [][]readSeries {
	t.Helper()
	all, _ := decodeEncoded(t, queries, w)
	return all
}

// decodeEncoded also says how the chunks are encoded.
func decodeEncoded(t testing.TB, queries int, w *httptest.ResponseRecorder) ([][]readSeries, map[prompb.Chunk_Encoding]bool) {
	t.Helper()
	encodings := map[prompb.Chunk_Encoding]bool{}
	if w.Header().Get("Content-Encoding") == "snappy" {
		return decodeReadSamples(t, w.Body.Bytes()), encodings
	}
	all := make([][]readSeries, queries)
	frames := remote.NewChunkedReader(w.Body, 50e6, nil)
	for {
		var frame prompb.ChunkedReadResponse
		err := frames.NextProto(&frame)
		if err == io.EOF {
			return all, encodings
		}
		require.NoError(t, err)
		require.Len(t, frame.ChunkedSeries, 1)
		s := readSeries{labels: frame.ChunkedSeries[0].ToLabels(&labels.ScratchBuilder{}, nil)}
		for _, c := range frame.ChunkedSeries[0].Chunks {
			encodings[c.Type] = true
			data, err := chunkenc.FromData(chunkenc.Encoding(c.Type), c.Data)
			require.NoError(t, err)
			s.samples = append(s.samples, decodeSamples(t, data.Iterator(nil))...)
		}
		all[frame.QueryIndex] = append(all[frame.QueryIndex], s)
	}
}

func decodeReadSamples(t testing.TB, body []byte) [][]readSeries {
	t.Helper()
	plain, err := s2.Decode(nil, body)
	require.NoError(t, err)
	var res prompb.ReadResponse
	require.NoError(t, res.Unmarshal(plain))
	var all [][]readSeries
	for _, result := range res.Results {
		var list []readSeries
		set := remote.FromQueryResult(false, result)
		for set.Next() {
			list = append(list, readSeries{set.At().Labels(), decodeSamples(t, set.At().Iterator(nil))})
		}
		require.NoError(t, set.Err())
		all = append(all, list)
	}
	return all
}

func decodeSamples(t testing.TB, it chunkenc.Iterator) []string {
	t.Helper()
	var all []string
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		switch vt {
		case chunkenc.ValFloat:
			ts, v := it.At()
			if v == 0 {
				v = 0 // Prometheus' encoder loses the sign; see TestRemoteReadMinusZero
			}
			all = append(all, fmt.Sprintf("%d %x", ts, math.Float64bits(v)))
		case chunkenc.ValHistogram:
			ts, h := it.AtHistogram(nil)
			all = append(all, fmt.Sprintf("%d int %v %v %v", ts, h.Compact(0), h.CustomValues, h.CounterResetHint == histogram.GaugeType))
		case chunkenc.ValFloatHistogram:
			ts, fh := it.AtFloatHistogram(nil)
			all = append(all, fmt.Sprintf("%d float %v %v %v", ts, fh.Compact(0), fh.CustomValues, fh.CounterResetHint == histogram.GaugeType))
		}
	}
	require.NoError(t, it.Err())
	return all
}

func TestRemoteReadMinusZero(t *testing.T) {
	db := newReadDB(t)
	s := newServer(t, func(s *server) { s.source.dbs = map[string]*tsdb.DB{teamA: db} })
	q := selecting(prompb.LabelMatcher_EQ, "__name__", "floats")
	q.StartTimestampMs, q.EndTimestampMs = 0, 0
	w := s.remoteRead(t, readBody(t, nil, q))
	plain, err := s2.Decode(nil, w.Body.Bytes())
	require.NoError(t, err)
	var res prompb.ReadResponse
	require.NoError(t, res.Unmarshal(plain))
	require.Equal(t, uint64(1<<63), math.Float64bits(res.Results[0].Timeseries[0].Samples[0].Value))
}

// TestRemoteReadSeriesOnly has the hint of who wants labels: no samples are read,
// and the budget holds for labels.
func TestRemoteReadSeriesOnly(t *testing.T) {
	q := everything()
	q.Hints = &prompb.ReadHints{Func: "series"}
	s := newServer(t, func(s *server) { s.cfg.MaxResponseBytes = 100 })
	require.Equal(t, 422, s.remoteRead(t, readBody(t, nil, q)).Code)

	s = newServer(t)
	got := decodeRead(t, 1, s.remoteRead(t, readBody(t, nil, q)))
	require.Len(t, got[0], 6)
	for _, series := range got[0] {
		require.Empty(t, series.samples)
	}
}

func TestRemoteReadNegotiation(t *testing.T) {
	const samples, chunks = "application/x-protobuf", "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
	s := newServer(t)
	for _, tc := range []struct {
		accepted []prompb.ReadRequest_ResponseType
		want     string
	}{
		{nil, samples},
		{[]prompb.ReadRequest_ResponseType{asSamples}, samples},
		{[]prompb.ReadRequest_ResponseType{asChunks}, chunks},
		{[]prompb.ReadRequest_ResponseType{asChunks, asSamples}, chunks},
		{[]prompb.ReadRequest_ResponseType{asSamples, asChunks}, samples},
		{[]prompb.ReadRequest_ResponseType{99, asChunks}, chunks},
		{[]prompb.ReadRequest_ResponseType{99}, ""},
	} {
		w := s.remoteRead(t, readBody(t, tc.accepted, everything()))
		if tc.want == "" {
			require.Equal(t, 400, w.Code)
			require.Contains(t, decode(t, w.Body.String()).Error, "weir-read-type-unsupported")
			continue
		}
		require.Equal(t, 200, w.Code)
		require.Equal(t, tc.want, w.Header().Get("Content-Type"))
	}
	none := s.remoteRead(t, readBody(t, []prompb.ReadRequest_ResponseType{asChunks}, selecting(prompb.LabelMatcher_EQ, "a", "none")))
	require.Equal(t, chunks, none.Header().Get("Content-Type"), "nor without a frame")
}

// TestRemoteReadRefusals is quick, whatever it is asked.
func TestRemoteReadRefusals(t *testing.T) {
	s := newServer(t)
	regex := func(expr string) []byte {
		return readBody(t, nil, selecting(prompb.LabelMatcher_RE, "job", expr))
	}
	many := func(n int, q *prompb.Query) (all []*prompb.Query) {
		for range n {
			all = append(all, q)
		}
		return all
	}
	matchers := everything()
	for range 1024 {
		matchers.Matchers = append(matchers.Matchers, matchers.Matchers[0])
	}
	for _, tc := range []struct {
		name string
		body []byte
		id   string
	}{
		{"empty", nil, "weir-snappy-malformed"},
		{"not snappy", []byte("query=up"), "weir-snappy-malformed"},
		{"bomb", append(binary.AppendUvarint(nil, 1<<31), 0), "weir-read-request-too-large"},
		{"longer than uint32", append(binary.AppendUvarint(nil, 1<<40), 0), "weir-snappy-malformed"},
		{"lying length", append(binary.AppendUvarint(nil, 1<<20), 0), "weir-snappy-malformed"},
		{"large body", bytes.Repeat([]byte{1}, 1<<20+1), "weir-read-request-too-large"},
		{"not protobuf", s2.EncodeSnappy(nil, []byte("query=up")), "weir-request-malformed"},
		{"cut off", s2.EncodeSnappy(nil, []byte{0x0a, 0x7f, 0x08}), "weir-request-malformed"},
		{"field 0", s2.EncodeSnappy(nil, []byte{0, 0}), "weir-request-malformed"},
		{"many queries", readBody(t, nil, many(129, everything())...), "weir-read-request-too-large"},
		{"empty queries", s2.EncodeSnappy(nil, bytes.Repeat([]byte{0x0a, 0}, 1<<19)), "weir-read-request-too-large"},
		{"many matchers", readBody(t, nil, matchers), "weir-query-too-many-matchers"},
		{"empty matchers", s2.EncodeSnappy(nil, append([]byte{0x0a, 0x80, 0x80, 0x20}, bytes.Repeat([]byte{0x1a, 0}, 1<<18)...)), "weir-query-too-many-matchers"},
		{"matcher of no type", readBody(t, nil, selecting(77, "job", "a")), "weir-matcher-invalid"},
		{"matcher of no label", readBody(t, nil, selecting(prompb.LabelMatcher_EQ, "", "")), "weir-matcher-invalid"},
		{"wrong regex", regex("("), "weir-matcher-invalid"},
		{"long regex", regex(strings.Repeat("a", 200_000)), "weir-query-regexp-too-large"},
		{"unfolding regex", regex(strings.Repeat("a{1000}", 200)), "weir-query-regexp-too-large"},
		{"nested regex", regex(strings.Repeat("(", 10_000)), "weir-matcher-invalid"},
		{"nested repeats", regex("((((a{10}){10}){10}){10}){10}"), "weir-matcher-invalid"},
		{"many regexes", readBody(t, nil, many(100, selecting(prompb.LabelMatcher_NRE, "job", "x{1000}y"))...), "weir-query-regexp-too-large"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			w := s.remoteRead(t, tc.body)
			require.Less(t, time.Since(start), time.Second)
			require.Equal(t, 400, w.Code)
			got := decode(t, w.Body.String())
			require.Equal(t, "bad_data", got.ErrorType)
			require.Contains(t, got.Error, tc.id+": ")
			require.Less(t, len(got.Error), 1000)
		})
	}
	require.Zero(t, s.source.opened.Load())
	for _, ok := range []string{"a|b", strings.Repeat("a|", 10_000), "(a{1,3}b*)+", `\d+`, strings.Repeat("abc|", 10_000)} {
		require.Equal(t, 200, s.remoteRead(t, regex(ok)).Code)
	}
}

// TestRemoteReadBudget spends the budget before and after the answer began.
func TestRemoteReadBudget(t *testing.T) {
	db := newReadDB(t)
	for _, tc := range []struct {
		name    string
		typ     prompb.ReadRequest_ResponseType
		budget  int64
		refused bool
		cut     bool
	}{
		{"samples", asSamples, 5000, true, false},
		{"samples enough", asSamples, 1 << 20, false, false},
		{"chunks", asChunks, 50, true, false},
		{"chunks begun", asChunks, 10_000, false, true},
		{"chunks enough", asChunks, 1 << 20, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, func(s *server) {
				s.cfg.MaxResponseBytes = tc.budget
				s.source.dbs = map[string]*tsdb.DB{teamA: db}
			})
			srv := httptest.NewServer(s)
			defer srv.Close()
			res, body, err := postRead(t, srv.URL, readBody(t, []prompb.ReadRequest_ResponseType{tc.typ}, everything()))
			if tc.cut {
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				require.Equal(t, 200, res.StatusCode)
				require.Contains(t, s.metrics(t), `weir_api_cut_reads_total{reason="execution"} 1`)
				require.Contains(t, s.logs.String(), "weir-query-response-too-large")
				return
			}
			require.NoError(t, err)
			if tc.refused {
				require.Equal(t, 422, res.StatusCode)
				require.Equal(t, "application/json", res.Header.Get("Content-Type"))
				require.Empty(t, res.Header.Get("Content-Encoding"))
				require.Contains(t, decode(t, body).Error, "weir-query-response-too-large: ")
				return
			}
			require.Equal(t, 200, res.StatusCode)
		})
	}
}

func (s *server) metrics(t testing.TB) string {
	return s.do(t, "GET", "/metrics", nil, tenant.Header, "").Body.String()
}

// postRead sends a remote-read request over a connection.
func postRead(t testing.TB, base string, body []byte) (*http.Response, string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", base+"/api/v1/read", bytes.NewReader(body))
	require.NoError(t, err)
	r.Header.Set(tenant.Header, teamA)
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res, string(text), err
}

// TestRemoteReadClientGone has clients that leave before the answer, and within
// it: their place and what was read from are free again.
func TestRemoteReadClientGone(t *testing.T) {
	selects := 0
	gone := make(chan struct{})
	s := newServer(t, func(s *server) {
		s.cfg.MaxConcurrent = 1
		s.source.beforeSelect = func(ctx context.Context) error {
			if selects++; selects < 3 {
				return nil
			}
			close(gone)
			<-ctx.Done()
			return ctx.Err()
		}
	})
	srv := httptest.NewServer(s)
	defer srv.Close()
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-gone; leave() }()
	r, err := http.NewRequestWithContext(ctx, "POST", srv.URL+"/api/v1/read",
		bytes.NewReader(readBody(t, []prompb.ReadRequest_ResponseType{asChunks}, everything(), everything(), everything())))
	require.NoError(t, err)
	r.Header.Set(tenant.Header, teamA)
	if res, err := http.DefaultClient.Do(r); err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		require.Error(t, err)
		require.NoError(t, res.Body.Close())
	}
	s.source.beforeSelect = nil
	_, _, err = postRead(t, srv.URL, readBody(t, nil, everything()))
	require.NoError(t, err, "the one place is free")
	require.Contains(t, s.metrics(t), `weir_api_cut_reads_total{reason="canceled"} 1`)
	require.NotContains(t, s.logs.String(), "cut off", "which is no news")
	require.Eventually(t, func() bool { return s.source.opened.Load() == s.source.closed.Load() }, 5*time.Second, time.Millisecond)
}

// stuck is a client that reads nothing.
type stuck struct{ *httptest.ResponseRecorder }

func (stuck) Write([]byte) (int, error) { return 0, errors.New("i/o timeout") }

func TestRemoteReadStuckClient(t *testing.T) {
	s := newServer(t)
	body := readBody(t, []prompb.ReadRequest_ResponseType{asChunks}, everything())
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/read", bytes.NewReader(body))
	r.Header.Set(tenant.Header, teamA)
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { s.ServeHTTP(stuck{httptest.NewRecorder()}, r) })
	require.Contains(t, s.metrics(t), `weir_api_cut_reads_total{reason="canceled"} 1`)
	require.Equal(t, s.source.opened.Load(), s.source.closed.Load())
}

func TestRemoteReadErrors(t *testing.T) {
	s := newServer(t)
	body := readBody(t, []prompb.ReadRequest_ResponseType{asChunks}, everything())
	require.Equal(t, 401, s.remoteRead(t, body, tenant.Header, "").Code)
	require.Equal(t, 400, s.remoteRead(t, body, tenant.Header, "a/b").Code)
	require.Equal(t, 405, s.do(t, "GET", "/api/v1/read", nil).Code)
	for _, typ := range []prompb.ReadRequest_ResponseType{asSamples, asChunks} {
		body := readBody(t, []prompb.ReadRequest_ResponseType{typ}, everything())
		b := decodeRead(t, 1, s.remoteRead(t, body, tenant.Header, teamB))
		for _, series := range b[0] {
			require.Equal(t, teamB, series.labels.Get("team"))
		}
		require.Len(t, b[0], 6)
		require.Empty(t, decodeRead(t, 1, s.remoteRead(t, body, tenant.Header, "team-c"))[0])

		s.source.err = errors.New("disk on fire")
		require.Equal(t, 500, s.remoteRead(t, body).Code)
		s.source.err = proto.Errorf(proto.KindUnavailable, "weir-starting", "replaying")
		require.Equal(t, 503, s.remoteRead(t, body).Code)
		s.source.err = nil
		s.source.beforeSelect = func(context.Context) error { return errors.New("index is broken") }
		w := s.remoteRead(t, body)
		require.Equal(t, 500, w.Code)
		require.Contains(t, decode(t, w.Body.String()).Error, "index is broken")
		s.source.beforeSelect = nil
	}
	require.Equal(t, s.source.opened.Load(), s.source.closed.Load())
}

// TestLongSeriesIsOneSeries has a series larger than the frames of Prometheus,
// whose client would take it for two if it came in two frames.
func TestLongSeriesIsOneSeries(t *testing.T) {
	db, err := tsdb.Open(t.TempDir(), nil, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	const samples = 4000
	app := db.AppenderV2(t.Context())
	for i := range int64(samples) {
		h := tsdbutil.GenerateTestHistogram(i * i)
		h.PositiveSpans = []histogram.Span{{Offset: 0, Length: 150}}
		h.PositiveBuckets = make([]int64, 150)
		for j := range h.PositiveBuckets {
			h.PositiveBuckets[j] = i * i * int64(j%7-3) * 1_000_003 % 1_000_000_007
		}
		h.PositiveBuckets[0] = 1 << 40
		h.NegativeSpans, h.NegativeBuckets, h.CounterResetHint = nil, nil, histogram.GaugeType
		h.Count = 0
		for it := h.PositiveBucketIterator(); it.Next(); {
			h.Count += it.At().Count
		}
		h.Count += h.ZeroCount
		_, err := app.Append(0, labels.FromStrings("__name__", "long"), 0, i*1000, 0, h, nil, storage.AppendV2Options{})
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
	s := newServer(t, func(s *server) { s.source.dbs = map[string]*tsdb.DB{teamA: db} })
	srv := httptest.NewServer(s)
	defer srv.Close()
	u, err := url.Parse(srv.URL + "/api/v1/read")
	require.NoError(t, err)
	client, err := remote.NewReadClient("test", &remote.ClientConfig{
		URL: &config_util.URL{URL: u}, Timeout: model.Duration(time.Minute), ChunkedReadLimit: config.DefaultChunkedReadLimit,
		Headers: map[string]string{tenant.Header: teamA}, AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{asChunks},
	})
	require.NoError(t, err)
	set, err := client.Read(t.Context(), everything(), true)
	require.NoError(t, err)
	require.True(t, set.Next())
	it := set.At().Iterator(nil)
	n := 0
	for it.Next() != chunkenc.ValNone {
		n++
	}
	require.NoError(t, it.Err())
	require.Equal(t, samples, n)
	require.False(t, set.Next())
	require.NoError(t, set.Err())
	require.Greater(t, len(s.remoteRead(t, readBody(t, []prompb.ReadRequest_ResponseType{asChunks}, everything())).Body.Bytes()), 1<<20)
}

// FuzzRemoteRead sends any body: as it is, and as what is inside of snappy.
func FuzzRemoteRead(f *testing.F) {
	for _, queries := range readQueries() {
		for _, typ := range []prompb.ReadRequest_ResponseType{asSamples, asChunks} {
			body := readBody(f, []prompb.ReadRequest_ResponseType{typ}, queries...)
			plain, err := s2.Decode(nil, body)
			require.NoError(f, err)
			f.Add(body, false)
			f.Add(plain, true)
		}
	}
	f.Add(s2.EncodeSnappy(nil, bytes.Repeat([]byte{0x0a, 0}, 1<<10)), false)
	db := newReadDB(f)
	s := newServer(f, func(s *server) { s.source.dbs = map[string]*tsdb.DB{teamA: db} })
	f.Fuzz(func(t *testing.T, body []byte, plain bool) {
		if plain {
			body = s2.EncodeSnappy(nil, body)
		}
		w := s.remoteRead(t, body)
		require.Contains(t, []int{200, 400, 422}, w.Code, w.Body)
		require.Equal(t, s.source.opened.Load(), s.source.closed.Load())
	})
}
