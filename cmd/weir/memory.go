package main

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryShare of what the cgroup grants is for the Go heap and what belongs to
// it. The rest is for mapped files, whose pages the kernel counts as well.
const memoryShare = 0.9

// gcPercent is the heap's growth from one garbage collection to the next. Most of
// it is series, which live for hours: to mark them less often saves a twelfth of
// the CPU time of a new series, and costs a twentieth of memory.
const gcPercent = 150

// limitMemory makes the garbage collector work harder before the kernel kills
// the process: GOMEMLIMIT if it is set, else a share of the cgroup's limit.
func limitMemory(logger *slog.Logger) {
	if _, given := os.LookupEnv("GOGC"); !given {
		debug.SetGCPercent(gcPercent)
	}
	limit, err := memlimit.Set(memlimit.WithRatio(memoryShare), memlimit.WithProvider(memlimit.FromCgroup))
	switch {
	case err != nil: // no cgroups here
		logger.Info("memory is limited by GOMEMLIMIT alone", "limit", debug.SetMemoryLimit(-1), "err", err)
	case limit == math.MaxInt64:
		logger.Info("memory is not limited: no GOMEMLIMIT, and none by the cgroup")
	default:
		logger.Info("memory is limited", "limit", limit)
	}
}
