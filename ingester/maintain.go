package ingester

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/weir-metrics/weir/proto"
)

// maintain looks after every tenant until ctx ends. Tenants become due together,
// at block borders, so each waits for its share of an eighth of a block's time,
// and one is cut at a time.
func (i *Ingester) maintain(ctx context.Context) error {
	tick := time.NewTicker(i.cfg.MaintenanceInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, s := range i.all() {
			if ctx.Err() != nil {
				break
			}
			if err := i.keep(ctx, s, time.Now()); err != nil && ctx.Err() == nil {
				i.metrics.maintenanceFailures.Inc()
				if proto.KindOf(err) != proto.KindUnavailable { // of which the disk's level and the failed log have told
					i.Logger.Error("maintenance of a tenant failed, will try again", "tenant", s.id, "err", err)
				}
			}
		}
	}
}

// keep does what is due for one tenant.
func (i *Ingester) keep(ctx context.Context, s *slot, now time.Time) error {
	t := i.openOf(s)
	if t == nil {
		return errors.Join(i.expire(s, now), i.saveClosed(s))
	}
	if t.failed.Load() != 0 || !t.users.enter() {
		return nil // heal looks after it, or it is being closed
	}
	t.tellNews()
	if i.cfg.UsageSeries {
		i.exportUsage(ctx, t, now)
	}
	err := t.maintain(ctx, now, i.cfg.BlockDuration/8)
	next := t.next(now, i.cfg.IdleTimeout)
	if next == actionFlush {
		err = errors.Join(err, t.flush(ctx))
		next = t.next(now, i.cfg.IdleTimeout)
	}
	t.leave()
	if next == actionClose {
		err = errors.Join(err, i.retire(s))
	}
	return err
}

// action is what maintenance does with a tenant that has gone quiet.
type action int

const (
	actionNone  action = iota
	actionFlush        // cut all of the head into blocks
	actionClose        // close the TSDB, of which everything is in blocks
)

// unusedAfter is for how long nobody has written to or read from a tenant whose
// head is empty when it is closed. Dashboards repeat their queries sooner.
const unusedAfter = 10 * time.Minute

// idleAction decides what to do with a tenant that was not written to and not
// used at all for some time.
func idleAction(series uint64, unwritten, unused, idleTimeout time.Duration) action {
	switch {
	case series > 0 && unwritten >= idleTimeout:
		return actionFlush
	case series == 0 && unused >= min(unusedAfter, idleTimeout):
		return actionClose
	}
	return actionNone
}

func (t *tenantDB) next(now time.Time, idleTimeout time.Duration) action {
	t.maintenance.Lock()
	defer t.maintenance.Unlock()
	return idleAction(t.db.Head().NumSeries(), now.Sub(t.lastWrite), now.Sub(t.lastUse), idleTimeout)
}

// maintain saves metadata, writes full chunks to files, and cuts the head when
// it is due.
func (t *tenantDB) maintain(ctx context.Context, now time.Time, spread time.Duration) error {
	t.maintenance.Lock()
	defer t.maintenance.Unlock()
	t.observe(now)
	return errors.Join(t.metadata.save(t.dir), t.saveUsage(false), t.writeChunks(), t.cut(ctx, now, spread))
}

// observe notes when the tenant was used. The caller holds maintenance.
func (t *tenantDB) observe(now time.Time) {
	if t.wrote.Swap(false) || t.lastUse.IsZero() {
		t.lastWrite, t.lastUse = now, now
	}
	if t.read.Swap(false) {
		t.lastUse = now
	}
}

// chunkBytes is what a series' full chunk takes at most: one of 120 floats that
// cannot be compressed, or a histogram chunk of the size at which it is cut.
const chunkBytes = 2 << 10

// writeChunks moves full chunks from memory into files. The TSDB would do that
// by itself, and end the process if it could not: here it waits for space. The
// caller holds maintenance.
func (t *tenantDB) writeChunks() (err error) {
	if t.closed || t.disk.fits(1<<20+int64(t.db.Head().NumSeries())*chunkBytes) != nil {
		return nil
	}
	defer t.survive(&err)
	t.db.ForceHeadMMap()
	return nil
}

// blockSegmentBytes is preallocated for every block that is written.
const blockSegmentBytes = 64 << 20

// roomToCut is nil when the blocks of the head fit on the disk, and what else a
// cut writes: full chunks, and the part of the log that stays.
func (t *tenantDB) roomToCut() error {
	var need int64 = blockSegmentBytes
	for _, name := range []string{headChunksDir, wlog.WblDirName} {
		n, err := dirBytes(filepath.Join(t.dir, name))
		if err != nil {
			return err
		}
		need += n
	}
	return t.disk.fits(need + int64(t.db.Head().NumSeries())*chunkBytes)
}

// cut cuts the head when it holds more than one and a half blocks' time. The
// caller holds maintenance.
func (t *tenantDB) cut(ctx context.Context, now time.Time, spread time.Duration) (err error) {
	if err := t.cutReplayed(ctx); err != nil {
		return err
	}
	head := t.db.Head()
	if head.NumSeries() == 0 || head.MaxTime()-head.MinTime() <= t.blockMS/2*3 {
		t.compactable = time.Time{}
		return nil
	}
	if t.compactable.IsZero() {
		t.compactable = now
	}
	if now.Sub(t.compactable) < t.jitter(spread) || !t.quiesce() {
		return nil
	}
	if err := t.roomToCut(); err != nil {
		return fmt.Errorf("cut blocks: %w", err)
	}
	defer t.survive(&err)
	start := time.Now()
	if err := t.db.Compact(ctx); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	t.compactable = time.Time{}
	t.sweep()
	t.log.Info("cut blocks", "took", time.Since(start), "series", head.NumSeries(), "blocks", len(t.db.Blocks()))
	return nil
}

// quiesce waits for the commits under way: those that began before now may reach
// below the time that new ones are kept from. It is false for a closed tenant.
func (t *tenantDB) quiesce() bool {
	t.commits.Lock()
	defer t.commits.Unlock()
	return !t.closed
}

// cutReplayed cuts the out-of-order samples of before the start. Until that is
// done, two things would lose some of them: a checkpoint of the write-ahead log,
// which drops records of series that only the out-of-order log needs
// (prometheus#19744), and another start, whose chunks of late samples a second
// record of their series takes away (prometheus#19804). The caller holds
// maintenance.
func (t *tenantDB) cutReplayed(ctx context.Context) (err error) {
	if !t.replayedLate || !t.quiesce() {
		return nil
	}
	if err := t.roomToCut(); err != nil {
		return fmt.Errorf("cut out-of-order samples of before the start: %w", err)
	}
	defer t.survive(&err)
	if err := t.db.CompactOOOHead(ctx); err != nil {
		return fmt.Errorf("cut out-of-order samples of before the start: %w", err)
	}
	t.replayedLate = false
	return nil
}

// sweep forgets the series that the head dropped.
func (t *tenantDB) sweep() {
	t.droppedMu.Lock()
	dropped := t.dropped
	t.dropped = nil
	t.droppedMu.Unlock()
	if len(dropped) == 0 {
		return
	}
	t.commits.Lock()
	defer t.commits.Unlock()
	t.series.sweep(dropped)
}

// Flush cuts everything in memory into blocks now, of one tenant or, when
// tenantID is empty, of all. While a tenant is being cut, samples older than its
// newest are answered "unavailable".
func (i *Ingester) Flush(ctx context.Context, tenantID string) error {
	if err := i.Ready(); err != nil {
		return err
	}
	slots := i.all()
	if tenantID != "" {
		s, _ := i.look(tenantID)
		if s == nil {
			return proto.Errorf(proto.KindNotFound, "weir-tenant-unknown", "there is no tenant %q here", tenantID)
		}
		slots = []*slot{s}
	}
	var errs []error
	for _, s := range slots {
		if t := i.openOf(s); t != nil && t.users.enter() { // a closed one has nothing in memory
			errs = append(errs, t.flush(ctx))
			t.leave()
		}
	}
	return errors.Join(errs...)
}

func (t *tenantDB) flush(ctx context.Context) (err error) {
	t.maintenance.Lock()
	defer t.maintenance.Unlock()
	head, maxt, ok := t.beginFlush()
	if !ok {
		return nil
	}
	defer t.cutting.Store(notCutting)
	if err := t.cutReplayed(ctx); err != nil {
		return err
	}
	if err := t.roomToCut(); err != nil {
		return fmt.Errorf("flush tenant %s: %w", t.id, err)
	}
	defer t.survive(&err)
	for mint := head.MinTime(); mint <= maxt; mint = head.MinTime() {
		border := mint - mod(mint, t.blockMS) + t.blockMS
		end := min(border-1, maxt)
		if err := t.db.CompactHead(tsdb.NewRangeHead(head, mint, end)); err != nil {
			return fmt.Errorf("flush tenant %s: %w", t.id, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := t.db.CompactOOOHead(ctx); err != nil {
		return fmt.Errorf("flush out-of-order samples of tenant %s: %w", t.id, err)
	}
	t.sweep()
	return t.metadata.save(t.dir)
}

// beginFlush keeps samples up to the newest out, which is at maxt. It is false
// when there is nothing to flush.
func (t *tenantDB) beginFlush() (head *tsdb.Head, maxt int64, ok bool) {
	t.commits.Lock()
	defer t.commits.Unlock()
	head = t.db.Head()
	if t.closed || head.NumSeries() == 0 {
		return head, 0, false
	}
	maxt = head.MaxTime()
	t.cutting.Store(maxt)
	return head, maxt, true
}

// mod is t modulo d, for times before 1970 as well.
func mod(t, d int64) int64 { return (t%d + d) % d }
