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
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/weir-metrics/weir/tenant"
)

// usageFile lies in a tenant's directory; the TSDB leaves it alone.
const usageFile = "usage.json"

// usage is what a tenant did in all its life, and how many samples and histograms
// it has stored, up to a position in its write-ahead log. What was stored behind
// that is counted in the log when the tenant is opened, so that a kill loses
// nothing of it. What repeats a sample is not stored, and what weir writes into the
// tenant does not count (usageseries.go); but a series' newest sample is logged
// again when it comes again, and counts again if that was in the minute before a
// kill.
type usage struct {
	Samples uint64 `json:"samples"`
	tenant.Activity
	Segment int   `json:"segment"` // of the log
	Offset  int64 `json:"offset"`  // in that segment
}

// loadUsage reads what an earlier process wrote, and counts what is in the log
// behind it but for samples of the series own. A file that cannot be read counts as
// none.
func loadUsage(dir string, own map[uint64]bool) (usage, error) {
	u, err := readUsage(dir)
	if err != nil {
		return usage{}, err
	}
	wal := filepath.Join(dir, walDir)
	first, last, err := wlog.Segments(wal)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && first < 0) {
		return u, nil // it was closed with everything in blocks
	}
	for i := max(first, u.Segment); err == nil && i <= last; i++ {
		var from int64
		if i == u.Segment {
			from = u.Offset
		}
		var n int
		n, err = countSamples(wlog.SegmentName(wal, i), from, own)
		u.Samples += uint64(n)
		u.Received += uint64(n)
	}
	if err != nil {
		return usage{}, fmt.Errorf("count samples in the log: %w", err)
	}
	return u, nil
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
// behind from, but for those of the series own. The log was checked before.
func countSamples(path string, from int64, own map[uint64]bool) (n int, err error) {
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
		for _, ref := range refs {
			if !own[ref] {
				n++
			}
		}
	}
	return n, r.Err()
}

// saveUsage writes what there is to count until now, if that has changed or must be.
func (t *tenantDB) saveUsage(must bool) error {
	if !must && t.stored.Load() == t.saved.Load() && !t.activity.unsaved() {
		return nil
	}
	u, err := t.usageNow()
	if err != nil {
		return fmt.Errorf("find the end of the log: %w", err)
	}
	return t.writeUsage(u)
}

func (t *tenantDB) writeUsage(u usage) error {
	if err := t.activity.write(t.dir, u); err != nil {
		return err
	}
	t.saved.Store(u.Samples)
	return nil
}

// write writes u to dir, with the activity until now.
func (a *activity) write(dir string, u usage) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	u.Activity = a.before.Plus(a.counted())
	b, err := json.Marshal(u)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, usageFile+".tmp")
	if err = os.WriteFile(tmp, b, 0o644); err == nil {
		err = os.Rename(tmp, filepath.Join(dir, usageFile))
	}
	if err != nil {
		return fmt.Errorf("write what the tenant has used: %w", err)
	}
	a.saved = u.Activity
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
	return usage{Samples: t.stored.Load(), Segment: last, Offset: st.Size()}, nil
}

// activity is what senders and readers did with a tenant in all its life: what
// earlier processes wrote down, and what this one counts. It belongs to the slot,
// so that a tenant that is opened again is not counted twice.
type activity struct {
	counted func() tenant.Activity // by this process

	mu     sync.Mutex
	known  bool            // before is known; guarded by mu
	before tenant.Activity // guarded by mu
	saved  tenant.Activity // is in usageFile; guarded by mu
}

func (i *Ingester) newActivity(tenantID string) *activity {
	a := &activity{counted: func() tenant.Activity { return tenant.Activity{} }}
	if i.Activity != nil {
		a.counted = func() tenant.Activity { return i.Activity(tenantID) }
	}
	a.counted() // from now on the tenant is counted by itself
	return a
}

// learn takes what an earlier process wrote down, the first time.
func (a *activity) learn(before tenant.Activity) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.known {
		a.known, a.before, a.saved = true, before, before
	}
}

// total is what is known so far.
func (a *activity) total() tenant.Activity {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.before.Plus(a.counted())
}

// unsaved reports whether usageFile says something else.
func (a *activity) unsaved() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.before.Plus(a.counted()) != a.saved
}

// saveClosed writes what was done with a tenant if it is closed.
func (i *Ingester) saveClosed(s *slot) error {
	if !s.changing.TryLock() {
		return nil // it is being opened
	}
	defer s.changing.Unlock()
	if i.openOf(s) != nil {
		return nil
	}
	return i.saveActivity(s)
}

// saveActivity writes what was done with a closed tenant, which asking for a time
// of which it has nothing does not open. The caller holds changing.
func (i *Ingester) saveActivity(s *slot) error {
	if s.removed || !s.activity.unsaved() {
		return nil
	}
	dir := i.tenantDir(s.id)
	u, err := readUsage(dir)
	if err != nil {
		return err
	}
	s.activity.learn(u.Activity)
	return s.activity.write(dir, u)
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
	if n := s.atRest.Load(); n != nil {
		return *n
	}
	u, err := readUsage(i.tenantDir(s.id)) // of a closed tenant nothing is only in the log
	if err == nil {
		s.atRest.Store(&u.Samples)
	}
	return u.Samples
}
