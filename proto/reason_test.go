package proto_test

import (
	"errors"
	"fmt"
	"regexp"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// TestReasonIDs: clients and alerts know them, so each reason has its own, in
// the form that docs/errors.md lists.
func TestReasonIDs(t *testing.T) {
	seen := map[string]bool{}
	for r := range proto.Reasons {
		id := r.ID()
		require.Regexp(t, regexp.MustCompile(`^weir(-[a-z]+)+$`), id)
		require.False(t, seen[id], id)
		seen[id] = true
	}
}

func TestRejections(t *testing.T) {
	var r proto.Rejections
	texts := 0
	detail := func(s string) func() string { return func() string { texts++; return s } }

	r.Add(proto.SampleTooOld, proto.Counts{Samples: 1}, 3, 1000, detail("first"))
	r.Add(proto.SampleTooOld, proto.Counts{Samples: 2, Histograms: 1}, 4, 2000, detail("second"))
	r.Add(proto.LabelsTooMany, proto.Counts{Exemplars: 5}, 5, 0, detail("third"))
	require.Equal(t, 9, r.Total())
	require.Equal(t, proto.Counts{Samples: 3, Histograms: 1}, r.Counts[proto.SampleTooOld])
	require.Equal(t, proto.Counts{Exemplars: 5}, r.Counts[proto.LabelsTooMany])
	require.Equal(t, []proto.Example{
		{Reason: proto.SampleTooOld, Series: 3, T: 1000, Detail: "first"},
		{Reason: proto.LabelsTooMany, Series: 5, Detail: "third"},
	}, r.Examples)
	require.Equal(t, 2, texts, "a text is made for examples only")

	t.Run("merge", func(t *testing.T) {
		var other proto.Rejections
		other.Add(proto.LabelsTooMany, proto.Counts{Samples: 1}, 1, 0, detail("known reason"))
		other.Add(proto.SampleDuplicate, proto.Counts{Samples: 7}, 2, 3000, detail("new reason"))
		r.Merge(&other, func(i uint32) uint32 { return i + 100 })
		require.Equal(t, 17, r.Total())
		require.Equal(t, proto.Counts{Samples: 1, Exemplars: 5}, r.Counts[proto.LabelsTooMany])
		require.Len(t, r.Examples, 3)
		require.Equal(t, proto.Example{Reason: proto.SampleDuplicate, Series: 102, T: 3000, Detail: "new reason"}, r.Examples[2])
		r.Merge(&proto.Rejections{}, nil)
		require.Equal(t, 17, r.Total())
	})
	t.Run("by series", func(t *testing.T) {
		var one, other proto.Rejections
		none := detail("")
		one.Add(proto.SampleTooOld, proto.Counts{Samples: 1}, 3, 1000, none)
		one.Add(proto.SampleTooOld, proto.Counts{Samples: 2}, 3, 2000, none)
		one.Add(proto.SampleDuplicate, proto.Counts{Samples: 1}, 3, 3000, none)
		one.Add(proto.SampleTooOld, proto.Counts{Exemplars: 1}, proto.NoSeries, 0, none)
		other.Add(proto.SampleTooOld, proto.Counts{Histograms: 1}, 0, 4000, none)
		one.Merge(&other, func(i uint32) uint32 { return i + 7 })
		require.Equal(t, []proto.Refused{
			{Reason: proto.SampleTooOld, Series: 3, Counts: proto.Counts{Samples: 3}, T: 1000},
			{Reason: proto.SampleDuplicate, Series: 3, Counts: proto.Counts{Samples: 1}, T: 3000},
			{Reason: proto.SampleTooOld, Series: proto.NoSeries, Counts: proto.Counts{Exemplars: 1}},
			{Reason: proto.SampleTooOld, Series: 7, Counts: proto.Counts{Histograms: 1}, T: 4000},
		}, one.Refused)
	})
	t.Run("many", func(t *testing.T) {
		var some, all proto.Rejections
		all.Track = true
		for i := range uint32(10_000) {
			some.Add(proto.SampleTooOld, proto.Counts{Samples: 1}, i, 0, detail(""))
			all.Add(proto.SampleTooOld, proto.Counts{Samples: 1}, i, 0, detail(""))
		}
		require.Len(t, some.Refused, 4096)
		require.Equal(t, 10_000, some.Total())
		require.Len(t, all.Refused, 10_000)
	})
	t.Run("an example of each", func(t *testing.T) {
		var all proto.Rejections
		for range 2 {
			for reason := proto.OK + 1; reason < proto.Reasons; reason++ {
				all.Add(reason, proto.Counts{Samples: 1}, 0, 0, detail("x"))
				all.Add(reason, proto.Counts{}, 0, 0, detail("of nothing"))
			}
		}
		require.Equal(t, 2*int(proto.Reasons-1), all.Total())
		require.Len(t, all.Examples, int(proto.Reasons)-1)
		var merged proto.Rejections
		merged.Add(proto.Reasons-1, proto.Counts{}, 0, 0, detail("of nothing"))
		require.Equal(t, proto.Rejections{}, merged)
		merged.Add(proto.Reasons-1, proto.Counts{Metadata: 1}, 0, 0, detail("x"))
		merged.Merge(&all, func(i uint32) uint32 { return i })
		require.Len(t, merged.Examples, int(proto.Reasons)-1)
		require.Equal(t, 2*int(proto.Reasons)-1, merged.Total())
	})
	t.Run("reset", func(t *testing.T) {
		r.Reset()
		require.Zero(t, r.Total())
		require.Empty(t, r.Examples)
		require.Empty(t, r.Refused)
		require.Equal(t, [proto.Reasons]proto.Counts{}, r.Counts)
	})
}

func TestCounts(t *testing.T) {
	c := proto.Counts{Samples: 1, Histograms: 2, Exemplars: 3, Metadata: 4}
	require.Equal(t, 10, c.Total())
	c.Add(proto.Counts{Samples: 10, Histograms: 20, Exemplars: 30, Metadata: 40})
	require.Equal(t, proto.Counts{Samples: 11, Histograms: 22, Exemplars: 33, Metadata: 44}, c)
	c.Sub(proto.Counts{Samples: 10, Histograms: 20, Exemplars: 30, Metadata: 40})
	require.Equal(t, proto.Counts{Samples: 1, Histograms: 2, Exemplars: 3, Metadata: 4}, c)
}

// TestFrameReset: a frame comes from a pool, and must not keep what the last
// request led to.
func TestFrameReset(t *testing.T) {
	f := proto.Frame{
		Series: make([]proto.FrameSeries, 2), Floats: make([]proto.Float, 2),
		Histograms: []proto.Histogram{{H: seedHistogram()}},
		Exemplars:  []exemplar.Exemplar{{Labels: labels.FromStrings("a", "b")}},
		Metadata:   []proto.Metadata{{Family: "f"}},
		Labels:     []proto.SeriesLabels{{Labels: labels.FromStrings("a", "b")}},
	}
	f.Reset()
	require.Empty(t, f.Series)
	require.Empty(t, f.Floats)
	require.Equal(t, []proto.Histogram{{}}, f.Histograms[:1])
	require.Equal(t, []exemplar.Exemplar{{}}, f.Exemplars[:1])
	require.Equal(t, []proto.Metadata{{}}, f.Metadata[:1])
	require.Equal(t, []proto.SeriesLabels{{}}, f.Labels[:1])
	require.Equal(t, 2, cap(f.Series), "the memory is kept")
}

func TestReplyReset(t *testing.T) {
	r := proto.Reply{Written: proto.Counts{Samples: 1}, Unknown: []uint32{1}, Handles: []proto.SeriesHandle{{Series: 1}}}
	r.Rejected.Add(proto.SampleDuplicate, proto.Counts{Samples: 1}, 0, 0, func() string { return "" })
	r.Reset()
	require.Equal(t, proto.Counts{}, r.Written)
	require.Zero(t, r.Rejected.Total())
	require.Empty(t, r.Unknown)
	require.Empty(t, r.Handles)
}

func TestKindOf(t *testing.T) {
	limit := proto.Errorf(proto.KindLimit, "weir-x", "%d is too much", 3)
	for _, c := range []struct {
		name string
		err  error
		want proto.Kind
	}{
		{name: "ours", err: limit, want: proto.KindLimit},
		{name: "wrapped", err: fmt.Errorf("write: %w", limit), want: proto.KindLimit},
		{name: "joined", err: errors.Join(errors.New("x"), limit), want: proto.KindLimit},
		{name: "not classified", err: errors.New("x"), want: proto.KindInternal},
		{name: "none", want: proto.KindInternal},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, proto.KindOf(c.err)) })
	}
	require.EqualError(t, limit, "weir-x: 3 is too much")
}
