package ingester

import (
	"bytes"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// past is a history of a tenant that has every kind of file on disk: blocks, a
// checkpoint, segments of the log, chunk files, an out-of-order log and, when it
// was stopped in order, a snapshot.
type history struct {
	stopped string           // directory after a stop
	killed  string           // directory as a kill leaves it
	want    map[string][]int // rounds that were acknowledged, by series
}

const (
	historySeries = 150
	historyRounds = 520
)

// withShortBlocks makes maintenance cut a block of the history for each 30 minutes.
func withShortBlocks(n *node) { n.cfg.BlockDuration = 30 * time.Minute }

func historyLabels(s int) labels.Labels {
	return metric("damage", "series", fmt.Sprint(s), "filler", strings.Repeat("x", 100))
}

func historyTime(round int) int64 { return at(time.Duration(round) * 15 * time.Second) }

// historyValue is different for every sample.
func historyValue(s, round int) float64 { return float64(s*100_000 + round) }

// historyRound writes a round of every series that has begun by then; one in ten
// comes late.
func (n *node) historyRound(t *testing.T, round int, want map[string][]int) {
	f := &frame{}
	for s := range historySeries {
		begun := s%3*200 + s // the others come later, in several segments
		r := round
		if s%10 == 7 {
			r = round/20*20 + 19 - round%20 // backwards
		}
		if r < begun {
			continue
		}
		f.series(historyLabels(s)).float(historyTime(r), historyValue(s, r))
		want[historyLabels(s).String()] = append(want[historyLabels(s).String()], r)
	}
	writtenAll(t, f, n.write(team, f))
}

func makeHistory(t *testing.T) history {
	n := start(t, withShortBlocks)
	h := history{want: map[string][]int{}}
	h.stopped, h.killed = filepath.Join(t.TempDir(), "stopped"), filepath.Join(t.TempDir(), "killed")
	for round := range historyRounds {
		n.historyRound(t, round, h.want)
		switch round {
		case 100, 200, 300, 400, 450:
			n.restart() // makes a segment
		case 250, 350, 480:
			require.NoError(t, n.find(team).maintain(t.Context(), time.Now(), 0))
		}
	}
	require.NoError(t, os.CopyFS(h.killed, os.DirFS(n.dir)))
	n.stop()
	require.NoError(t, os.CopyFS(h.stopped, os.DirFS(n.dir)))
	for _, glob := range []string{"wal/checkpoint.*/0*", "wal/0*", "wbl/0*", "chunks_head/0*", "01*/index", "closed.json", "chunk_snapshot.*/0*"} {
		require.NotEmpty(t, h.files(t, h.stopped, glob), glob)
	}
	return h
}

// files are the non-empty files of the tenant below dir that match.
func (h *history) files(t tester, dir, glob string) []string {
	all, err := filepath.Glob(filepath.Join(dir, team, glob))
	require.NoError(t, err)
	return slices.DeleteFunc(all, func(path string) bool {
		st, err := os.Stat(path)
		return err != nil || st.Size() == 0
	})
}

// check returns how many acknowledged samples are missing, and fails when one is
// wrong or under another series.
func (h *history) check(t tester, got map[string][]point) (missing int) {
	t.Helper()
	for s := range historySeries {
		name := historyLabels(s).String()
		rounds := map[int64]bool{}
		for _, r := range h.want[name] {
			rounds[historyTime(r)] = true
		}
		for _, p := range got[name] {
			r := int(p.T-t0) / 15_000
			require.True(t, rounds[p.T], "%s has a sample at round %d that was never sent", name, r)
			require.Equal(t, floatKey(historyValue(s, r)), p.V, "%s, round %d", name, r)
		}
		missing += len(rounds) - len(got[name])
	}
	for name := range got {
		require.True(t, h.want[name] != nil || strings.Contains(name, "after"), "%s was never sent", name)
	}
	return missing
}

// damaged is an ingester on a copy of dir that was damaged.
func (h *history) damaged(tb tester, dir string, damage func(dir string)) *node {
	return start(tb, withShortBlocks, func(n *node) {
		n.dir = n.tempDir()
		require.NoError(tb, os.CopyFS(n.dir, os.DirFS(dir)))
		damage(n.dir)
	})
}

// goesOn writes more, with new series that may get the references of lost ones,
// and checks that neither it nor what was left changes with kills and stops.
func (h *history) goesOn(t *testing.T, n *node) {
	t.Helper()
	f := &frame{}
	for i := range 2 * historySeries {
		f.series(metric("after", "i", fmt.Sprint(i))).float(historyTime(historyRounds+i%2), float64(i))
	}
	for s := range historySeries {
		if s%10 != 7 {
			f.series(historyLabels(s)).float(historyTime(historyRounds), historyValue(s, historyRounds))
		}
	}
	writtenAll(t, f, n.write(team, f))
	want := n.read(team)
	for i := range f.Series {
		points := want[f.names[i].String()]
		require.NotEmpty(t, points)
		require.Equal(t, floatKey(f.Floats[i].V), points[len(points)-1].V)
	}
	for _, again := range []func(){n.crash, n.restart, n.crash, n.restart} {
		again()
		got := n.read(team)
		require.Len(t, got, len(want))
		for name := range want {
			require.True(t, slices.Equal(want[name], got[name]), "%s: %d samples, then %d", name, len(want[name]), len(got[name]))
		}
	}
}

// reported is how many damaged files the metrics tell of.
func (n *node) reported() (sum float64) {
	for _, kind := range damagedKinds {
		sum += testutil.ToFloat64(n.metrics.damagedFiles.WithLabelValues(kind))
	}
	return sum
}

func edit(tb tester, path string, change func([]byte) []byte) {
	b, err := os.ReadFile(path)
	require.NoError(tb, err)
	require.NoError(tb, os.WriteFile(path, change(b), 0o644))
}

// Damage of one file, by what it does to the file.
var damages = map[string]func([]byte) []byte{
	"a flipped bit at the beginning": func(b []byte) []byte { b[min(20, len(b)-1)] ^= 4; return b },
	"a flipped bit in the first":     func(b []byte) []byte { b[0] ^= 1; return b },
	"a flipped bit in the middle":    func(b []byte) []byte { b[len(b)/2] ^= 16; return b },
	"a flipped bit in the last":      func(b []byte) []byte { b[len(b)-1] ^= 128; return b },
	"cut to the half":                func(b []byte) []byte { return b[:len(b)/2] },
	"cut by a byte":                  func(b []byte) []byte { return b[:len(b)-1] },
	"empty":                          func([]byte) []byte { return nil },
	"zeros in the middle":            func(b []byte) []byte { clear(b[len(b)/3 : len(b)/2]); return b },
	"zeros for a page":               func(b []byte) []byte { clear(b[:min(len(b), logPage)]); return b },
	"zeros":                          func(b []byte) []byte { clear(b); return b },
	"garbage in the middle":          func(b []byte) []byte { copy(b[len(b)/3:len(b)/2], bytes.Repeat([]byte("garbage"), len(b))); return b },
	"garbage":                        func(b []byte) []byte { copy(b, bytes.Repeat([]byte{0xde, 0xad}, len(b))); return b },
	"gone":                           nil,
}

// Every kind of file is damaged in every way, after a stop and after a kill: the
// tenant starts, what the damage does not cover is there, nothing is under
// another series, and the damage is reported. Short runs, as under the race
// detector, cut files only.
func TestDamage(t *testing.T) {
	h := makeHistory(t)
	for _, c := range []struct {
		glob            string
		stopped, killed int // samples that may be lost when a bit is flipped in the middle; of any damage, if 0
	}{
		{"wal/checkpoint.*/0*", 0, -1},
		{"wal/0*", 0, historySeries},
		{"wbl/0*", historySeries, historySeries},
		{"chunks_head/0*", 0, 0},
		{"chunk_snapshot.*/0*", 0, 0},
		{"closed.json", 0, 0},
		{"01*/meta.json", -1, -1},
		{"01*/index", -1, -1},
		{"01*/chunks/0*", -1, -1},
		{"metadata.json", 0, 0},
	} {
		for name, damage := range damages {
			if testing.Short() && name != "cut to the half" {
				continue
			}
			for state, dir := range map[string]string{"stopped": h.stopped, "killed": h.killed} {
				files := h.files(t, dir, c.glob)
				if len(files) == 0 {
					continue
				}
				t.Run(c.glob+" "+name+" "+state, func(t *testing.T) {
					n := h.damaged(t, dir, func(dir string) {
						path := h.files(t, dir, c.glob)[0]
						if damage == nil {
							require.NoError(t, os.Remove(path))
						} else {
							edit(t, path, damage)
						}
					})
					got, err := readChunks(n.Ingester, team, math.MinInt64/4, math.MaxInt64/4)
					if err != nil && strings.HasPrefix(c.glob, "01*") {
						return // not wrong, and not silent
					}
					require.NoError(t, err)
					missing := h.check(t, got)
					allowed := c.stopped
					if state == "killed" {
						allowed = c.killed
					}
					// After a kill, nobody knows that there was something.
					unknown := state == "killed" && (name == "empty" || name == "gone")
					if allowed == 0 && !unknown {
						require.Zero(t, missing)
					} else if allowed > 0 && name == "a flipped bit in the middle" {
						require.LessOrEqual(t, missing, allowed)
					}
					if missing > 0 && !unknown {
						require.NotZero(t, n.reported(), "%d samples are missing and nothing says so", missing)
					}
					h.goesOn(t, n)
				})
			}
		}
	}
}

// Chunk files with one missing in between, which the TSDB would not open: the
// logs have it all.
func TestChunkFileMissing(t *testing.T) {
	h := makeHistory(t)
	for _, dir := range []string{h.stopped, h.killed} {
		n := h.damaged(t, dir, func(dir string) {
			files := h.files(t, dir, "chunks_head/0*")
			last, err := os.ReadFile(files[len(files)-1])
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(files[0]), "000099"), last, 0o644))
		})
		require.Zero(t, h.check(t, n.read(team)))
		require.EqualValues(t, 1, n.reported())
		h.goesOn(t, n)
	}
}

// Undamaged, nothing is lost and nothing reported, and a stop makes the next start
// one from the snapshot.
func TestHistoryUndamaged(t *testing.T) {
	h := makeHistory(t)
	for _, dir := range []string{h.stopped, h.killed} {
		n := h.damaged(t, dir, func(string) {})
		require.Zero(t, h.check(t, n.read(team)))
		require.Zero(t, n.reported())
		require.Empty(t, h.files(t, n.dir, "chunk_snapshot.*/0*"), "a snapshot is for one start")
		h.goesOn(t, n)
		require.NoDirExists(t, filepath.Join(n.dir, team, damagedDir))
	}
}

// Any bits of any files are flipped, after a stop or a kill.
func TestDamageAnywhere(t *testing.T) {
	h := makeHistory(t)
	rapid.Check(t, func(rt *rapid.T) {
		dir := rapid.SampledFrom([]string{h.stopped, h.killed}).Draw(rt, "dir")
		var files []string
		require.NoError(rt, filepath.WalkDir(filepath.Join(dir, team), func(path string, d fs.DirEntry, err error) error {
			if st, serr := os.Stat(path); err == nil && serr == nil && st.Mode().IsRegular() && st.Size() > 0 && !strings.Contains(path, "/01") {
				rel, _ := filepath.Rel(dir, path)
				files = append(files, rel)
			}
			return err
		}))
		seed := rapid.Uint64().Draw(rt, "seed")
		flips := rapid.IntRange(1, 40).Draw(rt, "flips")
		hit := rapid.SliceOfNDistinct(rapid.SampledFrom(files), 1, 3, rapid.ID).Draw(rt, "files")
		random := rand.New(rand.NewPCG(seed, 0))
		n := h.damaged(rt, dir, func(dir string) {
			for _, file := range hit {
				edit(rt, filepath.Join(dir, file), func(b []byte) []byte {
					for range flips {
						b[random.IntN(len(b))] ^= 1 << random.IntN(8)
					}
					return b
				})
			}
		})
		if missing := h.check(rt, n.read(team)); missing > 0 {
			require.NotZero(rt, n.reported())
		}
		h.goesOn(t, n)
		n.stop()
	})
}

// Everything that operators see of tenants.
func TestTenantStats(t *testing.T) {
	n := start(t)
	require.Empty(t, n.Tenants())
	n.write("small", &frame{})
	f := new(frame).series(metric("a")).float(at(0), 1).hist(at(time.Minute), intHistogram(1)).series(metric("b")).float(at(time.Second), 1)
	writtenAll(t, f, n.write(team, f))
	n.flush(team)
	g := new(frame).series(metric("c")).float(at(time.Hour), 1)
	writtenAll(t, g, n.write(team, g))
	all := n.Tenants()
	require.Len(t, all, 2)
	require.Equal(t, "small", all[1].ID)
	require.Equal(t, []int64{0, 0}, []int64{all[1].Oldest, all[1].Newest})
	got := all[0]
	require.Positive(t, got.MemoryBytes)
	require.Greater(t, got.MemoryBytes, all[1].MemoryBytes)
	require.Positive(t, got.BlockBytes)
	require.Positive(t, got.LogBytes)
	require.LessOrEqual(t, got.Oldest, at(0), "late samples may have come")
	got.MemoryBytes, got.BlockBytes, got.LogBytes, got.Oldest = 0, 0, 0, 0
	require.Equal(t, TenantStats{ID: team, State: "open", Series: 1, Samples: 4, Active: 3, Stored: 4, Newest: at(time.Hour), Blocks: 1}, got)

	n.stop()
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, team, metadataFile), []byte("{"), 0o644))
	require.NoError(t, os.RemoveAll(filepath.Join(n.dir, "small", walDir)))
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, "small", walDir), nil, 0o644))
	n.run()
	all = n.Tenants()
	require.Equal(t, 1, all[0].Damaged)
	require.Equal(t, "broken", all[1].State)
	require.Contains(t, all[1].Why, "weir-tenant-broken")
}
