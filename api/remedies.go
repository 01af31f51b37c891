package api

import (
	"strings"

	"github.com/weir-metrics/weir/proto"
)

// docsURL is where the ids of errors are explained.
const docsURL = "https://github.com/weir-metrics/weir/blob/main/docs/errors.md#"

// docsOf is the page about an id. Reasons have a heading each, the others are rows
// of a table.
func docsOf(id string) string {
	if _, ok := reasonOf(id); ok {
		return docsURL + id
	}
	return docsURL + "the-request-as-a-whole-was-refused"
}

// remedies are what to do about each reason, in a sentence; docs/errors.md says
// more.
var remedies = map[proto.Reason]string{
	proto.LabelsMalformed:         "update or replace the sender: it writes labels that are no protocol buffer messages",
	proto.SymbolInvalid:           "update or replace the sender: its label references do not fit its symbol table",
	proto.MetricNameMissing:       "look for a relabelling rule of the sender that drops or empties __name__",
	proto.MetricNameInvalid:       "rename the metric, or ask the operator to turn limits.legacy_names_only off",
	proto.LabelNameInvalid:        "rename the label, or ask the operator to turn limits.legacy_names_only off if it is UTF-8",
	proto.LabelValueInvalid:       "make the application write UTF-8 into the label",
	proto.LabelNameDuplicate:      "look for external_labels or a proxy of the sender that add a label which is there already",
	proto.LabelsTooMany:           "drop labels by write_relabel_configs (labeldrop), or ask the operator for a higher limit",
	proto.LabelNameTooLong:        "rename or drop the label by write_relabel_configs, or ask the operator for a higher limit",
	proto.LabelValueTooLong:       "shorten or drop the label by write_relabel_configs, or ask the operator for a higher limit",
	proto.RelabelDropped:          "change the tenant's relabel rules, if the series is wanted",
	proto.ValueRejected:           "keep personal data and secrets out of the label, or ask the operator to hash or mask the value instead",
	proto.BoundLabelConflict:      "remove the label at the sender, or use the credential that is meant for its value",
	proto.SampleTooFarInFuture:    "set the sender's clock",
	proto.SampleTooOld:            "send newer samples, or ask the operator to raise limits.past_grace for a backfill",
	proto.SampleOutOfOrder:        "let the sender catch up, set its clock, or ask the operator to raise limits.out_of_order_window",
	proto.SampleDuplicate:         "two senders write the same series: give each an external label of its own",
	proto.HistogramInvalid:        "update the client library that makes the histogram",
	proto.HistogramTooManyBuckets: "lower native_histogram_bucket_limit in the scrape configuration, or ask the operator for a higher limit",
	proto.ExemplarInvalid:         "shorten the labels of the exemplar: 128 characters together",
	proto.ExemplarOutOfOrder:      "nothing: newer exemplars of the series are stored",
	proto.ExemplarWithoutSeries:   "send samples of the series before or with its exemplars",
	proto.MetadataInvalid:         "give the metric family a name, and help and unit in UTF-8",
	proto.MetadataTooLong:         "shorten name and unit of the metric family",
	proto.MetadataLimit:           "nothing for the samples, which are stored; for the help text, drop metrics that nobody needs, or ask the operator for a higher limit",
	proto.PointUntranslatable:     "change the instrument in the application; the text says what cannot become a series",
	proto.DeltaOutOfOrder:         "send the deltas of a series in order, from one exporter to one weir",
	proto.DeltaTooManySeries:      "export with cumulative temporality, or ask the operator to raise receiver.otlp.delta_max_series_per_tenant",
	proto.SeriesLimit:             "look at GET /api/v1/cardinality for what the series consist of, drop what nobody needs, or ask the operator for a higher limit",
	proto.MetricSeriesLimit:       "look at GET /api/v1/cardinality?selector=METRIC for the label that makes so many series, and drop it",
	proto.LabelSetSeriesLimit:     "write fewer series into this label set, or ask the operator for a higher limit of it",
	proto.LabelSetRate:            "send less into this label set, give it a sender of its own, which is then told to wait, or ask the operator for a higher limit of it",
	proto.Quarantined:             "look at GET /api/v1/cardinality/quarantine for the label that explodes, and stop it at its source or drop it by a rule",
}

// remedyOf is what to do about an id. The texts of requests that were refused as
// a whole say it themselves.
func remedyOf(id string) string {
	if r, ok := reasonOf(id); ok {
		return remedies[r]
	}
	if strings.HasPrefix(id, "weir-") {
		return "do what the text says; the request as a whole was refused"
	}
	return ""
}
