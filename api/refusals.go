package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/ledger"
)

// concern is how surely a refusal is about a selector.
type concern int

const (
	ofOther  concern = iota // about series that the selector does not select
	ofTenant                // about a request, or series that are not named: perhaps
	ofMetric                // about series of a metric that the selector selects
	ofSeries                // about a series that the selector selects
)

var concernNames = [...]string{"other", "tenant", "metric", "series"}

// concerns says how surely r is about what ms selects.
func concerns(r *ledger.Refusal, ms []*labels.Matcher) concern {
	if r.Metric == ledger.AnyMetric || r.Metric == "" && len(r.Example.Labels) == 0 {
		return ofTenant
	}
	series, metric := true, r.Metric != ""
	for _, m := range ms {
		series = series && slices.ContainsFunc(valuesOf(r.Example.Labels, m.Name), m.Matches)
		metric = metric && (m.Name != model.MetricNameLabel || m.Matches(r.Metric))
	}
	switch {
	case series:
		return ofSeries
	case metric && slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return m.Name == model.MetricNameLabel }):
		return ofMetric
	}
	return ofOther
}

// valuesOf returns what a label may be, which is refused if it is there twice.
func valuesOf(ls []ledger.Label, name string) []string {
	var values []string
	for _, l := range ls {
		if l.Name == name {
			values = append(values, l.Value)
		}
	}
	if values == nil {
		return []string{""}
	}
	return values
}

// refusals lists what was refused of the tenant's writes, the newest first.
func (a *API) refusals(_ context.Context, r *request) (answer, error) {
	limit, err := parseLimit(r)
	if err != nil {
		return answer{}, err
	}
	sets, err := parseSelectors(a.parser, r.Form["match[]"])
	if err != nil {
		return answer{}, badParam("match[]", err)
	}
	since, err := parseSince(r)
	if err != nil {
		return answer{}, err
	}
	reasons := r.Form["reason"]
	list := slices.DeleteFunc(a.Ledger.Refusals(r.who.Tenant), func(x ledger.Refusal) bool {
		selected := len(sets) == 0 || slices.ContainsFunc(sets, func(ms []*labels.Matcher) bool { return concerns(&x, ms) >= ofMetric })
		return x.Last.Before(since) || !selected || len(reasons) > 0 && !slices.Contains(reasons, x.Reason)
	})
	if limit > 0 && len(list) > limit {
		list = list[:limit]
	}
	return answer{data: object{list}}, nil
}

// parseSince reads how far back to look, a duration; the beginning of time if it
// is missing.
func parseSince(r *request) (time.Time, error) {
	s := r.FormValue("since")
	if s == "" {
		return time.Time{}, nil
	}
	d, err := parseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("since must not be negative")
	}
	if err != nil {
		return time.Time{}, badParam("since", err)
	}
	return time.Now().Add(-d), nil
}

// sender is one of the tenant's senders, as it is listed.
type sender struct {
	ledger.SenderStatus
	Product string   `json:"product"` // of the user agent
	Version string   `json:"version"`
	Lag     *float64 `json:"lagSeconds"` // below 0: its clock is ahead; null: no sample was read
	Silent  float64  `json:"silentSeconds"`
	Missing bool     `json:"missing"`
}

// missingAfter is after how long a silent sender is called missing: by then what
// it sends is gone from queries, at the usual lookback.
const missingAfter = 5 * time.Minute

func describeSender(s ledger.SenderStatus, now time.Time) sender {
	silent := now.Sub(s.Last)
	out := sender{SenderStatus: s, Silent: silent.Seconds(), Missing: silent > missingAfter}
	out.Product, out.Version, _ = strings.Cut(s.UserAgent, "/")
	if version, _, comment := strings.Cut(out.Version, " "); comment {
		out.Version = version
	}
	if s.Newest != ledger.NoTime {
		lag := s.Lag().Seconds()
		out.Lag = &lag
	}
	return out
}

// senders lists who sends for the tenant, those heard of last first.
func (a *API) senders(_ context.Context, r *request) (answer, error) {
	list, now := []sender{}, time.Now()
	for _, s := range a.Ledger.Senders(r.who.Tenant) {
		list = append(list, describeSender(s, now))
	}
	return answer{data: object{list}}, nil
}
