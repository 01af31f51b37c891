package integration

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// TestDamage ends the server under load, damages a file of every tenant and
// starts it again. Where another file has the same, everything acknowledged must
// be there; where not, nothing may be wrong or under another series, the damage
// must be reported, and the server must go on as if nothing had been.
func TestDamage(t *testing.T) {
	if harness.Against() != "weir" {
		t.Skip("peers make no such promise")
	}
	cut := func(r *rand.Rand, b []byte) []byte { return b[:r.IntN(len(b))] }
	for _, c := range []struct {
		name     string
		kill     bool
		glob     string // of files of a tenant; the largest is damaged
		damage   func(*rand.Rand, []byte) []byte
		lossless bool
		kind     string // reported
	}{
		{"a bit of the log, stopped", false, "wal/0*", flip, true, "wal"},
		{"a cut log, stopped", false, "wal/0*", cut, true, "wal"},
		{"a bit of the snapshot", false, "chunk_snapshot.*/0*", flip, true, "snapshot"},
		{"a cut snapshot", false, "chunk_snapshot.*/0*", cut, true, "snapshot"},
		{"a bit of the log, killed", true, "wal/0*", flip, false, "wal"},
		{"a cut log, killed", true, "wal/0*", cut, false, ""},
		{"a bit of the out-of-order log, killed", true, "wbl/0*", flip, false, ""}, // two of the tenants have one
		{"cut chunk files, killed", true, "chunks_head/0*", cut, true, ""},         // if there are any yet
	} {
		t.Run(c.name, func(t *testing.T) {
			seed := seedOf(t)
			random := rand.New(rand.NewPCG(seed, seed))
			s := harness.Start(t, tenants())
			begin := time.Now().UnixMilli()
			l := startLoad(t, s, seed)
			wait(t, 4*time.Second)
			if c.kill {
				s.Kill()
			} else {
				s.Stop()
			}
			hit := damageTenants(t, s, c.glob, func(b []byte) []byte { return c.damage(random, b) })
			s.Again()
			wait(t, time.Second)
			l.stop()
			for range 2 {
				l.ledger.checkRest(t, s, begin, c.lossless)
				s.Kill() // and what is there after a restart stays
				s.Again()
			}
			progress(t, "%s: %d files damaged, %d samples acknowledged", c.name, hit, l.ledger.count())
			require.Contains(t, metrics(t, s), `weir_ingester_tenants{state="broken"} 0`)
			if c.kind != "" {
				kept, err := filepath.Glob(filepath.Join(s.DataDir(), "tsdb", "*", "damaged", "*"))
				require.NoError(t, err)
				reports := regexp.MustCompile(`damaged file, set aside.* kind=`+c.kind).FindAllString(s.Log(), -1)
				require.Len(t, reports, hit, "kept: %v", kept)
			}
			s.Stop()
		})
	}
}

// flip changes a bit of a log that means something: three in the header of a record
// do not, and no reader looks at them.
func flip(r *rand.Rand, b []byte) []byte {
	for {
		changed := bytes.Clone(b)
		changed[r.IntN(len(b))] ^= 1 << r.IntN(8)
		if records(changed) != records(b) {
			return changed
		}
	}
}

// records is a hash of what a log can be read as, and of how that ends.
func records(b []byte) [sha256.Size]byte {
	h := sha256.New()
	r := wlog.NewReader(bytes.NewReader(b))
	for r.Next() {
		fmt.Fprintf(h, "%d:%s", len(r.Record()), r.Record())
	}
	fmt.Fprint(h, r.Err())
	return [sha256.Size]byte(h.Sum(nil))
}

// damageTenants changes the largest matching file of every tenant and returns how
// many there were.
func damageTenants(t *testing.T, s *harness.Server, glob string, change func([]byte) []byte) (hit int) {
	dirs, err := filepath.Glob(filepath.Join(s.DataDir(), "tsdb", "*", "wal"))
	require.NoError(t, err)
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(filepath.Dir(dir), glob))
		require.NoError(t, err)
		var largest []byte
		var path string
		for _, f := range files {
			b, err := os.ReadFile(f)
			require.NoError(t, err)
			if len(b) > len(largest) {
				largest, path = b, f
			}
		}
		if path != "" {
			hit++
			require.NoError(t, os.WriteFile(path, change(largest), 0o644))
		}
	}
	return hit
}

// checkRest checks samples as check does; they may be missing unless lossless.
// Exemplars are in memory and the log only, so they may go with a damaged log.
func (l *ledger) checkRest(t *testing.T, s *harness.Server, from int64, lossless bool) {
	t.Helper()
	for _, st := range streams() {
		right, problems := l.checkSamples(t, s.As(st.tenant), st, from-lateBy.Milliseconds())
		if lossless {
			require.Empty(t, problems[:min(len(problems), 5)], "%s: %d problems, %d samples right", st.name, len(problems), right)
		}
		for _, p := range problems {
			require.Contains(t, p, "acknowledged and gone")
		}
	}
}

// metrics are the server's own.
func metrics(t *testing.T, s *harness.Server) string {
	t.Helper()
	resp, err := http.Get(strings.TrimSuffix(s.Process().URL, "/") + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}
