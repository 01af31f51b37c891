package tenant

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	// failureEvery is how often a source may be wrong for long, and failureBurst
	// how often at once: more than a fleet whose secret was revoked needs to see
	// that it was, and too few for a guess or to cost us anything.
	failureEvery = time.Second
	failureBurst = 30

	// failureCells is how many sources are told apart, at 8 bytes each. Two that
	// share a cell share its budget, which costs each of them a 401 in place of
	// which it gets a 429: what is valid is never throttled.
	failureCells = 4096
)

// throttle bounds how often each source may show what is wrong. It takes the same
// memory whatever comes, and no lock.
//
// Each cell is a token bucket in one number (GCRA): the time until which its
// failures are paid for, at failureEvery apiece. It may be ahead of the clock by
// failureBurst of them.
type throttle struct {
	seed  maphash.Seed
	cells [failureCells]atomic.Int64 // Unix nanoseconds
}

func newThrottle() *throttle { return &throttle{seed: maphash.MakeSeed()} }

// take notes a failure, and returns how long the source has to wait if that is
// beyond its budget.
func (t *throttle) take(source netip.Addr, now time.Time) (wait time.Duration) {
	cell := &t.cells[maphash.Comparable(t.seed, network(source))%failureCells]
	for {
		paid := cell.Load()
		next := max(paid, now.UnixNano()) + int64(failureEvery)
		if ahead := time.Duration(next - now.UnixNano()); ahead > failureBurst*failureEvery {
			return ahead - failureBurst*failureEvery
		}
		if cell.CompareAndSwap(paid, next) {
			return 0
		}
	}
}

// network is what one source is: an IPv4 address, or the 64 bits of an IPv6
// address that a site gets.
func network(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
