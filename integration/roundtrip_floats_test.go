package integration

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// floatCases are all kinds of floats. What a query shows of NaNs has no bits.
var floatCases = []struct {
	name string
	bits uint64
}{
	{"zero", math.Float64bits(0)},
	{"minus_zero", math.Float64bits(math.Copysign(0, -1))},
	{"one", math.Float64bits(1)},
	{"minus_pi", math.Float64bits(-math.Pi)},
	{"tenth", math.Float64bits(0.1)},
	{"2^53+2", math.Float64bits(1<<53 + 2)},
	{"largest", math.Float64bits(math.MaxFloat64)},
	{"smallest_normal", 1 << 52},
	{"largest_denormal", 1<<52 - 1},
	{"smallest_denormal", 1},
	{"minus_smallest_denormal", 1<<63 | 1},
	{"inf", math.Float64bits(math.Inf(1))},
	{"minus_inf", math.Float64bits(math.Inf(-1))},
	{"nan", value.NormalNaN},
	{"nan_payload", 0x7ff8_0000_dead_beef},
	{"minus_nan", 0xfff8_0000_0000_0001},
	{"nan_signalling", 0x7ff0_0000_0000_0009},
	{"stale", value.StaleNaN},
}

// TestRoundTripFloats writes every kind of float by both protocols, in order and
// late, and reads them back by query and, after a stop, from disk.
func TestRoundTripFloats(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	base := time.Now().Add(-time.Minute).UnixMilli()
	writeFloats(t, s, base)
	for _, p := range protocols {
		for _, c := range floatCases {
			checkFloatQuery(t, s, p, c.name, c.bits, base)
		}
	}
	s.Stop()
	disk := s.OnDisk(t)
	for _, p := range protocols {
		for _, c := range floatCases {
			key := labels.FromStrings("__name__", "rt_float", "case", c.name, "protocol", p.String()).String()
			var got []string
			for _, x := range disk[key] {
				got = append(got, fmt.Sprintf("%d %x", x.T-base, math.Float64bits(x.V)))
			}
			want := []string{fmt.Sprintf("-90000 %x", c.bits), fmt.Sprintf("0 %x", math.Float64bits(42)), fmt.Sprintf("1000 %x", c.bits), fmt.Sprintf("2000 %x", math.Float64bits(43))}
			require.Equal(t, want, got, "%s on disk", key)
		}
	}
}

// writeFloats writes each of floatCases by both protocols between two other
// samples, and late.
func writeFloats(t *testing.T, s *harness.Server, base int64) {
	t.Helper()
	for _, p := range protocols {
		var newer, late []harness.Series
		for _, c := range floatCases {
			ls := []string{"__name__", "rt_float", "case", c.name, "protocol", p.String()}
			newer = append(newer, harness.Series{Labels: ls, Samples: []harness.Sample{
				{T: base, V: 42}, {T: base + 1000, V: math.Float64frombits(c.bits)}, {T: base + 2000, V: 43},
			}})
			late = append(late, harness.Series{Labels: ls, Samples: []harness.Sample{{T: base - 90_000, V: math.Float64frombits(c.bits)}}})
		}
		s.Accept(t, p, newer...)
		s.Accept(t, p, late...)
	}
}

func checkFloatQuery(t *testing.T, s *harness.Server, p harness.Protocol, name string, bits uint64, base int64) {
	t.Helper()
	selector := fmt.Sprintf(`rt_float{case=%q,protocol=%q}`, name, p)
	got := s.Only(t, selector, base-100_000, base+3000).Floats
	require.Equal(t, 42.0, got[base])
	require.Equal(t, 43.0, got[base+2000])
	for _, at := range []int64{base - 90_000, base + 1000} {
		v, ok := got[at]
		switch want := math.Float64frombits(bits); {
		case value.IsStaleNaN(want):
			require.False(t, ok, "a staleness marker shows")
			// The marker ends the series for instant queries.
			require.Empty(t, s.Instant(t, selector, at+1))
		case math.IsNaN(want):
			require.True(t, ok, "%s at %d is gone", name, at-base)
			require.True(t, math.IsNaN(v))
		default:
			require.True(t, ok, "%s at %d is gone", name, at-base)
			require.Equal(t, bits, math.Float64bits(v), "%s: %v, want %v", name, v, want)
		}
	}
}

// TestRoundTripLabels writes label sets that are hard on parsers, and in every
// order.
func TestRoundTripLabels(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	base := time.Now().Add(-time.Minute).UnixMilli()
	cases := map[string][]string{
		"utf8_name":       {"__name__", "température.du.four", "case", "utf8_name"},
		"spaces":          {"__name__", "a metric name", "case", "spaces", "label name", "x y"},
		"emoji":           {"__name__", "rt_label", "case", "emoji", "🔥", "🌍 測試"},
		"quotes":          {"__name__", "rt_label", "case", "quotes", "v", `"\` + "\n\t\x01`{}=~"},
		"long_value":      {"__name__", "rt_label", "case", "long_value", "v", strings.Repeat("x", 1500)},
		"prefix_names":    {"__name__", "rt_label", "a", "1", "aa", "2", "ab", "3", "case", "prefix_names"},
		"unsorted":        {"z", "1", "case", "unsorted", "__name__", "rt_label", "a", "2"},
		"sorted_as_above": {"__name__", "rt_label", "a", "2", "case", "sorted_as_above", "z", "1"},
	}
	for i, p := range protocols {
		for name, ls := range cases {
			s.Accept(t, p, harness.Series{Labels: ls, Samples: []harness.Sample{{T: base + int64(i), V: 1}}})
			// The same series with its labels in another order.
			turned := append(append([]string{}, ls[2:]...), ls[:2]...)
			s.Accept(t, p, harness.Series{Labels: turned, Samples: []harness.Sample{{T: base + 10 + int64(i), V: 2}}})
			got := s.Only(t, fmt.Sprintf(`{case=%q}`, name), base-1000, base+1000)
			want := map[string]string{}
			for i := 0; i < len(ls); i += 2 {
				want[ls[i]] = ls[i+1]
			}
			require.Equal(t, want, got.Labels)
			require.Equal(t, 1.0, got.Floats[base+int64(i)], name)
			require.Equal(t, 2.0, got.Floats[base+10+int64(i)], name)
		}
		// Between the two protocols, samples of one series must ascend.
		base += 100
	}
	var names []string
	s.Get(t, "/api/v1/label/__name__/values", nil, &names)
	require.Contains(t, names, "température.du.four")
	require.Contains(t, names, "a metric name")
	quoted := s.Only(t, `{"température.du.four", "case"="utf8_name"}`, base-1000, base+1000)
	require.Len(t, quoted.Floats, 4)
}

// TestRoundTripStartTimestamps sends start timestamps of floats and histograms,
// and finds them on disk when the store is told to keep them.
func TestRoundTripStartTimestamps(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("kept=%t", keep), func(t *testing.T) {
			s := harness.Start(t, harness.Config{Set: []string{fmt.Sprintf("ingester.start_timestamps=%t", keep)}})
			base := time.Now().Add(-time.Minute).UnixMilli()
			starts := []int64{base - 500_000, base - 500_000, base + 1500}
			series := []harness.Series{{Labels: []string{"__name__", "rt_start_total"}}, {Labels: []string{"__name__", "rt_start_seconds"}}}
			for i, st := range starts {
				at := base + int64(i)*1000
				series[0].Samples = append(series[0].Samples, harness.Sample{T: at, ST: st, V: float64(i)})
				series[1].Samples = append(series[1].Samples, harness.Sample{T: at, ST: st, H: bell()})
			}
			s.Accept(t, harness.V2, series...)
			require.Equal(t, map[int64]float64{base: 0, base + 1000: 1, base + 2000: 2}, s.Only(t, "rt_start_total", base-1000, base+3000).Floats)
			require.Len(t, s.Only(t, "rt_start_seconds", base-1000, base+3000).Histograms, 3)
			s.Stop()
			disk := s.OnDisk(t)
			for _, x := range series {
				stored := disk[labels.FromStrings(x.Labels...).String()]
				require.Len(t, stored, 3)
				if keep && harness.Against() == "weir" {
					require.Equal(t, starts, []int64{stored[0].ST, stored[1].ST, stored[2].ST}, "%s", x.Labels)
				}
			}
		})
	}
}
