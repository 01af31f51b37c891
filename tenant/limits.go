package tenant

import (
	"fmt"
	"time"
)

// Limits are the numbers of one tenant's Settings, immutable like them: a new
// version is a new pointer.
type Limits struct {
	MaxLabelsPerSeries  int           `yaml:"max_labels_per_series"`
	MaxLabelNameBytes   int           `yaml:"max_label_name_bytes"`
	MaxLabelValueBytes  int           `yaml:"max_label_value_bytes"`
	MaxHistogramBuckets int           `yaml:"max_histogram_buckets"`
	MaxExemplars        int           `yaml:"max_exemplars"`
	MaxMetadataEntries  int           `yaml:"max_metadata_entries"`
	MaxMetadataBytes    int           `yaml:"max_metadata_bytes"`
	OutOfOrderWindow    time.Duration `yaml:"out_of_order_window"`
	FutureGrace         time.Duration `yaml:"future_grace"`
	PastGrace           time.Duration `yaml:"past_grace"`
	LegacyNamesOnly     bool          `yaml:"legacy_names_only"`
}

// DefaultLimits returns the limits of a tenant that has none of its own.
func DefaultLimits() Limits {
	return Limits{
		MaxLabelsPerSeries:  64,
		MaxLabelNameBytes:   1024,
		MaxLabelValueBytes:  4096,
		MaxHistogramBuckets: 1000,             // of one native histogram, positive plus negative
		MaxExemplars:        100_000,          // kept in memory, oldest go first
		MaxMetadataEntries:  100_000,          // metric families with help texts
		MaxMetadataBytes:    4096,             // name, help and unit of one metric family
		OutOfOrderWindow:    10 * time.Minute, // behind the newest sample of the tenant
		FutureGrace:         10 * time.Minute, // ahead of our clock
		PastGrace:           336 * time.Hour,  // behind our clock, 14 days: within the retention, or it would be gone at once; 0: no bound
		LegacyNamesOnly:     false,            // true: refuse UTF-8 metric and label names
	}
}

// Validate reports every violation, each with its path below prefix, the value
// and the rule.
func (l *Limits) Validate(prefix string) []error {
	var errs []error
	positive := func(name string, v int) {
		if v <= 0 {
			errs = append(errs, fmt.Errorf("%s.%s: %d: must be at least 1", prefix, name, v))
		}
	}
	notNegative := func(name string, d time.Duration) {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s.%s: %s: must not be negative", prefix, name, d))
		}
	}
	positive("max_labels_per_series", l.MaxLabelsPerSeries)
	if l.MaxLabelsPerSeries > 10_000 {
		errs = append(errs, fmt.Errorf("%s.max_labels_per_series: %d: must be at most 10000", prefix, l.MaxLabelsPerSeries))
	}
	positive("max_label_name_bytes", l.MaxLabelNameBytes)
	positive("max_label_value_bytes", l.MaxLabelValueBytes)
	positive("max_histogram_buckets", l.MaxHistogramBuckets)
	positive("max_metadata_bytes", l.MaxMetadataBytes)
	if l.MaxExemplars < 0 {
		errs = append(errs, fmt.Errorf("%s.max_exemplars: %d: must not be negative", prefix, l.MaxExemplars))
	}
	if l.MaxMetadataEntries < 0 {
		errs = append(errs, fmt.Errorf("%s.max_metadata_entries: %d: must not be negative", prefix, l.MaxMetadataEntries))
	}
	notNegative("out_of_order_window", l.OutOfOrderWindow)
	notNegative("future_grace", l.FutureGrace)
	notNegative("past_grace", l.PastGrace)
	return errs
}
