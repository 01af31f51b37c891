package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// Subsystem is one part of the process, as /ready shows it.
type Subsystem struct {
	Name   string
	State  State
	Reason string        // why it is not ok
	ETA    time.Duration // until it is ok, as far as can be told; 0: unknown
}

// State of a Subsystem.
type State string

// The states. Whether the process is ready is for Deps.Ready to say.
const (
	StateOK       State = "ok"
	StateStarting State = "starting"
	StateStopping State = "stopping"
	StateDegraded State = "degraded" // works, and not for everybody
)

// health is the answer of /ready and its like in JSON.
type health struct {
	Status     string            `json:"status"` // ready, not ready, healthy
	Reason     string            `json:"reason,omitempty"`
	Subsystems []subsystemHealth `json:"subsystems,omitempty"`
}

type subsystemHealth struct {
	Name       string  `json:"name"`
	State      State   `json:"state"`
	Reason     string  `json:"reason,omitempty"`
	ETASeconds float64 `json:"etaSeconds,omitempty"`
}

// isReady answers 200 while writes and reads are served, or 503 and why not.
func (a *API) isReady(w http.ResponseWriter, r *http.Request) {
	status, state := http.StatusOK, health{Status: "ready"}
	if err := a.Ready(); err != nil {
		status, state = http.StatusServiceUnavailable, health{Status: "not ready", Reason: err.Error()}
	}
	if wantsJSON(r) {
		for _, s := range a.subsystems() {
			state.Subsystems = append(state.Subsystems, subsystemHealth{s.Name, s.State, s.Reason, s.ETA.Round(time.Second).Seconds()})
		}
		writeJSON(w, status, state)
		return
	}
	if status != http.StatusOK {
		http.Error(w, state.Reason, status)
		return
	}
	writeText(w, "ready\n")
}

func (a *API) subsystems() []Subsystem {
	if a.Subsystems == nil {
		return nil
	}
	return a.Subsystems()
}

// isHealthy answers 200 as long as the process answers at all.
func (a *API) isHealthy(w http.ResponseWriter, r *http.Request) {
	if wantsJSON(r) {
		writeJSON(w, http.StatusOK, health{Status: "healthy"})
		return
	}
	writeText(w, "healthy\n")
}

// wantsJSON reports whether a client asks for JSON where text is the custom.
func wantsJSON(r *http.Request) bool {
	return r.URL.Query().Get("format") == "json" || strings.Contains(r.Header.Get("Accept"), "application/json")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // an error here is a client that went away
}
