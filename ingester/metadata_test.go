package ingester

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

func says(family, help string) proto.Metadata {
	return proto.Metadata{Family: family, Metadata: metadata.Metadata{Type: model.MetricTypeCounter, Unit: "bytes", Help: help}}
}

// helps are the help texts of a family, in order.
func helps(s *metadataStore, family string) (out []string) {
	for _, m := range s.get(family)[family] {
		out = append(out, m.Help)
	}
	return out
}

func TestMetadataStore(t *testing.T) {
	for _, c := range []struct {
		name string
		max  int
		said []proto.Metadata
		want map[string][]string
	}{
		{"nothing", 10, nil, map[string][]string{}},
		{"one", 10, []proto.Metadata{says("a", "1")}, map[string][]string{"a": {"1"}}},
		{"the same again", 10, []proto.Metadata{says("a", "1"), says("a", "1")}, map[string][]string{"a": {"1"}}},
		{"the newest first", 10, []proto.Metadata{says("a", "1"), says("a", "2"), says("b", "1")}, map[string][]string{"a": {"2", "1"}, "b": {"1"}}},
		{"an older one again becomes the newest", 10, []proto.Metadata{says("a", "1"), says("a", "2"), says("a", "1")}, map[string][]string{"a": {"1", "2"}}},
		{"so many of a family", 10, []proto.Metadata{says("a", "1"), says("a", "2"), says("a", "3"), says("a", "4"), says("a", "5"), says("a", "6"), says("a", "3")},
			map[string][]string{"a": {"3", "6", "5", "4", "2"}}},
		{"so many families; known ones go on", 2, []proto.Metadata{says("a", "1"), says("b", "1"), says("c", "1"), says("a", "2"), says("c", "1")},
			map[string][]string{"a": {"2", "1"}, "b": {"1"}}},
		{"none at all", 0, []proto.Metadata{says("a", "1")}, map[string][]string{}},
		{"the type and the unit count", 10, []proto.Metadata{says("a", "1"), {Family: "a", Metadata: metadata.Metadata{Type: model.MetricTypeGauge, Unit: "bytes", Help: "1"}},
			{Family: "a", Metadata: metadata.Metadata{Type: model.MetricTypeGauge, Help: "1"}}}, map[string][]string{"a": {"1", "1", "1"}}},
		{"empty", 10, []proto.Metadata{{Family: "a"}}, map[string][]string{"a": {""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lim := tenant.DefaultLimits()
			lim.MaxMetadataEntries = c.max
			check := func(s *metadataStore) {
				t.Helper()
				got := map[string][]string{}
				for f := range s.get("") {
					got[f] = helps(s, f)
				}
				require.Equal(t, c.want, got)
				require.Empty(t, s.get("unknown"))
			}
			var s metadataStore
			s.add(nil, c.said, &lim)
			check(&s)
			dir := t.TempDir()
			require.NoError(t, s.save(dir))
			var loaded metadataStore
			require.NoError(t, loaded.load(dir))
			check(&loaded)
			require.Equal(t, s.get(""), loaded.get(""))
		})
	}
}

// What get returns belongs to the caller.
func TestMetadataIsCopied(t *testing.T) {
	lim := tenant.DefaultLimits()
	var s metadataStore
	s.add(nil, []proto.Metadata{says("a", "1"), says("b", "1")}, &lim)
	for _, family := range []string{"", "a"} {
		got := s.get(family)
		got["a"][0].Help = "changed"
		delete(got, "b")
	}
	require.Equal(t, []string{"1"}, helps(&s, "a"))
	require.Len(t, s.get(""), 2)
	// Nor does an answer change when more is said.
	got := s.get("a")
	s.add(nil, []proto.Metadata{says("a", "2")}, &lim)
	require.Len(t, got["a"], 1)
}

func TestMetadataFile(t *testing.T) {
	lim := tenant.DefaultLimits()
	file := func(dir string) string { return filepath.Join(dir, metadataFile) }
	t.Run("written only when there is something new", func(t *testing.T) {
		dir := t.TempDir()
		var s metadataStore
		require.NoError(t, s.save(dir))
		require.NoFileExists(t, file(dir))
		s.add(nil, []proto.Metadata{says("a", "1")}, &lim)
		require.NoError(t, s.save(dir))
		require.NoError(t, os.Remove(file(dir)))
		s.add(nil, []proto.Metadata{says("a", "1")}, &lim)
		require.NoError(t, s.save(dir))
		require.NoFileExists(t, file(dir))
		s.add(nil, []proto.Metadata{says("a", "2")}, &lim)
		require.NoError(t, s.save(dir))
		require.FileExists(t, file(dir))
		require.NoFileExists(t, file(dir)+".tmp")
	})
	t.Run("written later when it could not be written", func(t *testing.T) {
		dir := t.TempDir()
		var s metadataStore
		s.add(nil, []proto.Metadata{says("a", "1")}, &lim)
		require.Error(t, s.save(filepath.Join(dir, "missing")))
		require.NoError(t, s.save(dir))
		require.FileExists(t, file(dir))
	})
	for name, content := range map[string]string{
		"empty": "", "cut off": `{"a":[{"Type":"coun`, "of another kind": `[1,2]`, "binary": "\x00\xff\xfe", "half right": `{"a":[{"Help":"1"}],"b":7}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(file(dir), []byte(content), 0o644))
			var s metadataStore
			require.ErrorContains(t, s.load(dir), "read metric metadata")
			require.Empty(t, s.get(""), "it starts empty, as the log says")
			s.add(nil, []proto.Metadata{says("x", "1")}, &lim)
			require.NoError(t, s.save(dir))
			var loaded metadataStore
			require.NoError(t, loaded.load(dir))
			require.Len(t, loaded.get(""), 1)
		})
	}
}

func TestMetadataConcurrently(t *testing.T) {
	lim := tenant.DefaultLimits()
	lim.MaxMetadataEntries = 50
	dir := t.TempDir()
	var (
		s metadataStore
		g errgroup.Group
	)
	for w := range 4 {
		g.Go(func() error {
			for i := range 300 {
				s.add(nil, []proto.Metadata{says(fmt.Sprint(i%60), fmt.Sprint(w))}, &lim)
				if got := s.get(fmt.Sprint(i % 60))[fmt.Sprint(i%60)]; len(got) > 4 {
					return fmt.Errorf("%v", got)
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		for range 50 {
			if err := s.save(dir); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, g.Wait())
	require.NoError(t, s.save(dir))
	require.Len(t, s.get(""), 50)
	var loaded metadataStore
	require.NoError(t, loaded.load(dir))
	require.Equal(t, s.get(""), loaded.get(""))
}

// Metadata through Write: counted, kept over restarts, and after a crash as far
// as maintenance had saved it.
func TestMetadata(t *testing.T) {
	n := start(t, withLimits(func(l *tenant.Limits) { l.MaxMetadataEntries = 2 }))
	get := func(id, family string) map[string][]metadata.Metadata {
		t.Helper()
		got, err := n.Metadata(context.Background(), id, family)
		require.NoError(t, err)
		require.NotNil(t, got)
		return got
	}
	f := &frame{Frame: proto.Frame{Metadata: []proto.Metadata{says("a", "1"), says("b", "ünï \"x\"\n\u2028"), says("c", "1")}}}
	reply := n.write(team, f)
	require.Equal(t, []uint32{2}, reply.Families, "c is one family too many")
	require.Equal(t, 2, reply.Written.Metadata)
	want := map[string][]metadata.Metadata{"a": {says("a", "1").Metadata}, "b": {says("b", "ünï \"x\"\n\u2028").Metadata}}
	require.Equal(t, want, get(team, ""))
	require.Equal(t, map[string][]metadata.Metadata{"a": want["a"]}, get(team, "a"))
	require.Empty(t, get(team, "c"))
	require.Empty(t, get("nobody", ""))
	require.Empty(t, get("nobody", "a"))

	n.restart()
	require.Equal(t, want, get(team, ""))
	n.setLimits(func(l *tenant.Limits) { l.MaxMetadataEntries = 3 })
	n.write(team, &frame{Frame: proto.Frame{Metadata: []proto.Metadata{says("c", "1")}}})
	require.NoError(t, n.find(team).maintain(t.Context(), time.Now(), 0))
	n.write(team, &frame{Frame: proto.Frame{Metadata: []proto.Metadata{says("a", "2")}}})
	n.crash()
	want["c"] = []metadata.Metadata{says("c", "1").Metadata}
	require.Equal(t, want, get(team, ""))

	n.setLimits(func(l *tenant.Limits) { l.MaxMetadataEntries = 0 })
	none := &frame{Frame: proto.Frame{Metadata: []proto.Metadata{says("d", "1"), says("a", "1")}}}
	writtenAll(t, none, n.write(team, none))
	require.Equal(t, 1.0, testutil.ToFloat64(n.metrics.metadataDropped), "d, as the tenant wants it")
	require.Equal(t, want, get(team, ""))

	// A file that cannot be read costs the metadata, not the tenant.
	n.write(team, new(frame).series(metric("a")).float(at(0), 1))
	n.stop()
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, team, metadataFile), []byte("{"), 0o644))
	n.run()
	require.Empty(t, get(team, ""))
	require.Len(t, n.read(team), 1)
	n.stop()
	require.Contains(t, n.log.String(), "damaged file, set aside")
	kept, err := filepath.Glob(filepath.Join(n.dir, team, damagedDir, "*", damagedMetadata, metadataFile))
	require.NoError(t, err)
	require.Len(t, kept, 1)
}
