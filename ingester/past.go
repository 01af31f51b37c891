package ingester

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// past reads what is stored of one series after another, for deciding about
// late samples. It is used while no commit is under way.
//
// A series in the head is read by its reference. That goes past what the TSDB
// has against chunk files being removed while they are read, so maintenance,
// which alone removes them, is kept out meanwhile. When it is at work, or when
// blocks reach into the time in question, the TSDB is queried by the series'
// labels, which is exact as well and takes ten times as long.
type past struct {
	db        *tsdb.DB
	head      *tsdb.Head
	window    time.Duration
	unlock    func()         // lets maintenance in again; nil when it was at work
	blocksEnd int64          // newest time in a block, ms
	samples   []storedSample // of the series read last, in order of time
	builder   labels.ScratchBuilder
	chunks    []chunks.Meta
	it        chunkenc.Iterator
}

// storedSample is a float, or a histogram.
type storedSample struct {
	t  int64
	v  float64
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

func (t *tenantDB) openPast() *past {
	p := &past{db: t.db, head: t.db.Head(), window: t.window(), blocksEnd: math.MinInt64}
	if t.maintenance.TryLock() {
		p.unlock = t.maintenance.Unlock
	}
	for _, b := range t.db.Blocks() {
		p.blocksEnd = max(p.blocksEnd, b.MaxTime())
	}
	return p
}

func (p *past) close() {
	if p.unlock != nil {
		p.unlock()
	}
}

// at returns what the series read last has at ts, or nil.
func (p *past) at(ts int64) *storedSample {
	i, ok := slices.BinarySearchFunc(p.samples, ts, func(s storedSample, ts int64) int { return cmp.Compare(s.t, ts) })
	if !ok {
		return nil
	}
	return &p.samples[i]
}

// read reads the samples between mint and maxt of the series that ref leads to
// in the head or, where it leads nowhere, of the one with labels ls.
func (p *past) read(ctx context.Context, ref storage.SeriesRef, ls labels.Labels, mint, maxt int64) error {
	p.samples = p.samples[:0]
	if p.unlock != nil && p.blocksEnd <= mint {
		return p.readHead(ref, mint, maxt)
	}
	if ls.IsEmpty() {
		idx := tsdb.NewHeadAndOOOIndexReader(p.head, mint, mint, maxt, 0)
		if err := idx.Series(ref, &p.builder, nil); err != nil {
			return nil // not in the head: the append will say so
		}
		ls = p.builder.Labels()
	}
	return p.query(ctx, ls, mint, maxt)
}

// readHead reads one series of the head by reference.
func (p *past) readHead(ref storage.SeriesRef, mint, maxt int64) error {
	idx := tsdb.NewHeadAndOOOIndexReader(p.head, mint, mint, maxt, 0)
	if err := idx.Series(ref, &p.builder, &p.chunks); err != nil {
		return nil // not in the head: it has no samples there
	}
	reader := tsdb.NewHeadAndOOOChunkReader(p.head, mint, maxt, nil, nil, 0)
	for _, meta := range p.chunks {
		c, iterable, err := reader.ChunkOrIterable(meta)
		if err != nil {
			return err
		}
		if c != nil {
			p.it = c.Iterator(p.it)
		} else {
			p.it = iterable.Iterator(p.it)
		}
		if err := p.collect(p.it, mint, maxt); err != nil {
			return err
		}
	}
	return nil
}

// query reads the series with labels ls from head and blocks.
func (p *past) query(ctx context.Context, ls labels.Labels, mint, maxt int64) error {
	q, err := p.db.Querier(mint, maxt)
	if err != nil {
		return err
	}
	defer q.Close()
	var matchers []*labels.Matcher
	ls.Range(func(l labels.Label) {
		matchers = append(matchers, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value))
	})
	set := q.Select(ctx, false, nil, matchers...)
	for set.Next() {
		series := set.At()
		if !labels.Equal(series.Labels(), ls) {
			continue // has more labels than these
		}
		if err := p.collect(series.Iterator(nil), mint, maxt); err != nil {
			return err
		}
	}
	return set.Err()
}

// collect appends the samples of it between mint and maxt.
func (p *past) collect(it chunkenc.Iterator, mint, maxt int64) error {
	for vt := it.Seek(mint); vt != chunkenc.ValNone && it.AtT() <= maxt; vt = it.Next() {
		s := storedSample{t: it.AtT()}
		switch vt {
		case chunkenc.ValFloat:
			_, s.v = it.At()
		case chunkenc.ValHistogram:
			_, s.h = it.AtHistogram(nil)
		case chunkenc.ValFloatHistogram:
			_, s.fh = it.AtFloatHistogram(nil)
		}
		p.samples = append(p.samples, s)
	}
	return it.Err()
}
