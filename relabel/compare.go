package relabel

import (
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/proto"
)

// Change is what other rules would change about a series.
type Change uint8

const (
	// Same is a series of which everything stays.
	Same Change = iota
	// WouldDrop is a series that is stored and would be dropped.
	WouldDrop
	// WouldReject is a series that is stored or dropped and would be refused.
	WouldReject
	// WouldStore is a series that is dropped or refused and would be stored.
	WouldStore
	// WouldRename is a series that would have another metric name.
	WouldRename
	// WouldRedact is a series of whose labels something would be hidden.
	WouldRedact
	// WouldRelabel is a series that would have other labels.
	WouldRelabel

	// Changes is the number of changes.
	Changes
)

// String is how reports and metrics name c.
func (c Change) String() string {
	return [Changes]string{"same", "drop", "reject", "store", "rename", "redact", "relabel"}[c]
}

// Compare says what changes when a series with the outcome now has the outcome
// then.
func Compare(now, then *Outcome) Change {
	switch {
	case then.Reason == proto.RelabelDropped && now.Reason != then.Reason:
		return WouldDrop
	case then.Reason == proto.RelabelDropped:
		return Same
	case then.Reason != proto.OK && (now.Reason == proto.OK || now.Reason == proto.RelabelDropped):
		return WouldReject
	case then.Reason != proto.OK:
		return Same
	case now.Reason != proto.OK:
		return WouldStore
	case slices.Equal(now.Labels, then.Labels):
		return Same
	case metricName(now.Labels) != metricName(then.Labels):
		return WouldRename
	case then.Redacted != 0:
		return WouldRedact
	}
	return WouldRelabel
}

func metricName(ls []labels.Label) string {
	for _, l := range ls {
		if l.Name == model.MetricNameLabel {
			return l.Value
		}
	}
	return ""
}
