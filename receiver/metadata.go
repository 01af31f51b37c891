package receiver

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// learnMetadata adds to the frame what series i says of its metric family. A
// version 2 sender says it with every request; hash tells it is new to us. name is
// the one under which the series is stored.
func (req *request) learnMetadata(lim *tenant.Limits, i, hash uint32, name string) {
	req.addMetadata(lim, i, req.scan.Metadata(&req.series[i].Series, name))
	req.learned = append(req.learned, learned{i, hash})
}

// addMetadata checks m, whose strings are views of the request, and copies it
// into the frame. A help text that is too long is cut: it is for people.
func (req *request) addMetadata(lim *tenant.Limits, i uint32, m proto.Metadata) {
	if req.policy.redacts() {
		ok := false
		if m, ok = req.redactMetadata(i, m, lim.MaxMetadataBytes); !ok {
			return
		}
	}
	room := lim.MaxMetadataBytes - len(m.Family) - len(m.Unit)
	if room < 0 {
		req.refuseMetadata(proto.MetadataTooLong, i, m.Family, func() string {
			return fmt.Sprintf("name and unit of the metric family %s have %d bytes, the limit max_metadata_bytes is %d",
				quote(req.policy.hide(m.Family)), len(m.Family)+len(m.Unit), lim.MaxMetadataBytes)
		})
		return
	}
	m.Help = cut(m.Help, room)
	if m.Family == "" || !model.UTF8Validation.IsValidMetricName(m.Family) || !utf8.ValidString(m.Help) || !utf8.ValidString(m.Unit) {
		req.refuseMetadata(proto.MetadataInvalid, i, m.Family, func() string {
			return fmt.Sprintf("the metric family %s has no name, or its name, help or unit is not UTF-8", quote(req.policy.hide(m.Family)))
		})
		return
	}
	// The series of a family follow each other and say the same.
	if n := len(req.frame.Metadata); n > 0 && req.frame.Metadata[n-1] == m {
		return
	}
	req.sent.Metadata++
	req.spelled += len(m.Family) + len(m.Help) + len(m.Unit)
	req.frame.Metadata = append(req.frame.Metadata, proto.Metadata{
		Family:   strings.Clone(m.Family),
		Metadata: metadata.Metadata{Type: m.Type, Help: strings.Clone(m.Help), Unit: strings.Clone(m.Unit)},
	})
}

// refuseMetadata counts what series i, or none, said of a metric family.
func (req *request) refuseMetadata(reason proto.Reason, i uint32, family string, detail func() string) {
	one := proto.Counts{Metadata: 1}
	if i == proto.NoSeries {
		ls := labels.EmptyLabels()
		if family != "" {
			ls = labels.FromStrings(model.MetricNameLabel, req.policy.hideStart(family, 1000))
		}
		req.refuseUnseen(reason, one, 0, ls, detail)
		return
	}
	req.sent.Add(one)
	req.rejected.Add(reason, one, i, 0, detail)
}

// settleMetadata counts what the ingester did not keep of the request's metadata:
// families, by their indexes in the frame. A series that said it is not asked again,
// or every one of its requests would be refused in part.
func (req *request) settleMetadata(families []uint32) {
	for _, i := range families {
		m := &req.frame.Metadata[i]
		req.refused(proto.MetadataLimit, proto.Counts{Metadata: 1}, 0, labels.FromStrings(model.MetricNameLabel, cut(m.Family, 1000)), func() string {
			return fmt.Sprintf("the metric family %s is new, and metadata of as many is kept as max_metadata_entries allows, %d; samples are not concerned",
				quote(m.Family), req.policy.limits().MaxMetadataEntries)
		})
	}
}

// cut returns the first n bytes of s, without a character that is cut in two.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
