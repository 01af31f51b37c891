package ingester

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	maintenanceFailures prometheus.Counter
	late                prometheus.Counter
	metadataDropped     prometheus.Counter
	exemplarsDropped    prometheus.Counter
}

func newMetrics(i *Ingester) *metrics {
	f := promauto.With(i.Registry)
	sum := func(of func(*tenantDB) float64) func() float64 {
		return func() (s float64) {
			for _, t := range i.all() {
				s += of(t)
			}
			return s
		}
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ingester_tenants",
		Help: "Tenants with an open TSDB.",
	}, sum(func(*tenantDB) float64 { return 1 }))
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ingester_memory_series",
		Help: "Series in memory, over all tenants.",
	}, sum(func(t *tenantDB) float64 { return float64(t.db.Head().NumSeries()) }))
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ingester_known_series",
		Help: "Series whose identity is known without labels, over all tenants.",
	}, sum(func(t *tenantDB) float64 { return float64(t.series.len()) }))
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ingester_blocks",
		Help: "Blocks on local disk, over all tenants.",
	}, sum(func(t *tenantDB) float64 { return float64(len(t.db.Blocks())) }))
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ingester_tenants_to_open",
		Help: "Tenants found on disk at start whose log is not replayed yet.",
	}, func() float64 { return float64(i.toOpen.Load() - i.opened.Load()) })
	return &metrics{
		maintenanceFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_maintenance_failures_total",
			Help: "Attempts to cut a tenant's head into blocks that failed.",
		}),
		metadataDropped: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_metadata_dropped_total",
			Help: "Statements about new metric families beyond max_metadata_entries, which are not kept.",
		}),
		exemplarsDropped: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_exemplars_dropped_total",
			Help: "Exemplars of tenants whose limit max_exemplars is 0, answered as written and not kept.",
		}),
		late: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_late_samples_total",
			Help: "Samples that were not newer than all before them in their series: repeated, contradicting or out of order.",
		}),
	}
}
