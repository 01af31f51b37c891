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
	postponed           *prometheus.CounterVec
	healed              prometheus.Counter
	retired             prometheus.Counter
	removed             prometheus.Counter
	damagedFiles        *prometheus.CounterVec
	orphanedSamples     prometheus.Counter
	syncSeconds         prometheus.Histogram
	usageFailures       prometheus.Counter
}

func newMetrics(i *Ingester) *metrics {
	f := promauto.With(i.Registry)
	i.Registry.MustRegister(storedSamples{i})
	i.gaugeTenants(f)
	i.gaugeStart(f)
	i.disk.gauge(f)
	return newCounters(f)
}

func newCounters(f promauto.Factory) *metrics {
	m := &metrics{
		postponed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_ingester_postponed_samples_total",
			Help: "Samples of new series that were answered 429 and not taken, by the id of the answer: the disk was low, or at a limit others are about to make room.",
		}, []string{"reason"}),
		healed: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_tenants_healed_total",
			Help: "Tenants that were opened anew after a write to their log had failed.",
		}),
		retired: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_tenants_closed_total",
			Help: "Tenants that were closed because nobody used them.",
		}),
		removed: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_tenants_removed_total",
			Help: "Tenants that were removed because retention took their last block.",
		}),
		maintenanceFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_maintenance_failures_total",
			Help: "Attempts to cut a tenant's head into blocks that failed.",
		}),
		metadataDropped: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_metadata_dropped_total",
			Help: "Statements about new metric families that are not kept because limits.max_metadata_entries is 0.",
		}),
		exemplarsDropped: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_exemplars_dropped_total",
			Help: "Exemplars of tenants whose limit max_exemplars is 0, answered as written and not kept.",
		}),
		usageFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_usage_failures_total",
			Help: "Times that what a tenant uses could not be written into it.",
		}),
		late: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_late_samples_total",
			Help: "Samples that were not newer than all before them in their series: repeated, contradicting or out of order.",
		}),
		damagedFiles: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_ingester_damaged_files_total",
			Help: "Files of tenants found damaged and set aside, by kind; torn: a log that ends within a record, as after a kill.",
		}, []string{"kind"}),
		orphanedSamples: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_orphaned_samples_total",
			Help: "Samples found in logs at start whose series' labels were lost with a damaged file, and which are dropped.",
		}),
	}
	m.syncSeconds = f.NewHistogram(prometheus.HistogramOpts{
		Name:                        "weir_ingester_log_sync_seconds",
		Help:                        "Waits for a tenant's logs to be forced to the disk, as ingester.wal_sync says.",
		NativeHistogramBucketFactor: 1.1,
	})
	for _, kind := range damagedKinds {
		m.damagedFiles.WithLabelValues(kind)
	}
	return m
}

// gaugeTenants shows the tenants by their state, and what the opened ones hold.
func (i *Ingester) gaugeTenants(f promauto.Factory) {
	for _, st := range states {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "weir_ingester_tenants",
			Help:        "Tenants by the state of their TSDB: open; closed, all in blocks; failed, open and not writable; broken, it cannot be opened and requests are refused.",
			ConstLabels: prometheus.Labels{"state": st.String()},
		}, func() float64 { return i.count(st) })
	}
	sum := func(of func(*tenantDB) float64) func() float64 {
		return func() (s float64) {
			for _, slot := range i.all() {
				if t := i.openOf(slot); t != nil {
					s += of(t)
				}
			}
			return s
		}
	}
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
}

// gaugeStart shows how far the start is.
func (i *Ingester) gaugeStart(f promauto.Factory) {
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ingester_tenants_to_open",
		Help: "Tenants found on disk at start whose log is not replayed yet.",
	}, func() float64 { r := i.ReplayProgress(); return float64(r.Tenants - r.TenantsDone) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ingester_replay_bytes",
		Help: "Bytes of logs, chunk files and snapshots found on disk at start.",
	}, func() float64 { return float64(i.ReplayProgress().Bytes) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ingester_replayed_bytes",
		Help: "Bytes of these that are read and in memory.",
	}, func() float64 { return float64(i.ReplayProgress().BytesDone) })
}

// gauge shows the file system.
func (d *disk) gauge(f promauto.Factory) {
	for name, of := range map[string]func() float64{
		"size_bytes": func() float64 { return float64(d.size.Load()) },
		"free_bytes": func() float64 { return float64(d.free.Load()) },
		"level":      func() float64 { return float64(d.level()) },
	} {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "weir_ingester_disk_" + name,
			Help: "The file system of the tenants. level is 0 with room, 1 when no new series are taken, 2 when nothing is written.",
		}, of)
	}
}

// count returns how many tenants are in a state.
func (i *Ingester) count(st state) (n float64) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	for _, s := range i.slots {
		if s.state() == st {
			n++
		}
	}
	return n
}
