package ingester

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/weir-metrics/weir/proto"
)

// slot is a tenant's place in an Ingester, whether its TSDB is open or not.
//
//	             a write or read              a log cannot be written
//	  closed ─────────────────────────> open ─────────────────────────> failed
//	   │  ^  <─────────────────────────  │  <─────────────────────────
//	   │  │   nobody uses it, and all       the disk has room: it is opened
//	   │  │   of it is in blocks            anew, which repairs the log
//	   v  └ at start, without a log
//	removed
//	  retention took the last block
//
// A closed tenant has no log on disk, unless it is broken: it could not be opened.
// Its memory is this struct.
type slot struct {
	id       string
	activity *activity

	// changing is held while the TSDB is opened, closed or removed.
	changing sync.Mutex
	removed  bool          // look the tenant up again; guarded by changing
	retry    time.Time     // it is not opened before; guarded by changing
	delay    time.Duration // from one attempt to the next; guarded by changing
	healing  atomic.Bool   // it is being opened anew, which may take long

	atRest atomic.Pointer[uint64] // samples that a closed tenant has stored in all its life; nil: not known yet

	open *tenantDB // nil: closed; guarded by Ingester.mu
	rest span      // of a closed tenant; guarded by Ingester.mu
	why  error     // it could not be opened; guarded by Ingester.mu
}

// state of a tenant, for the metrics.
type state int

const (
	stateClosed state = iota
	stateOpen
	stateFailed
	stateBroken
)

var states = []state{stateClosed, stateOpen, stateFailed, stateBroken}

func (s state) String() string { return [...]string{"closed", "open", "failed", "broken"}[s] }

// state of the tenant. The caller holds Ingester.mu.
func (s *slot) state() state {
	switch {
	case s.why != nil:
		return stateBroken
	case s.open == nil:
		return stateClosed
	case s.open.failed.Load() != 0:
		return stateFailed
	}
	return stateOpen
}

// span is the time that the blocks of a closed tenant cover, ms.
type span struct {
	mint, maxt int64
	firstEnd   int64 // where the block ends that retention takes first
}

var (
	// anyTime is the span of a closed tenant that must be opened to know it.
	anyTime = span{mint: math.MinInt64, maxt: math.MaxInt64, firstEnd: math.MaxInt64}
	// noTime is the span of no block.
	noTime = span{mint: math.MaxInt64, maxt: math.MinInt64, firstEnd: math.MaxInt64}
)

// empty reports whether there is no block.
func (s span) empty() bool { return s == noTime }

// users counts who is using an opened TSDB.
type users struct{ n atomic.Int64 }

// enter counts the caller until it calls leave, unless the TSDB is shut.
func (u *users) enter() bool {
	if u.n.Add(1) > 0 {
		return true
	}
	u.n.Add(-1)
	return false
}

func (u *users) leave() { u.n.Add(-1) }

// shut keeps users out for good, if there are none.
func (u *users) shut() bool { return u.n.CompareAndSwap(0, math.MinInt64/2) }

// reopen lets users in again after shut.
func (u *users) reopen() { u.n.Add(-(math.MinInt64 / 2)) }

// enter returns a tenant's opened TSDB and counts the caller among its users
// until it calls leave. A closed one is opened; one that does not exist is
// created, or nil is returned.
func (i *Ingester) enter(id string, create bool) (*tenantDB, error) {
	for {
		if err := i.Ready(); err != nil {
			return nil, err
		}
		s, t := i.look(id)
		switch {
		case s == nil && !create:
			return nil, nil
		case s == nil:
			if err := i.create(id); err != nil {
				return nil, err
			}
		case t == nil || !t.users.enter():
			if err := i.wake(s); err != nil {
				return nil, err
			}
		case t.draining.Load():
			t.users.leave()
			return nil, reopening()
		default:
			return t, nil
		}
	}
}

// look returns a tenant's slot and its opened TSDB, nil where there is none.
func (i *Ingester) look(id string) (*slot, *tenantDB) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	s := i.slots[id]
	if s == nil {
		return nil, nil
	}
	return s, s.open
}

func (i *Ingester) openOf(s *slot) *tenantDB {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return s.open
}

// set makes t the tenant's opened TSDB, or closes the slot when it is nil.
func (i *Ingester) set(s *slot, t *tenantDB, rest span) {
	i.mu.Lock()
	defer i.mu.Unlock()
	s.open, s.rest, s.why = t, rest, nil
	s.atRest.Store(nil)
}

// setBroken notes that the tenant could not be opened. The caller holds changing.
func (i *Ingester) setBroken(s *slot, err error) error {
	s.backOff(time.Now())
	i.Logger.Error("a tenant cannot be opened, its requests are refused", "tenant", s.id, "err", err, "again_in", s.delay)
	i.set(s, nil, anyTime)
	i.mu.Lock()
	defer i.mu.Unlock()
	s.why = proto.Errorf(proto.KindUnavailable, "weir-tenant-broken",
		"the samples of the tenant %q cannot be opened: %v; repeat the request, an operator has to look at its files", s.id, err)
	return s.why
}

// broken says why the tenant could not be opened, if so.
func (i *Ingester) broken(s *slot) error {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return s.why
}

func reopening() error {
	return proto.Errorf(proto.KindUnavailable, "weir-store-unavailable",
		"the tenant is being opened anew, because its write-ahead log could not be written; repeat the request")
}

// create makes a new tenant.
func (i *Ingester) create(id string) error {
	i.creating.Lock()
	defer i.creating.Unlock()
	if s, _ := i.look(id); s != nil {
		return nil
	}
	if err := i.Ready(); err != nil {
		return err
	}
	i.mu.RLock()
	n := len(i.slots)
	i.mu.RUnlock()
	if n >= i.cfg.MaxTenants {
		return proto.Errorf(proto.KindLimit, "weir-too-many-tenants",
			"there are %d tenants, the limit ingester.max_tenants; raise it if the tenant %q is meant to exist", n, id)
	}
	if i.disk.level() != diskRoomy {
		return i.disk.noNewSeries()
	}
	s := &slot{id: id, activity: i.newActivity(id)}
	t, err := i.openTenant(s, newReplayJob(id, 0))
	if err != nil {
		i.Logger.Error("cannot create a tenant", "tenant", id, "err", err)
		return unavailable(err)
	}
	s.open = t
	i.mu.Lock()
	defer i.mu.Unlock()
	i.slots[id] = s
	return nil
}

// wake opens a closed tenant. When it returns nil, the caller looks again.
func (i *Ingester) wake(s *slot) error {
	if !s.changing.TryLock() {
		if s.healing.Load() {
			return reopening()
		}
		s.changing.Lock() // closing, or another wake: soon done
	}
	defer s.changing.Unlock()
	if err := i.Ready(); err != nil {
		return err
	}
	if s.removed || i.openOf(s) != nil {
		return nil
	}
	if wait := time.Until(s.retry); wait > 0 {
		if err := i.broken(s); err != nil {
			return err
		}
		return proto.Errorf(proto.KindUnavailable, "weir-store-unavailable",
			"the tenant could not be opened, the next attempt is in %s; repeat the request", wait.Round(time.Millisecond))
	}
	if err := i.roomToOpen(s.id); err != nil {
		return err
	}
	t, err := i.openTenant(s, newReplayJob(s.id, replayBytes(i.tenantDir(s.id))))
	if err != nil {
		return i.setBroken(s, err)
	}
	i.set(s, t, span{})
	return nil
}

// Attempts to open a tenant are this far apart: often enough that senders hardly
// notice, and not so often that replays of its log would keep others waiting.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// backOff puts the next attempt off. The caller holds changing.
func (s *slot) backOff(now time.Time) {
	if now.Sub(s.retry) > 10*lastRetry {
		s.delay = 0 // the trouble before was another one
	}
	s.delay = min(max(firstRetry, 2*s.delay), lastRetry)
	s.retry = now.Add(s.delay)
}

// The directories in which a TSDB keeps what is not in a block.
const (
	walDir        = "wal"
	headChunksDir = "chunks_head"
)

// roomToOpen is nil when the disk has room for opening a tenant: the end of a
// log may have to be repaired, which copies a segment; the out-of-order log is
// copied, and its samples written to chunk files again; and chunks that no file
// has yet are written to one. The TSDB would end the process if they could not.
func (i *Ingester) roomToOpen(id string) error {
	dir := i.tenantDir(id)
	wal, err := dirBytes(filepath.Join(dir, walDir))
	if err != nil {
		return unavailable(err)
	}
	wbl, err := dirBytes(filepath.Join(dir, wlog.WblDirName))
	if err != nil {
		return unavailable(err)
	}
	return i.disk.fits(bytesToOpen(wal, wbl))
}

// bytesToOpen is what opening a TSDB may write. Chunks take no more than what
// they were logged as; of a long log most are in files already.
func bytesToOpen(wal, wbl int64) int64 {
	const segment = wlog.DefaultSegmentSize
	repair := min(wal, segment)
	unwritten := min(wal, wal/4+segment)
	return repair + unwritten + 4*wbl + 1<<20
}

// heal opens a tenant anew whose log could not be written. Readers have some
// time to come to their end; then newcomers are kept out.
func (i *Ingester) heal(s *slot, now time.Time) {
	const patience = 10 * time.Second
	t := i.openOf(s)
	if t == nil || t.failed.Load() == 0 || !s.changing.TryLock() {
		return
	}
	defer s.changing.Unlock()
	if i.openOf(s) != t || now.Before(s.retry) || i.roomToOpen(s.id) != nil || i.Ready() != nil {
		return
	}
	s.healing.Store(true)
	defer s.healing.Store(false)
	if !t.broken.Load() && !t.users.shut() {
		t.draining.Store(now.UnixMilli()-t.failed.Load() > patience.Milliseconds())
		return
	}
	// What is damaged of the log must be repaired now; a snapshot would hide it.
	if err := errors.Join(t.close(), dropSnapshots(t.dir)); err != nil {
		t.log.Warn("closed a tenant whose log could not be written", "err", err)
	}
	fresh, err := i.openTenant(s, newReplayJob(s.id, replayBytes(t.dir)))
	if err != nil {
		_ = i.setBroken(s, err)
		return
	}
	s.backOff(now) // or a disk that fails again at once would keep us busy
	i.metrics.healed.Inc()
	fresh.log.Info("opened a tenant anew, it can be written again", "series", fresh.db.Head().NumSeries())
	i.set(s, fresh, span{})
}

// healAll heals failed tenants until ctx ends.
func (i *Ingester) healAll(ctx context.Context) error {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, s := range i.all() {
			if t := i.openOf(s); t == nil || t.failed.Load() == 0 || i.disk.level() == diskFull {
				continue
			}
			i.heal(s, time.Now())
		}
	}
}
