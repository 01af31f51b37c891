package cardinality

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/zeebo/xxh3"
)

const (
	// maxSuspects bounds the metrics of a tenant with sketches, maxSuspectLabels the
	// labels of each: 16 x (32 x 2 + 6) sketches of 256 bytes, 371 KiB of a tenant at
	// most with all that belongs to them.
	maxSuspects      = 16
	maxSuspectLabels = 32
	// pairsOf is of how many labels every pair is looked at, pairsAfter from which
	// new series on: those with most values are known then.
	pairsOf    = 4
	pairsAfter = 256

	// minValues is how many values a label has that explains an explosion alone, and
	// minPairValues each of two that explain it together.
	minValues     = minExcess / 2
	minPairValues = 100
	// maxTargets is how many values of a label that names what is scraped are new
	// targets still.
	maxTargets = 20_000
	// maxExamples is how many series an event shows, and maxExampleBytes how much of
	// each: labels may be long, and events that are over are kept.
	maxExamples     = 3
	maxExampleBytes = 1024
)

// targetLabels name what is scraped. New values of them are new targets.
var targetLabels = []string{
	"container", "container_id", "host", "host_name", "hostname", "instance", "k8s_pod_name", "node", "pod", "pod_name",
}

// suspect knows the new series of one metric, since it has more than it needs.
type suspect struct {
	since    int // minute
	series   int // new ones
	labels   []suspectLabel
	pairs    []suspectPair
	paired   int // series when pairs was made
	examples []string
	sender   string // of the newest

	hashes []uint64 // scratch: of each of labels, in the series at hand; 0: it has none
}

type suspectLabel struct {
	name    string
	values  sketch
	without sketch // series that there would be without the label
}

type suspectPair struct {
	a, b    int
	without sketch
}

// add counts a new series.
func (s *suspect) add(ls labels.Labels, sender string) {
	s.series++
	s.sender = sender
	if len(s.examples) < maxExamples {
		s.examples = append(s.examples, example(ls))
	}
	var sum uint64
	next := 0
	s.hashes = slices.Grow(s.hashes[:0], len(s.labels))[:len(s.labels)]
	clear(s.hashes)
	ls.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel {
			return // all have the same
		}
		h := xxh3.HashStringSeed(l.Value, xxh3.HashString(l.Name)) | 1
		sum += h
		if i := s.label(l.Name, next); i >= 0 {
			s.hashes[i] = h
			next = i + 1
		}
	})
	for i := range s.labels {
		l := &s.labels[i]
		if h := s.hashes[i]; h != 0 {
			l.values.add(h)
		}
		l.without.add(sum - s.hashes[i])
	}
	if s.series == pairsAfter {
		s.pair()
	}
	for i := range s.pairs {
		p := &s.pairs[i]
		p.without.add(sum - s.hashes[p.a] - s.hashes[p.b])
	}
}

// label returns the index of a label in s.labels and s.hashes, where it is added if
// there is room; else -1. next is where it is mostly: the labels of most series of a
// metric have the same names.
func (s *suspect) label(name string, next int) int {
	if next < len(s.labels) && s.labels[next].name == name {
		return next
	}
	for i := range s.labels {
		if s.labels[i].name == name {
			return i
		}
	}
	if len(s.labels) == maxSuspectLabels {
		return -1
	}
	s.labels = append(s.labels, suspectLabel{name: name})
	s.hashes = append(s.hashes, 0)
	return len(s.labels) - 1
}

// example is a series as a selector, or the beginning of one.
func example(ls labels.Labels) string {
	text := ls.String()
	if len(text) <= maxExampleBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxExampleBytes], "") + "…"
}

// pair begins to look at the pairs of the labels with most values.
func (s *suspect) pair() {
	var most []int
	for i := range s.labels {
		if !slices.Contains(targetLabels, s.labels[i].name) {
			most = append(most, i)
		}
	}
	slices.SortFunc(most, func(a, b int) int { return cmp.Compare(s.labels[b].values.count(), s.labels[a].values.count()) })
	most = most[:min(len(most), pairsOf)]
	for i, a := range most {
		for _, b := range most[i+1:] {
			s.pairs = append(s.pairs, suspectPair{a: a, b: b})
		}
	}
	s.paired = s.series
}

// explanation returns the label or the two labels without which at most half of
// the new series would be, none when there is no such label. Of several it is the
// one without which fewest would be.
func (s *suspect) explanation() []string {
	var names []string
	least := float64(s.series) / 2
	for i := range s.labels {
		l := &s.labels[i]
		if n := l.without.count(); n <= least && l.values.count() >= minValues && !l.isTarget() {
			names, least = []string{l.name}, n
		}
	}
	if names != nil {
		return names
	}
	least = float64(s.series-s.paired) / 2
	for i := range s.pairs {
		p := &s.pairs[i]
		a, b := &s.labels[p.a], &s.labels[p.b]
		if n := p.without.count(); n <= least && min(a.values.count(), b.values.count()) >= minPairValues {
			names, least = []string{a.name, b.name}, n
		}
	}
	return names
}

func (l *suspectLabel) isTarget() bool {
	return slices.Contains(targetLabels, l.name) && l.values.count() < maxTargets
}

// sketch counts different hashes to within 7 % (HyperLogLog, Flajolet et al. 2007,
// with linear counting of few).
type sketch [256]uint8

func (s *sketch) add(h uint64) {
	h = (h ^ h>>32) * 0x9e3779b97f4a7c15 // sums of hashes are no hashes
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 32
	i := h >> 56
	s[i] = max(s[i], uint8(bits.LeadingZeros64(h<<8|1<<7)+1))
}

func (s *sketch) count() float64 {
	const m = float64(len(sketch{}))
	sum, zeros := 0.0, 0
	for _, r := range s {
		sum += math.Ldexp(1, -int(r))
		if r == 0 {
			zeros++
		}
	}
	n := 0.7213 / (1 + 1.079/m) * m * m / sum
	if n <= 2.5*m && zeros > 0 {
		return m * math.Log(m/float64(zeros))
	}
	return n
}
