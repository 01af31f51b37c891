package integration

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// TestAnswers holds the status and headers of requests that are refused as a
// whole: SPEC, section 4.5.
func TestAnswers(t *testing.T) {
	if harness.Against() != "weir" {
		return
	}
	s := harness.Start(t, harness.Config{})
	good := harness.Encode(t, harness.V1, harness.Series{Labels: []string{"__name__", "rt_answer"}, Samples: []harness.Sample{{T: time.Now().UnixMilli(), V: 1}}})
	bomb := binary.AppendUvarint(nil, 1<<31)
	cases := []struct {
		name   string
		body   []byte
		header []string
		status int
	}{
		{"good", good, nil, http.StatusNoContent},
		{"parameter of 1.0", good, []string{"Content-Type", "application/x-protobuf;proto=prometheus.WriteRequest"}, http.StatusNoContent},
		{"no version header", good, []string{"X-Prometheus-Remote-Write-Version", ""}, http.StatusNoContent},
		{"other type", good, []string{"Content-Type", "application/json"}, http.StatusUnsupportedMediaType},
		{"other message", good, []string{"Content-Type", "application/x-protobuf;proto=io.prometheus.write.v3.Request"}, http.StatusUnsupportedMediaType},
		{"other encoding", good, []string{"Content-Encoding", "gzip"}, http.StatusUnsupportedMediaType},
		{"not snappy", []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), nil, http.StatusBadRequest},
		{"not protobuf", s2.EncodeSnappy(nil, []byte("\x0a\xff\xff\xff")), nil, http.StatusBadRequest},
		{"cut off", good[:len(good)-3], nil, http.StatusBadRequest},
		{"snappy bomb", append(bomb, 0), nil, http.StatusRequestEntityTooLarge},
		{"body too large", bytes.Repeat([]byte("x"), 17<<20), nil, http.StatusRequestEntityTooLarge},
		{"empty request", s2.EncodeSnappy(nil, nil), nil, http.StatusNoContent},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, err := s.Post(t.Context(), harness.V1, c.body, c.header...)
			require.NoError(t, err)
			require.Equal(t, c.status, a.Status, a.Body)
			if c.status == http.StatusNoContent {
				require.Empty(t, a.Body)
				return
			}
			require.NotEmpty(t, a.Body)
			require.Less(t, a.Written.Samples, 1)
			if c.status == http.StatusUnsupportedMediaType {
				require.NotEmpty(t, a.Header.Get("Accept"))
				require.NotEmpty(t, a.Header.Get("Accept-Encoding"))
			}
		})
	}
	resp, err := http.Get(s.WriteURL())
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	require.Contains(t, resp.Header.Get("Allow"), http.MethodPost)
}

// TestBrokenSymbols sends 2.0 requests whose references make no sense: never
// more than a 400, and good series beside them are stored.
func TestBrokenSymbols(t *testing.T) {
	if harness.Against() != "weir" {
		return
	}
	s := harness.Start(t, harness.Config{})
	now := time.Now().UnixMilli()
	series := func(refs ...uint32) writev2.TimeSeries {
		return writev2.TimeSeries{LabelsRefs: refs, Samples: []writev2.Sample{{Timestamp: now, Value: 1}}}
	}
	symbols := []string{"", "__name__", "rt_symbols", "case", "good"}
	good := series(1, 2, 3, 4)
	cases := map[string]writev2.Request{
		"reference out of range": {Symbols: symbols, Timeseries: []writev2.TimeSeries{good, series(1, 2, 3, 5)}},
		"huge reference":         {Symbols: symbols, Timeseries: []writev2.TimeSeries{series(1, 2, 3, 1<<32-1), good}},
		"odd references":         {Symbols: symbols, Timeseries: []writev2.TimeSeries{good, series(1, 2, 3)}},
		"exemplar out of range": {Symbols: symbols, Timeseries: []writev2.TimeSeries{good, func() writev2.TimeSeries {
			ts := series(1, 2)
			ts.Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{1, 99}, Timestamp: now, Value: 1}}
			return ts
		}()}},
	}
	for name, req := range cases {
		t.Run(name, func(t *testing.T) {
			b, err := req.Marshal()
			require.NoError(t, err)
			a, err := s.Post(t.Context(), harness.V2, s2.EncodeSnappy(nil, b))
			require.NoError(t, err)
			require.Equal(t, http.StatusBadRequest, a.Status, a.Body)
			require.GreaterOrEqual(t, a.Written.Samples, 1)
			got := s.Only(t, `rt_symbols{case="good"}`, now-1000, now+1000)
			require.Equal(t, map[int64]float64{now: 1}, got.Floats)
		})
	}
}
