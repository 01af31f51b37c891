package proto

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Kind says whose fault an error is and whether trying again can help. It is
// part of the wire contract: one table maps it to HTTP status codes, one to
// gRPC codes.
type Kind uint8

const (
	// KindInternal is a bug of ours. The zero value, so that an error nobody
	// classified is never blamed on the client.
	KindInternal Kind = iota
	// KindBadData is a request that can never succeed as it is.
	KindBadData
	// KindTooLarge is a request over a size limit.
	KindTooLarge
	// KindUnsupported is a media type, encoding or version that is not spoken here.
	KindUnsupported
	// KindUnauthenticated is a request without a usable tenant or credential.
	KindUnauthenticated
	// KindForbidden is a request whose credential does not allow it.
	KindForbidden
	// KindConflict contradicts what is already stored.
	KindConflict
	// KindLimit is refused by a quota; the same request may succeed later.
	KindLimit
	// KindUnavailable is a transient condition on our side.
	KindUnavailable
	// KindNotFound names something that does not exist.
	KindNotFound
)

// Error is an error that reaches a client. ID is stable ("weir-…") and has a
// section in docs/errors.md; Msg says what was wrong, the limit and the value,
// and what to do.
type Error struct {
	Kind  Kind
	ID    string
	Msg   string
	Quota *Quota // nil: no limit in numbers

	// RetryAfter is when the same request may succeed, for KindLimit and
	// KindUnavailable; 0: soon.
	RetryAfter time.Duration
}

// Quota is a limit, and how much of it is used.
type Quota struct {
	Limit            string  // its name in the settings
	Current, Maximum float64 // in the unit of the limit
}

// Ratio is the share of the limit that is used; more than 1 is asked for.
func (q Quota) Ratio() float64 { return q.Current / q.Maximum }

// NearLimit is the share of a limit from which on whoever sends is told.
const NearLimit = 0.8

// Errorf returns an *Error with a formatted message.
func Errorf(kind Kind, id, format string, args ...any) *Error {
	return &Error{Kind: kind, ID: id, Msg: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return e.ID + ": " + e.Msg }

// RetrySeconds is the value of a Retry-After header: whole seconds, at least 1,
// because senders read no fractions. Unless e knows better it is short, because a
// whole shard of a sender waits, and spread, so that senders do not come back
// together. e may be nil, who knows nothing.
func (e *Error) RetrySeconds() int {
	if e == nil || e.RetryAfter <= 0 {
		return 1 + rand.IntN(5)
	}
	return int((e.RetryAfter + time.Second - 1) / time.Second)
}

// KindOf returns the kind of the first *Error in err's chain, or KindInternal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}
