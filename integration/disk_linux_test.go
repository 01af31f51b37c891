package integration

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// smallDisk mounts a file system of some bytes, or skips the test.
func smallDisk(t *testing.T, size string) string {
	dir := t.TempDir()
	switch err := syscall.Mount("weir-test", dir, "tmpfs", 0, "size="+size); {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		t.Skipf("a full disk needs a small file system, and mounting a tmpfs is not permitted here: %v", err)
	case err != nil:
		require.NoError(t, err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// fill writes a file until nothing fits any more, and returns it.
func fill(t *testing.T, dir string) string {
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	for size := 1 << 20; size >= 1<<10; {
		if _, err = f.Write(make([]byte, size)); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			size /= 2
		}
	}
	return path
}

// TestFullDisk fills the disk while several tenants write floats, histograms, new
// series and late samples. The server must live, serve reads, come up again after
// a kill while nothing fits, and take writes again without help as soon as there
// is space; nothing acknowledged may be missing. Once it may foresee the full
// disk, and once it cannot.
func TestFullDisk(t *testing.T) {
	if harness.Against() != "weir" {
		t.Skip("others end, or need a restart")
	}
	for _, c := range []struct {
		name string
		set  []string
	}{
		{"with limits", []string{"ingester.disk.min_free_bytes=8388608"}},
		{"nearly without", []string{"ingester.disk.min_free_bytes=1048576", "ingester.disk.read_only_percent=100", "ingester.disk.no_new_series_percent=100"}},
	} {
		t.Run(c.name, func(t *testing.T) { fillAndFree(t, c.set) })
	}
}

func fillAndFree(t *testing.T, set []string) {
	const rounds = 3
	disk := smallDisk(t, "192m")
	cfg := tenants()
	cfg.DataDir = filepath.Join(disk, "data")
	cfg.Set = append(cfg.Set, append(set, "ingester.disk.reserve_bytes=67108864", "ingester.maintenance_interval=200ms")...)
	s := harness.Start(t, cfg)
	begin := time.Now().UnixMilli()
	l := startLoad(t, s, seedOf(t))
	l.low.Store(true)
	for round := range rounds {
		wait(t, time.Second)
		filler := fill(t, disk)
		wait(t, 2*time.Second)
		require.Equal(t, http.StatusServiceUnavailable, refused(t, s), "a write while nothing fits")
		right := l.ledger.check(t, s, begin)
		progress(t, "round %d: full, %d samples right, %d acknowledged; %s", round+1, right, l.ledger.count(), l)
		if round > 0 {
			s.Kill()
			s.Again() // it is ready
			right = l.ledger.check(t, s, begin)
			require.Equal(t, http.StatusServiceUnavailable, refused(t, s))
			progress(t, "round %d: killed while full, and up again, %d samples right", round+1, right)
		}
		before := l.ledger.count()
		require.NoError(t, os.Remove(filler))
		require.Eventually(t, func() bool { return l.ledger.count() > before+1000 }, 30*time.Second, 10*time.Millisecond, "writes are taken again")
		require.Eventually(t, func() bool { // while a tenant is opened anew, its readers are asked to repeat
			return strings.Contains(metrics(t, s), `weir_ingester_tenants{state="failed"} 0`)
		}, 30*time.Second, 10*time.Millisecond, "every tenant can be written")
		right = l.ledger.check(t, s, begin)
		progress(t, "round %d: space again, %d samples right, %d acknowledged", round+1, right, l.ledger.count())
	}
	l.stop()
	s.Kill()
	s.Again()
	right := l.ledger.check(t, s, begin)
	progress(t, "in the end %d samples right, %d acknowledged", right, l.ledger.count())
	s.Stop()
}

// refused sends a sample that must be refused as passing, and returns the status.
func refused(t *testing.T, s *harness.Server) int {
	body := harness.Encode(t, harness.V1, harness.Series{Labels: []string{"__name__", "weir_full"}, Samples: []harness.Sample{{T: time.Now().UnixMilli(), V: 1}}})
	a, err := s.As("ada").Post(t.Context(), harness.V1, body)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(a.Body, "weir-disk-full") || strings.HasPrefix(a.Body, "weir-store-unavailable"), a.Body)
	require.NotEmpty(t, a.Header.Get("Retry-After"))
	return a.Status
}
