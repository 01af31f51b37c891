package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// refusedCase is a request of which a part is refused. The answers are weir's
// own contract (docs/errors.md): peers count otherwise or not at all.
type refusedCase struct {
	name    string
	reason  string // id in the body
	series  []harness.Series
	written harness.Counts // of series
}

func refusedCases(now int64) []refusedCase {
	sample := func(at int64, v float64) []harness.Sample { return []harness.Sample{{T: at, V: v}} }
	bad := func(labels ...string) []harness.Series {
		return []harness.Series{{Labels: labels, Samples: sample(now, 1)}}
	}
	many := []string{"__name__", "rt_bad"}
	for i := range 64 {
		many = append(many, fmt.Sprintf("label_%03d", i), "x")
	}
	wrongCount := bell()
	wrongCount.Count = 99
	return []refusedCase{
		{name: "no metric name", reason: "weir-metric-name-missing", series: bad("job", "x")},
		{name: "empty metric name", reason: "weir-metric-name-missing", series: bad("__name__", "", "job", "x")},
		{name: "no labels", reason: "weir-metric-name-missing", series: bad()},
		{name: "duplicate label", reason: "weir-label-name-duplicate", series: bad("__name__", "rt_bad", "a", "1", "a", "2")},
		{name: "duplicate label apart", reason: "weir-label-name-duplicate", series: bad("a", "1", "__name__", "rt_bad", "a", "1")},
		{name: "empty label name", reason: "weir-label-name-invalid", series: bad("", "x", "__name__", "rt_bad")},
		{name: "label name not UTF-8", reason: "weir-label-name-invalid", series: bad("__name__", "rt_bad", "a\xff", "x")},
		{name: "label value not UTF-8", reason: "weir-label-value-invalid", series: bad("__name__", "rt_bad", "a", "\xff")},
		{name: "metric name not UTF-8", reason: "weir-label-value-invalid", series: bad("__name__", "rt_bad\xff")},
		{name: "too many labels", reason: "weir-labels-too-many", series: bad(many...)},
		{name: "label name too long", reason: "weir-label-name-too-long", series: bad("__name__", "rt_bad", strings.Repeat("n", 1025), "x")},
		{name: "label value too long", reason: "weir-label-value-too-long", series: bad("__name__", "rt_bad", "a", strings.Repeat("v", 4097))},
		{name: "too far in the future", reason: "weir-sample-too-far-in-future",
			series: []harness.Series{{Labels: []string{"__name__", "rt_bad"}, Samples: sample(now+11*60_000, 1)}}},
		// A series without a newer sample is not out of order, but the head takes
		// nothing that is older than half a block.
		{name: "too late", reason: "weir-sample-out-of-order",
			series: []harness.Series{{Labels: []string{"__name__", "rt_bad"}, Samples: sample(now-2*3600_000, 1)}}},
		{name: "histogram count", reason: "weir-histogram-invalid",
			series: []harness.Series{{Labels: []string{"__name__", "rt_bad"}, Samples: []harness.Sample{{T: now, H: wrongCount}}}}},
		{name: "histogram schema", reason: "weir-histogram-invalid",
			series: []harness.Series{{Labels: []string{"__name__", "rt_bad"}, Samples: []harness.Sample{{T: now, H: &histogram.Histogram{Schema: 99}}}}}},
		{name: "one sample of three", reason: "weir-sample-too-far-in-future", written: harness.Counts{Samples: 2},
			series: []harness.Series{{Labels: []string{"__name__", "rt_part", "case", "one of three"},
				Samples: []harness.Sample{{T: now - 1, V: 1}, {T: now, V: 2}, {T: now + 3600_000, V: 3}}}}},
		{name: "same time twice in a request", reason: "weir-sample-duplicate", written: harness.Counts{Samples: 1},
			series: []harness.Series{{Labels: []string{"__name__", "rt_part", "case", "twice"},
				Samples: []harness.Sample{{T: now, V: 1}, {T: now, V: 2}}}}},
		{name: "exemplar too long", reason: "weir-exemplar-invalid", written: harness.Counts{Samples: 1, Exemplars: 1},
			series: []harness.Series{{Labels: []string{"__name__", "rt_part", "case", "exemplar"}, Samples: sample(now, 1),
				Exemplars: []harness.Exemplar{{Labels: []string{"trace_id", "ok"}, T: now - 1, V: 1}, {Labels: []string{"trace_id", strings.Repeat("x", 200)}, T: now, V: 1}}}}},
	}
}

// TestPartlyRefused sends one good series beside each bad one: the good one is
// stored, the bad one is not, the status is 400, the counts are exact and the
// body names the reason first.
func TestPartlyRefused(t *testing.T) {
	if harness.Against() != "weir" {
		return
	}
	s := harness.Start(t, harness.Config{})
	now := time.Now().UnixMilli()
	for _, p := range protocols {
		s.Accept(t, p, harness.Series{Labels: []string{"__name__", "rt_newest", "protocol", p.String()}, Samples: []harness.Sample{{T: now, V: 1}}})
		for _, c := range refusedCases(now) {
			t.Run(fmt.Sprintf("%s/%s", p, c.name), func(t *testing.T) { checkRefused(t, s, p, c, now) })
		}
		now += 10
	}
	require.Empty(t, s.Samples(t, "rt_bad", now-7200_000, now+7200_000))
}

func checkRefused(t *testing.T, s *harness.Server, p harness.Protocol, c refusedCase, now int64) {
	good := func(n int) harness.Series {
		return harness.Series{
			Labels:  []string{"__name__", "rt_good", "case", c.name, "n", fmt.Sprint(n), "protocol", p.String()},
			Samples: []harness.Sample{{T: now, V: float64(n)}},
		}
	}
	// Bad ones last, first, and alone; the second time from the cache of verdicts.
	for n, order := range [][]harness.Series{slices.Concat([]harness.Series{good(0)}, c.series), slices.Concat(c.series, []harness.Series{good(1)})} {
		a := s.Push(t, p, order...)
		require.Equal(t, http.StatusBadRequest, a.Status, a.Body)
		want := c.written
		want.Samples++
		require.Equal(t, want, a.Written, a.Body)
		require.Contains(t, a.Body, c.reason)
		require.Less(t, strings.Index(a.Body, c.reason), 100, "in the first bytes: %s", a.Body)
		require.LessOrEqual(t, len(a.Body), 1024)
		got := s.Only(t, fmt.Sprintf(`rt_good{case=%q,n="%d",protocol=%q}`, c.name, n, p), now-1000, now+1000)
		require.Equal(t, map[int64]float64{now: float64(n)}, got.Floats)
	}
	a := s.Push(t, p, c.series...)
	require.Equal(t, http.StatusBadRequest, a.Status, a.Body)
	require.Equal(t, c.written, a.Written, a.Body)
}

// TestConflicts sends another value for a time that has one: the first wins,
// for the newest sample and for older and late ones, floats and histograms.
func TestConflicts(t *testing.T) {
	if harness.Against() != "weir" {
		return
	}
	s := harness.Start(t, harness.Config{})
	base := time.Now().Add(-time.Minute).UnixMilli()
	other := bell()
	other.Sum++
	for _, p := range protocols {
		name := []string{"__name__", "rt_conflict", "protocol", p.String()}
		names := []string{"__name__", "rt_conflict_seconds", "protocol", p.String()}
		floats := func(samples ...harness.Sample) harness.Series { return harness.Series{Labels: name, Samples: samples} }
		natives := func(samples ...harness.Sample) harness.Series {
			return harness.Series{Labels: names, Samples: samples}
		}
		s.Accept(t, p, floats(harness.Sample{T: base, V: 1}, harness.Sample{T: base + 1000, V: 2}), natives(harness.Sample{T: base, H: bell()}, harness.Sample{T: base + 1000, H: bell()}))
		s.Accept(t, p, floats(harness.Sample{T: base - 50_000, V: 3}), natives(harness.Sample{T: base - 50_000, H: bell()}))
		for _, at := range []int64{base + 1000, base, base - 50_000} {
			// One conflict, one exact repetition, one new sample.
			fresh := base + 2000 + (base+1000-at)/1000
			a := s.Push(t, p, floats(harness.Sample{T: at, V: 99}), floats(harness.Sample{T: base, V: 1}), floats(harness.Sample{T: fresh, V: 4}),
				natives(harness.Sample{T: at, H: other}), natives(harness.Sample{T: base, H: bell()}))
			require.Equal(t, http.StatusBadRequest, a.Status, a.Body)
			require.Equal(t, harness.Counts{Samples: 2, Histograms: 1}, a.Written, "conflict at %d: %s", at-base, a.Body)
			require.Contains(t, a.Body, "weir-sample-duplicate")
		}
		got := s.Only(t, fmt.Sprintf(`rt_conflict{protocol=%q}`, p), base-100_000, base+10_000).Floats
		require.Equal(t, 1.0, got[base])
		require.Equal(t, 2.0, got[base+1000])
		require.Equal(t, 3.0, got[base-50_000])
		require.Len(t, got, 6)
		natively := s.Only(t, fmt.Sprintf(`rt_conflict_seconds{protocol=%q}`, p), base-100_000, base+10_000).Histograms
		require.Len(t, natively, 3)
		for at, h := range natively {
			require.Equal(t, harness.JSONOfSample(harness.Sample{H: bell()}), h, "at %d", at-base)
		}
	}
}
