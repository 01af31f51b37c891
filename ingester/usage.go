package ingester

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// usageFile lies in a tenant's directory; the TSDB leaves it alone.
const usageFile = "usage.json"

// usage is how many samples and histograms a tenant has stored in all its life,
// up to a position in its write-ahead log. What was stored behind that is counted
// in the log when the tenant is opened, so that a kill loses nothing of it. What
// repeats a sample is not stored; but a series' newest sample is logged again when
// it comes again, and counts again if that was in the minute before a kill.
type usage struct {
	Samples uint64 `json:"samples"`
	Segment int    `json:"segment"` // of the log
	Offset  int64  `json:"offset"`  // in that segment
}

// loadUsage reads what an earlier process wrote, and counts what is in the log
// behind it. A file that cannot be read counts as none.
func loadUsage(dir string) (uint64, error) {
	u, err := readUsage(dir)
	if err != nil {
		return 0, err
	}
	wal := filepath.Join(dir, walDir)
	first, last, err := wlog.Segments(wal)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && first < 0) {
		return u.Samples, nil // it was closed with everything in blocks
	}
	for i := max(first, u.Segment); err == nil && i <= last; i++ {
		var from int64
		if i == u.Segment {
			from = u.Offset
		}
		var n int
		n, err = countSamples(wlog.SegmentName(wal, i), from)
		u.Samples += uint64(n)
	}
	if err != nil {
		return 0, fmt.Errorf("count samples in the log: %w", err)
	}
	return u.Samples, nil
}

func readUsage(dir string) (u usage, err error) {
	b, err := os.ReadFile(filepath.Join(dir, usageFile))
	if errors.Is(err, fs.ErrNotExist) {
		return usage{}, nil
	}
	if err != nil {
		return usage{}, err
	}
	if json.Unmarshal(b, &u) != nil {
		return usage{}, nil
	}
	return u, nil
}

// countSamples counts samples and histograms in the records of a segment that end
// behind from. The log was checked before.
func countSamples(path string, from int64) (n int, err error) {
	segment, err := wlog.OpenReadSegment(path)
	if err != nil {
		return 0, err
	}
	buffered := wlog.NewSegmentBufReader(segment)
	defer buffered.Close()
	r := wlog.NewReader(buffered)
	dec := record.NewDecoder(nil, nil)
	var refs []uint64
	for r.Next() {
		if r.Offset() <= from {
			continue
		}
		if refs, err = sampleRefs(&dec, r.Record(), refs[:0]); err != nil {
			return n, err
		}
		n += len(refs)
	}
	return n, r.Err()
}

// saveUsage writes what was stored until now, if that has changed or must be.
func (t *tenantDB) saveUsage(must bool) error {
	if !must && t.stored.Load() == t.saved.Load() {
		return nil
	}
	u, err := t.usageNow()
	if err != nil {
		return fmt.Errorf("find the end of the log: %w", err)
	}
	return t.writeUsage(u)
}

func (t *tenantDB) writeUsage(u usage) error {
	b, err := json.Marshal(u)
	if err != nil {
		return err
	}
	tmp := filepath.Join(t.dir, usageFile+".tmp")
	if err = os.WriteFile(tmp, b, 0o644); err == nil {
		err = os.Rename(tmp, filepath.Join(t.dir, usageFile))
	}
	if err != nil {
		return fmt.Errorf("write the number of samples stored: %w", err)
	}
	t.saved.Store(u.Samples)
	return nil
}

func (t *tenantDB) usageNow() (usage, error) {
	t.commits.Lock()
	defer t.commits.Unlock()
	return t.usageAt()
}

// usageAt is what was stored up to the end of the log. The caller holds commits for
// writing, or has the TSDB for itself.
func (t *tenantDB) usageAt() (usage, error) {
	wal := filepath.Join(t.dir, walDir)
	_, last, err := wlog.Segments(wal)
	if err != nil {
		return usage{}, err
	}
	st, err := os.Stat(wlog.SegmentName(wal, last))
	if err != nil {
		return usage{}, err
	}
	return usage{t.stored.Load(), last, st.Size()}, nil
}

// topUsage is how many tenants have a series of their own.
const topUsage = 100

var storedDesc = prometheus.NewDesc("weir_ingester_tenant_stored_samples_total",
	"Samples and histograms that a tenant has stored in all its life, through restarts, of the tenants with most. What repeats a sample is not stored.",
	[]string{"tenant"}, nil)

// storedSamples shows what the tenants with most have stored. A tenant that falls
// behind others loses its series, and goes on where it was when it is back.
type storedSamples struct{ *Ingester }

// Describe implements prometheus.Collector.
func (s storedSamples) Describe(ch chan<- *prometheus.Desc) { ch <- storedDesc }

// Collect implements prometheus.Collector.
func (s storedSamples) Collect(ch chan<- prometheus.Metric) {
	type stored struct {
		id      string
		samples uint64
	}
	var all []stored
	for _, slot := range s.all() {
		all = append(all, stored{slot.id, s.storedBy(slot)})
	}
	slices.SortFunc(all, func(a, b stored) int { return cmp.Or(cmp.Compare(b.samples, a.samples), cmp.Compare(a.id, b.id)) })
	for _, t := range all[:min(len(all), topUsage)] {
		ch <- prometheus.MustNewConstMetric(storedDesc, prometheus.CounterValue, float64(t.samples), t.id)
	}
}

// storedBy is what a tenant has stored in all its life.
func (i *Ingester) storedBy(s *slot) uint64 {
	if t := i.openOf(s); t != nil {
		return t.stored.Load()
	}
	u, _ := readUsage(i.tenantDir(s.id)) // of a closed tenant nothing is only in the log
	return u.Samples
}
