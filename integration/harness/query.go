package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"
)

var queryClient = &http.Client{Timeout: 2 * time.Minute}

// Envelope is what every endpoint of the query API answers.
type Envelope struct {
	Status    string          `json:"status"`
	Data      json.RawMessage `json:"data"`
	ErrorType string          `json:"errorType"`
	Error     string          `json:"error"`
	Warnings  []string        `json:"warnings"`
	Infos     []string        `json:"infos"`
}

// Ask puts a query to path (such as /api/v1/query) as a form, the way Grafana
// does, and returns status and body of the answer, whatever they are.
func (s *Server) Ask(ctx context.Context, path string, params url.Values, header ...string) (int, Envelope, error) {
	var e Envelope
	u := s.Process().URL + s.kind.APIPath + path
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, strings.NewReader(params.Encode()))
	if err != nil {
		return 0, e, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.by(queryClient).Do(req)
	if err != nil {
		return 0, e, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		return resp.StatusCode, e, fmt.Errorf("%s: %s: %w", u, resp.Status, err)
	}
	return resp.StatusCode, e, nil
}

// Get queries path (such as /api/v1/series) and decodes the data of the answer,
// which must be a success without warnings, into into.
func (s *Server) Get(t testing.TB, path string, params url.Values, into any) {
	t.Helper()
	u := s.APIURL() + path + "?" + params.Encode()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
	require.NoError(t, err)
	s.identify(req.Header)
	resp, err := s.by(queryClient).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var e Envelope
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&e), "%s: %s", u, resp.Status)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", u, e.Error)
	require.Equal(t, "success", e.Status)
	require.Empty(t, e.Warnings)
	require.NoError(t, json.Unmarshal(e.Data, into), "%s: %s", u, e.Data)
}

// Text returns the body of a page, which must be there.
func (s *Server) Text(t testing.TB, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Process().URL+path, nil)
	require.NoError(t, err)
	s.identify(req.Header)
	resp, err := s.by(queryClient).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", text)
	return string(text)
}

// Stored is one series as a query returned it.
type Stored struct {
	Labels     map[string]string
	Floats     map[int64]float64 // by timestamp in ms
	Histograms map[int64]HistogramJSON
}

// HistogramJSON is a native histogram as the query API shows it: texts are
// floats in shortest form, and empty buckets are left out.
type HistogramJSON struct {
	Count   string   `json:"count"`
	Sum     string   `json:"sum"`
	Buckets [][4]any `json:"buckets"`
}

// point decodes [seconds, X] into milliseconds and X.
func point(raw [2]json.RawMessage, into any) (int64, error) {
	seconds, err := strconv.ParseFloat(string(raw[0]), 64)
	if err != nil {
		return 0, err
	}
	return int64(math.Round(seconds * 1000)), json.Unmarshal(raw[1], into)
}

// Samples returns every stored sample of the series that selector selects, with
// from <= timestamp <= to in ms. Staleness markers do not show.
func (s *Server) Samples(t testing.TB, selector string, from, to int64) []Stored {
	t.Helper()
	var data struct {
		ResultType string
		Result     []struct {
			Metric     map[string]string
			Values     [][2]json.RawMessage
			Histograms [][2]json.RawMessage
		}
	}
	// The range of a selector is open on the left.
	params := url.Values{"query": {fmt.Sprintf("%s[%dms]", selector, to-from+1)}, "time": {Seconds(to)}}
	s.Get(t, "/api/v1/query", params, &data)
	require.Equal(t, "matrix", data.ResultType)
	var out []Stored
	for _, r := range data.Result {
		x := Stored{Labels: r.Metric, Floats: map[int64]float64{}, Histograms: map[int64]HistogramJSON{}}
		for _, raw := range r.Values {
			var text string
			at, err := point(raw, &text)
			require.NoError(t, err)
			x.Floats[at], err = strconv.ParseFloat(text, 64)
			require.NoError(t, err)
		}
		for _, raw := range r.Histograms {
			var h HistogramJSON
			at, err := point(raw, &h)
			require.NoError(t, err)
			x.Histograms[at] = h
		}
		require.Len(t, x.Floats, len(r.Values), "a timestamp came twice")
		require.Len(t, x.Histograms, len(r.Histograms), "a timestamp came twice")
		out = append(out, x)
	}
	return out
}

// Only returns the samples of the one series that selector must select.
func (s *Server) Only(t testing.TB, selector string, from, to int64) Stored {
	t.Helper()
	all := s.Samples(t, selector, from, to)
	require.Len(t, all, 1, "%s: %v", selector, all)
	return all[0]
}

// StoredExemplars are the exemplars of one series as a query returned them.
type StoredExemplars struct {
	Labels    map[string]string
	Exemplars []Exemplar
}

// Exemplars returns the stored exemplars of the series that selector selects,
// with from <= timestamp <= to in ms.
func (s *Server) Exemplars(t testing.TB, selector string, from, to int64) []StoredExemplars {
	t.Helper()
	var data []struct {
		SeriesLabels map[string]string `json:"seriesLabels"`
		Exemplars    []struct {
			Labels    map[string]string `json:"labels"`
			Value     string            `json:"value"`
			Timestamp float64           `json:"timestamp"`
		} `json:"exemplars"`
	}
	s.Get(t, "/api/v1/query_exemplars", url.Values{
		"query": {selector}, "start": {Seconds(from)}, "end": {Seconds(to)},
	}, &data)
	var out []StoredExemplars
	for _, series := range data {
		x := StoredExemplars{Labels: series.SeriesLabels}
		for _, e := range series.Exemplars {
			v, err := strconv.ParseFloat(e.Value, 64)
			require.NoError(t, err)
			one := Exemplar{T: int64(math.Round(e.Timestamp * 1000)), V: v}
			for _, name := range slices.Sorted(maps.Keys(e.Labels)) {
				one.Labels = append(one.Labels, name, e.Labels[name])
			}
			x.Exemplars = append(x.Exemplars, one)
		}
		out = append(out, x)
	}
	return out
}

// Seconds formats a timestamp in ms as the query API takes it.
func Seconds(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64) }

// JSONOf is how the query API must show a histogram.
func JSONOf(h *histogram.FloatHistogram) HistogramJSON {
	out := HistogramJSON{Count: shortest(h.Count), Sum: shortest(h.Sum)}
	for it := h.AllBucketIterator(); it.Next(); {
		b := it.At()
		if b.Count == 0 {
			continue
		}
		bounds := 2.0 // open on both sides
		switch {
		case b.LowerInclusive && b.UpperInclusive:
			bounds = 3
		case b.LowerInclusive:
			bounds = 1
		case b.UpperInclusive:
			bounds = 0
		}
		out.Buckets = append(out.Buckets, [4]any{bounds, shortest(b.Lower), shortest(b.Upper), shortest(b.Count)})
	}
	return out
}

// JSONOfSample is JSONOf for a Sample with H or FH.
func JSONOfSample(x Sample) HistogramJSON {
	if x.H != nil {
		return JSONOf(x.H.ToFloat(nil))
	}
	return JSONOf(x.FH)
}

// shortest formats a float as Prometheus' JSON encoder does.
func shortest(v float64) string {
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.FormatFloat(v, format, -1, 64)
}

// Instant returns the value of every series that an instant query finds.
func (s *Server) Instant(t testing.TB, query string, at int64) []string {
	t.Helper()
	var data struct {
		Result []struct{ Value [2]json.RawMessage }
	}
	s.Get(t, "/api/v1/query", url.Values{"query": {query}, "time": {Seconds(at)}}, &data)
	var out []string
	for _, r := range data.Result {
		var text string
		if r.Value[1] != nil {
			require.NoError(t, json.Unmarshal(r.Value[1], &text))
		}
		out = append(out, text)
	}
	return out
}
