package tenant

import (
	"math/rand/v2"
	"time"

	"github.com/weir-metrics/weir/proto"
)

// holdRetry is when the sender of a held tenant is to ask again: long, because
// the state lasts until somebody changes it, and short beside the two hours for
// which a Prometheus keeps what it could not send.
const holdRetry = 5 * time.Minute

// holdSpread keeps senders of a held tenant from coming back together.
const holdSpread = 4 * time.Second

// Refuse returns why a tenant in this state may not do what need is for, or nil.
func (s State) Refuse(need Scope) *proto.Error {
	switch {
	case s == StateHeld && need.Has(ScopeWrite):
		return &proto.Error{
			Kind: proto.KindUnavailable, ID: "weir-tenant-held", RetryAfter: holdRetry + rand.N(holdSpread),
			Msg: "writes of this tenant are on hold; nothing is lost as long as the sender keeps it: repeat the request later, and ask the operator",
		}
	case need.Has(ScopeWrite) && (s == StateReadOnly || s == StateSuspended),
		need.Has(ScopeRead) && (s == StateWriteOnly || s == StateSuspended),
		need != 0 && s == StateSuspended:
		return proto.Errorf(proto.KindForbidden, "weir-tenant-suspended",
			"the tenant is %s; ask the operator", s)
	}
	return nil
}
