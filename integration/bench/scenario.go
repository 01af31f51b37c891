package bench

import (
	"github.com/weir-metrics/weir/integration/loadgen"
	"github.com/weir-metrics/weir/integration/server"
)

// Names of the scenarios.
const (
	SteadyV1    = "steady-rw1"
	SteadyV2    = "steady-rw2"
	Cardinality = "cardinality"
)

// Scenario is a load. Its first round creates the series and is measured apart
// from the rest.
type Scenario struct {
	Name     string
	Protocol loadgen.Protocol
	Series   int
	Rounds   int // after the first
}

// Scenarios returns all loads at the sizes that the budget is stated for.
func Scenarios() []Scenario {
	return []Scenario{
		{Name: SteadyV1, Protocol: loadgen.V1, Series: 100_000, Rounds: 80}, // 8 M samples, 20 minutes of timestamps
		{Name: SteadyV2, Protocol: loadgen.V2, Series: 100_000, Rounds: 80},
		{Name: Cardinality, Protocol: loadgen.V1, Series: 1_000_000, Rounds: 5},
	}
}

// Quick shrinks a load to about a tenth, for a first look or to check that the
// benchmark itself works. Budgets are not stated for it.
func (s Scenario) Quick() Scenario {
	if s.Name == Cardinality {
		s.Series /= 10
		return s
	}
	s.Series /= 5
	s.Rounds /= 2
	return s
}

// suits reports whether a server speaks the protocol.
func (s Scenario) suits(k server.Kind) bool { return s.Protocol == loadgen.V1 || k.SpeaksV2 }

// load is what the generator is told, without URL.
func (s Scenario) load() loadgen.Config {
	cfg := loadgen.DefaultConfig()
	cfg.Protocol = s.Protocol
	cfg.Series = s.Series
	cfg.Rounds = s.Rounds + 1
	return cfg
}
