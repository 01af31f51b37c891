package ingester

import (
	"errors"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// The TSDB tells of a log that cannot be written in two ways that are not
// enough. Commit fails when the write-ahead log fails; but a Commit that runs at
// the same time can succeed behind it, with a record that no replay will reach.
// And a failure of the out-of-order log is only counted. So what counts are the
// counters: after every commit they must still be 0.

// Names of the TSDB's counters of failed writes, and of repairs at start.
const (
	walFailed   = "prometheus_tsdb_wal_writes_failed_total"
	wblFailed   = "prometheus_tsdb_out_of_order_wbl_writes_failed_total"
	walRepaired = "prometheus_tsdb_wal_corruptions_total"
)

// headChunks is the name of the TSDB's gauge of chunks in memory and in its chunk
// files, which is told nowhere else.
const headChunks = "prometheus_tsdb_head_chunks"

// logFailures is the Registerer of one TSDB. It keeps these counters and the gauge,
// and lets the other metrics go: over thousands of tenants they would be too many.
type logFailures struct{ wal, wbl, repairs, chunks prometheus.Metric }

var (
	errWAL = errors.New("a write to the write-ahead log failed before")
	errWBL = errors.New("a write to the out-of-order log failed")
)

// err is not nil when a record that was given to a log may not be in it, or not
// be found.
func (l *logFailures) err() error {
	switch {
	case isPositive(l.wal):
		return errWAL
	case isPositive(l.wbl):
		return errWBL
	}
	return nil
}

// headChunks is how many chunks the head has.
func (l *logFailures) headChunks() int64 {
	var v dto.Metric
	if l.chunks == nil || l.chunks.Write(&v) != nil {
		return 0
	}
	return int64(v.GetGauge().GetValue())
}

// repaired reports whether a log had to be repaired when the TSDB was opened.
func (l *logFailures) repaired() bool { return isPositive(l.repairs) }

func isPositive(m prometheus.Metric) bool {
	var v dto.Metric
	return m != nil && m.Write(&v) == nil && v.GetCounter().GetValue() > 0
}

// Register implements prometheus.Registerer.
func (l *logFailures) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 16) // one, of those that matter
	go func() {
		c.Describe(descs)
		close(descs)
	}()
	var keep *prometheus.Metric
	for d := range descs {
		switch s := d.String(); {
		case strings.Contains(s, `"`+walFailed+`"`):
			keep = &l.wal
		case strings.Contains(s, `"`+wblFailed+`"`):
			keep = &l.wbl
		case strings.Contains(s, `"`+walRepaired+`"`):
			keep = &l.repairs
		case strings.Contains(s, `"`+headChunks+`"`):
			keep = &l.chunks
		}
	}
	if keep != nil {
		metric := make(chan prometheus.Metric, 1)
		c.Collect(metric)
		*keep = <-metric
	}
	return nil
}

// MustRegister implements prometheus.Registerer.
func (l *logFailures) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		_ = l.Register(c) // never fails
	}
}

// Unregister implements prometheus.Registerer.
func (l *logFailures) Unregister(prometheus.Collector) bool { return true }
