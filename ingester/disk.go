package ingester

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/tsdb/fileutil"

	"github.com/weir-metrics/weir/proto"
)

// DiskConfig says how full the file system of the tenants may get. The
// percentages count while less than plentyBytes are free.
type DiskConfig struct {
	NoNewSeriesPercent int   `yaml:"no_new_series_percent"`
	ReadOnlyPercent    int   `yaml:"read_only_percent"`
	MinFreeBytes       int64 `yaml:"min_free_bytes"`
	ReserveBytes       int64 `yaml:"reserve_bytes"`
}

// plentyBytes is free space with which no disk is full: a twentieth of a large
// disk is more than the log and the blocks of many hours.
const plentyBytes = 16 << 30

// diskEvery is how often the file system is asked for its free space. At 100 MB/s
// of log the smallest reserve lasts longer.
const diskEvery = time.Second

// reserveFile keeps space for a start on a full disk: replaying a log writes,
// too. It has a name that no tenant can have.
const reserveFile = "__reserve"

func (c *DiskConfig) validate(bad func(name string, v any, rule string)) {
	if c.ReadOnlyPercent < 1 || c.ReadOnlyPercent > 100 {
		bad("disk.read_only_percent", c.ReadOnlyPercent, "must be from 1 to 100")
	}
	if c.NoNewSeriesPercent < 1 || c.NoNewSeriesPercent > c.ReadOnlyPercent {
		bad("disk.no_new_series_percent", c.NoNewSeriesPercent, "must be from 1 to read_only_percent")
	}
	if c.MinFreeBytes < 1<<20 {
		bad("disk.min_free_bytes", c.MinFreeBytes, "must be at least 1048576")
	}
	if c.ReserveBytes < 0 {
		bad("disk.reserve_bytes", c.ReserveBytes, "must not be negative")
	}
}

// diskLevel is how full a disk is, and so what is still written to it.
type diskLevel int32

const (
	diskRoomy diskLevel = iota // everything
	diskLow                    // no series that is not in a head already
	diskFull                   // nothing
)

func (l diskLevel) String() string { return [...]string{"roomy", "low", "full"}[l] }

// level decides how full a disk of size bytes is, of which free are left. To
// leave a level takes a tenth more space than to enter it, so that what frees
// space by little does not let writes in and out every second.
func (c *DiskConfig) level(size, free int64, was diskLevel) diskLevel {
	short := func(l diskLevel, percent int, least int64) bool {
		bound := max(min(size/100*int64(100-percent), plentyBytes), least)
		if was >= l {
			bound += bound / 10
		}
		return free < bound
	}
	switch {
	case short(diskFull, c.ReadOnlyPercent, c.MinFreeBytes):
		return diskFull
	case short(diskLow, c.NoNewSeriesPercent, 2*c.MinFreeBytes):
		return diskLow
	}
	return diskRoomy
}

// disk watches the file system that the tenants lie on. It is safe for
// concurrent use.
type disk struct {
	cfg   DiskConfig
	dir   string
	log   *slog.Logger
	space func(dir string) (size, free int64, err error) // changed by tests

	current atomic.Int32 // diskLevel
	size    atomic.Int64 // bytes
	free    atomic.Int64 // bytes

	reserve atomic.Int64 // bytes in the reserve file

	mu      sync.Mutex // held while space is measured
	unknown bool       // the space could not be measured; guarded by mu
}

func newDisk(cfg DiskConfig, dir string, log *slog.Logger) *disk {
	return &disk{cfg: cfg, dir: dir, log: log, space: fileSystemSpace}
}

// level is how full the disk was when it was looked at last.
func (d *disk) level() diskLevel { return diskLevel(d.current.Load()) }

// measure looks at the disk. One that does not say how full it is counts as
// roomy: then failing writes say so.
func (d *disk) measure() diskLevel {
	d.mu.Lock()
	defer d.mu.Unlock()
	size, free, err := d.space(d.dir)
	if err != nil {
		if !d.unknown {
			d.log.Warn("the free space of the disk is not known", "dir", d.dir, "err", err)
		}
		d.unknown = true
		d.current.Store(int32(diskRoomy))
		return diskRoomy
	}
	d.unknown = false
	d.size.Store(size)
	d.free.Store(free)
	was := d.level()
	now := d.cfg.level(size, free-d.owed(), was)
	d.current.Store(int32(now))
	if now != was {
		log := d.log.Info
		if now > was {
			log = d.log.Error
		}
		log("the disk is "+now.String(), "was", was.String(), "dir", d.dir, "size_bytes", size, "free_bytes", free)
	}
	return now
}

// owed is what is missing of the reserve. It is not for writes.
func (d *disk) owed() int64 { return d.cfg.ReserveBytes - d.reserve.Load() }

// fits is nil when n bytes can be written now.
func (d *disk) fits(n int64) error {
	d.measure()
	d.mu.Lock()
	defer d.mu.Unlock()
	if free := d.free.Load(); !d.unknown && free < n {
		return proto.Errorf(proto.KindUnavailable, "weir-disk-full",
			"the disk has %d bytes free, and this needs up to %d; make room, and repeat the request", free, n)
	}
	return nil
}

// refusal is the answer to writes while the disk is full.
func (d *disk) refusal() error {
	return proto.Errorf(proto.KindUnavailable, "weir-disk-full",
		"the disk is full: %d of %d bytes are free, the limits are disk.read_only_percent %d and disk.min_free_bytes %d; nothing is written until there is room, repeat the request",
		d.free.Load(), d.size.Load(), d.cfg.ReadOnlyPercent, d.cfg.MinFreeBytes)
}

// noNewSeries is the answer to new series while the disk is low.
func (d *disk) noNewSeries() *proto.Error {
	return proto.Errorf(proto.KindLimit, "weir-disk-low",
		"no new series are taken, because the disk is nearly full: %d of %d bytes are free, the limit is disk.no_new_series_percent %d; samples of series that are known were stored; make room, and repeat the request",
		d.free.Load(), d.size.Load(), d.cfg.NoNewSeriesPercent)
}

// watch looks at the disk until ctx ends.
func (d *disk) watch(ctx context.Context) error {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		if d.measure() == diskRoomy {
			d.keepReserve()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// keepReserve makes the reserve file when there is none. The disk has room for it.
func (d *disk) keepReserve() {
	if d.owed() <= 0 {
		return
	}
	path := filepath.Join(d.dir, reserveFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err == nil {
		err = errors.Join(fileutil.Preallocate(f, d.cfg.ReserveBytes, true), f.Close())
	}
	if err != nil {
		d.log.Warn("there is no reserve for a start on a full disk", "err", errors.Join(err, os.Remove(path)))
		return
	}
	d.reserve.Store(d.cfg.ReserveBytes)
}

// start looks at the disk for the first time, and gives the reserve up when it is
// full.
func (d *disk) start() {
	path := filepath.Join(d.dir, reserveFile)
	if st, err := os.Stat(path); err == nil {
		d.reserve.Store(st.Size())
	}
	if d.measure() < diskFull || d.reserve.Load() == 0 {
		return
	}
	if err := os.Remove(path); err != nil {
		d.log.Warn("cannot give up the reserve", "err", err)
		return
	}
	d.log.Warn("the disk is full; gave up the reserve, so that logs can be replayed", "bytes", d.reserve.Swap(0))
	d.measure()
}

// dirBytes is the size of the files in dir and below, 0 when there is none.
func dirBytes(dir string) (n int64, err error) {
	n, err = fileutil.DirSize(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", dir, err)
	}
	return n, nil
}
