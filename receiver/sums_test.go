package receiver_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// TestSums: whatever a request has in it, and whatever a tenant's rules and limits
// make of it in front of a store, what was sent is what was written, refused,
// dropped or postponed: in the metrics, in the receipt as a whole and of each
// series, and in the ledger.
func TestSums(t *testing.T) {
	lims := map[string]*tenant.Limits{}
	for _, on := range []string{"auto", "reject-429", "partial-400"} {
		lim := tenant.DefaultLimits()
		lim.MaxActiveSeries, lim.MaxSeriesPerMetric, lim.OnSeriesLimit = 7, 5, on
		lim.LabelSets = []tenant.LabelSet{{Name: "odd", Match: `{i=~".*[13579]"}`, MaxActiveSeries: 4}}
		lim.MaxLabelValueBytes, lim.MaxHistogramBuckets = 100, 10
		lim.PastGrace, lim.OutOfOrderWindow = 2*time.Hour, 10*time.Minute
		lims[on] = &lim
	}
	limits := func(id string) *tenant.Limits {
		on, _, _ := strings.Cut(id, "_")
		return lims[on]
	}
	s := newSetup(t, headerMode, withRules(t, tenRules+`
- {detector: uuid, action: reject}
- {detector: ipv4, action: drop}
`), func(s *setup) {
		s.limits = limits
		s.ing = startIngester(t, limits)
	})
	tenants := 0
	reasons := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		tenants++
		id := fmt.Sprintf("%s_%d", rapid.SampledFrom([]string{"auto", "reject-429", "partial-400"}).Draw(rt, "on"), tenants)
		discarded := map[string]int{} // of requests of which a part was stored, by id
		for range rapid.IntRange(1, 6).Draw(rt, "requests") {
			v := rapid.SampledFrom(versions).Draw(rt, "version")
			all := rapid.SliceOfN(rapid.Custom(randomSums), 1, 12).Draw(rt, "series")
			var metadata []prompb.MetricMetadata
			if v == proto.V1 {
				metadata = append(metadata, prompb.MetricMetadata{MetricFamilyName: rapid.SampledFrom([]string{"m", "", "x"}).Draw(rt, "family"),
					Help: rapid.SampledFrom([]string{"", "h", "a@example.com", "550e8400-e29b-41d4-a716-446655440000"}).Draw(rt, "help")})
			}
			before := s.sums(rt)
			hr := traced(newRequest(v, marshalWith(v, metadata, all...)))
			hr.Header.Set(tenant.Header, id)
			w := s.serve(hr)
			var got receipt
			require.NoError(rt, json.Unmarshal(w.Body.Bytes(), &got))
			postponed := w.Code == 429
			require.Contains(rt, []int{200, 400, 429}, w.Code, w.Body)

			now := s.sums(rt)
			for what, n := range before {
				now[what] -= n
			}
			checkSums(rt, all, now)
			dropped, _ := strconv.Atoi(w.Header().Get("X-Weir-Relabel-Dropped"))
			sum := got.Written
			for _, x := range got.Refused {
				require.NotZero(rt, x.Counts.Total())
				sum.Add(x.Counts)
			}
			if !postponed {
				require.Equal(rt, got.Sent.Total(), sum.Total()+dropped, w.Body)
			}
			checkSeries(rt, all, got, dropped, postponed)
			for what, n := range now {
				if of, id, ok := strings.Cut(what, " weir-"); ok && of == "discarded" {
					id = "weir-" + id[:strings.IndexByte(id, ' ')]
					reasons[id] += n
					if !postponed || id != got.ID {
						discarded[id] += n
					}
				}
			}
		}
		ledger := map[string]int{}
		for _, r := range s.ledger.Refusals(id) {
			if n := r.Counts.Total(); n > 0 {
				ledger[r.Reason] += n
			}
		}
		for id, n := range discarded {
			if n == 0 {
				delete(discarded, id)
			}
		}
		require.Equal(rt, discarded, ledger)
	})
	t.Log(reasons)
	require.Greater(t, len(reasons), 15)
}

// sums are the counters of samples by what they are of.
func (s *setup) sums(tb require.TestingT) map[string]int {
	out := map[string]int{}
	for _, what := range []string{"received", "written", "discarded"} {
		for of, n := range s.counters(tb, "weir_receiver_"+what+"_samples_total") {
			out[what+" "+of] += n
		}
	}
	return out
}

func checkSums(t require.TestingT, all []series, now map[string]int) {
	sent := map[string]int{}
	for _, x := range all {
		sent["float"] += len(x.floats)
		sent["histogram"] += len(x.histograms)
		sent["exemplar"] += len(x.exemplars)
	}
	for _, kind := range []string{"float", "histogram", "exemplar", "metadata"} {
		sum := 0
		for what, n := range now {
			if strings.HasSuffix(what, " "+kind) && !strings.HasPrefix(what, "received ") {
				sum += n
			}
		}
		require.Equal(t, now["received "+kind], sum, "%s: %v", kind, now)
		if kind != "metadata" {
			require.Equal(t, sent[kind], sum, kind)
		}
	}
}

func checkSeries(t require.TestingT, all []series, got receipt, dropped int, postponed bool) {
	require.Len(t, got.Series, len(all))
	for i, x := range got.Series {
		sent := proto.Counts{Samples: len(all[i].floats), Histograms: len(all[i].histograms), Exemplars: len(all[i].exemplars)}
		require.Equal(t, sent, x.Sent)
		sum := x.Written
		for _, r := range x.Refused {
			r.Counts.Metadata = 0
			sum.Add(r.Counts)
		}
		switch {
		case x.Verdict == "weir-relabel-dropped":
			dropped -= sent.Total()
			require.Zero(t, sum)
		case x.Postponed:
			require.True(t, postponed)
			require.Zero(t, x.Written)
		default:
			require.Equal(t, sent, sum, "series %d of %+v", i, got)
		}
		for _, n := range []int{x.Written.Samples, x.Written.Histograms, x.Written.Exemplars, x.Written.Metadata} {
			require.GreaterOrEqual(t, n, 0)
		}
	}
	require.Zero(t, dropped)
}

func randomSums(t *rapid.T) series {
	of := func(label string, values ...string) string { return rapid.SampledFrom(values).Draw(t, label) }
	x := series{labels: pairs("__name__", of("name", "m", "m", "n", "go_gc_x", "o", ""), "i", fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "i")),
		"v", of("v", "", "", "a", "x@example.com", "4111111111111111", "10.1.2.3", "550e8400-e29b-41d4-a716-446655440000", strings.Repeat("l", 101), "\xff"))}
	if rapid.IntRange(0, 9).Draw(t, "twice") == 0 {
		x.labels = append(x.labels, x.labels[1])
	}
	base := time.Now()
	at := func() int64 {
		return base.Add(time.Duration(rapid.SampledFrom([]int{-3 * 3600, -3600, -5, -4, -3, -2, -1, 0, 0, 7200}).Draw(t, "at")) * time.Second).Truncate(time.Second).UnixMilli()
	}
	for range rapid.IntRange(0, 3).Draw(t, "floats") {
		x.floats = append(x.floats, proto.Float{T: at(), V: float64(rapid.IntRange(0, 1).Draw(t, "v"))})
	}
	for range rapid.IntRange(0, 1).Draw(t, "histograms") {
		x.histograms = append(x.histograms, proto.Histogram{T: at(), H: oneBucket()})
	}
	for range rapid.IntRange(0, 2).Draw(t, "exemplars") {
		x.exemplars = append(x.exemplars, exemplarToSend{t: at(), v: 1, labels: pairs("trace_id", of("trace", "a", "x@example.com", "10.1.2.3", "550e8400-e29b-41d4-a716-446655440000", strings.Repeat("e", 200)))})
	}
	x.help = of("help", "", "h", "550e8400-e29b-41d4-a716-446655440000", "10.2.3.4")
	return x
}
