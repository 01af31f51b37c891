// Package server runs weir and its peers as real processes on loopback.
//
//	kinds.go    what each server is: package, flags, paths
//	build.go    builds a missing binary, with visible progress
//	process.go  start, ready, stop, kill: always by pid
//	usage.go    CPU time and peak memory as the operating system counts them
//
// It knows nothing of package testing, so that benchmarks use it as tests do.
package server

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Kind is a server program: how it is built, started and spoken to.
type Kind struct {
	Name    string // also the file name of the binary
	Package string // Go package of its main
	Module  string // directory of the module that pins Package, relative to the root of the repository

	// Prepare writes what the server needs before its first start.
	Prepare func(dataDir string) error
	// Args are the command-line arguments.
	Args func(listen, dataDir string) []string
	// Headers are those of every write.
	Headers map[string]string

	WritePath string // remote write
	APIPath   string // prefix of /api/v1/query and its siblings
	ReadyPath string // answers 200 when the server takes samples and queries
	SpeaksV2  bool   // remote-write 2.0
}

// Options of one start.
type Options struct {
	DataDir     string        // must exist
	LogPath     string        // stdout and stderr are appended here
	ExtraArgs   []string      // after Kind.Args
	Env         []string      // NAME=value, added to the environment
	MemoryLimit int64         // bytes: GOMEMLIMIT, and 4 times as much address space, at least 4 GiB for mapped files; 0: no limit
	ReadyWithin time.Duration // 0: one minute
	Client      *http.Client  // asks, over TLS, whether it is ready; nil: in plain HTTP
}

// ErrNotReady says that a process started but never answered its ready path.
var ErrNotReady = errors.New("server not ready in time")

// Root returns the root of the repository that holds the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module github.com/weir-metrics/weir\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod of weir above the working directory")
		}
		dir = up
	}
}
