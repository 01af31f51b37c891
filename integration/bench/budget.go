package bench

import "slices"

// Line is one promise of the budget.
type Line struct {
	Text     string  `json:"text"`
	Value    float64 `json:"value"`
	Limit    float64 `json:"limit"` // Value must not be above
	Unit     string  `json:"unit"`
	Measured bool    `json:"measured"` // false: a server or scenario it needs was left out
	Holds    bool    `json:"holds"`
}

// metric picks a figure of a measurement.
type metric func(Measurement) float64

func cpuPerMillion(m Measurement) float64   { return m.CPUPerMillion }
func cpuPerNewSeries(m Measurement) float64 { return m.CPUPerNewSeries }
func peakMiB(m Measurement) float64         { return float64(m.PeakBytes) / (1 << 20) }
func p50ms(m Measurement) float64           { return 1e3 * m.P50 }
func p99ms(m Measurement) float64           { return 1e3 * m.P99 }
func longestMS(m Measurement) float64       { return 1e3 * m.Longest }
func longestNewMS(m Measurement) float64    { return 1e3 * m.LongestFirst }
func longestOfAllMS(m Measurement) float64  { return max(longestMS(m), longestNewMS(m)) }
func ksamplesPerSec(m Measurement) float64  { return m.SamplesPerSecond / 1e3 }

// Budget compares the medians of weir with those of its peers.
func Budget(all []Measurement) []Line {
	ratio := func(text, scenario, peer string, f metric, limit float64) Line {
		return limited(text, "×", limit, quotient(all, scenario, "weir", scenario, peer, f))
	}
	absolute := func(text, scenario, unit string, f metric, limit float64) Line {
		return limited(text, unit, limit, median(all, scenario, "weir", f))
	}
	guarded := func(text, scenario string) Line {
		return limited(text, "×", 1.08, quotient(all, scenario, "weir-guarded", scenario, "weir", cpuPerMillion))
	}
	return []Line{
		ratio("RW 1.0: CPU per sample, to VictoriaMetrics", SteadyV1, "victoria-metrics", cpuPerMillion, 0.45),
		ratio("RW 1.0: CPU per sample, to Prometheus", SteadyV1, "prometheus", cpuPerMillion, 0.12),
		ratio("RW 2.0: CPU per sample, to Prometheus", SteadyV2, "prometheus", cpuPerMillion, 0.28),
		limited("RW 2.0: CPU per sample, to our RW 1.0", "×", 1, quotient(all, SteadyV2, "weir", SteadyV1, "weir", cpuPerMillion)),
		guarded("RW 1.0: CPU per sample with credential, limits and rules, to without", SteadyV1),
		guarded("RW 2.0: CPU per sample with credential, limits and rules, to without", SteadyV2),
		ratio("RW 1.0: p99 of a request, to VictoriaMetrics", SteadyV1, "victoria-metrics", p99ms, 1),
		absolute("RW 1.0: longest request", SteadyV1, "ms", longestMS, 300),
		absolute("RW 2.0: longest request", SteadyV2, "ms", longestMS, 300),
		ratio("1 M series: peak memory, to Prometheus", Cardinality, "prometheus", peakMiB, 0.9),
		ratio("1 M series: peak memory, to VictoriaMetrics (an aim)", Cardinality, "victoria-metrics", peakMiB, 1),
		absolute("1 M series: CPU per new series", Cardinality, "µs", cpuPerNewSeries, 8),
		absolute("1 M series: longest request", Cardinality, "ms", longestOfAllMS, 300),
	}
}

// limited makes a line of a value, which is negative when it was not measured.
func limited(text, unit string, limit, value float64) Line {
	return Line{Text: text, Value: value, Limit: limit, Unit: unit, Measured: value >= 0, Holds: value >= 0 && value <= limit}
}

// quotient of two medians; -1 when one is missing.
func quotient(all []Measurement, scenario, server, toScenario, toServer string, f metric) float64 {
	a, b := median(all, scenario, server, f), median(all, toScenario, toServer, f)
	if a < 0 || b <= 0 {
		return -1
	}
	return a / b
}

// median over the repeats; -1 without any.
func median(all []Measurement, scenario, server string, f metric) float64 {
	v := values(all, scenario, server, f)
	switch n := len(v); {
	case n == 0:
		return -1
	case n%2 == 0:
		return (v[n/2-1] + v[n/2]) / 2
	default:
		return v[n/2]
	}
}

// values of all repeats, ascending.
func values(all []Measurement, scenario, server string, f metric) []float64 {
	var v []float64
	for _, m := range all {
		if m.Scenario == scenario && m.Server == server {
			v = append(v, f(m))
		}
	}
	slices.Sort(v)
	return v
}
