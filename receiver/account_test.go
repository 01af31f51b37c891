package receiver_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
	"github.com/weir-metrics/weir/tracing"
)

// TestLedgerOfRefusals: the ledger says what the answer said, by metric.
func TestLedgerOfRefusals(t *testing.T) {
	for _, v := range versions {
		t.Run("version="+v.String(), func(t *testing.T) {
			s := newSetup(t)
			hr := newRequest(v, partly(v))
			hr.RemoteAddr = "10.1.2.3:4567"
			hr = hr.WithContext(tracing.WithID(hr.Context(), "r-1"))
			require.Equal(t, http.StatusBadRequest, s.serve(hr).Code)

			got := map[string]ledger.Refusal{}
			for _, r := range s.ledger.Refusals(tenant.Anonymous) {
				require.Equal(t, ledger.Sender{UserAgent: "Prometheus/3.15.0", Address: "10.1.2.3", Protocol: v.String()}, r.Sender)
				require.Equal(t, 1, r.Requests)
				require.Equal(t, "r-1", r.Example.RequestID)
				got[r.Reason+" "+r.Metric] = r
			}
			require.Len(t, got, 3)
			nameless := got["weir-metric-name-missing "]
			require.Equal(t, proto.Counts{Samples: 1, Histograms: 1}, nameless.Counts)
			require.Equal(t, []ledger.Label{{Name: "job", Value: "a"}}, nameless.Example.Labels)
			require.Equal(t, "the label __name__ is missing or empty", nameless.Example.Detail)
			late := got["weir-sample-out-of-order up"]
			require.Equal(t, proto.Counts{Samples: 1}, late.Counts)
			require.NotZero(t, late.Example.Timestamp)
			require.Contains(t, late.Example.Detail, "out_of_order_window is 10m0s")
			require.Equal(t, proto.Counts{Exemplars: 1}, got["weir-exemplar-invalid latency"].Counts)
		})
	}
}

// TestLedgerBehindAProxy: senders are told apart past proxies that are trusted.
func TestLedgerBehindAProxy(t *testing.T) {
	s := newSetup(t)
	s.Tenants.WithAuth(tenant.Auth{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	for _, peer := range []string{"198.51.100.1:1", "192.0.2.9:1"} {
		for _, client := range []string{"10.0.0.1", "10.0.0.2"} {
			hr := newRequest(proto.V1, marshal(proto.V1))
			hr.RemoteAddr = peer
			hr.Header.Set("X-Forwarded-For", client)
			require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
		}
	}
	var addresses []string
	for _, sender := range s.ledger.Senders(tenant.Anonymous) {
		addresses = append(addresses, sender.Address)
	}
	require.ElementsMatch(t, []string{"10.0.0.1", "10.0.0.2", "192.0.2.9"}, addresses)
}

// TestMetadataBeyondTheLimit: it is refused and counted by itself, by family, and a
// series that brings it again is not refused again.
func TestMetadataBeyondTheLimit(t *testing.T) {
	for _, v := range versions {
		t.Run("version="+v.String(), func(t *testing.T) {
			s := newSetup(t)
			s.memory.unkept = "up"
			one := func(name string) series {
				return series{labels: pairs("__name__", name), floats: []proto.Float{{T: time.Now().UnixMilli()}}, help: "Help."}
			}
			said := []prompb.MetricMetadata{{MetricFamilyName: "up", Help: "Help."}, {MetricFamilyName: "down", Help: "Help."}}
			message := marshalWith(v, said, one("up"), one("down"))
			w := s.send(v, message)
			require.Equal(t, http.StatusBadRequest, w.Code)
			require.Contains(t, w.Body.String(), `weir-metadata-limit: refused 1 samples of this request, stored 3. the metric family "up" is new, and metadata of as many is kept as max_metadata_entries allows, 100000`)
			counts, _ := written(t, w.Header())
			require.Equal(t, proto.Counts{Samples: 2}, counts)
			require.Equal(t, map[string]int{"float": 2, "metadata": 2}, s.counters(t, "weir_receiver_received_samples_total"))
			require.Equal(t, map[string]int{"float": 2, "metadata": 1}, s.counters(t, "weir_receiver_written_samples_total"))
			require.Equal(t, map[string]int{"weir-metadata-limit metadata": 1}, s.counters(t, "weir_receiver_discarded_samples_total"))
			refusals := s.ledger.Refusals(tenant.Anonymous)
			require.Len(t, refusals, 1)
			require.Equal(t, "weir-metadata-limit", refusals[0].Reason)
			require.Equal(t, "up", refusals[0].Metric)
			require.Equal(t, proto.Counts{Metadata: 1}, refusals[0].Counts)
			if v == proto.V2 {
				require.Equal(t, http.StatusNoContent, s.send(v, message).Code, "once for each series")
			}
		})
	}
}

// TestLedgerOfSenders: who sends, how, how late, and how often again.
func TestLedgerOfSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		message := marshal(proto.V2,
			series{labels: pairs("__name__", "up"), floats: []proto.Float{{T: time.Now().Add(-time.Minute).UnixMilli()}}},
			series{labels: pairs("__name__", "down"), floats: []proto.Float{{T: time.Now().Add(-time.Hour).UnixMilli()}}},
			series{labels: pairs("__name__", "latency"), histograms: []proto.Histogram{{T: time.Now().Add(-2 * time.Hour).UnixMilli(), H: oneBucket()}}})
		hr := newRequest(proto.V2, message)
		hr.Header.Set("Retry-Attempt", "3")
		require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
		s.memory.fail = func(int) error { return unavailable() }
		require.Equal(t, http.StatusServiceUnavailable, s.send(proto.V2, message).Code)

		senders := s.ledger.Senders(tenant.Anonymous)
		require.Len(t, senders, 1)
		got := senders[0]
		require.Equal(t, "snappy", got.Encoding)
		require.Equal(t, time.Minute, got.Lag())
		require.Equal(t, []int{2, 1, 3, 0, 1}, []int{got.Requests, got.Retries, got.Written, got.Refused, got.Failed})
		require.Equal(t, "weir-starting", got.LastError.ID)
	})
}

// TestLedgerOfClocks: a clock that is ahead shows although nothing was stored.
func TestLedgerOfClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		future := time.Now().Add(time.Hour).UnixMilli()
		message := marshal(proto.V1,
			series{labels: pairs("__name__", "up"), floats: []proto.Float{{T: future}}},
			series{labels: pairs("__name__", "down"), floats: []proto.Float{{T: future - 1000}}})
		require.Equal(t, http.StatusBadRequest, s.send(proto.V1, message).Code)
		got := s.ledger.Senders(tenant.Anonymous)[0]
		require.Equal(t, -time.Hour, got.Lag())
		require.Equal(t, 2, got.Refused)
	})
}

// TestLedgerOfRequests: a request that is refused as a whole is remembered, unless
// it is unknown whose it is.
func TestLedgerOfRequests(t *testing.T) {
	for _, c := range []struct {
		name    string
		request func(*http.Request)
		want    string // reason; "" for none
	}{
		{"media type", func(hr *http.Request) { hr.Header.Set("Content-Type", "text/plain") }, "weir-media-type-unsupported"},
		{"body", func(hr *http.Request) { setBody(hr, []byte("\xff\xff")) }, "weir-snappy-malformed"},
		{"no tenant", func(hr *http.Request) { hr.Header.Del(tenant.Header) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSetup(t, headerMode)
			hr := newRequest(proto.V1, mixed(proto.V1))
			hr.Header.Set(tenant.Header, "team-a")
			c.request(hr)
			require.GreaterOrEqual(t, s.serve(hr).Code, 400)
			got := s.ledger.Refusals("team-a")
			if c.want == "" {
				require.Empty(t, got)
				require.Empty(t, s.ledger.Senders(""))
				return
			}
			require.Len(t, got, 1)
			require.Equal(t, c.want, got[0].Reason)
			require.NotEmpty(t, got[0].Example.Detail)
			require.Equal(t, 1, s.ledger.Senders("team-a")[0].Failed)
		})
	}
}

// TestLedgerOfMany: of a request full of refusals some metrics are named, and the
// counts are those of all.
func TestLedgerOfMany(t *testing.T) {
	s := newSetup(t)
	var all []series
	for i := range 6000 {
		all = append(all, series{labels: pairs("__name__", fmt.Sprint("m_", i), "a", "1", "a", "2"), floats: []proto.Float{{T: 1}}})
	}
	require.Equal(t, http.StatusBadRequest, s.send(proto.V1, marshal(proto.V1, all...)).Code)
	rows := s.ledger.Refusals(tenant.Anonymous)
	require.Len(t, rows, 65)
	total, others := 0, 0
	for _, r := range rows {
		total += r.Counts.Samples
		if r.Metric == ledger.AnyMetric {
			others += r.Counts.Samples
			require.NotEmpty(t, r.Example.Detail)
		}
	}
	require.Equal(t, 6000, total)
	require.Equal(t, 6000-64, others)
	require.Equal(t, 6000, s.ledger.Senders(tenant.Anonymous)[0].Refused)
}

func TestLedgerOfOTLP(t *testing.T) {
	s := newSetup(t)
	md := pmetric.NewMetrics()
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("x")
	p := m.SetEmptyGauge().DataPoints().AppendEmpty()
	p.SetTimestamp(1e9)
	p.SetDoubleValue(1)
	require.Equal(t, http.StatusOK, s.serveOTLP(otlpRequest(otlpProtobuf, marshalOTLP(otlpProtobuf, md))).Code)
	rows := s.ledger.Refusals(tenant.Anonymous)
	require.Len(t, rows, 1)
	require.Equal(t, "weir-sample-too-old", rows[0].Reason)
	require.Equal(t, "x", rows[0].Metric)
	require.Equal(t, "otlp", rows[0].Sender.Protocol)
}

// half stores the first series of a frame, and postpones the second.
type half struct{}

func (half) Write(_ context.Context, _ string, _ *proto.Frame, reply *proto.Reply) error {
	reply.Written, reply.Postponed, reply.Held = proto.Counts{Samples: 1}, proto.Counts{Samples: 2}, []uint32{1}
	reply.Cause = proto.Errorf(proto.KindLimit, "weir-disk-low", "new series wait")
	return nil
}

// TestAccountOfPostponed: what is to be sent again counts under the reason why, and the
// rest of the request under its own.
func TestAccountOfPostponed(t *testing.T) {
	s := newSetup(t, func(s *setup) { s.ing = half{} })
	now := time.Now().UnixMilli()
	hr := traced(newRequest(proto.V2, marshal(proto.V2,
		series{labels: pairs("job", "nameless"), floats: []proto.Float{{T: now}}},
		series{labels: pairs("__name__", "known"), floats: []proto.Float{{T: now}}},
		series{labels: pairs("__name__", "new"), floats: []proto.Float{{T: now}, {T: now + 1}}},
	)))
	w := s.serve(hr)
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.Equal(t, map[string]int{"float": 4}, s.counters(t, "weir_receiver_received_samples_total"))
	require.Equal(t, map[string]int{"float": 1}, s.counters(t, "weir_receiver_written_samples_total"))
	require.Equal(t, map[string]int{"weir-disk-low float": 2, "weir-metric-name-missing float": 1}, s.counters(t, "weir_receiver_discarded_samples_total"))

	got := readReceipt(t, w)
	require.Equal(t, "weir-disk-low", got.ID)
	require.Equal(t, proto.Counts{Samples: 1}, got.Written)
	require.Equal(t, []bool{false, false, true}, []bool{got.Series[0].Postponed, got.Series[1].Postponed, got.Series[2].Postponed})
	require.Equal(t, proto.Counts{Samples: 1}, got.Series[1].Written)
	require.Zero(t, got.Series[2].Written)

	var ids []string
	for _, r := range s.ledger.Refusals(tenant.Anonymous) {
		ids = append(ids, r.Reason)
	}
	require.ElementsMatch(t, []string{"weir-disk-low", "weir-metric-name-missing"}, ids)
}
