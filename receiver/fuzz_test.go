package receiver_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// The targets here send whatever bytes to the whole handler. It must not panic,
// answer 5xx, take much memory or long, or spoil the tenant for what is valid.

// maxFuzzBody bounds what a fuzzed request may become.
const maxFuzzBody = 64 << 10

// fuzzed is a setup that is made anew now and then, for it remembers every
// series.
type fuzzed struct {
	*setup
	requests int
}

func (f *fuzzed) fresh(t *testing.T) *setup {
	if f.requests%1000 == 0 {
		f.setup = newSetup(t, func(s *setup) { s.cfg.MaxDecodedBytes, s.cfg.AdmissionEntries = maxFuzzBody, 1000 })
	}
	f.requests++
	return f.setup
}

// checkFuzzed serves hr and then a valid request.
func checkFuzzed(t *testing.T, s *setup, serve func(*setup, *http.Request) *httptest.ResponseRecorder, hr *http.Request) {
	start := time.Now()
	w := serve(s, hr)
	if w.Code/100 != 2 && w.Code/100 != 4 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Fatalf("took %s", took)
	}
	require.Less(t, w.Body.Len(), 4096)
	valid, recorded := record(newRequest(proto.V2, mixed(proto.V2)))
	require.Equal(t, http.StatusNoContent, s.serve(valid).Code)
	require.Len(t, recorded.stored(), mixedCounts.Total())
}

func fuzzOTLP(f *testing.F, ct string) {
	var s fuzzed
	now := time.Now().UnixMilli()
	e := newExported("service.name", "cart", "k8s.pod.name", "cart-0")
	number(e.sum("requests", cumulative, true), now-1000, now, 12, "http.method", "GET").Exemplars().AppendEmpty().SetIntValue(1)
	number(e.sum("deltas", delta, true), now-1000, now, 12)
	number(e.metric("gauge").SetEmptyGauge().DataPoints(), 0, now, 1)
	explicit(e, "latency", cumulative, now-1000, now)
	explicit(e, "latency_delta", delta, now-1000, now)
	exponential(e, "size", cumulative, now-1000, now, 3, -5, 0, 1, 2, 0, 0, 0, 0, 3)
	exponential(e, "size_delta", delta, now-1000, now, 3, -5, 0, 1, 2, 0, 0, 0, 0, 3)
	q := e.metric("rpc").SetEmptySummary().DataPoints().AppendEmpty()
	q.SetTimestamp(nanos(now))
	q.QuantileValues().AppendEmpty().SetQuantile(0.5)
	f.Add(marshalOTLP(ct, e.Metrics))
	for i := range e.scope.Metrics().Len() {
		one := newExported("service.name", "cart")
		e.scope.Metrics().At(i).CopyTo(one.scope.Metrics().AppendEmpty())
		f.Add(marshalOTLP(ct, one.Metrics))
	}
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, body []byte) { checkFuzzed(t, s.fresh(t), (*setup).serveOTLP, otlpRequest(ct, body)) })
}

func FuzzOTLP(f *testing.F) { fuzzOTLP(f, otlpProtobuf) }

func FuzzOTLPJSON(f *testing.F) {
	f.Add([]byte(strings.Repeat("[", 100)))
	f.Add([]byte(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"sum":{"dataPoints":[{"asInt":"-1","timeUnixNano":null}]}}]}]}]}`))
	fuzzOTLP(f, otlpJSON)
}

// fuzzEncoded sends bodies of both versions as they are in an encoding.
func fuzzEncoded(f *testing.F, encoding string, encode func([]byte) []byte) {
	var s fuzzed
	for _, v := range versions {
		for _, message := range [][]byte{nil, mixed(v), partly(v), invalid(v), bytes.Repeat([]byte{0}, 2*maxFuzzBody)} {
			f.Add(v == proto.V2, encode(message))
		}
	}
	f.Fuzz(func(t *testing.T, second bool, body []byte) {
		v := proto.V1
		if second {
			v = proto.V2
		}
		hr := newRequest(v, nil)
		hr.Header.Set("Content-Encoding", encoding)
		setBody(hr, body)
		checkFuzzed(t, s.fresh(t), (*setup).serve, hr)
	})
}

func FuzzSnappy(f *testing.F) {
	fuzzEncoded(f, "snappy", func(b []byte) []byte { return s2.EncodeSnappy(nil, b) })
}

func FuzzZstd(f *testing.F) {
	fuzzEncoded(f, "zstd", func(b []byte) []byte { return byZstd(newRequest(proto.V1, nil), b) })
}

// FuzzHeaders sends a valid body under any headers, by any method.
func FuzzHeaders(f *testing.F) {
	var s fuzzed
	f.Add("POST", "application/x-protobuf", "snappy", "a", "vmagent", "get_vm_proto_version=1")
	f.Add("GET", "application/json; charset=utf-8", "gzip", "../a", "Prometheus/3", "")
	f.Add("PUT", "application/x-protobuf;proto=io.prometheus.write.v2.Request", "ZSTD", "", "", "%")
	f.Fuzz(func(t *testing.T, method, ct, encoding, tenant, agent, query string) {
		hr := newRequest(proto.V1, mixed(proto.V1))
		hr.Method, hr.URL.RawQuery = method, query
		for name, value := range map[string]string{"Content-Type": ct, "Content-Encoding": encoding, "X-Scope-OrgID": tenant, "User-Agent": agent} {
			hr.Header.Set(name, value)
		}
		otlp := hr.Clone(hr.Context())
		setBody(otlp, fmt.Appendf(nil, `{"x":%q}`, ct))
		checkFuzzed(t, s.fresh(t), (*setup).serve, hr)
		checkFuzzed(t, s.fresh(t), (*setup).serveOTLP, otlp)
	})
}
