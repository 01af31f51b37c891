package api_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/weir-metrics/weir/tenant"
)

// federations holds what Prometheus answers to scrapers: a line of JSON per
// request, with timestamps since the one of the test.
const federations = "testdata/federations.jsonl"

const acceptProto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;escaping=allow-utf-8"

// federation is a scrape and its answer: text, or a JSON object per family.
type federation struct {
	Params string            `json:"params"`
	Accept string            `json:"accept"`
	Text   string            `json:"text,omitempty"`
	Proto  []json.RawMessage `json:"proto,omitempty"`
}

func scrapes() []federation {
	var all []federation
	for _, params := range []string{
		"match[]=" + url.QueryEscape(`{__name__=~".+"}`), "match[]=up&match[]=" + url.QueryEscape(`{"with.dots"}`) + "&match[]=up",
		"match[]=up&match[]=" + url.QueryEscape(`up{job="a"}`), "match[]=nothing", "",
	} {
		for _, accept := range []string{"", "text/plain;version=1.0.0;escaping=allow-utf-8", acceptProto} {
			all = append(all, federation{Params: params, Accept: accept})
		}
	}
	return all
}

// fillRecent makes a TSDB of samples around now, ms, in dir: the kinds that a
// scraper reads, series that are gone, and series that went before the lookback.
func fillRecent(t testing.TB, dir string, now int64) *tsdb.DB {
	t.Helper()
	db, err := tsdb.Open(dir, nil, nil, tsdb.DefaultOptions(), nil)
	require.NoError(t, err)
	app := db.AppenderV2(t.Context())
	add := func(ago time.Duration, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, lset ...string) {
		_, err := app.Append(0, labels.FromStrings(lset...), 0, now-ago.Milliseconds(), v, h, fh, storage.AppendV2Options{})
		require.NoError(t, err)
	}
	gauge := tsdbutil.GenerateTestGaugeFloatHistogram(3)
	for _, ago := range []time.Duration{10 * time.Minute, time.Minute, 30 * time.Second} {
		add(ago, ago.Seconds(), nil, nil, "__name__", "up", "job", "a", "instance", "x")
		add(ago, 1e-9, nil, nil, "__name__", "up", "job", "b")
		add(ago, math.Inf(-1), nil, nil, "__name__", "with.dots", "naïve", "\"\\\n")
		add(ago, 0, tsdbutil.GenerateTestHistogram(int64(ago.Seconds())), nil, "__name__", "latency", "job", "a")
		add(ago, 0, nil, gauge, "__name__", "latency", "job", "gauge")
		add(ago, 0, tsdbutil.GenerateTestCustomBucketsHistogram(5), nil, "__name__", "custom", "job", "a")
	}
	for n := range 30 {
		add(30*time.Second, 1, nil, nil, "__name__", "many", "n", strconv.Itoa(n))
	}
	add(30*time.Second, 7, nil, nil, "__name__", "latency", "job", "zfloat")
	add(6*time.Minute, 1, nil, nil, "__name__", "up", "job", "old")
	for _, name := range []string{"up", "custom"} {
		add(50*time.Second, 1, nil, nil, "__name__", name, "job", "gone")
		add(40*time.Second, math.Float64frombits(value.StaleNaN), nil, nil, "__name__", name, "job", "gone")
	}
	add(40*time.Second, 0, &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}, nil, "__name__", "latency", "job", "gone")
	require.NoError(t, app.Commit())
	return db
}

// TestFederatesAsPrometheus puts to us the scrapes that were put to a real
// Prometheus over the same TSDB.
func TestFederatesAsPrometheus(t *testing.T) {
	if *prometheusBinary != "" {
		recordFederations(t)
	}
	now := time.Now().UnixMilli()
	s := newRecentServer(t, now)
	file, err := os.ReadFile(federations)
	require.NoError(t, err)
	lines := json.NewDecoder(bytes.NewReader(file))
	for _, scrape := range scrapes() {
		var want federation
		require.NoError(t, lines.Decode(&want), "record anew")
		require.Equal(t, scrape, federation{Params: want.Params, Accept: want.Accept}, "record anew")
		for _, prefix := range []string{"", "/prometheus"} {
			w := s.do(t, http.MethodGet, prefix+"/federate?"+want.Params, nil, "Accept", want.Accept)
			require.Equal(t, http.StatusOK, w.Code, w.Body)
			got := answered(t, scrape, w.Body, now)
			require.Equal(t, want.Text, got.Text)
			require.Len(t, got.Proto, len(want.Proto))
			for i := range want.Proto {
				require.JSONEq(t, string(want.Proto[i]), string(got.Proto[i]))
			}
		}
	}
	require.ErrorIs(t, lines.Decode(new(federation)), io.EOF)
}

// newRecentServer returns a server over the TSDB of fillRecent.
func newRecentServer(t testing.TB, now int64, change ...func(*server)) *server {
	t.Helper()
	db := fillRecent(t, t.TempDir(), now)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return newServer(t, append(change, func(s *server) { s.source.dbs = map[string]*tsdb.DB{teamA: db} })...)
}

// TestFederation is about what differs from Prometheus: OpenMetrics, which it
// does not offer, gzip, tenants, and limits.
func TestFederation(t *testing.T) {
	now := time.Now().UnixMilli()
	s := newRecentServer(t, now)
	all := "/federate?match[]=" + url.QueryEscape(`{__name__=~".+"}`)

	w := s.do(t, http.MethodGet, all, nil, "Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Header().Get("Content-Type"), "application/openmetrics-text; version=1.0.0")
	require.True(t, strings.HasSuffix(w.Body.String(), "# EOF\n"), w.Body.String())
	p := textparse.NewOpenMetricsParser(w.Body.Bytes(), labels.NewSymbolTable())
	samples := 0
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err, w.Body)
		if entry == textparse.EntrySeries {
			samples++
			_, ts, _ := p.Series()
			require.Equal(t, now-30_000, *ts)
		}
	}
	require.Greater(t, samples, 5)

	plain := s.do(t, http.MethodGet, all, nil)
	require.Contains(t, plain.Header().Get("Content-Type"), "text/plain; version=0.0.4")
	zipped := s.do(t, http.MethodGet, all, nil, "Accept-Encoding", "gzip")
	require.Equal(t, "gzip", zipped.Header().Get("Content-Encoding"))
	zr, err := gzip.NewReader(zipped.Body)
	require.NoError(t, err)
	text, err := io.ReadAll(zr)
	require.NoError(t, err)
	require.Equal(t, plain.Body.String(), string(text))

	require.Empty(t, s.do(t, http.MethodGet, all, nil, tenant.Header, teamB).Body.String())
	require.Equal(t, http.StatusUnauthorized, s.do(t, http.MethodGet, all, nil, tenant.Header, "").Code)
	require.Equal(t, http.StatusBadRequest, s.do(t, http.MethodGet, "/federate?match[]={", nil).Code)

	few := newRecentServer(t, now, func(s *server) { s.cfg.MaxSeries = 3 })
	w = few.do(t, http.MethodGet, all, nil)
	require.Equal(t, http.StatusUnprocessableEntity, w.Code)
	require.Contains(t, decode(t, w.Body.String()).Error, "weir-query-too-many-series: ")
	require.Equal(t, s.source.opened.Load(), s.source.closed.Load())
}

func recordFederations(t *testing.T) {
	t.Helper()
	dir, now := t.TempDir(), time.Now().UnixMilli()
	require.NoError(t, fillRecent(t, dir, now).Close())
	base := startPrometheus(t, dir)
	out, err := os.Create(federations)
	require.NoError(t, err)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	for _, scrape := range scrapes() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/federate?"+scrape.Params, nil)
		require.NoError(t, err)
		r.Header.Set("Accept", scrape.Accept)
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, lines.Encode(answered(t, scrape, res.Body, now)))
		require.NoError(t, res.Body.Close())
	}
	require.NoError(t, out.Close())
}

var timestampOfSample = regexp.MustCompile(`(?m) (\d{13})$`)

// answered completes scrape with its answer.
func answered(t testing.TB, scrape federation, body io.Reader, now int64) federation {
	t.Helper()
	if scrape.Accept != acceptProto {
		text, err := io.ReadAll(body)
		require.NoError(t, err)
		scrape.Text = timestampOfSample.ReplaceAllStringFunc(string(text), func(s string) string {
			ts, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
			require.NoError(t, err)
			return fmt.Sprintf(" %d", ts-now)
		})
		return scrape
	}
	delimited := bufio.NewReader(body)
	for {
		var family dto.MetricFamily
		err := protodelim.UnmarshalFrom(delimited, &family)
		if errors.Is(err, io.EOF) {
			return scrape
		}
		require.NoError(t, err)
		for _, m := range family.Metric {
			m.TimestampMs = proto.Int64(m.GetTimestampMs() - now)
		}
		b, err := protojson.Marshal(&family)
		require.NoError(t, err)
		scrape.Proto = append(scrape.Proto, b)
	}
}
