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

// StateActive is a tenant that may do everything.
const StateActive State = "active"

// DefaultSettings are those of a tenant that has none of its own.
func DefaultSettings() Settings { return Settings{Limits: DefaultLimits(), State: StateActive} }
