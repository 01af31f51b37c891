package ingester

import (
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// kinds are the kinds of samples that have start timestamps. Each appends its
// i-th sample to a frame and returns how it reads.
var kinds = []struct {
	name string
	add  func(f *frame, t, st int64, i int) string
}{
	{"float", func(f *frame, t, st int64, i int) string {
		f.floatST(t, st, float64(i))
		return floatKey(float64(i))
	}},
	{"histogram", func(f *frame, t, st int64, i int) string {
		h := intHistogram(uint64(i))
		f.hist(t, h).lastHistogram().ST = st
		return histKey(h)
	}},
	{"float_histogram", func(f *frame, t, st int64, i int) string {
		h := floatHistogram(float64(i))
		f.fhist(t, h).lastHistogram().ST = st
		return fhistKey(h)
	}},
	{"custom_histogram", func(f *frame, t, st int64, i int) string {
		h := customHistogram(uint64(i))
		f.hist(t, h).lastHistogram().ST = st
		return histKey(h)
	}},
	{"custom_float_histogram", func(f *frame, t, st int64, i int) string {
		h := customFloatHistogram(float64(i))
		f.fhist(t, h).lastHistogram().ST = st
		return fhistKey(h)
	}},
	{"gauge_histogram", func(f *frame, t, st int64, i int) string {
		h := gauge(intHistogram(uint64(i % 7)))
		f.hist(t, h).lastHistogram().ST = st
		return histKey(h)
	}},
	{"mixed", func(f *frame, t, st int64, i int) string {
		if i%3 == 0 {
			f.floatST(t, st, float64(i))
			return floatKey(float64(i))
		}
		h := intHistogram(uint64(i % 50)) // it is reset now and then, and grows and loses buckets
		if i%2 == 0 {
			h = customHistogram(uint64(i))
		}
		f.hist(t, h).lastHistogram().ST = st
		return histKey(h)
	}},
}

func (f *frame) lastHistogram() *proto.Histogram { return &f.Histograms[len(f.Histograms)-1] }

// Start timestamps of every kind of sample are kept when the config says so, and
// dropped when it does not.
func TestStartTimestamps(t *testing.T) {
	a := metric("a")
	created := at(-time.Hour)
	for _, kind := range kinds {
		for _, on := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s %t", kind.name, on), func(t *testing.T) {
				kept := func(st int64) int64 {
					if on {
						return st
					}
					return 0
				}
				n := start(t, withWindow(time.Hour), withConfig(func(c *Config) { c.StartTimestamps = on }))
				f, late := new(frame).series(a), new(frame).known(a)
				want := map[string][]point{}
				for i := range 300 {
					ts := at(time.Duration(i) * 15 * time.Second)
					st := created
					switch {
					case i >= 200:
						st = at(200*15*time.Second - time.Second) // the counter was reset
					case i%50 == 0:
						st = 0 // the sender did not say
					case i%50 == 7:
						st = ts - 15_000 // as of a delta
					}
					into := f
					if i >= 200 && i%2 == 0 { // enough that the TSDB moves them to chunk files
						into = late
					}
					want[a.String()] = append(want[a.String()], point{T: ts, ST: kept(st), V: kind.add(into, ts, st, i)})
				}
				writtenAll(t, f, n.write(team, f))
				writtenAll(t, late, n.write(team, late))

				// The start timestamp is not part of the value: the first one stays.
				again := new(frame).known(a)
				kind.add(again, at(290*15*time.Second), 7, 290)
				kind.add(again, at(299*15*time.Second), 7, 299)
				writtenAll(t, again, n.write(team, again))

				require.Equal(t, want, n.read(team), "from the head")
				n.restart()
				require.Equal(t, want, n.read(team), "after replay")
				n.crash()
				require.Equal(t, want, n.read(team), "after a crash")
				n.flush(team)
				require.Equal(t, want, n.read(team), "from blocks")
				n.setLimits(func(l *tenant.Limits) { l.OutOfOrderWindow = time.Minute })
				f = new(frame).series(a)
				want[a.String()] = append(want[a.String()], point{T: at(2 * time.Hour), ST: kept(created), V: kind.add(f, at(2*time.Hour), created, 1)})
				writtenAll(t, f, n.write(team, f))
				require.Equal(t, want, n.read(team), "after a change of limits")
			})
		}
	}
}

// The setting may change between two runs: what is in blocks stays as it is.
func TestStartTimestampsSwitched(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			a := metric("a")
			n := start(t)
			var want []point
			for i, on := range []bool{true, false, true, false} {
				n.stop()
				n.cfg.StartTimestamps = on
				n.run()
				st := at(-time.Hour)
				f := new(frame).series(a)
				for j := range 2 {
					ts := at(time.Duration(i)*time.Minute) + int64(j)
					p := point{T: ts, V: kind.add(f, ts, st, i)}
					if on {
						p.ST = st
					}
					want = append(want, p)
				}
				writtenAll(t, f, n.write(team, f))
				require.Equal(t, map[string][]point{a.String(): want}, n.read(team), "run %d", i)
				n.flush(team)
			}
			require.Equal(t, map[string][]point{a.String(): want}, n.read(team))
		})
	}
}

// The encodings that hold start timestamps of histograms are young, and
// Prometheus says that they may change. Blocks have them: when a chunk of before
// no longer reads, or is no longer what is written, the version that we are built
// with cannot be changed without a way for those blocks.
func TestStartTimestampEncodingsHaveNotChanged(t *testing.T) {
	for _, tc := range []struct {
		encoding chunkenc.Encoding
		data     string
	}{
		{
			chunkenc.EncXOR2,
			"00058280ccc9fdf962000000000000000000e807c22bffc7d0c12ffffc772463e86603f80bb8c7d0cb0bf8fde8",
		},
		{
			chunkenc.EncHistogramST,
			"000582ff255bba08cf8c979d9ca568ce328ff0000c5e7ec99805e27faaaaaaaaaaaaab146200f1f461a3a82e28a3e7d035eb555555555555507c7724" +
				"79f408aaaaaaaaaaaaa0f80bb8f3e813ffffffffffff81f1fbd0",
		},
		{
			chunkenc.EncFloatHistogramST,
			"000582f3de465858c6ffc0003179fb2660080100000000000007fc00000000000017fe00000000000007fe00000000000007fc00000000000007fe00" +
				"0000000000001e3e8d60f583c25fffc25fffd60f097fffcfa1a85eec07b01ec07b01ec07f1dc91e7d08b84cfffd617ac2f099fffac2fe02ee3cfa10f" +
				"683da0f683da0f683f8fde80",
		},
	} {
		t.Run(tc.encoding.String(), func(t *testing.T) {
			c, err := chunkenc.NewEmptyChunk(tc.encoding)
			require.NoError(t, err)
			app, err := c.Appender()
			require.NoError(t, err)
			var want []point
			for i := range 5 {
				p := point{T: at(time.Duration(i*i) * time.Second), ST: at(time.Duration(i/2) * -time.Minute)}
				switch tc.encoding {
				case chunkenc.EncXOR2:
					app.Append(p.ST, p.T, float64(i))
					p.V = floatKey(float64(i))
				case chunkenc.EncHistogramST:
					h := intHistogram(uint64(i + 1))
					_, _, _, err = app.AppendHistogram(nil, p.ST, p.T, h, true)
					p.V = histKey(h)
				case chunkenc.EncFloatHistogramST:
					h := floatHistogram(float64(i + 1))
					_, _, _, err = app.AppendFloatHistogram(nil, p.ST, p.T, h, true)
					p.V = fhistKey(h)
				}
				require.NoError(t, err)
				want = append(want, p)
			}
			require.Equal(t, tc.data, hex.EncodeToString(c.Bytes()), "is written")

			data, err := hex.DecodeString(tc.data)
			require.NoError(t, err)
			old, err := chunkenc.FromData(tc.encoding, data)
			require.NoError(t, err)
			var got []point
			it := old.Iterator(nil)
			for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
				got = append(got, decode(it, vt))
			}
			require.NoError(t, it.Err())
			require.Equal(t, want, got, "is read")
		})
	}
}
