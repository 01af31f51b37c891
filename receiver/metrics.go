package receiver

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/relabel"
	"github.com/weir-metrics/weir/tenant"
)

type metrics struct {
	requests  *prometheus.CounterVec
	received  *prometheus.CounterVec
	written   *prometheus.CounterVec
	discarded *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	admitted  prometheus.Counter
	taught    prometheus.Counter
	warnings  *prometheus.CounterVec
	unsorted  prometheus.Counter
	redacted  *prometheus.CounterVec
	shadow    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, entries, sums func() float64) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_receiver_admission_entries",
		Help: "Verdicts on series remembered, over all tenants.",
	}, entries)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_receiver_otlp_delta_series",
		Help: "Series whose OTLP deltas are added up, over all tenants.",
	}, sums)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receiver_requests_total",
			Help: "Write requests by protocol (1.0 and 2.0 of remote write, otlp) and by the id of the answer (weir-ok when everything was stored).",
		}, []string{"protocol", "result"}),
		received: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receiver_received_samples_total",
			Help: "Samples in requests that could be read, by type (float, histogram, exemplar, metadata): those written and those discarded.",
		}, []string{"type"}),
		written: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receiver_written_samples_total",
			Help: "Samples stored, exact duplicates included, by type.",
		}, []string{"type"}),
		discarded: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receiver_discarded_samples_total",
			Help: "Samples read and not stored, by type and reason (docs/errors.md): single ones, those that the tenant's own rules drop, and those of requests that were refused as a whole.",
		}, []string{"type", "reason"}),
		bytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receiver_request_bytes_total",
			Help: "Bytes of request bodies, by form (compressed, decoded).",
		}, []string{"form"}),
		admitted: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_receiver_admissions_total",
			Help: "Series whose labels had to be parsed because no verdict was remembered.",
		}),
		taught: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_receiver_taught_series_total",
			Help: "Series whose labels were sent again because an ingester did not know them.",
		}),
		warnings: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receiver_otlp_translation_warnings_total",
			Help: "Warnings of the translator of OTLP, by category: what is stored may not be what was meant.",
		}, []string{"category"}),
		unsorted: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_receiver_unsorted_series_total",
			Help: "New series whose labels were not sorted by name; they were sorted.",
		}),
		redacted: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receiver_redactions_total",
			Help: "New series, exemplars and metadata in which redaction changed something (in: series, exemplar, metadata).",
		}, []string{"in"}),
		shadow: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receiver_shadow_series_total",
			Help: "New series by what shadow rules would change about them, or did, in a canary (same, drop, reject, store, rename, redact, relabel).",
		}, []string{"change"}),
	}
}

// count adds what became of a request that was scanned, in all and to its tenant:
// what was received is what was written and what was discarded. cause is why
// something is to be sent again; nil: nothing is.
func (m *metrics) count(req *request, of *tenant.Counters, cause *proto.Error) {
	of.Received(req.sent.Samples + req.sent.Histograms + req.sent.Exemplars)
	addCounts(m.received, req.sent)
	m.admitted.Add(float64(req.parsed))
	m.taught.Add(float64(len(req.reply.Unknown)))
	m.countRules(req)
	if cause != nil && req.postponed == nil {
		m.discard(req.sent, cause.ID) // what was stored of it comes again
		return
	}
	addCounts(m.written, req.written)
	left := req.sent
	left.Sub(req.written)
	lose := func(reason proto.Reason, c proto.Counts) {
		if c != (proto.Counts{}) {
			of.Discarded(reason, c.Total())
			m.discard(c, reason.ID())
			left.Sub(c)
		}
	}
	lose(proto.RelabelDropped, req.dropped.Counts[proto.RelabelDropped])
	if req.rejected.Total() > 0 {
		for reason, c := range req.rejected.Counts {
			lose(proto.Reason(reason), c)
		}
	}
	if cause != nil {
		m.discard(left, cause.ID)
	}
}

// countRules adds what was done to labels.
func (m *metrics) countRules(req *request) {
	m.unsorted.Add(float64(req.unsorted))
	if req.redacted != (redactions{}) {
		m.redacted.WithLabelValues("series").Add(float64(req.redacted.series))
		m.redacted.WithLabelValues("exemplar").Add(float64(req.redacted.exemplars))
		m.redacted.WithLabelValues("metadata").Add(float64(req.redacted.metadata))
	}
	for change, n := range req.changes {
		if n > 0 {
			m.shadow.WithLabelValues(relabel.Change(change).String()).Add(float64(n))
		}
	}
}

func (m *metrics) discard(c proto.Counts, id string) {
	eachType(c, func(name string, n int) { m.discarded.WithLabelValues(name, id).Add(float64(n)) })
}

func addCounts(v *prometheus.CounterVec, c proto.Counts) {
	eachType(c, func(name string, n int) { v.WithLabelValues(name).Add(float64(n)) })
}

func eachType(c proto.Counts, yield func(name string, n int)) {
	for _, t := range [...]struct {
		name string
		n    int
	}{{"float", c.Samples}, {"histogram", c.Histograms}, {"exemplar", c.Exemplars}, {"metadata", c.Metadata}} {
		if t.n > 0 {
			yield(t.name, t.n)
		}
	}
}
