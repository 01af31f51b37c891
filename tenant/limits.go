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

	IngestionRate              int     `yaml:"ingestion_rate"`
	IngestionBurstSize         int     `yaml:"ingestion_burst_size"`
	RequestRate                int     `yaml:"request_rate"`
	RequestBurstSize           int     `yaml:"request_burst_size"`
	IngestionBytesRate         int     `yaml:"ingestion_bytes_rate"`
	NativeHistogramBucketsRate int     `yaml:"native_histogram_buckets_rate"`
	ExemplarsRate              int     `yaml:"exemplars_rate"`
	OnLimit                    OnLimit `yaml:"on_limit"`

	MaxActiveSeries    int        `yaml:"max_active_series"`
	MaxSeriesPerMetric int        `yaml:"max_series_per_metric"`
	LabelSets          []LabelSet `yaml:"label_sets"`
	OnSeriesLimit      string     `yaml:"on_series_limit"`
	Quarantine         string     `yaml:"quarantine"`
}

// OnLimit says how a request beyond a rate is answered.
type OnLimit string

const (
	// Reject429 is what the standard says: 429, which some senders take for a
	// reason to drop the request.
	Reject429 OnLimit = "reject-429"
	// Retry503 makes every sender repeat the request.
	Retry503 OnLimit = "retry-503"
	// OnLimitAuto answers what makes this sender repeat it.
	OnLimitAuto OnLimit = "auto"
)

// DefaultLimits returns the limits of a tenant that has none of its own.
func DefaultLimits() Limits {
	return Limits{
		MaxLabelsPerSeries:  64,
		MaxLabelNameBytes:   1024,
		MaxLabelValueBytes:  4096,
		MaxHistogramBuckets: 1000,             // of one native histogram, positive plus negative
		MaxExemplars:        100_000,          // kept in memory, oldest go first
		MaxMetadataEntries:  100_000,          // metric families with help texts; 0: none, and nobody is refused for it
		MaxMetadataBytes:    4096,             // name, help and unit of one metric family
		OutOfOrderWindow:    10 * time.Minute, // behind the newest sample of the tenant
		FutureGrace:         10 * time.Minute, // ahead of our clock
		PastGrace:           336 * time.Hour,  // behind our clock, 14 days: within the retention, or it would be gone at once; 0: no bound
		LegacyNamesOnly:     false,            // true: refuse UTF-8 metric and label names

		// Of each second. 0: no limit, because only whoever gives a tenant its
		// quota knows it, and a process that nobody gave one shall refuse nothing.
		IngestionRate:              0, // samples: floats and native histograms
		IngestionBurstSize:         0, // samples at once; 0: ten seconds of the rate, as for all others
		RequestRate:                0,
		RequestBurstSize:           0,
		IngestionBytesRate:         0, // of write requests, decompressed
		NativeHistogramBucketsRate: 0,
		ExemplarsRate:              0,
		OnLimit:                    Reject429, // as the standard says

		MaxActiveSeries:    0,            // that sent a sample in the last 20 minutes; 0: no limit
		MaxSeriesPerMetric: 0,            // of these, of one metric name; 0: no limit
		LabelSets:          []LabelSet{}, // series that are counted together, and perhaps limited
		OnSeriesLimit:      "auto",       // auto, reject-429 or partial-400: what becomes of new series at a limit
		Quarantine:         "report",     // off, report or enforce: new series of a metric that one label makes explode
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
	for _, limit := range []struct {
		name string
		v    int
	}{
		{"max_exemplars", l.MaxExemplars}, {"max_metadata_entries", l.MaxMetadataEntries},
		{"ingestion_rate", l.IngestionRate}, {"ingestion_burst_size", l.IngestionBurstSize},
		{"request_rate", l.RequestRate}, {"request_burst_size", l.RequestBurstSize},
		{"ingestion_bytes_rate", l.IngestionBytesRate},
		{"native_histogram_buckets_rate", l.NativeHistogramBucketsRate}, {"exemplars_rate", l.ExemplarsRate},
	} {
		if limit.v < 0 {
			errs = append(errs, fmt.Errorf("%s.%s: %d: must not be negative", prefix, limit.name, limit.v))
		}
	}
	if l.OnLimit != Reject429 && l.OnLimit != Retry503 && l.OnLimit != OnLimitAuto {
		errs = append(errs, fmt.Errorf("%s.on_limit: %q: must be %s, %s or %s", prefix, l.OnLimit, Reject429, Retry503, OnLimitAuto))
	}
	notNegative("out_of_order_window", l.OutOfOrderWindow)
	notNegative("future_grace", l.FutureGrace)
	notNegative("past_grace", l.PastGrace)
	return append(errs, l.validateSeries(prefix)...)
}
