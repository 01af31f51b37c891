package proto

import (
	"math"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/zeebo/xxh3"
)

// Hash is a 128-bit hash. As a key it is of a series' label bytes as one
// request spelled them; as an identity it is of the canonical labels.
type Hash struct{ Hi, Lo uint64 }

// hashBytes is XXH3-128 under a secret seed, so that nobody outside can aim at
// a collision.
func hashBytes(b []byte, seed uint64) Hash {
	h := xxh3.Hash128Seed(b, seed)
	return Hash{h.Hi, h.Lo}
}

// TenantSeed derives the seed of one tenant's hashes from a secret.
func TenantSeed(secret uint64, tenant string) uint64 {
	return xxh3.HashStringSeed(tenant, secret)
}

// NoHandle is the handle of a series whose ingester gave none yet.
const NoHandle = math.MaxUint32

// Frame is the part of a write request that goes to one ingester: columns in
// request order. Series i owns the next Series[i].Floats elements of Floats,
// and so on. Everything in it is owned by the sender of the frame, except what
// pointers and strings lead to, which is never written again.
type Frame struct {
	Series     []FrameSeries
	Floats     []Float
	Histograms []Histogram
	Exemplars  []exemplar.Exemplar
	Metadata   []Metadata
	// Labels of the series that the receiver believes new to the ingester, in
	// ascending order of Series.
	Labels []SeriesLabels
	// Sender is for people: the User-Agent, and what else tells who sent the request.
	Sender string
}

// FrameSeries is one series of a request, with the counts of its samples.
type FrameSeries struct {
	ID                            Hash
	Handle                        uint32 // a hint: what the ingester answered for ID last time, or NoHandle
	Floats, Histograms, Exemplars uint32
}

// Counts are the numbers of its samples by kind.
func (s *FrameSeries) Counts() Counts {
	return Counts{Samples: int(s.Floats), Histograms: int(s.Histograms), Exemplars: int(s.Exemplars)}
}

// Float is one float sample; timestamps are in milliseconds, ST (the start of
// the counter) is 0 when the sender said none.
type Float struct {
	T, ST int64
	V     float64
}

// Histogram is one native histogram sample: H or, for float counts, FH.
type Histogram struct {
	T, ST int64
	H     *histogram.Histogram
	FH    *histogram.FloatHistogram
}

// Metadata of one metric family.
type Metadata struct {
	Family string
	metadata.Metadata
}

// SeriesLabels are the labels of Frame.Series[Series].
type SeriesLabels struct {
	Series uint32
	Labels labels.Labels
}

// Reset empties f and drops its references, keeping the columns' memory.
func (f *Frame) Reset() {
	f.Series = f.Series[:0]
	f.Floats = f.Floats[:0]
	f.Histograms = reset(f.Histograms)
	f.Exemplars = reset(f.Exemplars)
	f.Metadata = reset(f.Metadata)
	f.Labels = reset(f.Labels)
	f.Sender = ""
}

func reset[T any](s []T) []T {
	clear(s)
	return s[:0]
}

// Counts are numbers of samples by kind.
type Counts struct {
	Samples    int `json:"samples"` // floats
	Histograms int `json:"histograms"`
	Exemplars  int `json:"exemplars"`
	Metadata   int `json:"metadata"`
}

// Add adds d to c.
func (c *Counts) Add(d Counts) {
	c.Samples += d.Samples
	c.Histograms += d.Histograms
	c.Exemplars += d.Exemplars
	c.Metadata += d.Metadata
}

// Sub takes d from c.
func (c *Counts) Sub(d Counts) {
	c.Samples -= d.Samples
	c.Histograms -= d.Histograms
	c.Exemplars -= d.Exemplars
	c.Metadata -= d.Metadata
}

// Total is the number of samples of every kind.
func (c Counts) Total() int { return c.Samples + c.Histograms + c.Exemplars + c.Metadata }

// Reply is an ingester's answer to a frame. Every sample of the frame is either
// in Written, Rejected or Postponed, or belongs to a series in Unknown; and all
// metadata either in Written or in Families.
type Reply struct {
	Written  Counts
	Rejected Rejections
	// Postponed was not stored although nothing is wrong with it, and may be later;
	// Cause says why. nil: nothing was postponed.
	Postponed Counts
	Cause     *Error
	Held      []uint32 // indexes into Frame.Series, ascending: series of which something was postponed
	// Families are indexes into Frame.Metadata, ascending: of families that are new and
	// beyond the limit, for MetadataLimit.
	Families []uint32
	// Unknown are indexes into Frame.Series, ascending: series the ingester does not know
	// and got no labels of. Nothing of them was stored.
	Unknown []uint32
	// Handles to send as hints from now on, for the series whose hint was not right.
	Handles []SeriesHandle
	// Near are the limits on series that are used up to NearLimit or more.
	Near []Quota
}

// SeriesHandle is the handle of Frame.Series[Series].
type SeriesHandle struct{ Series, Handle uint32 }

// Reset empties r, keeping its memory.
func (r *Reply) Reset() {
	r.Written, r.Postponed, r.Cause, r.Held = Counts{}, Counts{}, nil, r.Held[:0]
	r.Rejected.Reset()
	r.Families = r.Families[:0]
	r.Unknown = r.Unknown[:0]
	r.Handles = r.Handles[:0]
	r.Near = r.Near[:0]
}
