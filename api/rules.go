package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// There are no rules, alerts, targets or Alertmanagers here, but clients ask for
// them. The answers are empty, and parameters are checked as if they were not.

// none are the answers to who asks what is not here.
var (
	noAlerts        = object{fields{"alerts": []any{}}}
	noAlertmanagers = object{fields{"activeAlertmanagers": []any{}, "droppedAlertmanagers": []any{}}}
	noTargets       = object{fields{"activeTargets": []any{}, "droppedTargets": []any{}, "droppedTargetCounts": fields{}}}
	noScrapePools   = object{fields{"scrapePools": []any{}}}
	noNotifications = object{[]any{}}
	noRules         = object{fields{"groups": []any{}}}
)

// always makes a read of an answer that does not depend on the request.
func always(data payload) readFunc {
	return func(context.Context, *request) (answer, error) { return answer{data: data}, nil }
}

// rules checks the filters of a list of rules.
func (a *API) rules(_ context.Context, r *request) (answer, error) {
	if _, err := parseSelectors(a.parser, r.Form["match[]"]); err != nil {
		return answer{}, badData(err)
	}
	switch kind := strings.ToLower(r.FormValue("type")); kind {
	case "", "alert", "record":
	default:
		return answer{}, badParam("type", fmt.Errorf("not supported value %q", kind))
	}
	if s := strings.ToLower(r.FormValue("exclude_alerts")); s != "" {
		if _, err := strconv.ParseBool(s); err != nil {
			return answer{}, badParam("exclude_alerts", fmt.Errorf("error converting exclude_alerts: %w", err))
		}
	}
	if err := checkPage(r.FormValue("group_limit"), r.FormValue("group_next_token")); err != nil {
		return answer{}, err
	}
	return answer{data: noRules}, nil
}

// checkPage checks which page of a list of groups is wanted; there is only the
// first.
func checkPage(limit, token string) error {
	if limit == "" && token == "" {
		return nil
	}
	if limit == "" {
		return badParam("group_next_token", errors.New("group_limit needs to be present in order to paginate over the groups"))
	}
	n, err := strconv.ParseInt(limit, 10, 32)
	switch {
	case err != nil:
		return badParam("group_limit", fmt.Errorf("group_limit needs to be a valid number: %w", err))
	case n <= 0:
		return badParam("group_limit", errors.New("group_limit needs to be greater than 0"))
	case token != "":
		return badParam("group_next_token", fmt.Errorf("invalid group_next_token '%v'. were rule groups changed?", token))
	}
	return nil
}

// targetMetadata is what senders said of one metric family. They did not say of
// which target.
type targetMetadata struct {
	Target fields `json:"target"`
	Metric string `json:"metric,omitempty"`
	Type   string `json:"type"`
	Help   string `json:"help"`
	Unit   string `json:"unit"`
}

// targetMetadataList is the data of targets/metadata.
type targetMetadataList []targetMetadata

func (l targetMetadataList) encode(e *encoder) {
	e.raw(`[`)
	for i, m := range l {
		e.comma(i)
		e.marshal(m)
		e.rest()
	}
	e.raw(`]`)
}

func (l targetMetadataList) size() (n int64) {
	for _, m := range l {
		n += int64(len(m.Metric)+len(m.Help)+len(m.Unit)) + 2*elementSize
	}
	return n
}

// targetsMetadata lists the tenant's metadata as that of one target without
// labels.
func (a *API) targetsMetadata(ctx context.Context, r *request) (answer, error) {
	limit, err := parseCount(r, "limit")
	if err != nil {
		return answer{}, err
	}
	list := targetMetadataList{}
	if s := r.FormValue("match_target"); s != "" {
		matchers, err := a.parser.ParseMetricSelector(s)
		if err != nil {
			return answer{}, badParam("match_target", err)
		}
		if slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches("") }) {
			return answer{data: list}, nil
		}
	}
	metric := r.FormValue("metric")
	all, err := r.view.Metadata(ctx, metric)
	if err != nil {
		return answer{}, err
	}
	for _, family := range slices.Sorted(maps.Keys(all)) {
		for _, m := range all[family] {
			if limit >= 0 && len(list) >= limit {
				break
			}
			entry := targetMetadata{Target: fields{}, Type: string(m.Type), Help: m.Help, Unit: m.Unit}
			if metric == "" { // else the client knows
				entry.Metric = family
			}
			list = append(list, entry)
		}
	}
	return answer{data: list}, nil
}
