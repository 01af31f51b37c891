package ingester

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/tsdb"

	"github.com/weir-metrics/weir/proto"
)

// maintain cuts heads into blocks until ctx ends. Tenants become due together,
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
		for _, t := range i.all() {
			if ctx.Err() != nil {
				break
			}
			if err := t.maintain(ctx, time.Now(), i.cfg.BlockDuration/8); err != nil && ctx.Err() == nil {
				i.metrics.maintenanceFailures.Inc()
				t.log.Error("maintenance of a tenant failed, will try again", "err", err)
			}
		}
	}
}

// maintain saves metadata and cuts the head when it is due.
func (t *tenantDB) maintain(ctx context.Context, now time.Time, spread time.Duration) error {
	t.maintenance.Lock()
	defer t.maintenance.Unlock()
	return errors.Join(t.metadata.save(t.dir), t.cut(ctx, now, spread))
}

// cut cuts the head when it holds more than one and a half blocks' time. The
// caller holds maintenance.
func (t *tenantDB) cut(ctx context.Context, now time.Time, spread time.Duration) error {
	if t.replayedLate {
		if err := t.db.CompactOOOHead(ctx); err != nil {
			return fmt.Errorf("cut out-of-order samples of before the start: %w", err)
		}
		t.replayedLate = false
	}
	head := t.db.Head()
	if head.NumSeries() == 0 || head.MaxTime()-head.MinTime() <= t.blockMS/2*3 {
		t.compactable = time.Time{}
		return nil
	}
	if t.compactable.IsZero() {
		t.compactable = now
	}
	if now.Sub(t.compactable) < t.jitter(spread) {
		return nil
	}
	// Commits that began before now may reach below the time that new ones are
	// kept from; after this none are under way.
	t.commits.Lock()
	closed := t.closed
	t.commits.Unlock()
	if closed {
		return nil
	}
	start := time.Now()
	if err := t.db.Compact(ctx); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	t.compactable = time.Time{}
	t.sweep()
	t.log.Info("cut blocks", "took", time.Since(start), "series", head.NumSeries(), "blocks", len(t.db.Blocks()))
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
	if tenantID != "" {
		t := i.find(tenantID)
		if t == nil {
			return proto.Errorf(proto.KindNotFound, "weir-tenant-unknown", "there is no tenant %q here", tenantID)
		}
		return t.flush(ctx)
	}
	var errs []error
	for _, t := range i.all() {
		errs = append(errs, t.flush(ctx))
	}
	return errors.Join(errs...)
}

func (t *tenantDB) flush(ctx context.Context) error {
	t.maintenance.Lock()
	defer t.maintenance.Unlock()
	t.commits.Lock()
	head, closed := t.db.Head(), t.closed
	maxt := head.MaxTime()
	if head.NumSeries() > 0 {
		t.cutting.Store(maxt)
	}
	t.commits.Unlock()
	if closed || head.NumSeries() == 0 {
		return nil
	}
	defer t.cutting.Store(notCutting)
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

// mod is t modulo d, for times before 1970 as well.
func mod(t, d int64) int64 { return (t%d + d) % d }
