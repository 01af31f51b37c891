package receiver_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-metrics/weir/proto"
)

// TestOTLPExample is the example of the specification, of which a counter and a
// histogram are deltas, at times of today.
func TestOTLPExample(t *testing.T) {
	body := `{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"my.service"}}]},
		"scopeMetrics":[{"scope":{"name":"my.library","version":"1.0.0","attributes":[{"key":"my.scope.attribute","value":{"stringValue":"some scope attribute"}}]},
		"metrics":[
			{"name":"my.counter","unit":"1","description":"I am a Counter","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[
				{"asDouble":5,"startTimeUnixNano":"NOW","timeUnixNano":"NOW","attributes":[{"key":"my.counter.attr","value":{"stringValue":"some value"}}]}]}},
			{"name":"my.gauge","unit":"1","description":"I am a Gauge","gauge":{"dataPoints":[
				{"asDouble":10,"timeUnixNano":NOW,"attributes":[{"key":"my.gauge.attr","value":{"stringValue":"some value"}}]}]}},
			{"name":"my.histogram","unit":"1","description":"I am a Histogram","histogram":{"aggregationTemporality":1,"dataPoints":[
				{"startTimeUnixNano":"NOW","timeUnixNano":"NOW","count":"2","sum":2,"bucketCounts":[1,"1"],"explicitBounds":[1],"min":0,"max":2,
				"attributes":[{"key":"my.histogram.attr","value":{"stringValue":"some value"}}]}]}}
		]}]}], "unknownField": [{}]}`
	now := time.Now().UnixMilli()
	body = strings.ReplaceAll(body, "NOW", fmt.Sprint(now*1_000_000))
	hr, recorded := record(otlpRequest("application/json; charset=utf-8", []byte(body)))
	w := newSetup(t).serveOTLP(hr)
	require.Equal(t, http.StatusOK, w.Code, "%q", w.Body)
	require.Equal(t, "{}", w.Body.String())
	line := func(name, labels string, v float64, from int64) string {
		return fmt.Sprintf(`{__name__="%s", job="my.service", %s="some value"} float %x at %d from %d`, name, labels, math.Float64bits(v), now, from)
	}
	bucket := func(le string, v float64) string {
		return fmt.Sprintf(`{__name__="my_histogram_bucket", job="my.service", le=%q, my_histogram_attr="some value"} float %x at %d from %d`, le, math.Float64bits(v), now, now)
	}
	require.ElementsMatch(t, []string{
		line("my_counter_total", "my_counter_attr", 5, now),
		line("my_gauge_ratio", "my_gauge_attr", 10, 0),
		line("my_histogram_sum", "my_histogram_attr", 2, now),
		line("my_histogram_count", "my_histogram_attr", 2, now),
		bucket("1", 1), bucket("+Inf", 2),
	}, recorded.stored())
}

// TestOTLPNegotiation tells types and encodings from the headers, and refuses
// what is not clear.
func TestOTLPNegotiation(t *testing.T) {
	now := time.Now().UnixMilli()
	e := newExported()
	number(e.sum("up", cumulative, false), 0, now, 1)
	packed := map[string]func([]byte) []byte{
		"": bytes.Clone, "identity": bytes.Clone,
		"gzip": func(b []byte) []byte { return gzipOf(t, b) },
		"zstd": func(b []byte) []byte { return byZstd(httptest.NewRequest(http.MethodPost, "/", nil), b) },
	}
	for _, c := range []struct {
		types, encodings []string
		body             string // one of otlpTypes; "": refused
		packing          string // one of packed
		status           int
		id               string
	}{
		{types: []string{"application/x-protobuf"}, body: otlpProtobuf},
		{types: []string{"application/json"}, body: otlpJSON},
		{types: []string{"Application/JSON; charset=UTF-8"}, body: otlpJSON},
		{types: []string{"application/x-protobuf"}, encodings: []string{"gzip"}, packing: "gzip", body: otlpProtobuf},
		{types: []string{"application/json"}, encodings: []string{"GZIP"}, packing: "gzip", body: otlpJSON},
		{types: []string{"application/x-protobuf"}, encodings: []string{"zstd"}, packing: "zstd", body: otlpProtobuf},
		{types: []string{"application/x-protobuf"}, encodings: []string{"identity"}, body: otlpProtobuf},
		{types: []string{"application/x-protobuf"}, encodings: []string{""}, body: otlpProtobuf},
		{status: 415, id: "weir-media-type-unsupported"},
		{types: []string{""}, status: 415, id: "weir-media-type-unsupported"},
		{types: []string{"text/plain"}, status: 415, id: "weir-media-type-unsupported"},
		{types: []string{"application/grpc"}, status: 415, id: "weir-media-type-unsupported"},
		{types: []string{"application/x-protobuf;proto=io.prometheus.write.v2.Request"}, status: 415, id: "weir-media-type-unsupported"},
		{types: []string{"application/x-protobuf"}, encodings: []string{"snappy"}, status: 415, id: "weir-media-type-unsupported"},
		{types: []string{"application/json"}, encodings: []string{"br"}, status: 415, id: "weir-media-type-unsupported"},
		{types: []string{"application/json", "application/json"}, status: 400, id: "weir-header-repeated"},
		{types: []string{"application/json", "application/x-protobuf"}, status: 400, id: "weir-header-repeated"},
		{types: []string{"application/json"}, encodings: []string{"gzip", "identity"}, status: 400, id: "weir-header-repeated"},
		{types: []string{"application/x-protobuf"}, encodings: []string{"gzip"}, status: 400, id: "weir-gzip-malformed"},
		{types: []string{"application/x-protobuf"}, encodings: []string{"zstd"}, status: 400, id: "weir-zstd-malformed"},
	} {
		t.Run(fmt.Sprintf("%q %q", c.types, c.encodings), func(t *testing.T) {
			ct := c.body
			if ct == "" {
				ct = otlpProtobuf
			}
			hr, recorded := record(otlpRequest(ct, packed[c.packing](marshalOTLP(ct, e.Metrics))))
			hr.Header.Del("Content-Type")
			for _, x := range c.types {
				hr.Header.Add("Content-Type", x)
			}
			for _, x := range c.encodings {
				hr.Header.Add("Content-Encoding", x)
			}
			w := newSetup(t).serveOTLP(hr)
			if c.body != "" {
				require.Equal(t, http.StatusOK, w.Code, "%q", w.Body)
				require.Len(t, recorded.stored(), 1)
				return
			}
			require.Equal(t, c.status, w.Code)
			require.Zero(t, recorded.calls)
			message := failure(t, w).Message
			require.True(t, strings.HasPrefix(message, c.id+": "), message)
			if c.status == http.StatusUnsupportedMediaType {
				require.Equal(t, "application/x-protobuf, application/json", w.Header().Get("Accept"))
				require.Equal(t, "identity, gzip, zstd", w.Header().Get("Accept-Encoding"))
				require.Contains(t, message, "application/x-protobuf, application/json")
				require.Contains(t, message, "identity, gzip, zstd")
			}
		})
	}
}

// TestOTLPFailures: a google.rpc.Status in the encoding of the request, with a
// status that says whether to repeat it.
func TestOTLPFailures(t *testing.T) {
	now := time.Now().UnixMilli()
	good := newExported()
	number(good.sum("up", cumulative, false), 0, now, 1)
	body := func(ct string) []byte { return marshalOTLP(ct, good.Metrics) }
	garbage := func(string) []byte { return []byte("garbage, neither of both") }
	for _, c := range []struct {
		name   string
		setup  func(*setup)
		body   func(ct string) []byte
		tenant []string
		status int
		id     string
		retry  bool
		says   string
	}{
		{name: "not ready", setup: always(unavailable()), status: 503, id: "weir-starting", retry: true},
		{name: "limit", setup: always(proto.Errorf(proto.KindLimit, "weir-too-many-tenants", "x")), status: 429, id: "weir-too-many-tenants", retry: true},
		{name: "internal", setup: always(errors.New("secret")), status: 500, id: "weir-internal"},
		{name: "no time", setup: func(s *setup) { s.cfg.Timeout = 1 }, status: 503, id: "weir-timeout", retry: true},
		{name: "too large", setup: func(s *setup) { s.cfg.MaxRequestBytes = 5 }, status: 413, id: "weir-request-too-large", says: "send_batch_max_size"},
		{name: "too large decoded", setup: func(s *setup) { s.cfg.MaxDecodedBytes = 5 }, status: 413, id: "weir-request-too-large", says: "max_decoded_bytes"},
		{name: "no tenant", setup: headerMode, status: 401, id: "weir-tenant-missing"},
		{name: "two tenants", setup: headerMode, tenant: []string{"a", "b"}, status: 400, id: "weir-tenant-invalid"},
		{name: "garbage", body: garbage, status: 400, id: "weir-"},
		{name: "wrong wire type", body: func(ct string) []byte {
			if ct == otlpJSON {
				return []byte(`{"resourceMetrics": 5}`)
			}
			return []byte{0x0a, 2, 0x08, 1}
		}, status: 400, id: "weir-otlp-malformed"},
		{name: "wrong brackets", body: func(ct string) []byte {
			if ct == otlpJSON {
				return []byte(`{"resourceMetrics": [{]}}`)
			}
			return []byte{0x0a, 200}
		}, status: 400, id: "weir-"},
	} {
		for _, ct := range otlpTypes {
			t.Run(c.name+"/"+ct, func(t *testing.T) {
				s := newSetup(t, func(s *setup) {
					if c.setup != nil {
						c.setup(s)
					}
				})
				if c.body == nil {
					c.body = body
				}
				hr := otlpRequest(ct, c.body(ct))
				for _, id := range c.tenant {
					hr.Header.Add("X-Scope-OrgID", id)
				}
				w := s.serveOTLP(hr)
				require.Equal(t, c.status, w.Code, "%q", w.Body)
				require.Equal(t, ct, w.Header().Get("Content-Type"))
				st := failure(t, w)
				require.True(t, strings.HasPrefix(st.Message, c.id), st.Message)
				require.NotContains(t, st.Message, "secret")
				require.Contains(t, st.Message, c.says)
				require.Equal(t, c.status == http.StatusBadRequest, len(st.Details) == 1, "BadRequest says what is bad")
				if c.retry {
					require.Regexp(t, `^([1-9]|1[0-5])$`, w.Header().Get("Retry-After"))
				} else {
					require.Empty(t, w.Header().Get("Retry-After"))
				}
				id, _, _ := strings.Cut(st.Message, ":")
				require.Equal(t, 1, s.counters(t, "weir_receiver_requests_total")["otlp "+id])
			})
		}
	}
}

// TestOTLPPartialSuccess counts refused data points, whatever number of series
// each becomes, and stores the others.
func TestOTLPPartialSuccess(t *testing.T) {
	now := time.Now().UnixMilli()
	for _, c := range []struct {
		name    string
		fill    func(e exported)
		refused int64
		stored  int
		says    []string
		counted map[string]int
	}{
		{
			name: "a histogram of the future, and one of now",
			fill: func(e exported) {
				explicit(e, "latency", cumulative, 0, now+time.Hour.Milliseconds())
				explicit(e, "latency", cumulative, 0, now)
			},
			refused: 1, stored: 6,
			says:    []string{"weir-sample-too-far-in-future: refused 6 samples of this request, stored 7", "future_grace is 10m0s", "latency"},
			counted: map[string]int{"weir-sample-too-far-in-future float": 5, "weir-sample-too-far-in-future exemplar": 1},
		},
		{
			name: "no name, a bad value, and one refused by the ingester",
			fill: func(e exported) {
				ps := e.sum("x", cumulative, false)
				number(ps, 0, now, 1, "a", "\xff")
				number(ps, 0, now, refusedValue, "a", "b")
				number(ps, 0, now, 1, "a", "c")
				number(e.sum("", cumulative, false), 0, now, 1)
			},
			refused: 3, stored: 1,
			says: []string{"weir-otlp-point-untranslatable: refused 3 samples of this request, stored 2"},
			counted: map[string]int{
				"weir-otlp-point-untranslatable float": 1, "weir-label-value-invalid float": 1, "weir-sample-out-of-order float": 1,
			},
		},
		{
			name: "points that the translator gives up, before and behind others",
			fill: func(e exported) {
				ps := e.sum("x", cumulative, false)
				number(ps, 0, now, 1, "a", "1")
				number(ps, 0, now, 2, "___", "2")
				number(ps, 0, now, 3, "a", "3")
				coarse := exponential(e, "size", cumulative, 0, now, -5, 0, 1)
				fine := exponential(e, "size", cumulative, 0, now-1, 0, 0, 1)
				fine.CopyTo(e.scope.Metrics().At(1).ExponentialHistogram().DataPoints().AppendEmpty())
				coarse.CopyTo(e.scope.Metrics().At(2).ExponentialHistogram().DataPoints().AppendEmpty())
			},
			refused: 4 - 1, stored: 4,
			says:    []string{"weir-otlp-point-untranslatable: refused 3 ", "normalization for label name", "Scale must be >= -4"},
			counted: map[string]int{"weir-otlp-point-untranslatable float": 3},
		},
		{
			name: "without temporality",
			fill: func(e exported) {
				number(e.sum("x", pmetric.AggregationTemporalityUnspecified, false), 0, now, 1)
				number(e.sum("y", cumulative, false), 0, now, 1)
			},
			refused: 1, stored: 1,
			says:    []string{"weir-otlp-point-untranslatable", "invalid temporality"},
			counted: map[string]int{"weir-otlp-point-untranslatable float": 1},
		},
		{
			name: "an exemplar without a value",
			fill: func(e exported) {
				p := number(e.sum("x", cumulative, true), 0, now, 1)
				p.Exemplars().AppendEmpty().SetTimestamp(nanos(now))
				x := p.Exemplars().AppendEmpty()
				x.SetTimestamp(nanos(now))
				x.SetIntValue(1)
			},
			refused: 0, stored: 2,
			says:    []string{"weir-exemplar-invalid: refused 1 samples", "has no value"},
			counted: map[string]int{"weir-exemplar-invalid exemplar": 1},
		},
		{
			name: "buckets that contradict their bounds",
			fill: func(e exported) {
				p := exponential(e, "size", cumulative, 0, now, 0, 0, 1)
				p.SetCount(100)
				number(e.sum("y", cumulative, false), 0, now, 1)
			},
			refused: 1, stored: 1,
			says:    []string{"weir-histogram-invalid"},
			counted: map[string]int{"weir-histogram-invalid histogram": 1},
		},
	} {
		for _, ct := range otlpTypes {
			if ct == otlpJSON && strings.Contains(c.name, "bad value") {
				continue // JSON is UTF-8
			}
			t.Run(c.name+"/"+ct, func(t *testing.T) {
				s := newSetup(t)
				e := newExported()
				c.fill(e)
				recorded, w := s.export(ct, e.Metrics)
				refused, message := partial(t, w)
				require.Equal(t, c.refused, refused, message)
				for _, x := range c.says {
					require.Contains(t, message, x)
				}
				require.Less(t, len(message), 1100)
				require.Len(t, recorded.stored(), c.stored, recorded.stored())
				require.Equal(t, c.counted, s.counters(t, "weir_receiver_discarded_samples_total"))
			})
		}
	}
}

// TestOTLPBombs sends little that would become much: memory is not taken for it,
// nor much time.
func TestOTLPBombs(t *testing.T) {
	const kB, MB = 1 << 10, 1 << 20
	small := func(s *setup) { s.cfg.MaxDecodedBytes = MB }
	now := time.Now().UnixMilli()
	field := func(id protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, id, protowire.BytesType), b)
	}
	nested := func(n int) []byte { // a value of n lists in each other
		var v []byte
		for range n {
			v = field(5, field(1, v))
		}
		kv := append(field(1, []byte("k")), field(2, v)...)
		return field(1, field(1, field(1, kv)))
	}
	inMetric := func(b []byte) []byte { return field(1, field(2, field(2, b))) }
	for _, c := range []struct {
		name   string
		ct     string
		gzip   bool
		body   func() []byte
		status int
		id     string
		below  uint64 // bytes allocated
	}{
		{name: "gzip of zeros", ct: otlpProtobuf, gzip: true, body: func() []byte { return make([]byte, 100*MB) }, status: 413, id: "weir-request-too-large", below: 8 * MB},
		{name: "empty metrics", ct: otlpProtobuf, body: func() []byte {
			return field(1, field(2, bytes.Repeat([]byte{0x12, 0}, 500*kB)))
		}, status: 413, id: "weir-request-too-large", below: 4 * MB},
		{name: "empty points", ct: otlpProtobuf, body: func() []byte {
			return inMetric(field(10, bytes.Repeat([]byte{0x0a, 0}, 500*kB)))
		}, status: 413, id: "weir-request-too-large", below: 4 * MB},
		{name: "empty attributes", ct: otlpProtobuf, body: func() []byte {
			return inMetric(field(5, field(1, bytes.Repeat([]byte{0x3a, 0}, 500*kB))))
		}, status: 413, id: "weir-request-too-large", below: 4 * MB},
		{name: "counts of one byte", ct: otlpProtobuf, body: func() []byte {
			return inMetric(field(10, field(1, field(8, field(2, make([]byte, 1000*kB))))))
		}, status: 200, below: 100 * MB},
		{name: "nested values", ct: otlpProtobuf, body: func() []byte { return nested(1000) }, status: 400, id: "weir-otlp-too-deep", below: MB},
		{name: "nested values, 10,000", ct: otlpProtobuf, body: func() []byte { return nested(10_000) }, status: 400, id: "weir-otlp-too-deep", below: MB},
		{name: "nested as JSON", ct: otlpJSON, body: func() []byte { return bytes.Repeat([]byte(`{"resourceMetrics":[`), 50*kB) }, status: 400, id: "weir-otlp-too-deep", below: 4 * MB},
		{name: "nested unknown fields", ct: otlpJSON, body: func() []byte { return bytes.Repeat([]byte(`{"a":[`), 100*kB) }, status: 400, id: "weir-otlp-too-deep", below: 4 * MB},
		{name: "empty objects", ct: otlpJSON, body: func() []byte {
			return []byte(`{"resourceMetrics":[` + strings.Repeat("{},", 300*kB) + `{}]}`)
		}, status: 413, id: "weir-request-too-large", below: 4 * MB},
		{name: "counts of one digit", ct: otlpJSON, body: func() []byte {
			return []byte(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"bucketCounts":[` + strings.Repeat("0,", 500*kB) + `0]}]}}]}]}]}`)
		}, status: 200, id: "weir-otlp-point-untranslatable", below: 64 * MB},
		// A long service.name is written out with each of many data points.
		{name: "a long label many times", ct: otlpProtobuf, body: func() []byte {
			e := newExported("service.name", strings.Repeat("a", 100*kB))
			ps := e.sum("x", cumulative, false)
			for i := range 10_000 {
				number(ps, 0, now, 1, "i", fmt.Sprint(i))
			}
			return marshalOTLP(otlpProtobuf, e.Metrics)
		}, status: 413, id: "weir-request-too-large", below: 64 * MB},
		// Each bucket of a histogram is a series with the attributes of its point.
		{name: "many buckets with a long label", ct: otlpProtobuf, body: func() []byte {
			e := newExported("service.name", strings.Repeat("a", 100*kB))
			p := explicit(e, "x", cumulative, 0, now)
			bounds := make([]float64, 10_000)
			for i := range bounds {
				bounds[i] = float64(i)
			}
			p.ExplicitBounds().FromRaw(bounds)
			p.BucketCounts().FromRaw(make([]uint64, len(bounds)+1))
			return marshalOTLP(otlpProtobuf, e.Metrics)
		}, status: 413, id: "weir-request-too-large", below: 64 * MB},
		// target_info is repeated from the first to the last time of a resource.
		{name: "target_info of centuries", ct: otlpProtobuf, body: func() []byte {
			md := pmetric.NewMetrics()
			for range 1000 {
				e := newExported("service.name", "a", "x", "y")
				ps := e.sum("x", cumulative, false)
				ps.AppendEmpty()
				number(ps, 0, now, 1)
				e.ResourceMetrics().MoveAndAppendTo(md.ResourceMetrics())
			}
			beyond := newExported()
			beyond.sum("x", cumulative, false).AppendEmpty().SetTimestamp(math.MaxUint64)
			beyond.ResourceMetrics().MoveAndAppendTo(md.ResourceMetrics())
			return marshalOTLP(otlpProtobuf, md)
		}, status: 200, id: "weir-sample-too-old", below: 64 * MB},
		{name: "offsets far apart", ct: otlpProtobuf, body: func() []byte {
			e := newExported()
			for i, scale := range []int32{math.MinInt32, -4, 8, 20, math.MaxInt32} {
				for j, offset := range []int32{math.MinInt32, -1 << 30, 1 << 30, math.MaxInt32 - 1} {
					for _, temporality := range []pmetric.AggregationTemporality{cumulative, delta} {
						exponential(e, fmt.Sprintf("x_%d", temporality), temporality, 0, now-1000+int64(10*i+j), scale, offset, 1, 2, 3)
					}
				}
			}
			return marshalOTLP(otlpProtobuf, e.Metrics)
		}, status: 200, below: 8 * MB},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSetup(t, small)
			body := c.body()
			hr := otlpRequest(c.ct, body)
			if c.gzip {
				setBody(hr, gzipOf(t, body))
				hr.Header.Set("Content-Encoding", "gzip")
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			w := s.serveOTLP(hr)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			require.Equal(t, c.status, w.Code, "%.500q", w.Body)
			if c.status == http.StatusOK {
				_, message := partial(t, w)
				require.True(t, strings.HasPrefix(message, c.id), message)
			} else {
				require.True(t, strings.HasPrefix(failure(t, w).Message, c.id+": "), failure(t, w).Message)
			}
			require.Less(t, after.TotalAlloc-before.TotalAlloc, c.below)
			require.Less(t, took, 5*time.Second)
		})
	}
}

// TestOTLPExemplarsInOrder: SDKs sample exemplars in any order, and the store
// wants them by time.
func TestOTLPExemplarsInOrder(t *testing.T) {
	now := time.Now().UnixMilli()
	for _, temporality := range []pmetric.AggregationTemporality{cumulative, delta} {
		e := newExported()
		p := exponential(e, "size", temporality, 0, now, 0, 0, 1)
		for i, before := range []int64{5, 9, 1, 7, 9} {
			x := p.Exemplars().AppendEmpty()
			x.SetIntValue(int64(-i))
			x.SetTimestamp(nanos(now - before))
		}
		recorded, w := newSetup(t).export(otlpProtobuf, e.Metrics)
		refused, message := partial(t, w)
		require.Zero(t, refused, message)
		var got [][2]int64
		for _, x := range recorded.series[0].exemplars {
			got = append(got, [2]int64{now - x.Ts, int64(x.Value)})
		}
		require.Equal(t, [][2]int64{{9, -4}, {9, -1}, {7, -3}, {5, 0}, {1, -2}}, got)
	}
}

// TestOTLPAttributes: values that are no strings, names that collide, and
// nesting that is allowed.
func TestOTLPAttributes(t *testing.T) {
	now := time.Now().UnixMilli()
	e := newExported()
	p := number(e.sum("x", cumulative, false), 0, now, 1, "a.b", "1", "a_b", "2")
	p.Attributes().PutBool("bool", true)
	p.Attributes().PutInt("int", -7)
	p.Attributes().PutDouble("double", 1.5)
	p.Attributes().PutEmptyBytes("bytes").FromRaw([]byte{1, 2})
	p.Attributes().PutEmpty("empty")
	v := pcommon.NewValueEmpty()
	for range 10 {
		next := pcommon.NewValueSlice()
		v.MoveTo(next.Slice().AppendEmpty())
		v = next
	}
	v.MoveTo(p.Attributes().PutEmpty("list"))
	for _, ct := range otlpTypes {
		s := newSetup(t)
		recorded, w := s.export(ct, e.Metrics)
		require.Equal(t, http.StatusOK, w.Code, "%q", w.Body)
		require.Len(t, recorded.series, 1)
		require.Equal(t, `{__name__="x", a_b="1;2", bool="true", bytes="AQI=", double="1.5", int="-7", list="[[[[[[[[[[null]]]]]]]]]]"}`, recorded.series[0].labels.String())
		require.Equal(t, map[string]int{"label_name_collision": 1}, s.counters(t, "weir_receiver_otlp_translation_warnings_total"))
	}
}
