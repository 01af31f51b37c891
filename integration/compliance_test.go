package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// The suite's module has tests only and calls itself by another path than the
// one it is published under, so that no go.mod can require it: it is fetched by
// version and held to its checksum.
const (
	suiteModule   = "github.com/prometheus/compliance/remotewrite/receiver@v0.0.0-20260806071727-67b8327a2e93"
	suiteSum      = "h1:VPMEZpXBAlaQrdz+ER6AQ9ArmxkYSy/SxkUixEwtH3Q="
	suiteReceiver = "under-test"
)

// TestRemoteWriteReceiverCompliance runs the suite of prometheus/compliance, all
// of it, against a fresh server.
func TestRemoteWriteReceiverCompliance(t *testing.T) {
	// TestExemplarTimestamps runs twice, first as SHOULD, then as MUST, and both
	// times sends a sample of an hour ago to a series that by the second time has
	// a newer one. Any receiver whose out-of-order window is shorter must refuse
	// that; our default is 10 minutes.
	s := harness.Start(t, harness.Config{OutOfOrderWindow: 2 * time.Hour})
	dir := copySuite(t)
	config := filepath.Join(dir, "under-test.yml")
	require.NoError(t, os.WriteFile(config,
		fmt.Appendf(nil, "remote_write:\n  - name: %s\n    url: %s\n", suiteReceiver, s.WriteURL()), 0o644))

	progress(t, "compiling the suite; with cold caches this takes minutes")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-json", "-count=1", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PROMETHEUS_RW2_COMPLIANCE_CONFIG_FILE="+config, "GOWORK=off", "GOFLAGS=-mod=readonly")
	stderr := &strings.Builder{}
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	passed, failed, output := countCases(t, stdout)
	err = cmd.Wait()
	progress(t, "%d cases passed, %d failed", passed, len(failed))

	for _, name := range failed {
		t.Errorf("%s\n%s", name, output[name])
	}
	if len(failed) == 0 {
		require.NoError(t, err, "%s", stderr)
	}
	require.GreaterOrEqual(t, passed, 205, "the suite has shrunk")
}

// copySuite copies the suite out of the module cache, which cannot be written
// to, and returns the directory.
func copySuite(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", suiteModule)
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	var module struct{ Dir, Sum, Error string }
	require.NoError(t, json.Unmarshal(out, &module), "%v: %s", err, out)
	require.Empty(t, module.Error)
	require.Equal(t, suiteSum, module.Sum)
	dir := t.TempDir()
	files, err := os.ReadDir(module.Dir)
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(module.Dir, f.Name()))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, f.Name()), b, 0o644))
	}
	return dir
}

// countCases reads the events of go test -json. A case is a test without
// subtests, less the name of the receiver, which ends every name.
func countCases(t *testing.T, r io.Reader) (passed int, failed []string, output map[string]string) {
	output = map[string]string{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		require.NoError(t, json.Unmarshal(lines.Bytes(), &e), "%s", lines.Text())
		name, isCase := strings.CutSuffix(e.Test, "/"+suiteReceiver)
		if !isCase {
			continue
		}
		switch e.Action {
		case "output":
			output[name] += e.Output
		case "pass":
			passed++
			delete(output, name)
		case "fail", "skip":
			failed = append(failed, name)
		}
	}
	require.NoError(t, lines.Err())
	slices.Sort(failed)
	return passed, failed, output
}
