package receiver_test

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// What Prometheus logs of an answer, and what a reader sees at a glance.
const logged, glance = 1024, 300

// TestPartialBody: the body of a partial 400 is all that most users will ever
// see of a refusal.
func TestPartialBody(t *testing.T) {
	now := time.Now().UnixMilli()
	kube := func(change func(i int, name, value string) (string, string)) series {
		s := series{floats: []proto.Float{{T: now, V: 1}}}
		for i, l := range kubeLabels(7) {
			name, value := change(i, l[0], l[1])
			s.labels = append(s.labels, pairs(name, value)...)
		}
		return s
	}
	same := func(_ int, name, value string) (string, string) { return name, value }
	manyLabels := kube(same)
	for i := range 100 {
		manyLabels.labels = append(manyLabels.labels, pairs(fmt.Sprintf("label_%d", i), "x")...)
	}
	future := kube(same)
	future.floats[0].T += time.Hour.Milliseconds()
	past := kube(same)
	past.floats[0].T -= 1000 * time.Hour.Milliseconds()
	buckets := kube(same)
	h := oneBucket()
	h.PositiveSpans[0].Length, h.PositiveBuckets = 2000, make([]int64, 2000)
	buckets.histograms = []proto.Histogram{{T: now, H: h}}

	for _, c := range []struct {
		name   string
		s      series
		glance []string // in the first 300 bytes
		says   []string // anywhere
	}{
		{
			name: "value too long", s: kube(func(i int, name, value string) (string, string) {
				if i == 5 {
					value = strings.Repeat("ü", 2500)
				}
				return name, value
			}),
			glance: []string{"weir-label-value-too-long: refused 1 ", "stored 0", `"id" has 5000 bytes`, "max_label_value_bytes is 4096"},
			says:   []string{`__name__="container_cpu_usage_seconds_total_7"`},
		},
		{
			name: "name too long", s: kube(func(i int, name, value string) (string, string) {
				if i == 5 {
					name = strings.Repeat("n", 2000)
				}
				return name, value
			}),
			glance: []string{"weir-label-name-too-long: refused 1 ", "stored 0", `nnn`, "has 2000 bytes", "max_label_name_bytes is 1024"},
			says:   []string{`__name__="container_cpu_usage_seconds_total_7"`},
		},
		{
			name: "too many labels", s: manyLabels,
			glance: []string{"weir-labels-too-many: refused 1 ", "stored 0", "112 labels", "max_labels_per_series is 64"},
			says:   []string{`__name__="container_cpu_usage_seconds_total_7"`},
		},
		{
			name: "in the future", s: future,
			glance: []string{"weir-sample-too-far-in-future: refused 1 ", "stored 0", "future_grace is 10m0s"},
			says:   []string{`__name__="container_cpu_usage_seconds_total_7"`, " at 20"},
		},
		{
			name: "too old", s: past,
			glance: []string{"weir-sample-too-old: refused 1 ", "stored 0", "1000h0m", "past_grace is 336h0m0s"},
			says:   []string{`__name__="container_cpu_usage_seconds_total_7"`, " at 20"},
		},
		{
			name: "too many buckets", s: buckets,
			glance: []string{"weir-histogram-too-many-buckets: refused 1 ", "stored 1", "2000 buckets", "max_histogram_buckets is 1000"},
			says:   []string{`__name__="container_cpu_usage_seconds_total_7"`},
		},
		{
			name:   "without a name",
			s:      series{labels: pairs("job", "a"), floats: []proto.Float{{T: now}}},
			glance: []string{"weir-metric-name-missing: refused 1 ", "stored 0", "__name__ is missing", `{job="a"}`},
		},
		{
			name:   "nothing but labels",
			s:      series{labels: pairs("job", "a")},
			glance: []string{"weir-metric-name-missing: refused 1 ", "stored 0", "__name__ is missing", `{job="a"}`},
		},
		{
			name:   "bytes that are no text",
			s:      series{labels: pairs("__name__", "up", "a\xff\xfe", strings.Repeat("\xff", 200)), floats: []proto.Float{{T: now}}},
			glance: []string{"weir-label-name-invalid: refused 1 ", `"a\xff\xfe"`},
		},
		{
			name:   "nanoseconds instead of milliseconds",
			s:      series{labels: pairs("__name__", "up"), floats: []proto.Float{{T: now * 1_000_000}}},
			glance: []string{"weir-sample-too-far-in-future: refused 1 ", "stored 0", "more than 292 years ahead", "future_grace is 10m0s"},
		},
		{
			name:   "the largest time there is",
			s:      series{labels: pairs("__name__", "up"), floats: []proto.Float{{T: math.MaxInt64}}},
			glance: []string{"weir-sample-too-far-in-future: refused 1 ", "more than 292 years ahead"},
		},
		{
			name:   "the smallest time there is",
			s:      series{labels: pairs("__name__", "up"), floats: []proto.Float{{T: math.MinInt64}}},
			glance: []string{"weir-sample-too-old: refused 1 ", "more than 292 years behind"},
		},
	} {
		for _, v := range versions {
			t.Run("version="+v.String()+"/"+c.name, func(t *testing.T) {
				s := newSetup(t)
				w := s.send(v, marshal(v, c.s))
				require.Equal(t, http.StatusBadRequest, w.Code)
				body := w.Body.String()
				checkBody(t, body)
				for _, x := range c.glance {
					require.Contains(t, body[:min(len(body), glance)], x)
				}
				for _, x := range c.says {
					require.Contains(t, body, x)
				}
				require.Contains(t, s.log.String(), "level=WARN", "the first refusal is logged")
			})
		}
	}
}

func checkBody(t require.TestingT, body string) {
	require.Less(t, len(body), logged)
	require.True(t, utf8.ValidString(body), "%q", body)
	require.Regexp(t, `^weir(-[a-z]+)+: refused [1-9][0-9]* samples of this request, stored [0-9]+`, body[:min(len(body), 100)])
	require.NotContains(t, body[:len(body)-1], "\n")
}

// TestPartialBodyNamesEachReason: after the first refusal the others follow,
// with their counts.
func TestPartialBodyNamesEachReason(t *testing.T) {
	now := time.Now().UnixMilli()
	for _, v := range versions {
		w := newSetup(t).send(v, marshal(v,
			series{labels: pairs("__name__", "ok"), floats: []proto.Float{{T: now}}},
			series{labels: pairs("a", "1"), floats: []proto.Float{{T: now}, {T: now}}},
			series{labels: pairs("a", "2"), floats: []proto.Float{{T: now}}},
			series{labels: pairs("__name__", "up", "a", "\xff"), floats: []proto.Float{{T: now}}},
			series{labels: pairs("__name__", "up"), floats: []proto.Float{{T: now + time.Hour.Milliseconds()}, {T: now, V: refusedValue}}},
		))
		body := w.Body.String()
		require.True(t, strings.HasPrefix(body, "weir-metric-name-missing: refused 6 samples of this request, stored 1"), body)
		require.Contains(t, body, `{a="1"}`)
		require.Contains(t, body, "1 weir-label-value-invalid")
		require.Contains(t, body, "1 weir-sample-too-far-in-future")
		require.Contains(t, body, "1 weir-sample-out-of-order")
	}
}

// TestExampleNamesItsSeries though the ingester numbers series otherwise: it is
// not sent those that are refused before, and is sent some again.
func TestExampleNamesItsSeries(t *testing.T) {
	now := time.Now().UnixMilli()
	for _, v := range versions {
		for _, forgets := range []float64{0, 1} {
			s := newSetup(t)
			all := []series{
				{labels: pairs("__name__", "first"), floats: []proto.Float{{T: now}}},
				{labels: pairs("a", "1"), floats: []proto.Float{{T: now}}},
				{labels: pairs("a", "2"), floats: []proto.Float{{T: now}}},
				{labels: pairs("__name__", "second"), floats: []proto.Float{{T: now}}},
				{labels: pairs("__name__", "to_blame"), floats: []proto.Float{{T: now, V: refusedValue}}},
				{labels: pairs("__name__", "last"), floats: []proto.Float{{T: now}}},
			}
			require.Equal(t, http.StatusBadRequest, s.send(v, marshal(v, all...)).Code)
			s.memory.forgets = forgets
			body := s.send(v, marshal(v, all...)).Body.String()
			require.Regexp(t, `weir-sample-out-of-order:[^;]*\{__name__="to_blame"\}`, body)
		}
	}
}

// TestMetadataBody: metadata of version 1 belongs to no series, so none is shown
// with it.
func TestMetadataBody(t *testing.T) {
	now := time.Now().UnixMilli()
	for _, c := range []struct {
		name string
		all  []series
	}{
		{name: "alone"},
		{name: "beside a series", all: []series{{labels: pairs("__name__", "innocent"), floats: []proto.Float{{T: now}}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSetup(t)
			w := s.send(proto.V1, marshalWith(proto.V1, []prompb.MetricMetadata{{MetricFamilyName: "bad\xff", Help: "Help."}}, c.all...))
			require.Equal(t, http.StatusBadRequest, w.Code)
			checkBody(t, w.Body.String())
			require.True(t, strings.HasPrefix(w.Body.String(), "weir-metadata-invalid: refused 1 "), w.Body.String())
			require.Contains(t, w.Body.String(), `"bad\xff"`)
			require.NotContains(t, w.Body.String(), "innocent")
		})
	}
}

// TestAnyPartialBody refuses random series: whatever is in them, the body can
// be logged.
func TestAnyPartialBody(t *testing.T) {
	lim := tenant.DefaultLimits()
	lim.MaxLabelsPerSeries, lim.MaxLabelNameBytes, lim.MaxLabelValueBytes = 10, 100, 100
	s := newSetup(t, func(s *setup) { s.limits = func(string) *tenant.Limits { return &lim } })
	word := rapid.OneOf(
		rapid.SampledFrom([]string{"", "__name__", "up", "a", "größe"}),
		rapid.StringN(0, 300, -1),
		rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes")) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		all := []series{{labels: pairs("a", "b"), floats: []proto.Float{{}}}}
		for range rapid.IntRange(0, 12).Draw(t, "series") {
			one := series{floats: []proto.Float{{T: rapid.Int64().Draw(t, "time"), V: refusedValue}}}
			for range rapid.IntRange(0, 14).Draw(t, "labels") {
				one.labels = append(one.labels, pairs(word.Draw(t, "name"), word.Draw(t, "value"))...)
			}
			if rapid.Bool().Draw(t, "first") {
				all = append([]series{one}, all...)
			} else {
				all = append(all, one)
			}
		}
		for _, v := range versions {
			w := s.send(v, marshal(v, all...))
			require.Equal(t, http.StatusBadRequest, w.Code)
			checkBody(t, w.Body.String())
		}
	})
}

// TestRefusalsAreLogged: how often is for the logger to bound.
func TestRefusalsAreLogged(t *testing.T) {
	s := newSetup(t)
	s.send(proto.V1, invalid(proto.V1))
	require.Equal(t, 1, strings.Count(s.log.String(), "\n"))
	require.Contains(t, s.log.String(), "level=WARN")
	require.Contains(t, s.log.String(), "tenant=anonymous")
	require.Contains(t, s.log.String(), "Prometheus/3.15.0")
}
