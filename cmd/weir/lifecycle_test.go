package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestRunParts(t *testing.T) {
	failure := errors.New("disk full")
	for _, tc := range []struct {
		name    string
		ending  string // the part that ends by itself; "": ctx ends
		with    error
		stopped []string
		wantErr string
	}{
		{"asked to stop", "", nil, []string{"c", "b", "a"}, ""},
		{"the first fails", "a", failure, []string{"c", "b"}, "a: disk full"},
		{"one in the middle fails", "b", failure, []string{"c", "a"}, "b: disk full"},
		{"one ends without a failure", "c", nil, []string{"b", "a"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var stopped []string
				var parts []part
				for _, name := range []string{"a", "b", "c"} {
					parts = append(parts, part{name, func(ctx context.Context) error {
						if name == tc.ending {
							return tc.with
						}
						<-ctx.Done()
						stopped = append(stopped, name)
						return ctx.Err()
					}})
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tc.ending == "" {
					cancel()
				}
				err := runParts(ctx, slog.New(slog.DiscardHandler), parts)
				require.Equal(t, tc.stopped, stopped)
				if tc.wantErr == "" {
					require.NoError(t, err)
					return
				}
				require.EqualError(t, err, tc.wantErr)
			})
		})
	}
}
