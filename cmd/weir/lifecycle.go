package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// part is a component with a life of its own. Run starts it, and returns when
// its context ends and all that it owns has stopped, or when it failed.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// runParts starts the parts in order. When ctx ends or any part returns, it
// stops them one by one in reverse, each before the one it stands on, and
// returns what failed.
func runParts(ctx context.Context, logger *slog.Logger, parts []part) error {
	type started struct {
		stop context.CancelFunc
		done chan error
	}
	running := make([]started, len(parts))
	returned := make(chan string, len(parts))
	for i, p := range parts {
		// Not a child of ctx: when that ends, each part lives until its turn.
		partCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		running[i] = started{stop, make(chan error, 1)}
		go func() {
			running[i].done <- p.run(partCtx)
			returned <- p.name
		}()
	}

	select {
	case <-ctx.Done():
		logger.Info("stopping", "cause", context.Cause(ctx))
	case name := <-returned:
		logger.Info("stopping", "cause", name+" ended")
	}
	var errs []error
	for i := len(parts) - 1; i >= 0; i-- {
		running[i].stop()
		if err := <-running[i].done; err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("%s: %w", parts[i].name, err))
		}
	}
	return errors.Join(errs...)
}
