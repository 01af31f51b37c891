package tenant

import (
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	promql "github.com/prometheus/prometheus/promql/parser"
)

// LabelSet is a part of a tenant's series that is counted by itself. With a limit,
// it is a quota below the tenant's; without, a tracker.
type LabelSet struct {
	Name            string `yaml:"name"`
	Match           string `yaml:"match"`             // a selector: {team="a"}
	MaxActiveSeries int    `yaml:"max_active_series"` // 0: no limit
	IngestionRate   int    `yaml:"ingestion_rate"`    // floats and native histograms a second; 0: no limit
}

// maxLabelSets is more than anybody reads. Each new series is compared with all.
const maxLabelSets = 100

// MaxRatedSets is how many label sets may have a rate: a verdict on a series has a
// bit for each.
const MaxRatedSets = 32

// HasSetRates reports whether any label set has a rate.
func (l *Limits) HasSetRates() bool {
	for i := range l.LabelSets {
		if l.LabelSets[i].IngestionRate > 0 {
			return true
		}
	}
	return false
}

// Rates returns the share of the set's rate that one receiver grants, of 1.
func (s *LabelSet) Rates(share float64) Rates {
	rate := share * float64(s.IngestionRate)
	return Rates{Samples: {PerSecond: rate, Burst: burstSeconds * rate}}
}

// Matchers returns what Match says.
func (s *LabelSet) Matchers() ([]*labels.Matcher, error) {
	return promql.NewParser(promql.Options{}).ParseMetricSelector(s.Match)
}

func (l *Limits) validateSeries(prefix string) []error {
	var errs []error
	bad := func(name string, v any, rule string) {
		errs = append(errs, fmt.Errorf("%s.%s: %v: %s", prefix, name, v, rule))
	}
	if l.MaxActiveSeries < 0 {
		bad("max_active_series", l.MaxActiveSeries, "must not be negative")
	}
	if l.MaxSeriesPerMetric < 0 {
		bad("max_series_per_metric", l.MaxSeriesPerMetric, "must not be negative")
	}
	if !slices.Contains([]string{"auto", "reject-429", "partial-400"}, l.OnSeriesLimit) {
		bad("on_series_limit", l.OnSeriesLimit, "must be auto, reject-429 or partial-400")
	}
	if !slices.Contains([]string{"off", "report", "enforce"}, l.Quarantine) {
		bad("quarantine", l.Quarantine, "must be off, report or enforce")
	}
	if len(l.LabelSets) > maxLabelSets {
		bad("label_sets", len(l.LabelSets), fmt.Sprintf("must be at most %d", maxLabelSets))
	}
	names, rated := make(map[string]bool), 0
	for i, s := range l.LabelSets {
		at := fmt.Sprintf("label_sets[%d]", i)
		if s.Name == "" || names[s.Name] {
			bad(at+".name", fmt.Sprintf("%q", s.Name), "must be there, and of no other label set")
		}
		names[s.Name] = true
		if _, err := s.Matchers(); err != nil {
			bad(at+".match", fmt.Sprintf("%q", s.Match), fmt.Sprintf("must be a selector such as {team=\"a\"}: %v", err))
		}
		if s.MaxActiveSeries < 0 {
			bad(at+".max_active_series", s.MaxActiveSeries, "must not be negative")
		}
		if s.IngestionRate < 0 {
			bad(at+".ingestion_rate", s.IngestionRate, "must not be negative")
		}
		if s.IngestionRate > 0 {
			rated++
		}
	}
	if rated > MaxRatedSets {
		bad("label_sets", rated, fmt.Sprintf("at most %d may have an ingestion_rate", MaxRatedSets))
	}
	return errs
}
