package bench

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-metrics/weir/integration/loadgen"
	"github.com/weir-metrics/weir/integration/server"
)

// Names of the scenarios that are about starting: they are run on weir alone.
const (
	Tenants = "tenants" // many small ones
	Restart = "restart" // one large one
)

// StartScenario is what a process holds when it is stopped or killed.
type StartScenario struct {
	Name    string
	Tenants int
	Idle    int // of the tenants: closed, with their samples in blocks
	Series  int // of each tenant
	Rounds  int
	Set     []string // settings of weir, path=value
}

// StartScenarios returns them at the sizes that the targets are stated for.
func StartScenarios() []StartScenario {
	return []StartScenario{
		{Name: Tenants, Tenants: 10_000, Idle: 100, Series: 100, Rounds: 10},
		{Name: Restart, Tenants: 1, Series: 1_000_000, Rounds: 20},
	}
}

// Quick is a tenth of it.
func (s StartScenario) Quick() StartScenario {
	if s.Tenants > 1 {
		s.Tenants, s.Idle = s.Tenants/10, s.Idle/10
	} else {
		s.Series /= 10
	}
	return s
}

// loaders is how many tenants are written to at once.
const loaders = 4

// StartMeasurement is a process before it stops and after it starts again.
type StartMeasurement struct {
	Scenario                       string
	Tenants, Idle, Series, Samples int

	Steady        int64 // bytes resident, settled, with the load in memory
	OpenFiles     int
	DiskFiles     int
	DiskBytes     int64
	Stop          time.Duration // from SIGTERM to the end
	AfterStop     Started
	AfterKill     Started
	SamplesPerSec float64 // while it was loaded
}

// Started is one start.
type Started struct {
	Ready time.Duration // until it answers ready
	Peak  int64         // bytes resident at most until then
	After int64         // bytes resident when settled
	CPU   time.Duration // until then
}

// String is a paragraph.
func (m StartMeasurement) String() string {
	started := func(s Started) string {
		return fmt.Sprintf("ready after %.1f s (%.1f CPU-s), peak %d MiB (%.2f of steady), settled %d MiB",
			s.Ready.Seconds(), s.CPU.Seconds(), s.Peak>>20, float64(s.Peak)/float64(m.Steady), s.After>>20)
	}
	return fmt.Sprintf("%s: %d tenants, %d of them idle, of %d series, %d samples, %.0f samples/s\n"+
		"  steady %d MiB (%d KiB a tenant that is open), %d open files, %d files of %d MiB on disk\n"+
		"  stopped in %.1f s; from snapshots %s\n"+
		"  killed; from logs %s",
		m.Scenario, m.Tenants, m.Idle, m.Series, m.Samples, m.SamplesPerSec, m.Steady>>20, m.Steady>>10/int64(m.Tenants-m.Idle), m.OpenFiles, m.DiskFiles, m.DiskBytes>>20,
		m.Stop.Seconds(), started(m.AfterStop), started(m.AfterKill))
}

// What a start may take, and a tenant that is open.
const (
	mostReady  = time.Minute // of one tenant of 1 M series
	mostPeak   = 1.3         // of what was resident before
	mostTenant = 1 << 20     // bytes resident
)

// missed says which of these m is over.
func (m StartMeasurement) missed() (over []string) {
	if each := m.Steady / int64(m.Tenants-m.Idle); m.Tenants > 1 && each > mostTenant {
		over = append(over, fmt.Sprintf("%d KiB a tenant, at most %d", each>>10, mostTenant>>10))
	}
	for how, s := range map[string]Started{"from snapshots": m.AfterStop, "from logs": m.AfterKill} {
		if m.Tenants == 1 && s.Ready > mostReady {
			over = append(over, fmt.Sprintf("ready after %s %s, at most %s", s.Ready, how, mostReady))
		}
		if peak := float64(s.Peak) / float64(m.Steady); peak > mostPeak {
			over = append(over, fmt.Sprintf("peak %.2f of steady %s, at most %.2f", peak, how, mostPeak))
		}
	}
	return over
}

// RunStarts measures scenarios, once each, and reports whether none took more than
// it may.
func RunStarts(ctx context.Context, cfg Config, scenarios []StartScenario, progress io.Writer) (holds bool, err error) {
	root, err := server.Root()
	if err != nil {
		return false, err
	}
	binary, err := server.Ensure(ctx, server.Weir(), root, cfg.BinDir, progress)
	if err != nil {
		return false, err
	}
	holds = true
	for _, s := range scenarios {
		m, err := measureStart(ctx, cfg, binary, s)
		if err != nil {
			return false, fmt.Errorf("%s: %w", s.Name, err)
		}
		fmt.Fprintln(progress, m)
		for _, over := range m.missed() {
			fmt.Fprintf(progress, "  FAIL: %s\n", over)
			holds = false
		}
	}
	return holds, nil
}

func measureStart(ctx context.Context, cfg Config, binary string, s StartScenario) (m StartMeasurement, err error) {
	dir, err := os.MkdirTemp(cfg.WorkDir, "weir-bench-")
	if err != nil {
		return m, err
	}
	if !cfg.Keep {
		defer os.RemoveAll(dir)
	}
	opt := server.Options{
		DataDir: filepath.Join(dir, "data"), LogPath: filepath.Join(dir, "log"), ReadyWithin: 10 * time.Minute,
		Env:       []string{"GOMEMLIMIT=" + strconv.FormatInt(cfg.MemoryLimit, 10)}, // address space is not limited: files are mapped
		ExtraArgs: []string{"-set", "auth.mode=header", "-set", "self_metrics.enabled=false"},
	}
	for _, set := range s.Set {
		opt.ExtraArgs = append(opt.ExtraArgs, "-set", set)
	}
	if err := os.Mkdir(opt.DataDir, 0o755); err != nil {
		return m, err
	}
	if s.Idle > 0 {
		if err := leaveIdle(ctx, binary, opt, s); err != nil {
			return m, err
		}
	}
	p, err := server.Start(ctx, server.Weir(), binary, opt)
	if err != nil {
		return m, fmt.Errorf("%w\n%s", err, server.Tail(opt.LogPath, 2<<10))
	}
	defer func() { p.Kill() }()
	m = StartMeasurement{Scenario: s.Name, Tenants: s.Tenants, Idle: s.Idle, Series: s.Series, Samples: s.Tenants * s.Series * s.Rounds}
	begin := time.Now()
	if err := loadTenants(ctx, p.URL+p.Kind.WritePath, s, s.Idle, s.Tenants); err != nil {
		return m, err
	}
	m.SamplesPerSec = float64((s.Tenants-s.Idle)*s.Series*s.Rounds) / time.Since(begin).Seconds()
	time.Sleep(settle)
	used, err := p.Usage()
	if err != nil {
		return m, err
	}
	m.Steady = used.Resident
	if m.OpenFiles, err = p.OpenFiles(); err != nil {
		return m, err
	}
	begin = time.Now()
	if err := p.Stop(5 * time.Minute); err != nil {
		return m, err
	}
	m.Stop = time.Since(begin)
	if m.DiskFiles, m.DiskBytes, err = diskUsage(opt.DataDir); err != nil {
		return m, err
	}
	if p, m.AfterStop, err = startAgain(ctx, binary, opt); err != nil {
		return m, err
	}
	p.Kill()
	p, m.AfterKill, err = startAgain(ctx, binary, opt)
	return m, err
}

// startAgain starts a process on what another left.
func startAgain(ctx context.Context, binary string, opt server.Options) (*server.Process, Started, error) {
	begin := time.Now()
	p, err := server.Start(ctx, server.Weir(), binary, opt)
	if err != nil {
		return nil, Started{}, fmt.Errorf("%w\n%s", err, server.Tail(opt.LogPath, 2<<10))
	}
	out := Started{Ready: time.Since(begin)}
	ready, err := p.Usage()
	if err != nil {
		return p, out, err
	}
	time.Sleep(settle)
	after, err := p.Usage()
	out.Peak, out.CPU, out.After = ready.ResidentMax, ready.CPU, after.Resident
	return p, out, err
}

// leaveIdle makes a data directory with the idle tenants of s, which are closed
// after some time.
func leaveIdle(ctx context.Context, binary string, opt server.Options, s StartScenario) error {
	opt.ExtraArgs = append(slices.Clone(opt.ExtraArgs), "-set", "ingester.idle_timeout=1m", "-set", "ingester.maintenance_interval=1s")
	p, err := server.Start(ctx, server.Weir(), binary, opt)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, server.Tail(opt.LogPath, 2<<10))
	}
	defer p.Kill()
	if err := loadTenants(ctx, p.URL+p.Kind.WritePath, s, 0, s.Idle); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	want := fmt.Sprintf("weir_ingester_tenants{state=\"closed\"} %d\n", s.Idle)
	for {
		metrics, err := get(ctx, p.URL+"/metrics")
		if err != nil {
			return fmt.Errorf("wait for idle tenants to be closed: %w", err)
		}
		if strings.Contains(metrics, want) {
			return p.Stop(5 * time.Minute)
		}
		time.Sleep(time.Second)
	}
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func tenantName(i int) string { return fmt.Sprintf("tenant-%05d", i) }

// loadTenants sends all rounds of the tenants from a number to another.
func loadTenants(ctx context.Context, url string, s StartScenario, from, to int) error {
	var g errgroup.Group
	g.SetLimit(loaders)
	for i := from; i < to; i++ {
		g.Go(func() error {
			load := loadgen.DefaultConfig()
			load.URL, load.Series, load.Rounds, load.Seed = url, s.Series, s.Rounds, uint64(i)
			load.Headers = map[string]string{"X-Scope-OrgID": tenantName(i)}
			if s.Tenants > 1 {
				load.Senders = 1
			}
			gen, err := loadgen.New(load)
			if err != nil {
				return err
			}
			defer gen.Close()
			r, err := gen.Run(ctx, s.Rounds)
			if err == nil && r.Refused > 0 {
				err = fmt.Errorf("%d samples not acknowledged, by status %v, first: %s", r.Refused, r.Status, r.FirstError)
			}
			return err
		})
	}
	return g.Wait()
}

// diskUsage counts files and their bytes below dir.
func diskUsage(dir string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			files, bytes = files+1, bytes+st.Size()
		}
		return err
	})
	return files, bytes, err
}
