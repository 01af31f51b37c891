package receiver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/receiver"
	"github.com/weir-metrics/weir/tenant"
)

// mixed is a request with samples of every kind: 3 floats, 2 histograms and 1
// exemplar.
func mixed(v proto.Version) []byte {
	now := time.Now().UnixMilli()
	return marshal(v,
		series{labels: pairs("__name__", "up", "job", "a"), floats: []proto.Float{{T: now - 1, V: 1}, {T: now, V: 0}}},
		series{labels: pairs("__name__", "up", "job", "b"), floats: []proto.Float{{T: now, V: 1}}},
		series{
			labels:     pairs("__name__", "latency"),
			histograms: []proto.Histogram{{T: now - 1, H: oneBucket()}, {T: now, FH: oneBucket().ToFloat(nil)}},
			exemplars:  []exemplarToSend{{labels: pairs("trace_id", "5f2c"), v: 0.5, t: now}},
		},
	)
}

func oneBucket() *histogram.Histogram {
	return &histogram.Histogram{Schema: 1, Count: 3, Sum: 4, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{3}}
}

var mixedCounts = proto.Counts{Samples: 3, Histograms: 2, Exemplars: 1}

// partly is a request of which 2 floats, 1 histogram and 1 exemplar are valid. A
// float, a histogram and an exemplar are refused by the receiver, and a float by
// the memory.
func partly(v proto.Version) []byte {
	now := time.Now().UnixMilli()
	return marshal(v,
		series{labels: pairs("job", "a"), floats: []proto.Float{{T: now, V: 1}}, histograms: []proto.Histogram{{T: now, H: oneBucket()}}},
		series{labels: pairs("__name__", "up", "job", "b"), floats: []proto.Float{{T: now, V: 1}, {T: now, V: refusedValue}, {T: now, V: 2}}},
		series{
			labels:     pairs("__name__", "latency"),
			histograms: []proto.Histogram{{T: now, H: oneBucket()}},
			exemplars:  []exemplarToSend{{labels: pairs("trace_id", "5f2c"), v: 0.5, t: now}, {labels: pairs("", "x"), t: now}},
		},
	)
}

var partlyCounts = proto.Counts{Samples: 2, Histograms: 1, Exemplars: 1}

// invalid is a request of which nothing can be stored.
func invalid(v proto.Version) []byte {
	now := time.Now().UnixMilli()
	return marshal(v,
		series{labels: pairs("job", "a"), floats: []proto.Float{{T: now, V: 1}}},
		series{labels: pairs("__name__", "up", "job", "a", "job", "b"), floats: []proto.Float{{T: now, V: 1}}},
	)
}

// always makes the ingester fail.
func always(err error) func(*setup) {
	return func(s *setup) { s.memory.fail = func(int) error { return err } }
}

// failSecond makes the ingester fail when it is taught a series.
func failSecond(err error) func(*setup) {
	return func(s *setup) {
		s.memory.fail = func(n int) error {
			if n == 2 {
				return err
			}
			return nil
		}
	}
}

func headerMode(s *setup) { s.mode = tenant.ModeHeader }

func unavailable() error {
	return proto.Errorf(proto.KindUnavailable, "weir-starting", "the write-ahead logs are being replayed; repeat the request")
}

// TestAnswers has a case for each row of the table of answers in SPEC 4.5 that
// the receiver decides, in both protocols.
func TestAnswers(t *testing.T) {
	tooMany := proto.Errorf(proto.KindLimit, "weir-too-many-tenants", "there are 10 tenants, the limit max_tenants is 10")
	type answer struct {
		name    string
		only    proto.Version // 0: both
		setup   []func(*setup)
		body    func(proto.Version) []byte         // not compressed
		request func(*http.Request, proto.Version) // changes the request
		status  int
		id      string        // of the answer
		written *proto.Counts // what the headers say; nil: nothing, as for 1.0 on success
		stored  bool          // something reached the ingester
		says    []string      // in the body
		silent  []string      // not in the body
		headers map[string]string
		retry   bool
		prepare func(*testing.T, *setup, proto.Version)
	}
	none := &proto.Counts{}
	for _, c := range []answer{
		{name: "everything stored", body: mixed, status: 204, id: "weir-ok", written: &mixedCounts, stored: true},
		{name: "stored before, exactly so", body: mixed, status: 204, id: "weir-ok", written: &mixedCounts, stored: true,
			prepare: func(t *testing.T, s *setup, v proto.Version) { require.Equal(t, 204, s.send(v, mixed(v)).Code) }},
		{name: "nothing in it", body: func(proto.Version) []byte { return nil }, status: 204, id: "weir-ok", written: none, stored: true},
		{name: "nothing in it, not compressed", body: func(proto.Version) []byte { return nil }, status: 204, id: "weir-ok", written: none, stored: true,
			request: func(hr *http.Request, _ proto.Version) { plain(hr, nil) }},
		{name: "not compressed", body: mixed, status: 204, id: "weir-ok", written: &mixedCounts, stored: true,
			request: func(hr *http.Request, v proto.Version) { plain(hr, mixed(v)) }},
		{name: "length not announced", body: mixed, status: 204, id: "weir-ok", written: &mixedCounts, stored: true,
			request: func(hr *http.Request, _ proto.Version) { hr.ContentLength = -1 }},
		{name: "body comes byte by byte", body: mixed, status: 204, id: "weir-ok", written: &mixedCounts, stored: true,
			request: func(hr *http.Request, _ proto.Version) { hr.Body = io.NopCloser(iotest.OneByteReader(hr.Body)) }},
		{name: "series forgotten by the ingester", body: mixed, status: 204, id: "weir-ok", written: &mixedCounts, stored: true,
			prepare: func(t *testing.T, s *setup, v proto.Version) {
				require.Equal(t, 204, s.send(v, mixed(v)).Code)
				s.memory.forgets = 1
			}},
		{name: "tenant named", setup: []func(*setup){headerMode}, body: mixed, status: 204, id: "weir-ok", written: &mixedCounts, stored: true,
			request: func(hr *http.Request, _ proto.Version) { hr.Header.Set("X-Scope-OrgID", "team-a") }},

		{name: "some invalid", body: partly, status: 400, id: "weir-metric-name-missing", written: &partlyCounts, stored: true,
			says: []string{"weir-metric-name-missing: refused 4 samples of this request, stored 4", "weir-exemplar-invalid", "weir-sample-out-of-order"}},
		{name: "some invalid, and known to be", body: partly, status: 400, id: "weir-metric-name-missing", written: &partlyCounts, stored: true,
			says:    []string{"weir-metric-name-missing: refused 4 samples of this request, stored 4", "weir-exemplar-invalid", "weir-sample-out-of-order"},
			prepare: func(t *testing.T, s *setup, v proto.Version) { require.Equal(t, 400, s.send(v, partly(v)).Code) }},
		{name: "some refused by the ingester", body: func(v proto.Version) []byte {
			now := time.Now().UnixMilli()
			return marshal(v, series{labels: pairs("__name__", "down"), floats: []proto.Float{{T: now, V: 1}}},
				series{labels: pairs("__name__", "up"), floats: []proto.Float{{T: now, V: refusedValue}}})
		}, status: 400, id: "weir-sample-out-of-order", written: &proto.Counts{Samples: 1}, stored: true,
			says: []string{"weir-sample-out-of-order: refused 1 samples of this request, stored 1", `{__name__="up"}`, "out_of_order_window is 10m0s"}},
		{name: "all invalid", body: invalid, status: 400, id: "weir-metric-name-missing", written: none, stored: true,
			says: []string{"weir-metric-name-missing: refused 2 samples of this request, stored 0", "weir-label-name-duplicate"}},

		{name: "no tenant", setup: []func(*setup){headerMode}, body: mixed, status: 401, id: "weir-tenant-missing", written: none,
			says: []string{"X-Scope-OrgID"}, headers: map[string]string{"WWW-Authenticate": `Basic realm="weir"`}},
		{name: "bad tenant", setup: []func(*setup){headerMode}, body: mixed, status: 400, id: "weir-tenant-invalid", written: none,
			request: func(hr *http.Request, _ proto.Version) { hr.Header.Set("X-Scope-OrgID", "a/b") }},

		{name: "too large as announced", setup: []func(*setup){func(s *setup) { s.cfg.MaxRequestBytes = 50 }}, body: mixed, status: 413, id: "weir-request-too-large", written: none,
			says: []string{"max_request_bytes is 50", "max_samples_per_send"}},
		{name: "too large, not announced", setup: []func(*setup){func(s *setup) { s.cfg.MaxRequestBytes = 50 }}, body: mixed, status: 413, id: "weir-request-too-large", written: none,
			request: func(hr *http.Request, _ proto.Version) { hr.ContentLength = -1 }, says: []string{"max_request_bytes is 50", "max_samples_per_send"}},
		{name: "too large decoded", setup: []func(*setup){func(s *setup) { s.cfg.MaxDecodedBytes = 50 }}, body: mixed, status: 413, id: "weir-request-too-large", written: none,
			says: []string{"max_decoded_bytes is 50", "max_samples_per_send"}},
		{name: "too large, not compressed", setup: []func(*setup){func(s *setup) { s.cfg.MaxDecodedBytes = 50 }}, body: mixed, status: 413, id: "weir-request-too-large", written: none,
			request: func(hr *http.Request, v proto.Version) { plain(hr, mixed(v)) }, says: []string{"max_decoded_bytes is 50"}},
		{name: "too large as snappy declares it", body: mixed, status: 413, id: "weir-request-too-large", written: none,
			request: func(hr *http.Request, _ proto.Version) {
				setBody(hr, binary.AppendUvarint(nil, math.MaxUint32))
			}, says: []string{"4294967295 bytes decoded", "max_decoded_bytes"}},
		{name: "too large, to vmagent", setup: []func(*setup){func(s *setup) { s.cfg.MaxRequestBytes = 50 }}, body: mixed, status: 400, id: "weir-request-too-large", written: none,
			request: func(hr *http.Request, _ proto.Version) { hr.Header.Set("User-Agent", "vmagent") }, says: []string{"max_request_bytes is 50"}},
		{name: "too many series", setup: []func(*setup){func(s *setup) { s.cfg.MaxSeries = 2 }}, body: mixed, status: 413, id: "weir-too-many-series", written: none,
			says: []string{"more than 2 series", "max_series_per_request", "max_samples_per_send"}},
		{name: "too many series, to vmagent", setup: []func(*setup){func(s *setup) { s.cfg.MaxSeries = 2 }}, body: mixed, status: 400, id: "weir-too-many-series", written: none,
			request: func(hr *http.Request, _ proto.Version) { hr.Header.Set("User-Agent", "vmagent/1.150") }},
		{name: "too many symbols", only: proto.V2, setup: []func(*setup){func(s *setup) { s.cfg.MaxSymbols = 2 }}, body: mixed, status: 413, id: "weir-too-many-symbols", written: none,
			says: []string{"more than 2 symbols", "max_symbols_per_request"}},

		{name: "unsupported encoding", body: mixed, status: 415, id: "weir-media-type-unsupported", written: none,
			request: func(hr *http.Request, _ proto.Version) { hr.Header.Set("Content-Encoding", "br") },
			says:    []string{`Content-Encoding "br"`, "snappy, zstd, identity"},
			headers: map[string]string{
				"Accept": "application/x-protobuf, application/x-protobuf;proto=io.prometheus.write.v2.Request", "Accept-Encoding": "snappy, zstd, identity",
			}},
		{name: "by zstd", body: mixed, status: 204, id: "weir-ok", written: &mixedCounts, stored: true,
			request: func(hr *http.Request, v proto.Version) { byZstd(hr, mixed(v)) }},
		{name: "some invalid, by zstd, to vmagent", body: partly, status: 409, id: "weir-metric-name-missing", written: &partlyCounts, stored: true,
			request: func(hr *http.Request, v proto.Version) {
				byZstd(hr, partly(v))
				hr.Header.Set("User-Agent", "vmagent")
			}},
		{name: "too large, by zstd, to vmagent", setup: []func(*setup){func(s *setup) { s.cfg.MaxDecodedBytes = 50 }}, body: mixed, status: 409, id: "weir-request-too-large", written: none,
			request: func(hr *http.Request, v proto.Version) {
				byZstd(hr, mixed(v))
				hr.Header.Set("User-Agent", "vmagent")
			}, says: []string{"max_decoded_bytes is 50"}},
		{name: "not ready, by zstd, to vmagent", setup: []func(*setup){always(unavailable())}, body: mixed, status: 503, id: "weir-starting", written: none, retry: true,
			request: func(hr *http.Request, v proto.Version) {
				byZstd(hr, mixed(v))
				hr.Header.Set("User-Agent", "vmagent")
			}},
		{name: "not zstd", body: mixed, status: 400, id: "weir-zstd-malformed", written: none,
			request: func(hr *http.Request, _ proto.Version) { hr.Header.Set("Content-Encoding", "zstd") }},
		{name: "zstd cut", body: mixed, status: 400, id: "weir-zstd-malformed", written: none,
			request: func(hr *http.Request, v proto.Version) {
				b := byZstd(hr, mixed(v))
				setBody(hr, b[:len(b)-3])
			}},
		{name: "no body at all, by zstd", body: mixed, status: 400, id: "weir-zstd-malformed", written: none,
			request: func(hr *http.Request, _ proto.Version) {
				hr.Header.Set("Content-Encoding", "zstd")
				setBody(hr, nil)
			}},
		{name: "two encodings named", body: mixed, status: 400, id: "weir-header-repeated", written: none,
			request: func(hr *http.Request, _ proto.Version) { hr.Header.Add("Content-Encoding", "zstd") },
			says:    []string{"2 Content-Encoding headers", `"snappy" and "zstd"`}},
		{name: "two types named", body: mixed, status: 400, id: "weir-header-repeated", written: none, only: proto.V1,
			request: func(hr *http.Request, _ proto.Version) { hr.Header.Add("Content-Type", contentType(proto.V2)) },
			says:    []string{"2 Content-Type headers"}},
		{name: "two tenants named", setup: []func(*setup){headerMode}, body: mixed, status: 400, id: "weir-tenant-invalid", written: none,
			request: func(hr *http.Request, _ proto.Version) {
				hr.Header.Add("X-Scope-OrgID", "team-a")
				hr.Header.Add("X-Scope-OrgID", "team-b")
			}, says: []string{"X-Scope-OrgID"}},

		{name: "not snappy", body: mixed, status: 400, id: "weir-snappy-malformed", written: none,
			request: func(hr *http.Request, v proto.Version) { setBody(hr, mixed(v)) }},
		{name: "framed snappy", body: mixed, status: 400, id: "weir-snappy-malformed", written: none,
			request: func(hr *http.Request, v proto.Version) {
				var b bytes.Buffer
				w := s2.NewWriter(&b, s2.WriterSnappyCompat())
				_, err := w.Write(mixed(v))
				require.NoError(t, errors.Join(err, w.Close()))
				setBody(hr, b.Bytes())
			}},
		{name: "snappy cut", body: mixed, status: 400, id: "weir-snappy-malformed", written: none,
			request: func(hr *http.Request, v proto.Version) {
				b := s2.EncodeSnappy(nil, mixed(v))
				setBody(hr, b[:len(b)-3])
			}},
		{name: "no body at all", body: mixed, status: 400, id: "weir-snappy-malformed", written: none,
			request: func(hr *http.Request, _ proto.Version) { setBody(hr, nil) }},
		{name: "deadline passed before anything was stored", setup: []func(*setup){func(s *setup) { s.cfg.Timeout = 1 }}, body: mixed, status: 503, id: "weir-timeout", written: none, retry: true},
		{name: "body ends early", body: mixed, status: 503, id: "weir-body-incomplete", written: none, retry: true,
			request: func(hr *http.Request, _ proto.Version) {
				hr.Body = io.NopCloser(io.MultiReader(io.LimitReader(hr.Body, 10), iotest.ErrReader(io.ErrUnexpectedEOF)))
			}},
		{name: "not protocol buffers", body: func(proto.Version) []byte { return []byte("not protocol buffers") }, status: 400, id: "weir-request-malformed", written: none},
		{name: "malformed behind valid series", body: func(v proto.Version) []byte { return append(mixed(v), 0x0a, 0x7f) }, status: 400, id: "weir-request-malformed", written: none},
		{name: "malformed sample behind valid ones", body: func(v proto.Version) []byte {
			return append(mixed(v), malformedSample(v)...)
		}, status: 400, id: "weir-request-malformed", written: none},
		{name: "metadata malformed", only: proto.V1, body: func(v proto.Version) []byte { return append(mixed(v), 0x1a, 2, 0x08, 0x80) }, status: 400, id: "weir-request-malformed", written: none},
		{name: "first symbol not empty", only: proto.V2, body: func(proto.Version) []byte { return []byte{0x22, 1, 'a'} }, status: 400, id: "weir-request-malformed", written: none,
			says: []string{"first symbol"}},

		{name: "ingester not ready", setup: []func(*setup){always(unavailable())}, body: mixed, status: 503, id: "weir-starting", written: none, retry: true},
		{name: "ingester not ready, some invalid", setup: []func(*setup){always(unavailable())}, body: partly, status: 503, id: "weir-starting", written: none, retry: true},
		{name: "ingester fails when it is taught", setup: []func(*setup){failSecond(unavailable())}, body: mixed, status: 503, id: "weir-starting", written: none, retry: true, stored: true,
			prepare: func(t *testing.T, s *setup, v proto.Version) {
				require.Equal(t, 204, s.send(v, mixed(v)).Code)
				s.memory.forgets = 0.5
			}},
		{name: "limit", setup: []func(*setup){always(tooMany)}, body: mixed, status: 429, id: "weir-too-many-tenants", written: none, retry: true,
			says: []string{"max_tenants is 10"}},
		{name: "conflict", setup: []func(*setup){always(proto.Errorf(proto.KindConflict, "weir-x", "x"))}, body: mixed, status: 400, id: "weir-x", written: none},
		{name: "not found", setup: []func(*setup){always(proto.Errorf(proto.KindNotFound, "weir-x", "x"))}, body: mixed, status: 404, id: "weir-x", written: none},
		{name: "internal", setup: []func(*setup){always(errors.New("open /data/team-a: secret"))}, body: mixed, status: 500, id: "weir-internal", written: none,
			silent: []string{"/data", "secret"}},
		{name: "ingester does not learn", setup: []func(*setup){func(s *setup) { s.ing = ignorant{} }}, body: mixed, status: 500, id: "weir-internal", written: none},
		{name: "wrapped", setup: []func(*setup){always(errors.Join(errors.New("context"), unavailable()))}, body: mixed, status: 503, id: "weir-starting", written: none, retry: true,
			silent: []string{"context"}},
	} {
		for _, v := range versions {
			if c.only != 0 && c.only != v {
				continue
			}
			t.Run("version="+v.String()+"/"+c.name, func(t *testing.T) {
				s := newSetup(t, c.setup...)
				if c.prepare != nil {
					c.prepare(t, s, v)
				}
				before := s.counters(t, "weir_receiver_requests_total")[v.String()+" "+c.id]
				hr, recorded := record(newRequest(v, c.body(v)))
				if c.request != nil {
					c.request(hr, v)
				}
				w := s.serve(hr)
				body := w.Body.String()
				require.Equal(t, c.status, w.Code, body)

				got, told := written(t, w.Header())
				if v == proto.V2 || c.status/100 == 4 && c.stored {
					require.True(t, told, "the headers are missing")
					require.Equal(t, *c.written, got)
				} else {
					require.False(t, told, "a 1.0 sender takes silence on success for everything, on failure for nothing")
				}
				require.Equal(t, c.stored, recorded.writes > 0, "a frame reached the ingester")

				if c.status == http.StatusNoContent {
					require.Empty(t, body)
				} else {
					require.True(t, strings.HasPrefix(body, c.id+": "), body)
					require.Less(t, len(body), 1024)
					require.True(t, utf8.ValidString(body))
					require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
				}
				for _, x := range c.says {
					require.Contains(t, body, x)
				}
				for _, x := range c.silent {
					require.NotContains(t, body, x)
					if c.status == http.StatusInternalServerError {
						require.Contains(t, s.log.String(), x, "the log has the details")
					}
				}
				for k, x := range c.headers {
					require.Equal(t, x, w.Header().Get(k))
				}
				if c.retry {
					require.Regexp(t, `^([1-9]|1[0-5])$`, w.Header().Get("Retry-After"))
				} else {
					require.NotContains(t, w.Header(), "Retry-After")
				}
				require.Equal(t, before+1, s.counters(t, "weir_receiver_requests_total")[v.String()+" "+c.id])
			})
		}
	}
}

// postponing is an ingester on a nearly full disk: it takes all but the last
// series of a frame, and knows the first one by its labels only.
type postponing struct{ calls *int }

func (p postponing) Write(_ context.Context, _ string, f *proto.Frame, reply *proto.Reply) error {
	*p.calls++
	for i := range f.Series {
		switch {
		case i == 0 && *p.calls == 1:
			reply.Unknown = []uint32{0}
		case i == len(f.Series)-1 && *p.calls == 1:
			reply.Postponed.Add(proto.Counts{Samples: 1})
			reply.Cause = proto.Errorf(proto.KindLimit, "weir-disk-low", "no new series are taken")
		default:
			reply.Written.Add(proto.Counts{Samples: 1})
		}
	}
	return nil
}

// A part of the request is to be sent again: 429, with the rest stored, those
// series included whose labels the ingester had to ask for.
func TestPostponed(t *testing.T) {
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			calls := 0
			s := newSetup(t, func(s *setup) { s.ing = postponing{&calls} })
			var ten []series
			for i := range 10 {
				ten = append(ten, series{labels: pairs("__name__", "m", "i", fmt.Sprint(i)), floats: []proto.Float{{T: time.Now().UnixMilli()}}})
			}
			for _, written := range []string{"9", "10"} { // now, and when there is space
				w := s.send(v, marshal(v, ten...))
				if written == "10" {
					require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
					continue
				}
				require.Equal(t, http.StatusTooManyRequests, w.Code)
				require.Equal(t, 2, calls)
				require.Contains(t, w.Body.String(), "weir-disk-low")
				require.Equal(t, written, w.Header().Get(headerSamples))
				require.NotEmpty(t, w.Header().Get("Retry-After"))
				require.Equal(t, 1, s.counters(t, "weir_receiver_requests_total")[v.String()+" weir-disk-low"])
			}
			require.Equal(t, 10, s.counters(t, "weir_receiver_admissions_total")[""], "the tenant's verdicts are kept")
		})
	}
}

// ignorant is an ingester that never learns a series.
type ignorant struct{}

func (ignorant) Write(_ context.Context, _ string, f *proto.Frame, reply *proto.Reply) error {
	for i := range f.Series {
		reply.Unknown = append(reply.Unknown, uint32(i))
	}
	return nil
}

func plain(hr *http.Request, message []byte) {
	hr.Header.Set("Content-Encoding", "identity")
	setBody(hr, message)
}

func setBody(hr *http.Request, body []byte) {
	hr.Body, hr.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
}

// malformedSample is a valid series whose sample has a value that is a varint.
func malformedSample(v proto.Version) []byte {
	if v == proto.V2 {
		return []byte{0x2a, 8, 0x0a, 2, 1, 2, 0x12, 2, 0x08, 1}
	}
	return append([]byte{0x0a, 20, 0x0a, 14, 0x0a, 8}, "__name__\x12\x02up\x12\x02\x08\x01"...)
}

// TestContentTypes tells the versions apart by Content-Type only.
func TestContentTypes(t *testing.T) {
	const v1, v2, refused = "0.1.0", "2.0.0", ""
	for _, c := range []struct {
		name        string
		types       []string // of the header; none: missing
		want        string
		strict      string // what it is with require_content_type
		looksLikeV2 bool   // the other headers and the body
	}{
		{name: "1.0", types: []string{"application/x-protobuf"}, want: v1, strict: v1},
		{name: "1.0, named", types: []string{"application/x-protobuf;proto=prometheus.WriteRequest"}, want: v1, strict: v1},
		{name: "1.0, whatever else is said", types: []string{"application/x-protobuf; charset=utf-8"}, want: v1, strict: v1},
		{name: "1.0, though the version header says 2.0", types: []string{"application/x-protobuf"}, want: v1, strict: v1, looksLikeV2: true},
		{name: "2.0", types: []string{"application/x-protobuf;proto=io.prometheus.write.v2.Request"}, want: v2, strict: v2},
		{name: "2.0, with a blank", types: []string{"application/x-protobuf; proto=io.prometheus.write.v2.Request"}, want: v2, strict: v2},
		{name: "2.0, quoted", types: []string{`application/x-protobuf;proto="io.prometheus.write.v2.Request"`}, want: v2, strict: v2},
		{name: "2.0, in capitals", types: []string{"Application/X-Protobuf; Proto=io.prometheus.write.v2.Request"}, want: v2, strict: v2},
		{name: "2.0, other parameters", types: []string{"application/x-protobuf; a=b; proto=io.prometheus.write.v2.Request; charset=utf-8"}, want: v2, strict: v2},
		{name: "missing", want: v1, strict: refused},
		{name: "empty", types: []string{""}, want: v1, strict: refused},
		{name: "another message", types: []string{"application/x-protobuf;proto=io.prometheus.write.v3.Request"}, want: refused, strict: refused},
		{name: "message in capitals", types: []string{"application/x-protobuf;proto=IO.Prometheus.Write.V2.Request"}, want: refused, strict: refused},
		{name: "no message", types: []string{"application/x-protobuf;proto="}, want: refused, strict: refused},
		{name: "another type", types: []string{"application/json"}, want: refused, strict: refused},
		{name: "another type with the message", types: []string{"application/json;proto=io.prometheus.write.v2.Request"}, want: refused, strict: refused},
		{name: "text", types: []string{"text/plain; version=0.0.4"}, want: refused, strict: refused},
		{name: "not a type", types: []string{"x-protobuf;;;"}, want: refused, strict: refused},
		{name: "the parameter twice", types: []string{"application/x-protobuf;proto=prometheus.WriteRequest;proto=io.prometheus.write.v2.Request"}, want: refused, strict: refused},
		{name: "long and not UTF-8", types: []string{strings.Repeat("\xff", 2000)}, want: refused, strict: refused},
	} {
		for mode, want := range map[string]string{"lenient": c.want, "strict": c.strict} {
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				s := newSetup(t, func(s *setup) { s.cfg.RequireContentType = mode == "strict" })
				v := proto.V1
				if want == v2 || c.looksLikeV2 {
					v = proto.V2
				}
				hr, recorded := record(newRequest(v, mixed(v)))
				hr.Header.Del("Content-Type")
				for _, x := range c.types {
					hr.Header.Add("Content-Type", x)
				}
				w := s.serve(hr)
				if want == refused {
					require.Equal(t, http.StatusUnsupportedMediaType, w.Code)
					require.Zero(t, recorded.writes)
					require.Contains(t, w.Body.String(), "weir-media-type-unsupported: Content-Type ")
					require.Contains(t, w.Body.String(), "application/x-protobuf;proto=io.prometheus.write.v2.Request")
					require.Less(t, w.Body.Len(), 1024)
					require.True(t, utf8.ValidString(w.Body.String()))
					require.NotEmpty(t, w.Header().Get("Accept"))
					require.NotEmpty(t, w.Header().Get("Accept-Encoding"))
					return
				}
				require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
				if c.looksLikeV2 {
					require.Empty(t, recorded.stored(), "one version is never read as the other")
					return
				}
				require.Len(t, recorded.stored(), mixedCounts.Total())
				_, told := written(t, w.Header())
				require.Equal(t, want == v2, told)
			})
		}
	}
}

func TestContentEncodings(t *testing.T) {
	for _, v := range versions {
		for _, c := range []struct {
			encoding string
			ok       bool
		}{
			{"snappy", true}, {"", true}, {"Snappy", true}, {"SNAPPY", true},
			{"gzip", false}, {"deflate", false}, {"snappy, gzip", false}, {"snappy, snappy", false}, {"x-snappy-framed", false}, {"snappy ", false},
		} {
			t.Run("version="+v.String()+"/encoding="+c.encoding, func(t *testing.T) {
				hr := newRequest(v, mixed(v))
				hr.Header.Set("Content-Encoding", c.encoding)
				w := newSetup(t).serve(hr)
				_, told := written(t, w.Header())
				require.Equal(t, v == proto.V2, told)
				if c.ok {
					require.Equal(t, http.StatusNoContent, w.Code)
				} else {
					require.Equal(t, http.StatusUnsupportedMediaType, w.Code)
				}
			})
		}
	}
}

// TestBombs sends little that would become much: memory is not taken for it.
func TestBombs(t *testing.T) {
	long := strings.Repeat("a", 64<<10)
	small := func(s *setup) { s.cfg.MaxDecodedBytes = 1 << 20 }
	for _, c := range []struct {
		name    string
		setup   []func(*setup)
		request func() *http.Request
		status  int
		id      string
		below   uint64 // bytes allocated
	}{
		{name: "declared length above the limit", status: 413, id: "weir-request-too-large", below: 1 << 20, request: func() *http.Request {
			hr := newRequest(proto.V1, nil)
			setBody(hr, append(binary.AppendUvarint(nil, 4<<30-1), 0))
			return hr
		}},
		{name: "declared length below the limit, and far above what the body can be", status: 400, id: "weir-snappy-malformed", below: 1 << 20, request: func() *http.Request {
			hr := newRequest(proto.V1, nil)
			setBody(hr, append(binary.AppendUvarint(nil, 30<<20), 0))
			return hr
		}},
		{name: "zstd, declared length above the limit", status: 413, id: "weir-request-too-large", below: 1 << 20, request: func() *http.Request {
			hr := newRequest(proto.V1, nil)
			hr.Header.Set("Content-Encoding", "zstd")
			setBody(hr, append(zstdHeader(1<<40), 1, 0, 0))
			return hr
		}},
		{name: "zstd, declared length below the limit, and far above what the body can be", status: 400, id: "weir-zstd-malformed", below: 1 << 20, request: func() *http.Request {
			hr := newRequest(proto.V1, nil)
			hr.Header.Set("Content-Encoding", "zstd")
			setBody(hr, append(zstdHeader(30<<20), 1, 0, 0))
			return hr
		}},
		{name: "zstd, much of little", setup: []func(*setup){small}, status: 413, id: "weir-request-too-large", below: 8 << 20, request: func() *http.Request {
			hr := newRequest(proto.V1, nil)
			byZstd(hr, make([]byte, 100<<20))
			return hr
		}},
		{name: "zstd, much of little, the length is not declared", setup: []func(*setup){small}, status: 413, id: "weir-request-too-large", below: 8 << 20, request: func() *http.Request {
			hr := newRequest(proto.V1, nil)
			hr.Header.Set("Content-Encoding", "zstd")
			setBody(hr, zstdStream(make([]byte, 100<<20)))
			return hr
		}},
		{name: "content length above the limit", status: 413, id: "weir-request-too-large", below: 1 << 20, request: func() *http.Request {
			hr := newRequest(proto.V1, nil)
			hr.ContentLength = 1 << 40
			return hr
		}},
		{name: "content length below the limit, no body", status: 400, id: "weir-snappy-malformed", below: 3 << 20, request: func() *http.Request {
			hr := newRequest(proto.V1, nil)
			setBody(hr, nil)
			hr.ContentLength = 16 << 20
			return hr
		}},
		// The symbol of 64 KiB is referred to 2,000 times: written out, that is 128
		// MiB, and ten thousand times as much in a request as large as allowed.
		{name: "refused series with a long symbol many times", status: 400, id: "weir-labels-too-many", below: 8 << 20, request: func() *http.Request {
			var ls []string
			for range 1000 {
				ls = append(ls, long, long)
			}
			return newRequest(proto.V2, marshal(proto.V2, series{labels: pairs(ls...), floats: []proto.Float{{V: 1}}}))
		}},
		{name: "exemplar with a long symbol many times", status: 400, id: "weir-exemplar-invalid", below: 8 << 20, request: func() *http.Request {
			var ls []string
			for i := range 1000 {
				ls = append(ls, strings.Repeat("b", i+1), long)
			}
			return newRequest(proto.V2, marshal(proto.V2, series{labels: pairs("__name__", "up"), exemplars: []exemplarToSend{{labels: pairs(ls...)}}}))
		}},
		{name: "series with a million labels", status: 400, id: "weir-labels-too-many", below: 8 << 20, request: func() *http.Request {
			refs := bytes.Repeat([]byte{1}, 2_000_000)
			one := append(binary.AppendUvarint([]byte{0x0a}, uint64(len(refs))), refs...)
			return newRequest(proto.V2, append(binary.AppendUvarint([]byte{0x22, 0, 0x22, 1, 'a', 0x2a}, uint64(len(one))), one...))
		}},
		// 200 series of 60 labels that all have one value of 4 KiB: 48 MiB.
		{name: "valid series with a long symbol many times", setup: []func(*setup){small}, status: 413, id: "weir-request-too-large", below: 12 << 20, request: func() *http.Request {
			var all []series
			for i := range 200 {
				ls := pairs("__name__", "up", "i", fmt.Sprint(i))
				for n := range 60 {
					ls = append(ls, pairs(fmt.Sprintf("l%d", n), long[:4096])...)
				}
				all = append(all, series{labels: ls})
			}
			return newRequest(proto.V2, marshal(proto.V2, all...))
		}},
		{name: "metadata of five bytes", status: 413, id: "weir-too-many-samples", below: 64 << 20, request: func() *http.Request {
			return newRequest(proto.V1, bytes.Repeat([]byte{0x1a, 3, 0x12, 1, 'a'}, 1_000_001))
		}},
		{name: "histograms of two bytes", status: 413, id: "weir-too-many-samples", below: 16 << 20, request: func() *http.Request {
			one := append([]byte("\x0a\x0e\x0a\x08__name__\x12\x02up"), bytes.Repeat([]byte{0x22, 0}, 1_000_001)...)
			return newRequest(proto.V1, append(binary.AppendUvarint([]byte{0x0a}, uint64(len(one))), one...))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSetup(t, c.setup...)
			hr := c.request()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			w := s.serve(hr)
			runtime.ReadMemStats(&after)
			require.Equal(t, c.status, w.Code, w.Body.String())
			require.True(t, strings.HasPrefix(w.Body.String(), c.id+": "), w.Body.String())
			require.Less(t, after.TotalAlloc-before.TotalAlloc, c.below)
		})
	}
}

// TestWork sends what few bytes can make much work of: the time for it grows
// with the request, not with its square.
func TestWork(t *testing.T) {
	now := time.Now().UnixMilli()
	long := strings.Repeat("a", 16<<20)
	// many makes 20,000 series of one, which differ in the label "i".
	many := func(one series) []byte {
		one.labels, one.floats = append(pairs("__name__", "up", "i", "x"), one.labels...), []proto.Float{{T: now}}
		m := requestV2([]series{one})
		first := m.Timeseries[0]
		for i := range 20_000 {
			next := first
			next.LabelsRefs = slices.Clone(first.LabelsRefs)
			next.LabelsRefs[3] = uint32(len(m.Symbols))
			m.Symbols = append(m.Symbols, fmt.Sprint(i))
			m.Timeseries = append(m.Timeseries, next)
		}
		b, err := m.Marshal()
		require.NoError(t, err)
		return b
	}
	exemplars := make([]exemplarToSend, 100_000)
	for i := range exemplars {
		exemplars[i].t = now + time.Hour.Milliseconds()
	}
	for _, c := range []struct {
		name    string
		message []byte
		status  int
	}{
		{name: "a long help text of many series", message: many(series{help: long}), status: http.StatusNoContent},
		{name: "a long label value of many series", message: many(series{labels: pairs("l", long)}), status: http.StatusBadRequest},
		{name: "many exemplars of the future", message: marshal(proto.V2, series{labels: pairs("__name__", "up"), exemplars: exemplars}), status: http.StatusBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSetup(t)
			hr := newRequest(proto.V2, c.message)
			start := time.Now()
			w := s.serve(hr)
			took := time.Since(start)
			require.Equal(t, c.status, w.Code, w.Body.String())
			require.Less(t, took, 5*time.Second)
		})
	}
}

// TestLongLabels refuses strings longer than Prometheus can keep in labels at
// all, 16 MiB, without falling over them.
func TestLongLabels(t *testing.T) {
	long := strings.Repeat("a", 17<<20)
	for _, v := range versions {
		for _, c := range []struct {
			name string
			s    series
			id   string
		}{
			{name: "value", s: series{labels: pairs("__name__", "up", "a", long), floats: []proto.Float{{V: 1}}}, id: "weir-label-value-too-long"},
			{name: "name", s: series{labels: pairs("__name__", "up", long, "a"), floats: []proto.Float{{V: 1}}}, id: "weir-label-name-too-long"},
			{name: "exemplar", s: series{labels: pairs("__name__", "up"), exemplars: []exemplarToSend{{labels: pairs("a", long)}}}, id: "weir-exemplar-invalid"},
		} {
			t.Run("version="+v.String()+"/"+c.name, func(t *testing.T) {
				w := newSetup(t).send(v, marshal(v, c.s))
				require.Equal(t, http.StatusBadRequest, w.Code)
				require.True(t, strings.HasPrefix(w.Body.String(), c.id+": "), w.Body.String())
				require.Less(t, w.Body.Len(), 1024)
			})
		}
	}
}

// TestDeadline: when our deadline passes, the sender shall come back.
func TestDeadline(t *testing.T) {
	for _, v := range versions {
		t.Run("version="+v.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSetup(t, func(s *setup) { s.ing = waiting{} })
				start := time.Now()
				w := s.send(v, mixed(v))
				require.Equal(t, s.cfg.Timeout, time.Since(start))
				require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body.String())
				require.Regexp(t, `^[1-5]$`, w.Header().Get("Retry-After"))
				got, told := written(t, w.Header())
				require.Equal(t, v == proto.V2, told)
				require.Zero(t, got.Total())
			})
		})
	}
}

// TestClientGone: a sender that hangs up is not an error of ours.
func TestClientGone(t *testing.T) {
	for _, v := range versions {
		t.Run("version="+v.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSetup(t, func(s *setup) { s.ing = waiting{} })
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				s.serve(newRequest(v, mixed(v)).WithContext(ctx))
				require.NotContains(t, s.log.String(), "level=ERROR")
				require.NotContains(t, s.counters(t, "weir_receiver_requests_total"), v.String()+" weir-internal")
			})
		})
	}
}

// waiting is an ingester that does not answer.
type waiting struct{}

func (waiting) Write(ctx context.Context, _ string, _ *proto.Frame, _ *proto.Reply) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestTimeBounds: the bounds belong to what is allowed.
func TestTimeBounds(t *testing.T) {
	const future, past = 10 * time.Minute, time.Hour
	for _, v := range versions {
		for _, c := range []struct {
			name   string
			offset time.Duration // from our clock
			past   time.Duration
			want   string // reason, or nothing
		}{
			{name: "now", past: past},
			{name: "as far ahead as allowed", offset: future, past: past},
			{name: "too far ahead", offset: future + time.Millisecond, past: past, want: "weir-sample-too-far-in-future"},
			{name: "as far behind as allowed", offset: -past, past: past},
			{name: "too far behind", offset: -past - time.Millisecond, past: past, want: "weir-sample-too-old"},
			{name: "no bound behind", offset: -20 * 365 * 24 * time.Hour},
			{name: "too far ahead, no bound behind", offset: future + time.Millisecond, want: "weir-sample-too-far-in-future"},
		} {
			t.Run("version="+v.String()+"/"+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lim := tenant.DefaultLimits()
					lim.FutureGrace, lim.PastGrace = future, c.past
					s := newSetup(t, func(s *setup) { s.limits = func(string) *tenant.Limits { return &lim } })
					at := time.Now().Add(c.offset).UnixMilli()
					good := time.Now().UnixMilli()
					hr, recorded := record(newRequest(v, marshal(v, series{
						labels:     pairs("__name__", "up"),
						floats:     []proto.Float{{T: good, V: 1}, {T: at, V: 2}, {T: good, V: 3}},
						histograms: []proto.Histogram{{T: good, H: oneBucket()}, {T: at, H: oneBucket()}, {T: at, FH: oneBucket().ToFloat(nil)}, {T: good, H: oneBucket()}},
						exemplars:  []exemplarToSend{{v: 1, t: good}, {v: 2, t: at}, {v: 3, t: good}},
					}, series{labels: pairs("__name__", "down"), floats: []proto.Float{{T: good, V: 4}}})))
					w := s.serve(hr)
					discarded := s.counters(t, "weir_receiver_discarded_samples_total")
					stored := proto.Counts{}
					for _, x := range recorded.series {
						stored.Add(proto.Counts{Samples: len(x.floats), Histograms: len(x.histograms), Exemplars: len(x.exemplars)})
					}
					want, refused := proto.Counts{Samples: 4, Histograms: 4, Exemplars: 3}, map[string]int{}
					switch c.want {
					case "weir-sample-too-far-in-future":
						want = proto.Counts{Samples: 3, Histograms: 2, Exemplars: 2}
						refused = map[string]int{"weir-sample-too-far-in-future float": 1, "weir-sample-too-far-in-future histogram": 2, "weir-sample-too-far-in-future exemplar": 1}
					case "weir-sample-too-old": // the store bounds exemplars itself
						want = proto.Counts{Samples: 3, Histograms: 2, Exemplars: 3}
						refused = map[string]int{"weir-sample-too-old float": 1, "weir-sample-too-old histogram": 2}
					}
					require.Equal(t, want, stored)
					require.Equal(t, refused, discarded)
					if c.want == "" {
						require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
					} else {
						require.Equal(t, http.StatusBadRequest, w.Code)
						require.True(t, strings.HasPrefix(w.Body.String(), c.want+": "), w.Body.String())
					}
				})
			})
		}
	}
}

// TestKinds: every kind of error has a status, and the transient ones are those
// that senders repeat.
func TestKinds(t *testing.T) {
	for kind := proto.KindInternal; kind <= proto.KindNotFound; kind++ {
		s := newSetup(t, always(proto.Errorf(kind, "weir-x", "x")))
		w := s.send(proto.V2, mixed(proto.V2))
		require.GreaterOrEqual(t, w.Code, 400, "kind %d", kind)
		repeated := w.Code >= 500 || w.Code == http.StatusTooManyRequests
		transient := kind == proto.KindUnavailable || kind == proto.KindLimit
		require.Equal(t, transient || kind == proto.KindInternal, repeated, "kind %d", kind)
		require.Equal(t, transient, w.Header().Get("Retry-After") != "", "kind %d", kind)
	}
}

// TestRetryAfterIsSpread: senders that were refused together do not come back
// together.
func TestRetryAfterIsSpread(t *testing.T) {
	s := newSetup(t, always(unavailable()))
	seen := map[string]bool{}
	for range 200 {
		seen[s.send(proto.V1, nil).Header().Get("Retry-After")] = true
	}
	require.Greater(t, len(seen), 2)
}

func TestDefaultConfigIsValid(t *testing.T) {
	cfg := receiver.DefaultConfig()
	require.Empty(t, cfg.Validate("receiver"))
	require.Less(t, cfg.Timeout, 30*time.Second, "Prometheus gives up after 30 s")
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*receiver.Config)
		want   []string
	}{
		{name: "nothing set", change: func(c *receiver.Config) { *c = receiver.Config{} }, want: []string{
			"receiver.max_request_bytes: 0: must be at least 1",
			"receiver.max_decoded_bytes: 0: must be at least 1",
			"receiver.max_series_per_request: 0: must be at least 1",
			"receiver.max_samples_per_request: 0: must be at least 1",
			"receiver.max_symbols_per_request: 0: must be at least 1",
			"receiver.admission_entries_per_tenant: 0: must be at least 1",
			"receiver.timeout: 0s: must be above 0 and at most 30s, the remote_timeout of Prometheus",
		}},
		{name: "largest decoded size", change: func(c *receiver.Config) { c.MaxDecodedBytes = 1 << 30 }},
		{name: "decoded size too large", change: func(c *receiver.Config) { c.MaxDecodedBytes = 1<<30 + 1 },
			want: []string{"receiver.max_decoded_bytes: 1073741825: must be at most 1073741824"}},
		{name: "longest timeout", change: func(c *receiver.Config) { c.Timeout = 30 * time.Second }},
		{name: "timeout too long", change: func(c *receiver.Config) { c.Timeout = 31 * time.Second },
			want: []string{"receiver.timeout: 31s: must be above 0 and at most 30s, the remote_timeout of Prometheus"}},
		{name: "negative timeout", change: func(c *receiver.Config) { c.Timeout = -time.Second },
			want: []string{"receiver.timeout: -1s: must be above 0 and at most 30s, the remote_timeout of Prometheus"}},
		{name: "smallest numbers", change: func(c *receiver.Config) {
			c.MaxRequestBytes, c.MaxDecodedBytes, c.MaxSeries, c.MaxSamples, c.MaxSymbols, c.AdmissionEntries = 1, 1, 1, 1, 1, 1
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := receiver.DefaultConfig()
			c.change(&cfg)
			var got []string
			for _, err := range cfg.Validate("receiver") {
				got = append(got, err.Error())
			}
			require.Equal(t, c.want, got)
		})
	}
}
