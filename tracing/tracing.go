// Package tracing follows one request through the process by its id, which its
// answer and its log lines have.
//
//	api: WithID ──ctx──> log lines written with ctx (cmd/weir/logging.go)
package tracing

import "context"

type idKey struct{}

// WithID returns ctx with the id of the request that it belongs to.
func WithID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, idKey{}, id)
}

// ID is the id of the request that ctx belongs to, or empty.
func ID(ctx context.Context) string {
	id, _ := ctx.Value(idKey{}).(string)
	return id
}
