package ingester

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// An unknown tenant is empty, whatever is asked, and asking does not create it.
func TestUnknownTenant(t *testing.T) {
	n := start(t)
	require.Empty(t, n.read("nobody"))
	require.Empty(t, n.exemplars("nobody"))
	m, err := n.Metadata(t.Context(), "nobody", "")
	require.NoError(t, err)
	require.Empty(t, m)
	_, _, ok := n.Extent("nobody")
	require.False(t, ok)
	require.Nil(t, n.find("nobody"))
	require.NoDirExists(t, filepath.Join(n.dir, "nobody"))

	// A tenant that was created without a sample is empty, too.
	n.write("empty", &frame{})
	require.NotNil(t, n.find("empty"))
	require.Empty(t, n.read("empty"))
	_, _, ok = n.Extent("empty")
	require.False(t, ok)
	n.flush("empty")
	n.restart()
	require.NotNil(t, n.find("empty"))
	_, _, ok = n.Extent("empty")
	require.False(t, ok)
}

// Tenants share nothing, not even when they send the same.
func TestTenantsAreApart(t *testing.T) {
	n := start(t)
	a := metric("a")
	for i, id := range []string{"one", "two"} {
		f := new(frame).series(a).float(at(time.Duration(i)*time.Second), float64(i)).exemplar(at(0), float64(i))
		f.Metadata = []proto.Metadata{says("a", id)}
		writtenAll(t, f, n.write(id, f))
	}
	check := func() {
		t.Helper()
		for i, id := range []string{"one", "two"} {
			require.Equal(t, map[string][]point{a.String(): {{T: at(time.Duration(i) * time.Second), V: floatKey(float64(i))}}}, n.read(id))
			require.Equal(t, map[string][]string{a.String(): {fmt.Sprintf("{} %d 0s", i)}}, n.exemplars(id))
			m, err := n.Metadata(t.Context(), id, "a")
			require.NoError(t, err)
			require.Equal(t, id, m["a"][0].Help)
		}
	}
	check()
	n.restart()
	check()
	n.flush("one")
	require.Equal(t, []int{1, 0}, []int{n.blocks("one"), n.blocks("two")})
	check()
	// A handle of one tenant means nothing to another.
	n.write("one", new(frame).series(metric("x")).float(at(0), 1))
	reply := n.write("one", new(frame).series(a).float(at(time.Minute), 1))
	f := new(frame).known(a).float(at(time.Minute), 1)
	f.last().Handle = reply.Handles[0].Handle
	require.Equal(t, []uint32{0}, n.write("two", f).Unknown)
}

func TestMaxTenants(t *testing.T) {
	n := start(t, withConfig(func(c *Config) { c.MaxTenants = 2 }))
	f := new(frame).series(metric("a")).float(at(0), 1)
	for _, id := range []string{"a", "b"} {
		writtenAll(t, f, n.write(id, f))
	}
	for range 2 {
		_, err := n.tryWrite("c", f)
		require.Equal(t, proto.KindLimit, proto.KindOf(err), "%v", err)
		require.ErrorContains(t, err, "weir-too-many-tenants")
		require.NoDirExists(t, filepath.Join(n.dir, "c"))
		writtenAll(t, f, n.write("a", f))
		require.Empty(t, n.read("c"))
		n.restart()
	}
	n.stop()
	n.cfg.MaxTenants = 1
	n.run() // what is there is served
	writtenAll(t, f, n.write("b", f))
	n.stop()
	n.cfg.MaxTenants = 3
	n.run()
	writtenAll(t, f, n.write("c", f))
}

// Every valid id is a tenant like any other, also when it is the name of
// something in the directory.
func TestTenantIDs(t *testing.T) {
	n := start(t)
	ids := []string{"lock", "wal", "a.b", "...", ".hidden", "(x)!*'_-", strings.Repeat("x", 150), "UPPER", "upper", "0"}
	for i, id := range ids {
		t.Run(id, func(t *testing.T) {
			require.NoError(t, tenant.ValidateID(id))
			f := new(frame).series(metric("a")).float(at(0), float64(i))
			reply, err := n.tryWrite(id, f)
			require.NoError(t, err)
			writtenAll(t, f, reply)
		})
	}
	if t.Failed() {
		return
	}
	n.restart()
	for i, id := range ids {
		require.Equal(t, map[string][]point{metric("a").String(): {{T: at(0), V: floatKey(float64(i))}}}, n.read(id), id)
	}
}

// What lies in the directory and is no tenant is left alone.
func TestStrayFiles(t *testing.T) {
	n := start(t)
	n.write(team, new(frame).series(metric("a")).float(at(0), 1))
	n.stop()
	require.NoError(t, os.Mkdir(filepath.Join(n.dir, "lost+found"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(n.dir, "__other"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, "file"), nil, 0o644))
	n.run()
	require.Len(t, n.all(), 1)
	require.Len(t, n.read(team), 1)
	_, err := n.tryWrite("file", new(frame).series(metric("a")).float(at(0), 1))
	require.Equal(t, proto.KindUnavailable, proto.KindOf(err), "a tenant that cannot be created: %v", err)
	require.NoError(t, os.Remove(filepath.Join(n.dir, "file")))
	f := new(frame).series(metric("a")).float(at(0), 1)
	writtenAll(t, f, n.write("file", f))
}

// A tenant that several writers create at once is one tenant.
func TestTenantCreatedOnce(t *testing.T) {
	n := start(t)
	var g errgroup.Group
	for i := range 40 {
		g.Go(func() error {
			_, err := n.tryWrite(fmt.Sprint("tenant-", i%5), new(frame).series(metric("m", "i", fmt.Sprint(i))).float(at(0), 1))
			return err
		})
	}
	require.NoError(t, g.Wait())
	require.Len(t, n.all(), 5)
	for i := range 5 {
		require.Len(t, n.read(fmt.Sprint("tenant-", i)), 8)
	}
}

// Hundreds of tenants are opened, written, closed and replayed.
func TestManyTenants(t *testing.T) {
	const tenants = 500
	n := start(t, withConfig(func(c *Config) { c.OpenConcurrency = 8 }))
	id := func(i int) string { return fmt.Sprintf("tenant-%03d", i) }
	for i := range tenants {
		f := new(frame).series(metric("a", "i", id(i))).float(at(0), float64(i))
		writtenAll(t, f, n.write(id(i), f))
	}
	n.restart()
	require.Len(t, n.all(), tenants)
	require.Equal(t, tenants, n.ReplayProgress().TenantsDone)
	for i := range tenants {
		require.Equal(t, map[string][]point{metric("a", "i", id(i)).String(): {{T: at(0), V: floatKey(float64(i))}}}, n.read(id(i)))
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	n := start(t)
	n.write(team, new(frame).series(metric("a")).float(at(0), 1))
	other := New(n.cfg, Deps{Dir: n.dir, Limits: n.Limits, Logger: n.Logger, Registry: prometheus.NewRegistry()})
	err := other.Run(t.Context())
	require.ErrorContains(t, err, "which another weir may be using")
	require.ErrorContains(t, err, n.dir)
	require.Equal(t, proto.KindUnavailable, proto.KindOf(other.Ready()))
	f := new(frame).series(metric("a")).float(at(time.Second), 1)
	writtenAll(t, f, n.write(team, f)) // the first is not disturbed
	n.restart()
	require.Len(t, n.read(team)[metric("a").String()], 2)
}

// unready checks that everything is answered with the error id.
func unready(t *testing.T, i *Ingester, id string) {
	t.Helper()
	for name, f := range map[string]func() error{
		"Ready": i.Ready,
		"Write": func() error {
			var reply proto.Reply
			return i.Write(t.Context(), team, &new(frame).series(metric("a")).float(at(0), 1).Frame, &reply)
		},
		"Flush":           func() error { return i.Flush(t.Context(), team) },
		"ChunkQuerier":    func() error { _, err := i.ChunkQuerier(team, 0, 1); return err },
		"ExemplarQuerier": func() error { _, err := i.ExemplarQuerier(t.Context(), team); return err },
		"Metadata":        func() error { _, err := i.Metadata(t.Context(), team, ""); return err },
	} {
		err := f()
		require.Error(t, err, name)
		require.Equal(t, proto.KindUnavailable, proto.KindOf(err), "%s: %v", name, err)
		require.ErrorContains(t, err, id, name)
	}
}

// Before the log is replayed, and after Run, everything is unavailable; and it
// says how far the replay is.
func TestNotReady(t *testing.T) {
	n := start(t)
	for _, id := range []string{"a", "b", "c"} {
		n.write(id, new(frame).series(metric("a")).float(at(0), 1))
	}
	n.stop()
	unready(t, n.Ingester, "weir-shutting-down")

	// A replay that waits for each tenant's limits.
	asked, proceed := make(chan string), make(chan struct{})
	cfg := n.cfg
	cfg.OpenConcurrency = 1
	i := New(cfg, Deps{Dir: n.dir, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Limits: func(id string) *tenant.Limits {
		asked <- id
		<-proceed
		return n.limits.Load()
	}})
	unready(t, i, "weir-starting")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- i.Run(ctx) }()
	for opened := range 3 {
		<-asked
		unready(t, i, "weir-starting")
		require.ErrorContains(t, i.Ready(), fmt.Sprintf("%d of 3 tenants done", opened))
		proceed <- struct{}{}
	}
	require.Eventually(t, func() bool { return i.Ready() == nil }, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	unready(t, i, "weir-shutting-down")
}

// A replay that is interrupted ends soon and leaves the directory to the next one.
func TestReplayInterrupted(t *testing.T) {
	n := start(t)
	for i := range 20 {
		n.write(fmt.Sprint("tenant-", i), new(frame).series(metric("a")).float(at(0), 1))
	}
	n.stop()
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int32
	i := New(n.cfg, Deps{Dir: n.dir, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Limits: func(string) *tenant.Limits {
		if asked.Add(1) == 3 {
			cancel()
		}
		return n.limits.Load()
	}})
	err := i.Run(ctx)
	require.True(t, err == nil || errors.Is(err, context.Canceled), "%v", err)
	require.Less(t, asked.Load(), int32(10))
	n.run()
	require.Len(t, n.all(), 20)
}

// A tenant that cannot be opened is refused, and the others are served. It is
// tried again when it is used.
func TestTenantCannotBeOpened(t *testing.T) {
	n := start(t)
	for i := range 5 {
		n.write(fmt.Sprint("tenant-", i), new(frame).series(metric("a")).float(at(0), 1))
	}
	n.stop()
	wal := filepath.Join(n.dir, "tenant-3", "wal")
	require.NoError(t, os.Rename(wal, wal+".away"))
	require.NoError(t, os.WriteFile(wal, nil, 0o644))
	n.run()
	got := n.values(t)
	for st, want := range map[string]float64{"open": 4, "closed": 0, "failed": 0, "broken": 1} {
		require.Equal(t, want, got["tenants "+st], st)
	}
	require.Len(t, n.read("tenant-4"), 1)
	broken := func(err error) {
		t.Helper()
		require.ErrorContains(t, err, "weir-tenant-broken")
		require.Equal(t, proto.KindUnavailable, proto.KindOf(err))
	}
	f := new(frame).series(metric("a")).float(at(time.Second), 1)
	_, err := n.tryWrite("tenant-3", f)
	broken(err)
	_, err = n.ChunkQuerier("tenant-3", 0, 1)
	broken(err)
	_, _, ok := n.Extent("tenant-3")
	require.True(t, ok, "or nobody would ask")
	require.NoError(t, os.Remove(wal))
	require.NoError(t, os.Rename(wal+".away", wal))
	require.Eventually(t, func() bool { _, err := n.tryWrite("tenant-3", f); return err == nil }, 10*time.Second, 10*time.Millisecond)
	require.Zero(t, n.values(t)["tenants broken"])
	require.Len(t, n.read("tenant-3")[metric("a").String()], 2)
}

// Writers go on until the ingester ends: what was acknowledged is there
// afterwards, and what was not is refused as unavailable.
func TestStopWhileWriting(t *testing.T) {
	const writers = 4
	n := start(t)
	var (
		g     errgroup.Group
		acked [writers]atomic.Int64
	)
	for w := range writers {
		ls := metric("m", "w", fmt.Sprint(w))
		g.Go(func() error {
			for i := range 1_000_000 {
				f := new(frame).series(ls).float(t0+int64(i), 1).series(metric("late", "w", fmt.Sprint(w))).float(t0+int64(i)-1000, 1)
				reply, err := n.tryWrite(fmt.Sprint("tenant-", i%3), f)
				switch {
				case proto.KindOf(err) == proto.KindUnavailable:
					return nil
				case err != nil:
					return err
				case reply.Written != f.counts():
					return fmt.Errorf("%v", rejections(reply))
				}
				acked[w].Add(1)
			}
			return errors.New("was never stopped")
		})
	}
	for w := range writers {
		for acked[w].Load() < 50 {
			runtime.Gosched()
		}
	}
	n.stop()
	require.NoError(t, g.Wait())
	n.run()
	stored := map[string]int{}
	for i := range 3 {
		for name, ps := range n.read(fmt.Sprint("tenant-", i)) {
			stored[name] += len(ps)
		}
	}
	for w := range writers {
		require.EqualValues(t, acked[w].Load(), stored[metric("m", "w", fmt.Sprint(w)).String()])
		require.EqualValues(t, acked[w].Load(), stored[metric("late", "w", fmt.Sprint(w)).String()])
	}
}

// A tenant that was closed while a request was on its way refuses it.
func TestClosedTenant(t *testing.T) {
	n := start(t)
	a := metric("a")
	n.write(team, new(frame).series(a).float(at(0), 1))
	require.NoError(t, n.find(team).close())
	require.NoError(t, n.find(team).close(), "again")
	for _, f := range []*frame{
		new(frame).known(a).float(at(1), 1),
		new(frame).known(a).exemplar(at(1), 1),
		new(frame),
	} {
		_, err := n.tryWrite(team, f)
		require.Equal(t, proto.KindUnavailable, proto.KindOf(err), "%v", err)
	}
	require.NoError(t, n.Flush(t.Context(), team))
}

// values are those of the gauges and counters, by name, with the values of labels
// behind it.
func (n *node) values(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := n.Registry.(*prometheus.Registry).Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "weir_ingester_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			out[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

// The gauges follow what there is.
func TestMetrics(t *testing.T) {
	n := start(t)
	n.write("a", new(frame).series(metric("x")).float(at(0), 1).series(metric("y")).float(at(0), 1))
	n.write("b", new(frame).series(metric("x")).float(at(0), 1))
	n.write("b", new(frame).series(metric("x")).float(at(0), 1))
	n.pass("a", time.Hour)
	n.flush("a")
	n.write("b", new(frame).known(metric("nobody")).float(at(0), 1))
	got := n.values(t)
	for name, want := range map[string]float64{"tenants open": 2, "tenants broken": 0, "memory_series": 1, "known_series": 1, "blocks": 1, "tenants_to_open": 0, "maintenance_failures_total": 0, "late_samples_total": 1} {
		require.Contains(t, got, name)
		require.Equal(t, want, got[name], name)
	}
}

func TestConfigValidate(t *testing.T) {
	valid := DefaultConfig()
	require.Empty(t, valid.Validate("ingester"))
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"zero", func(c *Config) { *c = Config{} }, []string{
			"ingester.block_duration: 0s: must be from 1m to 24h",
			`ingester.wal_compression: : must be none, snappy or zstd`,
			"ingester.wal_sync: : must be none, interval or always",
			"ingester.stripe_size: 0: must be a power of two",
			"ingester.max_tenants: 0: must be at least 1",
			"ingester.open_concurrency: 0: must be at least 1",
			"ingester.maintenance_interval: 0s: must be above 0",
			"ingester.idle_timeout: 0s: must be at least 1m",
			"ingester.disk.read_only_percent: 0: must be from 1 to 100",
			"ingester.disk.no_new_series_percent: 0: must be from 1 to read_only_percent",
			"ingester.disk.min_free_bytes: 0: must be at least 1048576"}},
		{"new series for longer than others", func(c *Config) { c.Disk.NoNewSeriesPercent = 96 }, []string{"ingester.disk.no_new_series_percent: 96: must be from 1 to read_only_percent"}},
		{"more than all of the disk", func(c *Config) { c.Disk.ReadOnlyPercent = 101 }, []string{"ingester.disk.read_only_percent: 101: must be from 1 to 100"}},
		{"no limits but the least space", func(c *Config) { c.Disk = DiskConfig{100, 100, 1 << 20, 0} }, nil},
		{"reserve", func(c *Config) { c.Disk.ReserveBytes = -1 }, []string{"ingester.disk.reserve_bytes: -1: must not be negative"}},
		{"block too long", func(c *Config) { c.BlockDuration = 25 * time.Hour }, []string{"ingester.block_duration: 25h0m0s: must be from 1m to 24h"}},
		{"longest block", func(c *Config) { c.BlockDuration = 24 * time.Hour }, nil},
		{"retention below a block", func(c *Config) { c.Retention = time.Hour }, []string{"ingester.retention: 1h0m0s: must be at least block_duration"}},
		{"compression", func(c *Config) { c.WALCompression = "gzip" }, []string{"ingester.wal_compression: gzip: must be none, snappy or zstd"}},
		{"stripes", func(c *Config) { c.StripeSize = 500 }, []string{"ingester.stripe_size: 500: must be a power of two"}},
		{"negative stripes", func(c *Config) { c.StripeSize = -512 }, []string{"ingester.stripe_size: -512: must be a power of two"}},
		{"negative interval", func(c *Config) { c.MaintenanceInterval = -1 }, []string{"ingester.maintenance_interval: -1ns: must be above 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultConfig()
			c.change(&cfg)
			var got []string
			for _, err := range cfg.Validate("ingester") {
				got = append(got, err.Error())
			}
			require.Equal(t, c.want, got)
		})
	}
}

// Each compression of the log is written and replayed.
func TestWALCompression(t *testing.T) {
	for _, compression := range []string{"none", "snappy", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			n := start(t, withConfig(func(c *Config) { c.WALCompression = compression }))
			require.Empty(t, n.cfg.Validate(""))
			f := new(frame).series(metric("a")).float(at(0), 1).hist(at(time.Second), intHistogram(1)).series(metric("b")).float(at(0), 2).float(at(-time.Second), 2)
			writtenAll(t, f, n.write(team, f))
			want := n.read(team)
			n.crash()
			require.Equal(t, want, n.read(team))
		})
	}
}
