package receiver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// receipt is what a sender reads of one.
type receipt struct {
	Status  int
	ID      string
	Message string
	Tenant  string
	Sent    proto.Counts
	Written proto.Counts
	Refused []refusedReceipt
	Series  []struct {
		Labels    []struct{ Name, Value string }
		Verdict   string
		Identity  string
		Sent      proto.Counts
		Written   proto.Counts
		Refused   []refusedReceipt
		Postponed bool
	}
	SeriesOmitted int
}

type refusedReceipt struct {
	Reason     string
	Counts     proto.Counts
	Detail     string
	Limit      string
	LimitValue any
}

func readReceipt(t *testing.T, w *httptest.ResponseRecorder) (r receipt) {
	t.Helper()
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	dec := json.NewDecoder(w.Body)
	require.NoError(t, dec.Decode(&r))
	return r
}

func traced(hr *http.Request) *http.Request {
	hr.Header.Set("X-Weir-Trace", "1")
	return hr
}

func TestReceipt(t *testing.T) {
	for _, v := range versions {
		t.Run("version="+v.String(), func(t *testing.T) {
			s := newSetup(t)
			w := s.serve(traced(newRequest(v, partly(v))))
			require.Equal(t, http.StatusBadRequest, w.Code)
			got := readReceipt(t, w)
			require.Equal(t, http.StatusBadRequest, got.Status)
			require.Equal(t, "weir-metric-name-missing", got.ID)
			require.Contains(t, got.Message, "refused 4 samples")
			require.Equal(t, tenant.Anonymous, got.Tenant)
			require.Equal(t, partlyCounts, got.Written)
			require.Len(t, got.Refused, 3)
			require.Equal(t, "limits.out_of_order_window", got.Refused[2].Limit)
			require.Equal(t, "10m0s", got.Refused[2].LimitValue)

			require.Len(t, got.Series, 3)
			nameless, up, latency := got.Series[0], got.Series[1], got.Series[2]
			require.Equal(t, "weir-metric-name-missing", nameless.Verdict)
			require.Empty(t, nameless.Identity)
			require.Zero(t, nameless.Written)
			require.Equal(t, []refusedReceipt{{Reason: "weir-metric-name-missing", Counts: proto.Counts{Samples: 1, Histograms: 1}, Detail: "the label __name__ is missing or empty"}}, nameless.Refused)
			require.Equal(t, "weir-ok", up.Verdict)
			require.Len(t, up.Identity, 32)
			require.Equal(t, "up", up.Labels[0].Value)
			require.Equal(t, proto.Counts{Samples: 3}, up.Sent)
			require.Equal(t, proto.Counts{Samples: 2}, up.Written)
			require.Equal(t, "weir-sample-out-of-order", up.Refused[0].Reason)
			require.Equal(t, proto.Counts{Histograms: 1, Exemplars: 1}, latency.Written)
			require.NotEqual(t, up.Identity, latency.Identity)
		})
	}
}

// TestReceiptOfSuccess: 204 has no body, so it is 200 with a receipt.
func TestReceiptOfSuccess(t *testing.T) {
	s := newSetup(t)
	w := s.serve(traced(newRequest(proto.V2, mixed(proto.V2))))
	require.Equal(t, http.StatusOK, w.Code)
	got := readReceipt(t, w)
	require.Equal(t, http.StatusNoContent, got.Status)
	require.Equal(t, "weir-ok", got.ID)
	require.Equal(t, got.Sent.Samples, got.Written.Samples)
	require.Equal(t, "3", w.Header().Get(headerSamples))
	require.Len(t, got.Series, 3)
	require.Empty(t, got.Refused)
}

func TestReceiptOfFailure(t *testing.T) {
	s := newSetup(t, always(unavailable()))
	w := s.serve(traced(newRequest(proto.V1, mixed(proto.V1))))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	got := readReceipt(t, w)
	require.Equal(t, "weir-starting", got.ID)
	require.Zero(t, got.Written)
	require.Len(t, got.Series, 3)
	require.Zero(t, got.Series[0].Written)

	hr := newRequest(proto.V1, nil)
	setBody(hr, []byte("\xff\xff"))
	got = readReceipt(t, s.serve(traced(hr)))
	require.Equal(t, "weir-snappy-malformed", got.ID)
	require.Empty(t, got.Series)
}

func TestReceiptOfOTLP(t *testing.T) {
	s := newSetup(t)
	md := pmetric.NewMetrics()
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("x")
	p := m.SetEmptyGauge().DataPoints().AppendEmpty()
	p.SetTimestamp(1e9)
	p.SetDoubleValue(1)
	w := s.serveOTLP(traced(otlpRequest(otlpProtobuf, marshalOTLP(otlpProtobuf, md))))
	require.Equal(t, http.StatusOK, w.Code)
	got := readReceipt(t, w)
	require.Equal(t, "weir-sample-too-old", got.ID)
	require.Equal(t, "weir-sample-too-old", got.Series[0].Refused[0].Reason)
}

// TestReceiptIsBounded by the number of series and by their bytes.
func TestReceiptIsBounded(t *testing.T) {
	for _, c := range []struct {
		name        string
		series      int
		value       int // bytes
		most, bytes int
	}{
		{"many", 5000, 10, 1000, 1 << 20},
		{"long", 900, 4000, 300, 2 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSetup(t)
			var all []series
			for i := range c.series {
				all = append(all, series{labels: pairs("__name__", "m", "n", fmt.Sprint(i), "v", strings.Repeat("v", c.value)), floats: []proto.Float{{T: 1}}})
			}
			w := s.serve(traced(newRequest(proto.V1, marshal(proto.V1, all...))))
			require.Less(t, w.Body.Len(), c.bytes)
			got := readReceipt(t, w)
			require.LessOrEqual(t, len(got.Series), c.most)
			require.Equal(t, c.series, len(got.Series)+got.SeriesOmitted)
			last := got.Series[len(got.Series)-1]
			require.Equal(t, "weir-sample-too-old", last.Refused[0].Reason)
			require.Zero(t, last.Written)
		})
	}
}

// TestReceiptOfManySamples: what a receipt says of a series does not grow with its
// samples, and says of all of them what became of them.
func TestReceiptOfManySamples(t *testing.T) {
	s := newSetup(t)
	const n = 20_000
	one := series{labels: pairs("__name__", "m")}
	ahead := time.Now().Add(time.Hour).UnixMilli()
	for i := range n {
		one.floats = append(one.floats, proto.Float{T: 1 + int64(i%2)*ahead})
	}
	for _, v := range versions {
		w := s.serve(traced(newRequest(v, marshal(v, one))))
		require.Less(t, w.Body.Len(), 4<<10)
		got := readReceipt(t, w)
		require.Len(t, got.Series, 1)
		require.Len(t, got.Series[0].Refused, 2)
		require.Equal(t, "weir-sample-too-old", got.Series[0].Refused[0].Reason)
		for _, x := range got.Series[0].Refused {
			require.Equal(t, proto.Counts{Samples: n / 2}, x.Counts)
		}
	}
}

// TestRefusalsAsJSON: who asks for JSON gets refusals in it, and nothing else.
func TestRefusalsAsJSON(t *testing.T) {
	s := newSetup(t)
	hr := newRequest(proto.V1, partly(proto.V1))
	hr.Header.Set("Accept", "application/json")
	w := s.serve(hr)
	require.Equal(t, http.StatusBadRequest, w.Code)
	got := readReceipt(t, w)
	require.Equal(t, "weir-metric-name-missing", got.ID)
	require.Empty(t, got.Series)
	require.Len(t, got.Refused, 3)

	hr = newRequest(proto.V1, mixed(proto.V1))
	hr.Header.Set("Accept", "application/json")
	w = s.serve(hr)
	require.Equal(t, http.StatusNoContent, w.Code)
	require.Zero(t, w.Body.Len())
}
