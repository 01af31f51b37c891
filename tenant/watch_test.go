package tenant

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// followed is a directory that follows a file of a test.
type followed struct {
	*Directory
	name string
	log  *bytes.Buffer
	reg  *prometheus.Registry
}

func follow(t *testing.T, name string, unlisted Unlisted) followed {
	t.Helper()
	f := followed{NewDirectory(ModeHeader, DefaultSettings()), name, new(bytes.Buffer), prometheus.NewRegistry()}
	require.NoError(t, f.Follow(Config{File: name, Unlisted: unlisted}, slog.New(slog.NewTextHandler(f.log, nil)), f.reg))
	return f
}

func write(t *testing.T, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
}

func (f followed) exemplars(tenant string) int { return f.Limits(tenant).MaxExemplars }

// metric is one of the gauges about the file; of info it is the labels.
func (f followed) metric(t *testing.T, name string) (value float64, labels []string) {
	t.Helper()
	families, err := f.reg.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != "weir_tenants_file_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			value += m.GetGauge().GetValue()
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
		}
		return value, labels
	}
	t.Fatalf("there is no metric %s", name)
	return 0, nil
}

func (f followed) value(t *testing.T, name string) float64 {
	v, _ := f.metric(t, name)
	return v
}

const (
	one = "tenants: {a: {limits: {max_exemplars: 1}}}"
	two = "tenants: {a: {limits: {max_exemplars: 2}}}"
	bad = "tenants: {a: {limits: {max_exemplars: -1}}, b: {sate: held}}"
)

// running runs a directory in a bubble of its own for as long as f takes.
func running(t *testing.T, content string, f func(t *testing.T, f followed)) {
	synctest.Test(t, func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "tenants.yml")
		write(t, name, content)
		d := follow(t, name, AcceptUnlisted)
		done := make(chan error)
		go func() { done <- d.Run(t.Context()) }()
		t.Cleanup(func() { require.NoError(t, <-done) })
		f(t, d)
	})
}

// pass lets n polls happen.
func pass(n int) {
	time.Sleep(time.Duration(n)*pollEvery + pollEvery/2)
	synctest.Wait()
}

func TestReload(t *testing.T) {
	running(t, one, func(t *testing.T, f followed) {
		require.Equal(t, 1, f.exemplars("a"))
		require.EqualValues(t, 1, f.value(t, "last_reload_successful"))
		require.EqualValues(t, time.Now().Unix(), f.value(t, "last_reload_success_timestamp_seconds"))
		write(t, f.name, two)
		pass(2)
		require.Equal(t, 2, f.exemplars("a"), "well within 5 s")
		require.Equal(t, 2, strings.Count(f.log.String(), "tenants file taken"))
		_, hashes := f.metric(t, "info")
		require.Equal(t, []string{hashOfFile([]byte(two))}, hashes)
		require.EqualValues(t, 1, f.value(t, "tenants"))
	})
}

func TestBadVersionChangesNothing(t *testing.T) {
	running(t, one, func(t *testing.T, f followed) {
		before, since := f.Settings("a"), f.value(t, "last_reload_success_timestamp_seconds")
		write(t, f.name, bad)
		pass(10)
		require.Same(t, before, f.Settings("a"))
		require.Same(t, f.base, f.Settings("b"))
		require.EqualValues(t, 0, f.value(t, "last_reload_successful"))
		require.EqualValues(t, 2, f.value(t, "violations"))
		require.Equal(t, since, f.value(t, "last_reload_success_timestamp_seconds"))
		require.Equal(t, 1, strings.Count(f.log.String(), "tenants file refused"), "once for each version: %s", f.log)
		require.Contains(t, f.log.String(), "tenants.a.limits.max_exemplars: -1: must not be negative")
		require.Contains(t, f.log.String(), "tenants.b.sate: unknown key: did you mean state?")

		write(t, f.name, one)
		pass(2)
		require.Same(t, before, f.Settings("a"))
		require.EqualValues(t, 1, f.value(t, "last_reload_successful"))
		require.EqualValues(t, 0, f.value(t, "violations"))
	})
}

// TestEmptiedFileChangesNothing: a writer that ran out of space has truncated the
// file. One that says that there are no tenants is taken.
func TestEmptiedFileChangesNothing(t *testing.T) {
	running(t, one, func(t *testing.T, f followed) {
		write(t, f.name, "\n")
		pass(5)
		require.Equal(t, 1, f.exemplars("a"))
		require.Contains(t, f.log.String(), "has become empty; to have no tenants, write {}")
		write(t, f.name, "{}")
		pass(2)
		require.Same(t, f.base, f.Settings("a"))
	})
}

func TestUnreadableFileChangesNothing(t *testing.T) {
	running(t, one, func(t *testing.T, f followed) {
		require.NoError(t, os.Remove(f.name))
		pass(5)
		require.Equal(t, 1, f.exemplars("a"))
		require.EqualValues(t, 0, f.value(t, "last_reload_successful"))
		require.Equal(t, 1, strings.Count(f.log.String(), "not read"), "%s", f.log)
		write(t, f.name, one)
		pass(2)
		require.EqualValues(t, 1, f.value(t, "last_reload_successful"))
		write(t, f.name, two)
		pass(2)
		require.Equal(t, 2, f.exemplars("a"))
	})
}

// TestHalfAFileIsNotTaken: an editor writes the file in two steps, of which the
// first is a valid file that lacks a tenant.
func TestHalfAFileIsNotTaken(t *testing.T) {
	const first = "tenants:\n  a: {limits: {max_exemplars: 1}}\n"
	running(t, first+"  b: {limits: {max_exemplars: 3}}\n", func(t *testing.T, f followed) {
		for range 10 {
			write(t, f.name, first)
			pass(1)
			require.Equal(t, 3, f.exemplars("b"))
			write(t, f.name, first+"  b: {limits: {max_exemplars: 3}}\n")
			pass(2)
			require.Equal(t, 3, f.exemplars("b"))
		}
	})
}

// TestConfigMap: Kubernetes makes a new folder, and points a symbolic link to it
// through which the link to the file leads.
func TestConfigMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		publish := func(version, content string) {
			require.NoError(t, os.Mkdir(filepath.Join(dir, version), 0o700))
			write(t, filepath.Join(dir, version, "tenants.yml"), content)
			require.NoError(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
			require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		}
		publish("..1", one)
		name := filepath.Join(dir, "tenants.yml")
		require.NoError(t, os.Symlink(filepath.Join("..data", "tenants.yml"), name))
		f := follow(t, name, AcceptUnlisted)
		done := make(chan error)
		go func() { done <- f.Run(t.Context()) }()
		t.Cleanup(func() { require.NoError(t, <-done) })
		require.Equal(t, 1, f.exemplars("a"))
		publish("..2", two)
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "..1")))
		pass(2)
		require.Equal(t, 2, f.exemplars("a"))
	})
}

func TestBadFileAtStart(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tenants.yml")
	start := func() error {
		return NewDirectory(ModeHeader, DefaultSettings()).Follow(Config{File: name}, slog.New(slog.DiscardHandler), nil)
	}
	require.ErrorIs(t, start(), os.ErrNotExist)
	write(t, name, bad)
	require.EqualError(t, start(), "the tenants file is not valid:\n"+name+":1: tenants.a.limits.max_exemplars: -1: must not be negative\n"+
		name+":1: tenants.b.sate: unknown key: did you mean state?")
	write(t, name, one)
	require.NoError(t, start())
}

func TestWithoutFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDirectory(ModeHeader, DefaultSettings())
		reg := prometheus.NewRegistry()
		require.NoError(t, d.Follow(Config{Unlisted: RefuseUnlisted}, slog.New(slog.DiscardHandler), reg))
		families, err := reg.Gather()
		require.NoError(t, err)
		require.Empty(t, families, "nobody is to be told that there is no file")
		_, err = d.Authenticate(&http.Request{Header: http.Header{"X-Scope-Orgid": {"anybody"}}}, ScopeWrite)
		require.NoError(t, err)
		done := make(chan error)
		go func() { done <- d.Run(t.Context()) }()
		t.Cleanup(func() { require.NoError(t, <-done) })
	})
}

func TestUnlistedTenants(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		unlisted   Unlisted
		refused    bool
	}{
		{"refused", one, RefuseUnlisted, true},
		{"accepted", one, AcceptUnlisted, false},
		{"none is listed", "plans: {default: {}}", RefuseUnlisted, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "tenants.yml")
			write(t, name, tc.file)
			f := follow(t, name, tc.unlisted)
			authenticate := func(tenant string) (Identity, error) {
				return f.Authenticate(&http.Request{Header: http.Header{"X-Scope-Orgid": {tenant}}}, ScopeWrite)
			}
			_, err := authenticate("a")
			require.NoError(t, err)
			who, err := authenticate("b")
			if !tc.refused {
				require.NoError(t, err)
				return
			}
			var e *proto.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, proto.KindForbidden, e.Kind)
			require.Equal(t, "weir-tenant-unlisted", e.ID)
			require.Zero(t, who, "there is no such tenant, so it has no ledger")
		})
	}
}

func TestEffective(t *testing.T) {
	base := DefaultSettings()
	base.Limits.MaxMetadataEntries = 5
	d := NewDirectory(ModeHeader, base)
	name := filepath.Join(t.TempDir(), "tenants.yml")
	const src = "plans: {default: {limits: {max_metadata_bytes: 9}}, gold: {limits: {past_grace: 30d, max_exemplars: 3}}}\ntenants: {a: {plan: gold, limits: {max_exemplars: 4}, state: held}, b: {plan: gold}}"
	write(t, name, src)
	require.NoError(t, d.Follow(Config{File: name}, slog.New(slog.DiscardHandler), nil))
	for _, tc := range []struct {
		tenant, plan string
		listed       bool
		values       map[string]any // of limits
		origins      map[string]string
	}{
		{"a", "gold", true, map[string]any{"max_exemplars": 4, "past_grace": "30d", "max_metadata_entries": 5},
			map[string]string{"limits.max_exemplars": "tenant", "limits.past_grace": "plan gold", "limits.max_metadata_entries": "config", "limits.max_labels_per_series": "default", "state": "tenant"}},
		{"b", "gold", true, map[string]any{"max_exemplars": 3},
			map[string]string{"limits.max_exemplars": "plan gold", "limits.past_grace": "plan gold", "state": "default"}},
		{"c", "default", false, map[string]any{"max_metadata_bytes": 9, "max_exemplars": 100_000, "legacy_names_only": false},
			map[string]string{"limits.max_exemplars": "default", "limits.max_metadata_bytes": "plan default", "state": "default"}},
	} {
		t.Run(tc.tenant, func(t *testing.T) {
			e, err := d.Effective(tc.tenant)
			require.NoError(t, err)
			require.Equal(t, [4]any{tc.tenant, tc.plan, tc.listed, hashOfFile([]byte(src))}, [4]any{e.Tenant, e.Plan, e.Listed, e.Version})
			for name, want := range tc.values {
				require.Equal(t, want, e.Settings["limits"].(map[string]any)[name], name)
			}
			for path, want := range tc.origins {
				require.Equal(t, want, e.Origins[path], path)
			}
			require.Len(t, e.Origins, len(valuesOf(d.base)), "every path has one")
		})
	}
}

// TestReadersDuringReload: whoever reads while versions come finds one or the
// other as a whole.
func TestReadersDuringReload(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tenants.yml")
	const both = "tenants: {a: {limits: {max_exemplars: %[1]d, max_metadata_entries: %[1]d}}}"
	write(t, name, fmt.Sprintf(both, 0))
	f := follow(t, name, AcceptUnlisted)
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			last := 0
			for {
				select {
				case <-done:
					return
				default:
				}
				lim := f.Limits("a")
				if lim.MaxExemplars != lim.MaxMetadataEntries || lim.MaxExemplars < last {
					t.Errorf("%d and %d, after %d", lim.MaxExemplars, lim.MaxMetadataEntries, last)
					return
				}
				last = lim.MaxExemplars
				if _, err := f.Effective("a"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 50 {
		write(t, name, fmt.Sprintf(both, i))
		f.poll()
		f.poll()
	}
	close(done)
	readers.Wait()
	require.Equal(t, 49, f.exemplars("a"))
}
