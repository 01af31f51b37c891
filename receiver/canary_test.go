package receiver_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/relabel"
	"github.com/weir-metrics/weir/tenant"
)

// canaryRules redact one thing in most series, and another in the canary.
func canaryRules(percent int) string {
	return fmt.Sprintf(`
redact: [{detector: uuid, action: mask}]
shadow:
  redact: [{detector: email, action: mask}]
  metric_relabel_configs: [{target_label: by, replacement: canary}, {source_labels: [i], regex: '.*7', action: drop}]
canary: %d`, percent)
}

const (
	canaryUUID = "550e8400-e29b-41d4-a716-446655440000"
	canaryMail = "x@example.com"
)

// sendForCanary sends series of i of 0 to n, and returns labels that were stored, by
// i.
func sendForCanary(t *testing.T, s *setup, n int) (stored map[string]labels.Labels, dropped int) {
	now := time.Now().UnixMilli()
	var all []series
	for i := range n {
		all = append(all, series{
			labels: pairs("__name__", fmt.Sprint("m", i), "i", fmt.Sprint(i), "u", canaryUUID, "z", canaryMail), floats: []proto.Float{{T: now}},
			exemplars: []exemplarToSend{{labels: pairs("u", canaryUUID, "z", canaryMail), t: now}},
			help:      "ask " + canaryMail + " for " + canaryUUID,
		})
	}
	hr, rec := record(newRequest(proto.V2, marshal(proto.V2, all...)))
	w := s.serve(hr)
	require.Equal(t, http.StatusNoContent, w.Code, w.Body)
	_, _ = fmt.Sscan(w.Header().Get(headerDropped), &dropped)
	stored = map[string]labels.Labels{}
	for _, x := range rec.series {
		stored[x.labels.Get("i")] = x.labels
		want := labels.FromStrings("u", "[uuid]", "z", canaryMail)
		if x.labels.Has("by") {
			want = labels.FromStrings("u", canaryUUID, "z", "[email]")
		}
		for _, e := range x.exemplars {
			require.Equal(t, want.String(), e.Labels.String(), "an exemplar goes by the rules of its series")
		}
		require.Equal(t, want.Get("u"), x.labels.Get("u"))
		require.Equal(t, want.Get("z"), x.labels.Get("z"))
	}
	return stored, dropped / 2 // a sample and an exemplar
}

// TestCanary: the shadow rules count for a share of the series, the same ones in
// every process and each time; the report compares both for all.
func TestCanary(t *testing.T) {
	const n = 1000
	s := newSetup(t, withRules(t, canaryRules(30)))
	stored, dropped := sendForCanary(t, s, n)
	require.Equal(t, n, len(stored)+dropped)
	require.InDelta(t, 30, dropped, 20, "of the tenth of them that ends in 7")
	tried := dropped
	for _, ls := range stored {
		if ls.Has("by") {
			tried++
		}
	}
	require.InDelta(t, 0.3*n, tried, 75)

	r := s.RelabelReports(tenant.Anonymous, true)[0]
	require.Equal(t, n, r.Shadow.Series, "compared are all")
	require.Equal(t, tried, r.Canary)
	require.Equal(t, n-tried, r.Tenant.Series, "the rules themselves count for the rest")
	require.Equal(t, n/10, r.Shadow.Dropped)
	require.Equal(t, n/10, r.Shadow.Changes["drop"].Series)
	require.Equal(t, n-n/10, r.Shadow.Changes["redact"].Series)
	require.Equal(t, map[string]int{"drop": n / 10, "redact": n - n/10}, s.counters(t, "weir_receiver_shadow_series_total"))
	for _, e := range r.Shadow.Changes["redact"].Examples {
		require.NotContains(t, e.Now+e.Then, canaryMail)
		require.NotContains(t, e.Now+e.Then, canaryUUID)
	}

	again, droppedAgain := sendForCanary(t, s, n)
	require.Equal(t, dropped, droppedAgain, "by verdicts")
	require.Equal(t, stored, again)
	elsewhere, _ := sendForCanary(t, newSetup(t, withRules(t, canaryRules(30))), n)
	require.Equal(t, stored, elsewhere, "in another process")
}

// TestLargerCanary: a larger share has the series of a smaller one.
func TestLargerCanary(t *testing.T) {
	const n = 300
	before := map[string]bool{}
	for _, percent := range []int{0, 5, 20, 80, 100} {
		stored, dropped := sendForCanary(t, newSetup(t, withRules(t, canaryRules(percent))), n)
		now := map[string]bool{}
		for i := range n {
			ls, ok := stored[fmt.Sprint(i)]
			now[fmt.Sprint(i)] = !ok || ls.Has("by")
		}
		for i, was := range before {
			require.True(t, !was || now[i], "%s left the canary", i)
		}
		before = now
		switch percent {
		case 0:
			require.Zero(t, dropped)
			require.NotContains(t, now, true)
		case 100:
			for i, in := range now {
				require.True(t, in, i)
			}
		}
	}
}

// TestCanaryOfMetadata: a family is of the canary or not, whoever names it.
func TestCanaryOfMetadata(t *testing.T) {
	s := newSetup(t, withRules(t, canaryRules(50)))
	var all []prompb.MetricMetadata
	for i := range 50 {
		all = append(all, prompb.MetricMetadata{MetricFamilyName: fmt.Sprint("family_", i), Help: canaryMail + " " + canaryUUID})
	}
	hr, rec := record(newRequest(proto.V1, marshalWith(proto.V1, all)))
	require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
	seen := map[string]int{}
	for _, m := range rec.metadata {
		at, _ := relabel.CanaryOf(pairs("__name__", m.Family), nil)
		want := canaryMail + " [uuid]"
		if at < 0.5 {
			want = "[email] " + canaryUUID
		}
		require.Equal(t, want, m.Help)
		seen[m.Help]++
	}
	require.Len(t, seen, 2)
}

// TestCanaryHides: what either version keeps from being stored, no message shows, of
// no series; and who is refused by the canary is told so.
func TestCanaryHides(t *testing.T) {
	s := newSetup(t, withRules(t, canaryRules(100)))
	now := time.Now().UnixMilli()
	w := s.send(proto.V1, marshal(proto.V1,
		series{labels: pairs("a", canaryMail, "b", canaryUUID), floats: []proto.Float{{T: now}}},
	))
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), "[email]")
	require.Contains(t, w.Body.String(), "[uuid]")
	require.NotContains(t, w.Body.String()+s.log.String(), canaryMail)
	require.NotContains(t, w.Body.String()+s.log.String(), canaryUUID)

	hr := newRequest(proto.V2, marshal(proto.V2, series{labels: pairs("__name__", "up", "i", "17"), floats: []proto.Float{{T: now}}}))
	hr.Header.Set("X-Weir-Trace", "1")
	require.Contains(t, s.serve(hr).Body.String(), "rule 2 of the tenant's shadow.metric_relabel_configs drops the series, which is of the canary")
}
