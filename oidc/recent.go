package oidc

import (
	"hash/maphash"
	"strings"
	"sync"
)

// recentBytes bounds each of the two generations of remembered tokens by the
// length of the tokens: 8,000 of 1 KiB.
const recentBytes = 8 << 20

// recent remembers tokens, so that what was verified once need not be again: a
// signature takes 30 to 100 µs, this a fifth of one. Only tokens that were found
// good get in. Who is not asked for while a generation fills up is forgotten.
//
// Tokens are found by a hash with a random seed, of 64 bits, and only then compared:
// who tries to learn one from how long that takes has to hit its hash first.
type recent struct {
	seed       maphash.Seed
	mu         sync.RWMutex
	young, old map[uint64]*Token // guarded by mu
	bytes      int               // put into young; guarded by mu
}

func newRecent() *recent { return &recent{seed: maphash.MakeSeed(), young: make(map[uint64]*Token)} }

// get returns what was put for a token, or nil.
func (r *recent) get(token string) *Token {
	hash := maphash.String(r.seed, token)
	r.mu.RLock()
	t, young := r.young[hash]
	if !young {
		t = r.old[hash]
	}
	r.mu.RUnlock()
	if t == nil || t.text != token {
		return nil
	}
	if !young {
		r.keep(hash, t)
	}
	return t
}

func (r *recent) put(token string, t *Token) {
	t.text = strings.Clone(token) // the rest of the request is not kept with it
	r.keep(maphash.String(r.seed, token), t)
}

func (r *recent) keep(hash uint64, t *Token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes+len(t.text) > recentBytes {
		r.old, r.young, r.bytes = r.young, make(map[uint64]*Token), 0
	}
	r.young[hash] = t
	r.bytes += len(t.text)
}
