package ingester

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/weir-metrics/weir/proto"
)

// What series a tenant had on a day is told by the indexes of its blocks, and by
// the head: the sections. Most series are in many of them. So the sections are
// read side by side in the order of labels, in which each series comes once for
// all of them, with all that is known of when it had samples. The first section that
// has it stands for it: one bit there says how the series counts. From then on the
// postings of a label say how many of its series count, and the sum over the
// sections counts none twice.
//
// That takes memory for the labels of one series per section, and for bitmaps, of
// one bit for 16 bytes of index.

// dayMS is a day in milliseconds: days of Unix time have no leap seconds.
const dayMS = int64(24 * time.Hour / time.Millisecond)

// briefMS is how long a series lasts at most that is short-lived: targets that are
// scraped once, and what a name or an id in a label makes.
const briefMS = int64(time.Hour / time.Millisecond)

// recallAttempts is how often what was read is read again because blocks were cut
// meanwhile, which happens once in a block's time.
const recallAttempts = 5

// period is the time from mint to maxt, ms; both belong to it.
type period struct{ mint, maxt int64 }

func dayOf(t time.Time) period {
	mint := t.UnixMilli()
	mint -= mod(mint, dayMS)
	return period{mint, mint + dayMS - 1}
}

func (p period) before() period { return period{p.mint - dayMS, p.mint - 1} }

func (p period) overlaps(mint, maxt int64) bool { return mint <= p.maxt && maxt >= p.mint }

// presence is when a series has samples in a period: from first to last, if first
// is not above last.
type presence struct{ first, last int64 }

var absent = presence{math.MaxInt64, math.MinInt64}

func (p presence) is() bool { return p.first <= p.last }

// see adds samples at mint and maxt, and maybe between them.
func (p *presence) see(mint, maxt int64, within period) {
	if within.overlaps(mint, maxt) {
		p.first = min(p.first, max(mint, within.mint))
		p.last = max(p.last, min(maxt, within.maxt))
	}
}

func (p *presence) merge(o presence) { p.first, p.last = min(p.first, o.first), max(p.last, o.last) }

// recall calls f with the sections of a tenant in some periods, until no blocks
// came or went meanwhile: the head forgets series once a block has them.
func (i *Ingester) recall(ctx context.Context, tenantID string, periods []period, ms []*labels.Matcher, f func([]*section) error) error {
	t, err := i.reading(tenantID)
	if err != nil {
		return err
	}
	if t == nil {
		return f(nil)
	}
	defer t.leave()
	for range recallAttempts {
		same, err := t.attempt(ctx, periods, ms, f)
		if errors.Is(err, tsdb.ErrClosing) || err == nil && !same {
			continue
		}
		return err
	}
	return proto.Errorf(proto.KindUnavailable, "weir-blocks-changing",
		"blocks of the tenant came or went each of the %d times that they were read; repeat the request later", recallAttempts)
}

// attempt calls f, and reports whether the blocks are the same afterwards.
func (t *tenantDB) attempt(ctx context.Context, periods []period, ms []*labels.Matcher, f func([]*section) error) (same bool, err error) {
	blocks := t.blocksOf(periods)
	sections, err := t.openSections(ctx, blocks, periods, ms)
	defer func() {
		for _, s := range sections {
			_ = s.index.Close() // never fails
		}
	}()
	if err == nil {
		err = f(sections)
	}
	return slices.Equal(blocks, t.blocksOf(periods)), err
}

// blocksOf returns the blocks that overlap some periods.
func (t *tenantDB) blocksOf(periods []period) []*tsdb.Block {
	return slices.DeleteFunc(slices.Clone(t.db.Blocks()), func(b *tsdb.Block) bool {
		return !slices.ContainsFunc(periods, func(p period) bool { return p.overlaps(b.MinTime(), b.MaxTime()-1) })
	})
}

// section is a block, or the head, that is read series by series in the order of
// labels.
type section struct {
	source
	name     string // of the block
	periods  []period
	tenant   *tenantDB
	heads    []tsdb.IndexReader // of the head, by period: each lists the chunks that overlap it; nil: a block
	postings index.Postings
	builder  labels.ScratchBuilder
	chunks   []chunks.Meta

	// The series that the section is at. Labels are good until it moves on.
	ref    storage.SeriesRef
	labels labels.Labels
	seen   []presence // by period
}

// openSections opens blocks and, if it overlaps a period, the head. What it
// returns is to be closed, also with an error.
func (t *tenantDB) openSections(ctx context.Context, blocks []*tsdb.Block, periods []period, ms []*labels.Matcher) (out []*section, err error) {
	open := func(name string, ix tsdb.IndexReader, heads []tsdb.IndexReader) error {
		s := &section{source: source{index: ix}, name: name, periods: periods, tenant: t, heads: heads, seen: make([]presence, len(periods))}
		out = append(out, s)
		return s.find(ctx, ms)
	}
	for _, b := range blocks {
		ix, err := b.Index()
		if err == nil {
			err = open(b.Meta().ULID.String(), ix, nil)
		}
		if err != nil {
			return out, err
		}
	}
	head := t.db.Head()
	mint, maxt := min(head.MinTime(), head.MinOOOTime()), max(head.MaxTime(), head.MaxOOOTime())
	if head.NumSeries() == 0 || !slices.ContainsFunc(periods, func(p period) bool { return p.overlaps(mint, maxt) }) {
		return out, nil
	}
	var heads []tsdb.IndexReader
	for _, p := range periods {
		heads = append(heads, tsdb.NewHeadAndOOOIndexReader(head, p.mint, p.mint, p.maxt, 0))
	}
	all := tsdb.NewHeadAndOOOIndexReader(head, math.MinInt64, math.MinInt64, math.MaxInt64, 0)
	return out, open("head", all, heads)
}

// String is the name of the block.
func (s *section) String() string { return s.name }

func (s *section) isHead() bool { return s.heads != nil }

// find selects the series that match.
func (s *section) find(ctx context.Context, ms []*labels.Matcher) error {
	var all index.Postings
	var err error
	if len(ms) == 0 {
		name, value := index.AllPostingsKey()
		all, err = s.index.Postings(ctx, name, value)
	} else {
		all, err = tsdb.PostingsForMatchers(ctx, s.index, ms...)
	}
	if err == nil {
		s.postings = s.index.SortedPostings(all)
	}
	return err
}

// next moves to the next series with samples in a period. It is false at the end.
func (s *section) next(ctx context.Context) (bool, error) {
	for s.postings.Next() {
		s.ref = s.postings.At()
		for i := range s.seen {
			s.seen[i] = absent
		}
		err := s.read(ctx)
		if errors.Is(err, storage.ErrNotFound) {
			continue // the head has dropped it
		}
		if err != nil || slices.ContainsFunc(s.seen, presence.is) {
			return err == nil, err
		}
	}
	return false, s.postings.Err()
}

// read finds the labels of the series at ref, and when it has samples.
func (s *section) read(ctx context.Context) error {
	if s.isHead() {
		return s.readHead(ctx)
	}
	return s.readBlock()
}

// readBlock reads the series at ref of a block. Chunks are no longer than a block, and that is
// no longer than a day: those that overlap a day have a sample in it.
func (s *section) readBlock() error {
	if err := s.index.Series(s.ref, &s.builder, &s.chunks); err != nil {
		return err
	}
	s.builder.Overwrite(&s.labels)
	for _, c := range s.chunks {
		for i, p := range s.periods {
			s.seen[i].see(c.MinTime, c.MaxTime, p)
		}
	}
	return nil
}

// readHead reads the series at ref of the head. Where the last chunk ends is not told, but it is
// listed for a period only if it overlaps it. Chunks of late samples may
// reach over a day without any in it.
func (s *section) readHead(ctx context.Context) error {
	for i, p := range s.periods {
		if err := s.heads[i].Series(s.ref, &s.builder, &s.chunks); err != nil {
			return err
		}
		s.labels = s.builder.Labels()
		for _, c := range s.chunks {
			if c.MinTime < p.mint && c.MaxTime > p.maxt && c.MaxTime != math.MaxInt64 {
				if err := s.readSamples(ctx, i); err != nil {
					return err
				}
				continue
			}
			s.seen[i].see(c.MinTime, c.MaxTime, p)
		}
	}
	return nil
}

// readSamples looks at the samples of a period.
func (s *section) readSamples(ctx context.Context, i int) error {
	in := s.periods[i]
	p := past{db: s.tenant.db}
	err := p.query(ctx, s.labels, in.mint, in.maxt)
	if n := len(p.samples); n > 0 {
		s.seen[i].see(p.samples[0].t, p.samples[n-1].t, in)
	}
	return err
}

// count notes how a series counts for which the section stands: by when it has
// samples on a day and on the one before.
func (s *section) count(day, before presence, now int64) {
	switch {
	case day.is():
		s.active.set(s.ref)
		if before.is() {
			return
		}
		s.created.set(s.ref)
		if day.last-day.first < briefMS && day.last < now-briefMS {
			s.brief.set(s.ref)
		}
	case before.is():
		s.gone.set(s.ref)
	}
}

// walk calls f once with every series of the sections, in the order of labels, at
// the section that stands for it, and with when it has samples in all of them. It
// ends when f is false.
func walk(ctx context.Context, sections []*section, f func(s *section, seen []presence) bool) error {
	same, rest := slices.Clone(sections), slices.Clone(sections)
	for n := 0; ; n++ {
		for _, s := range same {
			more, err := s.next(ctx)
			if err != nil {
				return err
			}
			if !more {
				rest = slices.DeleteFunc(rest, func(r *section) bool { return r == s })
			}
		}
		if len(rest) == 0 {
			return nil
		}
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		same = lowest(rest, same)
		for _, s := range same[1:] {
			for i := range s.seen {
				same[0].seen[i].merge(s.seen[i])
			}
		}
		if !f(same[0], same[0].seen) {
			return nil
		}
	}
}

// lowest returns, in the memory of same, those sections that are at the series with
// the lowest labels. Most sections have most series: to look at each of them is
// less than what a heap takes.
func lowest(sections, same []*section) []*section {
	same = append(same[:0], sections[0])
	for _, s := range sections[1:] {
		switch c := labels.Compare(s.labels, same[0].labels); {
		case c < 0:
			same = append(same[:0], s)
		case c == 0:
			same = append(same, s)
		}
	}
	return same
}
