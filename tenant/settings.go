package tenant

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/weir-metrics/weir/relabel"
	"github.com/weir-metrics/weir/strictyaml"
)

// Settings is one version of what a tenant may do and of what is done to its
// series. A value is immutable once it is shared: a new version is a new pointer,
// and caches of decisions made under the old one compare that pointer. A tenant
// whose settings a reload does not change keeps its pointer.
//
// Fields with a yaml name are what plans and tenants of the runtime file set; the
// others are made of those by compile.
type Settings struct {
	Limits  Limits         `yaml:"limits"`
	State   State          `yaml:"state"`
	Relabel relabel.Config `yaml:"relabel,omitempty"`
	Rules   *relabel.Rules `yaml:"-"` // of Relabel; nil: none
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

// compile checks what was written, and makes of it what requests are judged by.
// It returns every violation, with its path below prefix. The value may be a copy
// of another one, whose compiled fields it has.
func (s *Settings) compile(prefix string) []error {
	errs := s.Limits.Validate(prefix + ".limits")
	if !slices.Contains(States, s.State) {
		errs = append(errs, fmt.Errorf("%s.state: %q: must be one of %s", prefix, s.State, States))
	}
	if !s.Rules.Of(&s.Relabel) {
		var wrong []error
		s.Rules, wrong = relabel.Compile(&s.Relabel, prefix+".relabel")
		errs = append(errs, wrong...)
	}
	return errs
}

// equal reports whether the same was written in s and o.
func (s *Settings) equal(o *Settings) bool {
	if s == o {
		return true
	}
	theirs := strictyaml.Fields(reflect.ValueOf(o).Elem())
	for i, f := range strictyaml.Fields(reflect.ValueOf(s).Elem()) {
		if !reflect.DeepEqual(f.Value.Interface(), theirs[i].Value.Interface()) {
			return false
		}
	}
	return true
}
