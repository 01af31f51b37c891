// Package harness starts servers for tests and speaks HTTP with them.
//
//	harness.go  build once, start, restart, stop; logs into the test's log on failure
//	peer.go     programs that run beside the server, as its clients
//	encode.go   series of a test -> remote-write 1.0 and 2.0, by the generated encoders
//	push.go     POST to the write endpoint: status, body, Written headers; flush
//	query.go    GET from the query endpoints
//	certificates.go  a certificate authority
//	issuer.go   an OpenID Connect issuer
//	disk.go     what a stopped server left on disk, bit by bit
//
// The server under test is weir, built from the working tree with released
// buffers poisoned. The environment says otherwise:
//
//	WEIR_TEST_BUILD_FLAGS  flags of go build instead of -tags=poison, such as
//	                       "-race -tags=poison"
//	WEIR_TEST_BINARY       this binary instead of a build
//	WEIR_TEST_TARGET       prometheus: run against a real Prometheus instead, to
//	                       test the tests
package harness

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/server"
)

// StopWithin is how long a server may take from SIGTERM to its end: what
// Kubernetes grants.
const StopWithin = 30 * time.Second

// memoryLimit of a server under test in bytes, unless its Config has another.
const memoryLimit = 4 << 30

// logTail is how much of the server's log a failed test shows, in bytes.
const logTail = 16 << 10

// built is the server under test, built once per test process.
var built struct {
	once sync.Once
	dir  string // temporary, removed by Main
	path string
	err  error
}

// Main runs the tests of a package and removes what was built for them. Call it
// from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// Against reports the name of the server under test.
func Against() string {
	if os.Getenv("WEIR_TEST_TARGET") == "prometheus" {
		return "prometheus"
	}
	return "weir"
}

// Binary returns the path of the server under test, building it if needed.
func Binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() { built.path, built.err = build() })
	require.NoError(t, built.err)
	return built.path
}

func build() (string, error) {
	if given := os.Getenv("WEIR_TEST_BINARY"); given != "" {
		return filepath.Abs(given)
	}
	root, err := server.Root()
	if err != nil {
		return "", err
	}
	if Against() == "prometheus" {
		return server.Ensure(context.Background(), server.Prometheus(), root, filepath.Join(root, "bin"), os.Stderr)
	}
	if built.dir, err = os.MkdirTemp("", "weir-test-"); err != nil {
		return "", err
	}
	flags := []string{"-tags=poison"}
	if given := os.Getenv("WEIR_TEST_BUILD_FLAGS"); given != "" {
		flags = strings.Fields(given)
	}
	if err := watchSources(root); err != nil {
		return "", err
	}
	out := filepath.Join(built.dir, "weir")
	return out, server.Build(context.Background(), server.Weir(), root, out, os.Stderr, flags...)
}

// watchSources reads the folders of the source tree. go test notes what a test
// reads, so that a result from its cache is not taken for true after weir
// changed: it cannot see that the test builds weir.
func watchSources(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		switch name, _ := filepath.Rel(root, path); name {
		case ".git", "bin", "data", "demo-data", "tools":
			return filepath.SkipDir
		}
		return nil
	})
}

// Config of a server under test.
type Config struct {
	OutOfOrderWindow time.Duration // 0: weir's default, 10 minutes
	Set              []string      // path=value, for weir only
	MemoryLimit      int64         // bytes; 0: plenty
	Features         []string      // experimental parts of PromQL, by the names of Prometheus
	PrometheusArgs   []string      // for Prometheus only
	DataDir          string        // empty: a new one
	Client           *http.Client  // speaks to the server over TLS; nil: in plain HTTP
}

// Server is a server under test. It may be killed and started again on the same
// data while other goroutines write to it.
type Server struct {
	t       testing.TB
	kind    server.Kind
	binary  string
	options server.Options
	process *atomic.Pointer[server.Process]
	tenant  string       // whom it speaks for; empty: it does not say
	client  *http.Client // by which it is spoken to; nil: those of this package
}

// As is the same server, spoken to for a tenant. It needs auth.mode=header.
func (s *Server) As(tenant string) *Server {
	as := *s
	as.tenant = tenant
	return &as
}

// Through is the same server, spoken to by another client.
func (s *Server) Through(c *http.Client) *Server {
	through := *s
	through.client = c
	return &through
}

// by returns the client to speak to the server by: usual, unless there is another.
func (s *Server) by(usual *http.Client) *http.Client { return cmp.Or(s.client, usual) }

// identify adds the tenant to a request.
func (s *Server) identify(h http.Header) {
	if s.tenant != "" {
		h.Set("X-Scope-OrgID", s.tenant)
	}
}

// Start starts a server on an empty directory and stops it when the test ends.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s := prepare(t, kindOf(cfg), Binary(t))
	s.options.MemoryLimit = cmp.Or(cfg.MemoryLimit, s.options.MemoryLimit)
	if strings.Contains(os.Getenv("WEIR_TEST_BUILD_FLAGS"), "-race") {
		s.options.MemoryLimit = 0 // the race detector reserves terabytes of addresses
	}
	s.client, s.options.Client = cfg.Client, cfg.Client
	if cfg.DataDir != "" {
		s.options.DataDir = cfg.DataDir
		require.NoError(t, os.MkdirAll(s.options.DataDir, 0o755))
	}
	if Against() == "weir" {
		s.options.ExtraArgs = weirArgs(cfg)
	} else {
		s.options.ExtraArgs = prometheusArgs(cfg)
	}
	s.start()
	return s
}

// prepare makes an empty directory for a server, and kills it when the test ends.
func prepare(t testing.TB, kind server.Kind, binary string) *Server {
	t.Helper()
	dir := t.TempDir()
	s := &Server{t: t, kind: kind, binary: binary, process: new(atomic.Pointer[server.Process]), options: server.Options{
		DataDir: filepath.Join(dir, "data"), LogPath: filepath.Join(dir, "log"), MemoryLimit: memoryLimit,
	}}
	require.NoError(t, os.Mkdir(s.options.DataDir, 0o755))
	t.Cleanup(func() {
		if p := s.process.Load(); p != nil {
			p.Kill()
		}
		if t.Failed() {
			t.Logf("end of the log of %s:\n%s", kind.Name, server.Tail(s.options.LogPath, logTail))
		}
	})
	return s
}

func kindOf(cfg Config) server.Kind {
	if Against() == "weir" {
		return server.Weir()
	}
	window := cfg.OutOfOrderWindow
	if window == 0 {
		window = 10 * time.Minute
	}
	return server.PrometheusOutOfOrder(fmt.Sprintf("%ds", int(window.Seconds())))
}

func weirArgs(cfg Config) []string {
	var args []string
	set := slices.Clone(cfg.Set)
	if cfg.OutOfOrderWindow != 0 {
		set = append(set, "limits.out_of_order_window="+cfg.OutOfOrderWindow.String())
	}
	if len(cfg.Features) > 0 {
		set = append(set, "query.features=["+strings.Join(cfg.Features, ",")+"]")
	}
	for _, s := range set {
		args = append(args, "-set", s)
	}
	return args
}

func prometheusArgs(cfg Config) []string {
	args := slices.Clone(cfg.PrometheusArgs)
	if len(cfg.Features) > 0 {
		args = append(args, "--enable-feature="+strings.Join(cfg.Features, ","))
	}
	return args
}

func (s *Server) start() {
	s.t.Helper()
	p, err := server.Start(s.t.Context(), s.kind, s.binary, s.options)
	require.NoError(s.t, err, "log:\n%s", server.Tail(s.options.LogPath, logTail))
	s.process.Store(p)
}

// Process is the process that runs, or ran last.
func (s *Server) Process() *server.Process { return s.process.Load() }

// DataDir is where the server keeps its samples.
func (s *Server) DataDir() string { return s.options.DataDir }

// Log is what the server wrote to standard output and error so far.
func (s *Server) Log() string {
	s.t.Helper()
	b, err := os.ReadFile(s.options.LogPath)
	require.NoError(s.t, err)
	return string(b)
}

// WriteURL is the remote-write endpoint. It changes when the server is started
// again.
func (s *Server) WriteURL() string { return s.Process().URL + s.kind.WritePath }

// OTLPURL is the OTLP endpoint for metrics of weir. It changes as WriteURL does.
func (s *Server) OTLPURL() string { return s.Process().URL + "/otlp/v1/metrics" }

// APIURL is what /api/v1/query and its siblings follow. It changes as well.
func (s *Server) APIURL() string { return s.Process().URL + s.kind.APIPath }

// Kill ends the server with SIGKILL.
func (s *Server) Kill() { s.Process().Kill() }

// Stop ends the server with SIGTERM; it must end in time and well.
func (s *Server) Stop() {
	s.t.Helper()
	require.NoError(s.t, s.Process().Stop(StopWithin))
}

// Again starts the server on the data it left.
func (s *Server) Again() {
	s.t.Helper()
	s.start()
}
