package receiver

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-metrics/weir/proto"
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
			Help: "Samples in requests that could be read, by type (float, histogram, exemplar).",
		}, []string{"type"}),
		written: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receiver_written_samples_total",
			Help: "Samples stored, exact duplicates included, by type.",
		}, []string{"type"}),
		discarded: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receiver_discarded_samples_total",
			Help: "Samples refused while the rest of their request was stored, by type and reason (docs/errors.md).",
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
	}
}

// count adds what became of a request whose frame was written, in all and to its
// tenant.
func (m *metrics) count(req *request, of *tenant.Counters) {
	of.Received(req.sent.Samples + req.sent.Histograms + req.sent.Exemplars)
	addCounts(m.received, req.sent)
	addCounts(m.written, req.written)
	m.admitted.Add(float64(req.parsed))
	m.taught.Add(float64(len(req.reply.Unknown)))
	if req.rejected.Total() == 0 {
		return
	}
	for reason, c := range req.rejected.Counts {
		if c == (proto.Counts{}) {
			continue
		}
		of.Discarded(proto.Reason(reason), c.Total())
		id := proto.Reason(reason).ID()
		for _, t := range [...]struct {
			name string
			n    int
		}{{"float", c.Samples}, {"histogram", c.Histograms}, {"exemplar", c.Exemplars}, {"metadata", c.Metadata}} {
			if t.n > 0 {
				m.discarded.WithLabelValues(t.name, id).Add(float64(t.n))
			}
		}
	}
}

func addCounts(v *prometheus.CounterVec, c proto.Counts) {
	if c.Samples > 0 {
		v.WithLabelValues("float").Add(float64(c.Samples))
	}
	if c.Histograms > 0 {
		v.WithLabelValues("histogram").Add(float64(c.Histograms))
	}
	if c.Exemplars > 0 {
		v.WithLabelValues("exemplar").Add(float64(c.Exemplars))
	}
}
