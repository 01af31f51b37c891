package tenant

import "github.com/weir-metrics/weir/proto"

// Behind returns the limit that a reason of refusal is about: its path in the
// configuration, and its value here, nil if it is no single one. A reason that no limit of a tenant decides
// has an empty path.
func (l *Limits) Behind(reason proto.Reason) (path string, value any) {
	switch reason {
	case proto.MetricNameInvalid, proto.LabelNameInvalid:
		return "limits.legacy_names_only", l.LegacyNamesOnly
	case proto.LabelsTooMany:
		return "limits.max_labels_per_series", l.MaxLabelsPerSeries
	case proto.LabelNameTooLong:
		return "limits.max_label_name_bytes", l.MaxLabelNameBytes
	case proto.LabelValueTooLong:
		return "limits.max_label_value_bytes", l.MaxLabelValueBytes
	case proto.SampleTooFarInFuture:
		return "limits.future_grace", l.FutureGrace.String()
	case proto.SampleTooOld:
		return "limits.past_grace", l.PastGrace.String()
	case proto.SampleOutOfOrder:
		return "limits.out_of_order_window", l.OutOfOrderWindow.String()
	case proto.HistogramTooManyBuckets:
		return "limits.max_histogram_buckets", l.MaxHistogramBuckets
	case proto.MetadataTooLong:
		return "limits.max_metadata_bytes", l.MaxMetadataBytes
	case proto.MetadataLimit:
		return "limits.max_metadata_entries", l.MaxMetadataEntries
	case proto.SeriesLimit:
		return "limits.max_active_series", l.MaxActiveSeries
	case proto.MetricSeriesLimit:
		return "limits.max_series_per_metric", l.MaxSeriesPerMetric
	case proto.LabelSetSeriesLimit, proto.LabelSetRate:
		return "limits.label_sets", nil // there are several: the text of the refusal says which
	case proto.Quarantined:
		return "limits.quarantine", l.Quarantine
	}
	return "", nil
}

// BehindRequest is Behind for the id of the error of a request that was refused as a
// whole.
func (l *Limits) BehindRequest(id string) (path string, value any) {
	for r, rate := range l.Rates(1) {
		if of := Resource(r); of.ID() == id {
			return "limits." + of.Setting(), int(rate.PerSecond)
		}
	}
	return "", nil
}
