package tenant

import "github.com/weir-metrics/weir/relabel"

// Settings is one version of what a tenant may do and of what is done to its
// series. A value is immutable once it is shared: a new version is a new pointer,
// and caches of decisions made under the old one compare that pointer. A tenant
// whose settings a reload does not change keeps its pointer.
type Settings struct {
	Limits Limits
	Rules  *relabel.Rules // nil: none
	State  State
}

// State says what a tenant may do at all.
type State string

const (
	// StateActive is a tenant that may do everything.
	StateActive State = "active"
	// StateHeld is a tenant whose writes are put off: senders are told to come
	// back, and keep what they have. Reads go on.
	StateHeld State = "held"
	// StateReadOnly is a tenant whose writes are refused, so that senders drop them.
	StateReadOnly State = "read-only"
	// StateWriteOnly is a tenant whose reads are refused.
	StateWriteOnly State = "write-only"
	// StateSuspended is a tenant that may do nothing.
	StateSuspended State = "suspended"
)

// States are all of them, for messages.
var States = []State{StateActive, StateHeld, StateReadOnly, StateWriteOnly, StateSuspended}

// DefaultSettings are those of a tenant that has none of its own.
func DefaultSettings() Settings { return Settings{Limits: DefaultLimits(), State: StateActive} }
