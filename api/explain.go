package api

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// What became of the samples that somebody misses is decided in two steps: facts
// are gathered from the ledger, the tenant's settings and the store
// (explain_facts.go), and pure functions say what they mean (causes.go).

// facts are what is known about a selector.
type facts struct {
	now      time.Time
	lookback time.Duration
	selector string
	matchers []*labels.Matcher
	settings *tenant.Settings
	origins  map[string]string // of each path of the settings: where its value comes from

	stored   stored
	unmet    []*labels.Matcher // of a metric that is stored: each selects nothing of it
	newest   int64             // sample of the tenant, ms; 0: there is none
	refusals []ledger.Refusal  // of the tenant, the newest first
	senders  []ledger.SenderStatus

	// Of the labels that the selector spells out: why a series of them is not admitted.
	reason proto.Reason
	detail string
}

// stored is what the store has of a selector.
type stored struct {
	series int           // with samples in the time that was looked at
	newest labels.Labels // the one whose last sample is the newest
	t      int64         // of that sample, ms
	ended  bool          // that sample says that the series has ended
}

// Explanation is what is told about a selector.
type Explanation struct {
	Selector   string      `json:"selector"`
	Verdict    string      `json:"verdict"` // one of the verdicts below
	Summary    string      `json:"summary"`
	Series     int         `json:"series"` // that are stored
	LastSample *LastSample `json:"lastSample,omitempty"`
	Causes     []Cause     `json:"causes"` // the surest first
}

const (
	verdictStored  = "stored"  // and nothing of it was refused
	verdictPartly  = "partly"  // stored, while some of it was refused
	verdictRefused = "refused" // and nothing of it is stored, or not lately
	verdictEnded   = "ended"   // the sender said that the series ended
	verdictSilent  = "silent"  // it was stored, and came no more
	verdictUnknown = "unknown" // nothing is known of it
)

// LastSample is the newest sample that is stored.
type LastSample struct {
	Labels labels.Labels `json:"labels"`
	Time   time.Time     `json:"time"`
	Ended  bool          `json:"ended"` // it is a staleness marker
}

// Cause is why samples are missing, or may be.
type Cause struct {
	ID      string          `json:"id"` // of docs/errors.md, or one of causes.go
	Of      string          `json:"of"` // what it is surely about: series, metric, or only the tenant
	What    string          `json:"what"`
	Limit   string          `json:"limit,omitempty"` // the path of the limit behind it
	Value   any             `json:"limitValue,omitempty"`
	Origin  string          `json:"limitOrigin,omitempty"` // where that comes from: default, config, plan NAME or tenant
	Refusal *ledger.Refusal `json:"refusal,omitempty"`
	Fix     string          `json:"fix"`
	Docs    string          `json:"docs,omitempty"`
}

// explain says what facts mean.
func explain(f *facts) Explanation {
	e := Explanation{Selector: f.selector, Series: f.stored.series, Causes: []Cause{}}
	if f.stored.series > 0 {
		e.LastSample = &LastSample{f.stored.newest, time.UnixMilli(f.stored.t).UTC(), f.stored.ended}
	}
	for _, look := range []func(*facts) []Cause{ofState, ofAdmission, ofRefusals, ofEnd, ofSenders, ofClocks, ofNothing} {
		e.Causes = append(e.Causes, look(f)...)
	}
	for i := range e.Causes {
		e.Causes[i].Origin = f.origins[e.Causes[i].Limit]
	}
	e.Verdict = f.verdict(e.Causes)
	e.Summary = f.summary(e.Verdict, e.Causes)
	return e
}

func (f *facts) recent() bool {
	return f.stored.series > 0 && !f.stored.ended && f.age() <= f.lookback
}

// age is how long ago the last sample was.
func (f *facts) age() time.Duration { return f.now.Sub(time.UnixMilli(f.stored.t)) }

func (f *facts) verdict(causes []Cause) string {
	refused := slices.ContainsFunc(causes, func(c Cause) bool {
		return strings.HasPrefix(c.ID, "weir-") && (c.Of != concernNames[ofTenant] || f.stored.series == 0)
	})
	switch {
	case f.recent() && refused:
		return verdictPartly
	case f.recent():
		return verdictStored
	case refused:
		return verdictRefused
	case f.stored.series == 0:
		return verdictUnknown
	case f.stored.ended:
		return verdictEnded
	}
	return verdictSilent
}

func (f *facts) summary(verdict string, causes []Cause) string {
	last := "Nothing is stored of it."
	if f.stored.series > 0 {
		last = fmt.Sprintf("The last sample stored is of %s, %s ago.",
			time.UnixMilli(f.stored.t).UTC().Format(time.RFC3339), f.age().Round(time.Second))
	}
	first := ""
	if len(causes) > 0 {
		first = causes[0].ID
	}
	switch verdict {
	case verdictStored:
		return last + " Nothing of it was refused, as far as is remembered."
	case verdictPartly:
		return last + " Some of it was refused: " + first + "."
	case verdictRefused:
		return last + " It was refused: " + first + "."
	case verdictEnded:
		return last + " With it the sender said that the series ended."
	case verdictSilent:
		return last + " Nothing came since, and nothing of it was refused."
	}
	return last + " Nothing of it was refused either, as far as is remembered."
}
