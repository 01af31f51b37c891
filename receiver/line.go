package receiver

import (
	"math"
	"time"

	"github.com/weir-metrics/weir/tenant"
)

// A line is a tenant's token bucket and those who wait for it.
//
// A request that finds tokens passes. One that would find them within maxHold is
// held until then. Any other is refused, and gets a place: its tokens are taken
// from the bucket now, as if it had passed, and whoever comes later waits behind
// it. When the same request comes back it passes, as soon as its time has come.
// So places are handed out at the rate of the limit, one sender after another,
// the told times spread over those who wait, and a sender who does what it is told
// is refused once.
//
// What makes this hold:
//   - A request is known by a hash of its bytes, which senders repeat as they were.
//   - Who is not back in time loses the place, and its tokens go back into the
//     bucket. Tokens are neither lost nor granted twice, so the rate holds.
//   - Some senders drop what is answered 429. Each place of such a sender would
//     keep tokens from requests that are there, in the end all of them. So a
//     sender that lets desertAfter places lapse in a row gets none, until a request
//     of it that was refused is seen again. While others wait there would be
//     nothing for it at all; so it may have asideShare of the rate out of turn.
//
// A line has no clock and no lock.
type line struct {
	tenant.Bucket
	aside   tenant.Bucket      // for those who do not wait
	places  map[uint64]place   // by the hash of the request
	senders map[uint64]conduct // those who did not come back
	swept   time.Time          // nothing lapses before
	missed  int                // places that lapsed, since the owner of the line last looked
}

// conduct is what a sender made of what it was told.
type conduct struct {
	lapsed int  // places in a row
	drops  bool // requests that are answered 429: those were
}

// place is what is remembered of a request that was refused.
type place struct {
	sender uint64
	cost   tenant.Cost
	due    time.Time // when its tokens are there
	back   time.Time // when it was told to come back
	by429  bool      // is how it was told
	lapsed bool      // it has no tokens any more, or never had: only its return is of interest
}

const (
	// maxHold is how long a request may be held. It takes memory and a connection
	// meanwhile, and saves sending it twice. A second is the least that Retry-After
	// can say.
	maxHold = time.Second

	// maxRetryAfter in seconds: a shard of the sender stands still for as long, and
	// cannot be told that it may come earlier.
	maxRetryAfter = 15

	// maxAhead is how far ahead places are given away. Who has to wait longer than
	// maxRetryAfter keeps its place while it comes back as told.
	maxAhead = time.Minute

	// lateness is how late a sender may be back: vmagent adds a tenth of the time
	// it was told, client_golang up to five seconds.
	lateness = 6 * time.Second

	// watchFor is how long a lapsed place is remembered, for a sender that comes
	// back by a time of its own: the longest default among those known is 30 s.
	watchFor = time.Minute

	// desertAfter is more than one: behind one address may be many senders, one of
	// which was just stopped.
	desertAfter = 3

	// asideShare is little, because it is what others wait longer for.
	asideShare = 0.1

	// maxPlaces and maxSenders bound the memory of a line, to half a MiB.
	maxPlaces  = 4096
	maxSenders = 1024
)

func newLine() *line {
	return &line{places: make(map[uint64]place), senders: make(map[uint64]conduct)}
}

// set makes rates those of the line.
func (l *line) set(rates tenant.Rates) {
	l.Set(rates)
	for i := range rates {
		rates[i].PerSecond *= asideShare
		rates[i].Burst *= asideShare
	}
	l.aside.Set(rates)
}

// arrival is a request that wants to pass.
type arrival struct {
	request uint64 // hash of its bytes
	sender  uint64 // hash of what tells senders apart
	cost    tenant.Cost
	by429   bool // is how it is refused
	mayHold bool
}

// turn is what a line makes of an arrival: it passes after hold, or, when
// retryAfter is not 0, is refused for so many seconds because of limit. What is
// held was charged, and is to be returned if it does not pass.
type turn struct {
	hold       time.Duration
	retryAfter int
	limit      tenant.Resource
	kept       bool // it came back to a place of its own
}

// pass lets a request through that need not wait, while there is nobody whose
// place it might have: then nothing has to be known about it. The caller has
// called Advance.
func (l *line) pass(cost *tenant.Cost) bool {
	if len(l.places) > 0 {
		return false
	}
	if wait, _ := l.Wait(cost); wait > 0 {
		return false
	}
	l.Ask(cost)
	l.Take(cost)
	return true
}

// arrive decides about a request. The caller has called Advance.
func (l *line) arrive(now time.Time, a *arrival) turn {
	l.sweep(now)
	p, known := l.places[a.request]
	if known {
		delete(l.places, a.request)
		l.cameBack(a.sender, p.by429)
		if !p.lapsed {
			return l.returned(now, a, p)
		}
	} else {
		l.Ask(&a.cost)
	}
	wait, limit := l.Wait(&a.cost)
	if wait <= 0 || wait <= maxHold && a.mayHold {
		l.Take(&a.cost)
		return turn{hold: wait}
	}
	if l.deserted(a.sender) && l.passAside(now, &a.cost) {
		return turn{}
	}
	return turn{retryAfter: l.give(now, a, wait), limit: limit}
}

// passAside lets a request through out of turn. Who waits is not kept from its
// place by that; who comes later waits longer.
func (l *line) passAside(now time.Time, cost *tenant.Cost) bool {
	l.aside.Advance(now)
	if wait, _ := l.aside.Wait(cost); wait > 0 {
		return false
	}
	l.aside.Take(cost)
	l.Take(cost)
	return true
}

// returned decides about a request that has its tokens.
func (l *line) returned(now time.Time, a *arrival, p place) turn {
	wait := p.due.Sub(now)
	if wait <= 0 || wait <= maxHold && a.mayHold {
		return turn{hold: max(wait, 0), kept: true}
	}
	_, limit := l.Wait(&a.cost)
	retryAfter := seconds(wait)
	p.back = now.Add(time.Duration(retryAfter) * time.Second)
	l.keep(a.request, p)
	return turn{retryAfter: retryAfter, limit: limit}
}

// give gives a request a place if it may have one, and returns when to come
// back, in seconds.
func (l *line) give(now time.Time, a *arrival, wait time.Duration) int {
	p := place{sender: a.sender, cost: a.cost, due: now.Add(wait), by429: a.by429, lapsed: l.deserted(a.sender)}
	if len(l.places) >= maxPlaces {
		l.forget()
	}
	// Even who has to wait for longer has its turn when it is alone.
	ahead := wait > maxAhead && len(l.places) > 0
	if ahead || len(l.places) >= maxPlaces {
		return maxRetryAfter - int(a.request%8) // not all at once
	}
	if !p.lapsed {
		l.Take(&p.cost)
	}
	retryAfter := seconds(wait)
	p.back = now.Add(time.Duration(retryAfter) * time.Second)
	l.keep(a.request, p)
	return retryAfter
}

func (l *line) keep(request uint64, p place) {
	l.places[request] = p
	if t := p.forgotten(); len(l.places) == 1 || t.Before(l.swept) {
		l.swept = t
	}
}

// seconds is what a sender is told that has to wait: until its turn, if it can be
// told so, or to ask for it again before. The latter spread over half of the time
// that can be told, by the order of their turns.
func seconds(wait time.Duration) int {
	s := int(math.Ceil(wait.Seconds()))
	if s > maxRetryAfter {
		return maxRetryAfter - s%8
	}
	return max(s, 1)
}

// deserted reports whether a sender is one that does not come back.
func (l *line) deserted(sender uint64) bool { return l.senders[sender].lapsed >= desertAfter }

// drops reports whether a sender is one that drops what is answered 429. Whether
// it repeats after 503 says nothing about that.
func (l *line) drops(sender uint64) bool { return l.senders[sender].drops }

// withdraw takes the place of a request that came back, and is refused for something
// else than the line.
func (l *line) withdraw(request, sender uint64) {
	p, known := l.places[request]
	if !known {
		return
	}
	delete(l.places, request)
	l.cameBack(sender, p.by429)
	if !p.lapsed {
		l.Return(&p.cost)
	}
}

// cameBack counts that a sender did.
func (l *line) cameBack(sender uint64, by429 bool) {
	if c, ok := l.senders[sender]; ok {
		l.senders[sender] = conduct{drops: c.drops && !by429}
	}
}

// forgotten is when p lapses, or is forgotten if it has.
func (p *place) forgotten() time.Time {
	if p.lapsed {
		return p.back.Add(watchFor)
	}
	return p.back.Add(lateness)
}

// sweep takes their places from who is not back in time.
func (l *line) sweep(now time.Time) {
	if len(l.places) == 0 || now.Before(l.swept) {
		return
	}
	l.swept = now.Add(watchFor)
	for request, p := range l.places {
		switch {
		case now.Before(p.forgotten()):
		case p.lapsed:
			delete(l.places, request)
			continue
		default:
			p.lapsed = true
			l.places[request] = p
			l.lapse(&p)
		}
		if t := p.forgotten(); t.Before(l.swept) {
			l.swept = t
		}
	}
}

// lapse gives the tokens of a place back, and counts that its sender did not come.
func (l *line) lapse(p *place) {
	l.Return(&p.cost)
	l.missed++
	c, ok := l.senders[p.sender]
	if !ok && len(l.senders) >= maxSenders {
		for other := range l.senders { // any
			delete(l.senders, other)
			break
		}
	}
	c.lapsed++
	c.drops = c.drops || p.by429 && c.lapsed >= desertAfter
	l.senders[p.sender] = c
}

// forget drops what has no tokens.
func (l *line) forget() {
	for request, p := range l.places {
		if p.lapsed {
			delete(l.places, request)
		}
	}
}

// idle reports whether nothing would be lost with l.
func (l *line) idle(now time.Time) bool {
	l.Advance(now)
	l.sweep(now)
	return len(l.places) == 0 && l.Full()
}
