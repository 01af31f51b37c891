package receiver_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const (
	otlpProtobuf = "application/x-protobuf"
	otlpJSON     = "application/json"
)

var otlpTypes = []string{otlpProtobuf, otlpJSON}

// otlpRequest is a request as an exporter sends it, not compressed.
func otlpRequest(ct string, body []byte) *http.Request {
	hr := httptest.NewRequest(http.MethodPost, "/otlp/v1/metrics", bytes.NewReader(body))
	hr.Header.Set("Content-Type", ct)
	hr.Header.Set("User-Agent", "OTel OTLP Exporter Go/1.47.0")
	return hr
}

func marshalOTLP(ct string, md pmetric.Metrics) []byte {
	er := pmetricotlp.NewExportRequestFromMetrics(md)
	marshal := er.MarshalProto
	if ct == otlpJSON {
		marshal = er.MarshalJSON
	}
	b, err := marshal()
	if err != nil {
		panic(err)
	}
	return b
}

func (s *setup) serveOTLP(hr *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.OTLP().ServeHTTP(w, hr)
	return w
}

// export sends md as ct and returns what was stored, and the answer.
func (s *setup) export(ct string, md pmetric.Metrics) (*recording, *httptest.ResponseRecorder) {
	hr, r := record(otlpRequest(ct, marshalOTLP(ct, md)))
	return r, s.serveOTLP(hr)
}

// partial reads the answer to a request that was stored at least in part.
func partial(t require.TestingT, w *httptest.ResponseRecorder) (refused int64, message string) {
	require.Equal(t, http.StatusOK, w.Code, "%q", w.Body)
	resp := pmetricotlp.NewExportResponse()
	if w.Header().Get("Content-Type") == otlpJSON {
		require.NoError(t, resp.UnmarshalJSON(w.Body.Bytes()))
	} else {
		require.Equal(t, otlpProtobuf, w.Header().Get("Content-Type"))
		require.NoError(t, resp.UnmarshalProto(w.Body.Bytes()))
	}
	return resp.PartialSuccess().RejectedDataPoints(), resp.PartialSuccess().ErrorMessage()
}

// failure reads the google.rpc.Status of a refusal.
func failure(t require.TestingT, w *httptest.ResponseRecorder) *status.Status {
	s := new(status.Status)
	if w.Header().Get("Content-Type") == otlpJSON {
		require.NoError(t, protojson.Unmarshal(w.Body.Bytes(), s), "%q", w.Body)
	} else {
		require.Equal(t, otlpProtobuf, w.Header().Get("Content-Type"))
		require.NoError(t, proto.Unmarshal(w.Body.Bytes(), s), "%q", w.Body)
	}
	return s
}

// exported is one resource with one scope.
type exported struct {
	pmetric.Metrics
	scope pmetric.ScopeMetrics
}

func newExported(attributes ...string) exported {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	put(rm.Resource().Attributes(), attributes...)
	return exported{md, rm.ScopeMetrics().AppendEmpty()}
}

func put(m pcommon.Map, attributes ...string) {
	for i := 0; i < len(attributes); i += 2 {
		m.PutStr(attributes[i], attributes[i+1])
	}
}

func (e exported) metric(name string) pmetric.Metric {
	m := e.scope.Metrics().AppendEmpty()
	m.SetName(name)
	return m
}

func (e exported) sum(name string, temporality pmetric.AggregationTemporality, monotonic bool) pmetric.NumberDataPointSlice {
	s := e.metric(name).SetEmptySum()
	s.SetAggregationTemporality(temporality)
	s.SetIsMonotonic(monotonic)
	return s.DataPoints()
}

func number(ps pmetric.NumberDataPointSlice, start, t int64, v float64, attributes ...string) pmetric.NumberDataPoint {
	p := ps.AppendEmpty()
	p.SetStartTimestamp(nanos(start))
	p.SetTimestamp(nanos(t))
	p.SetDoubleValue(v)
	put(p.Attributes(), attributes...)
	return p
}

func nanos(ms int64) pcommon.Timestamp { return pcommon.NewTimestampFromTime(time.UnixMilli(ms)) }

func gzipOf(tb testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	require.NoError(tb, err)
	require.NoError(tb, w.Close())
	return out.Bytes()
}
