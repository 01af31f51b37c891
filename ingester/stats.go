package ingester

import (
	"cmp"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/weir-metrics/weir/cardinality"
)

// TenantStats is what an operator may want to know of one tenant. Sizes are in
// bytes, times in milliseconds since 1970.
type TenantStats struct {
	ID          string `json:"id"`
	State       string `json:"state"`         // open, closed, failed: its log cannot be written, or broken: it cannot be opened
	Why         string `json:"why,omitempty"` // it is broken
	Series      uint64 `json:"series"`        // in memory
	Samples     uint64 `json:"samples"`       // and histograms, written since the TSDB was opened
	Active      int    `json:"active_series"`
	Stored      uint64 `json:"stored_samples"` // and histograms, in all its life; without what repeats a sample
	MemoryBytes int64  `json:"memory_bytes"`   // an estimate
	Oldest      int64  `json:"oldest_ms"`      // sample, or a little before it; 0 when there is none
	Newest      int64  `json:"newest_ms"`
	Blocks      int    `json:"blocks"`
	BlockBytes  int64  `json:"block_bytes"`
	LogBytes    int64  `json:"log_bytes"` // of the write-ahead log and the out-of-order log
	Damaged     int    `json:"damaged"`   // starts that set something aside, by what lies in damaged/
}

// What a tenant takes in memory, from heap profiles of 300 tenants of 100 series
// and of one of a million, 12 labels each: the TSDB's fixed structures, a series
// with its labels, postings, first chunks and table entry, an exemplar.
const (
	tenantBytes   = 500 << 10
	seriesBytes   = 1250
	exemplarBytes = 150
)

// Tenants describes every tenant, those that take most memory first. It reads
// directories, so it is for people, not for the write path.
func (i *Ingester) Tenants() []TenantStats {
	var out []TenantStats
	for _, s := range i.all() {
		out = append(out, i.describe(s))
	}
	slices.SortFunc(out, func(a, b TenantStats) int {
		return cmp.Or(cmp.Compare(b.MemoryBytes, a.MemoryBytes), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func (i *Ingester) describe(s *slot) TenantStats {
	i.mu.RLock()
	t, why := s.open, s.why
	out := TenantStats{ID: s.id, State: s.state().String()}
	i.mu.RUnlock()
	if why != nil {
		out.Why = why.Error()
	}
	dir := i.tenantDir(s.id)
	out.Damaged = damagedStarts(dir)
	for _, log := range []string{walDir, wlog.WblDirName} {
		n, _ := dirBytes(filepath.Join(dir, log)) // of a log that is changing
		out.LogBytes += n
	}
	if mint, maxt, ok := i.Extent(s.id); ok && maxt != math.MaxInt64 {
		out.Oldest, out.Newest = mint, maxt
	}
	out.Stored = i.storedBy(s)
	if t == nil {
		return out
	}
	t.series.count(time.Now(), func(a *cardinality.Active) { out.Active = a.Total() })
	out.Series, out.Samples = t.db.Head().NumSeries(), t.written.Load()
	for _, b := range t.db.Blocks() {
		out.Blocks++
		out.BlockBytes += b.Size()
	}
	out.MemoryBytes = tenantBytes + int64(out.Series)*seriesBytes + maxExemplars(t.limits(), t.exemplars.Load())*exemplarBytes
	return out
}

func damagedStarts(dir string) int {
	entries, _ := os.ReadDir(filepath.Join(dir, damagedDir)) // none, most often
	return len(entries)
}
