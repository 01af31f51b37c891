package main

import (
	"context"
	"errors"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/ingester"
	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
)

// subsystems is what /ready shows in JSON.
func subsystems(ctx context.Context, ing *ingester.Ingester, guard *overload.Guard) func() []api.Subsystem {
	return func() []api.Subsystem {
		process := api.Subsystem{Name: "process", State: api.StateOK}
		if ctx.Err() != nil {
			process.State, process.Reason = api.StateStopping, "asked to stop"
		}
		memory := api.Subsystem{Name: "memory", State: api.StateOK}
		if guard.Short() {
			memory.State, memory.Reason = api.StateDegraded, "memory is short: requests are refused (weir-overloaded)"
		}
		return []api.Subsystem{process, ingesterState(ing), memory}
	}
}

// ingesterState says how far the replay of the logs is.
func ingesterState(ing *ingester.Ingester) api.Subsystem {
	s := api.Subsystem{Name: "ingester", State: api.StateOK}
	err := ing.Ready()
	if err == nil {
		return s
	}
	s.State, s.Reason = api.StateStopping, err.Error()
	var e *proto.Error
	if errors.As(err, &e) && e.ID == "weir-starting" {
		s.State, s.ETA = api.StateStarting, ing.ReplayProgress().Left
	}
	return s
}
