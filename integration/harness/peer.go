package harness

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/server"
)

// programs are those that this process has built, by name.
var programs = struct {
	sync.Mutex
	paths map[string]string
}{paths: map[string]string{}}

// Program returns the path of a program that is no part of weir. It is built
// into bin/, which takes a second if it is there and up to date.
func Program(t testing.TB, k server.Kind) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if path := programs.paths[k.Name]; path != "" {
		return path
	}
	root, err := server.Root()
	require.NoError(t, err)
	path := filepath.Join(root, "bin", k.Name)
	// Not the test's context: other tests will need the program.
	require.NoError(t, server.Build(context.Background(), k, root, path, os.Stderr))
	programs.paths[k.Name] = path
	return path
}

// Beside starts a program that runs beside the server under test, on an empty
// directory, and kills it when the test ends.
func Beside(t testing.TB, k server.Kind) *Server {
	t.Helper()
	s := prepare(t, k, Program(t, k))
	s.start()
	return s
}
