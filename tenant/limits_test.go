package tenant_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/tenant"
)

func TestDefaultLimitsAreValid(t *testing.T) {
	l := tenant.DefaultLimits()
	require.Empty(t, l.Validate("limits"))
}

func TestLimitsValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*tenant.Limits)
		want   []string
	}{
		{name: "no labels", change: func(l *tenant.Limits) { l.MaxLabelsPerSeries = 0 }, want: []string{"limits.max_labels_per_series: 0: must be at least 1"}},
		{name: "most labels", change: func(l *tenant.Limits) { l.MaxLabelsPerSeries = 10_000 }},
		{name: "too many labels", change: func(l *tenant.Limits) { l.MaxLabelsPerSeries = 10_001 }, want: []string{"limits.max_labels_per_series: 10001: must be at most 10000"}},
		{name: "no label names", change: func(l *tenant.Limits) { l.MaxLabelNameBytes = -1 }, want: []string{"limits.max_label_name_bytes: -1: must be at least 1"}},
		{name: "no label values", change: func(l *tenant.Limits) { l.MaxLabelValueBytes = 0 }, want: []string{"limits.max_label_value_bytes: 0: must be at least 1"}},
		{name: "no buckets", change: func(l *tenant.Limits) { l.MaxHistogramBuckets = 0 }, want: []string{"limits.max_histogram_buckets: 0: must be at least 1"}},
		{name: "no metadata bytes", change: func(l *tenant.Limits) { l.MaxMetadataBytes = 0 }, want: []string{"limits.max_metadata_bytes: 0: must be at least 1"}},
		{name: "one of each", change: func(l *tenant.Limits) {
			l.MaxLabelsPerSeries, l.MaxLabelNameBytes, l.MaxLabelValueBytes, l.MaxHistogramBuckets, l.MaxMetadataBytes = 1, 1, 1, 1, 1
		}},
		{name: "no exemplars", change: func(l *tenant.Limits) { l.MaxExemplars = 0 }},
		{name: "fewer exemplars than none", change: func(l *tenant.Limits) { l.MaxExemplars = -1 }, want: []string{"limits.max_exemplars: -1: must not be negative"}},
		{name: "no metadata", change: func(l *tenant.Limits) { l.MaxMetadataEntries = 0 }},
		{name: "less metadata than none", change: func(l *tenant.Limits) { l.MaxMetadataEntries = -2 }, want: []string{"limits.max_metadata_entries: -2: must not be negative"}},
		{name: "no times", change: func(l *tenant.Limits) { l.OutOfOrderWindow, l.FutureGrace, l.PastGrace = 0, 0, 0 }},
		{name: "negative times", change: func(l *tenant.Limits) {
			l.OutOfOrderWindow, l.FutureGrace, l.PastGrace = -time.Second, -time.Minute, -time.Hour
		}, want: []string{
			"limits.out_of_order_window: -1s: must not be negative",
			"limits.future_grace: -1m0s: must not be negative",
			"limits.past_grace: -1h0m0s: must not be negative",
		}},
		{name: "series", change: func(l *tenant.Limits) {
			l.MaxActiveSeries, l.MaxSeriesPerMetric, l.OnSeriesLimit, l.Quarantine = 10, 5, "partial-400", "enforce"
			l.LabelSets = []tenant.LabelSet{{Name: "a", Match: `{team="a"}`, MaxActiveSeries: 5}, {Name: "b", Match: `up`}}
		}},
		{name: "series, all wrong", change: func(l *tenant.Limits) {
			l.OnSeriesLimit, l.Quarantine = "drop", "on"
			l.LabelSets = []tenant.LabelSet{{Name: "a", Match: `{team="a"`}, {Name: "a", Match: `up`, MaxActiveSeries: -1}}
		}, want: []string{
			`limits.on_series_limit: drop: must be auto, reject-429 or partial-400`,
			`limits.quarantine: on: must be off, report or enforce`,
			`limits.label_sets[0].match: "{team=\"a\"": must be a selector such as {team="a"}: 1:10: parse error: unexpected end of input inside braces`,
			`limits.label_sets[1].name: "a": must be there, and of no other label set`,
			`limits.label_sets[1].max_active_series: -1: must not be negative`,
		}},
		{name: "rates of label sets", change: func(l *tenant.Limits) {
			for i := range tenant.MaxRatedSets + 5 {
				l.LabelSets = append(l.LabelSets, tenant.LabelSet{Name: fmt.Sprint(i), Match: "up", IngestionRate: min(i, 1)})
			}
			l.LabelSets[0].IngestionRate = -1
		}, want: []string{
			`limits.label_sets[0].ingestion_rate: -1: must not be negative`,
			`limits.label_sets: 36: at most 32 may have an ingestion_rate`,
		}},
		{name: "legacy names", change: func(l *tenant.Limits) { l.LegacyNamesOnly = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := tenant.DefaultLimits()
			c.change(&l)
			var got []string
			for _, err := range l.Validate("limits") {
				got = append(got, err.Error())
			}
			require.Equal(t, c.want, got)
		})
	}
}

// TestLimitsValidateAll sets every number to less than nothing: each is
// reported, so that an operator corrects a file once.
func TestLimitsValidateAll(t *testing.T) {
	var (
		l = tenant.DefaultLimits()
		n int
	)
	v := reflect.ValueOf(&l).Elem()
	for i := range v.NumField() {
		if v.Field(i).CanInt() {
			v.Field(i).SetInt(-1)
			n++
		}
	}
	errs := l.Validate("a.b")
	require.Len(t, errs, n)
	for _, err := range errs {
		require.Regexp(t, `^a\.b\.[a-z_]+: -1(ns)?: must `, err.Error())
	}
}
