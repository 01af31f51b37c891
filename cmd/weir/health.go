package main

import (
	"context"
	"errors"
	"time"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/ingester"
	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
)

// subsystems is what /ready shows in JSON. The replay of the logs begins when it
// is called, about.
func subsystems(ctx context.Context, ing *ingester.Ingester, guard *overload.Guard) func() []api.Subsystem {
	began := time.Now()
	return func() []api.Subsystem {
		process := api.Subsystem{Name: "process", State: api.StateOK}
		if ctx.Err() != nil {
			process.State, process.Reason = api.StateStopping, "asked to stop"
		}
		memory := api.Subsystem{Name: "memory", State: api.StateOK}
		if guard.Short() {
			memory.State, memory.Reason = api.StateDegraded, "memory is short: requests are refused (weir-overloaded)"
		}
		return []api.Subsystem{process, ingesterState(ing, time.Since(began)), memory}
	}
}

// ingesterState says how far the replay of the logs is, which goes on for so long.
func ingesterState(ing *ingester.Ingester, took time.Duration) api.Subsystem {
	s := api.Subsystem{Name: "ingester", State: api.StateOK}
	err := ing.Ready()
	if err == nil {
		return s
	}
	s.State, s.Reason = api.StateStopping, err.Error()
	var e *proto.Error
	if errors.As(err, &e) && e.ID == "weir-starting" {
		done, all := ing.Replay()
		s.State, s.ETA = api.StateStarting, eta(done, all, took)
	}
	return s
}

// eta is the time that is left when done of all took so long, 0 if there is no
// saying.
func eta(done, all int, took time.Duration) time.Duration {
	if done == 0 {
		return 0
	}
	return took / time.Duration(done) * time.Duration(all-done)
}
