package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/cardinality"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// SeriesReports are what a store knows of tenants' active series.
type SeriesReports interface {
	// SeriesReport says what the active series that match consist of.
	SeriesReport(ctx context.Context, tenant string, q cardinality.Query) (*cardinality.Report, error)
	// ListActiveSeries returns the labels of those that match, limit at most.
	ListActiveSeries(ctx context.Context, tenant string, ms []*labels.Matcher, limit int) ([]labels.Labels, error)
	// DayReport says what the series consist of that match and have a sample on the
	// day of a time, in UTC.
	DayReport(ctx context.Context, tenant string, day time.Time, q cardinality.Query) (*cardinality.Day, error)
	// ListDaySeries returns the labels of those, limit at most.
	ListDaySeries(ctx context.Context, tenant string, day time.Time, ms []*labels.Matcher, limit int) ([]labels.Labels, error)
	// Quarantines returns the explosions of the tenant's metrics.
	Quarantines(tenant string) ([]cardinality.Event, error)
	// ReleaseQuarantine ends one; it is false when there is none.
	ReleaseQuarantine(tenant, metric string) (bool, error)
}

const (
	// defaultEntries is what Mimir lists by default, maxEntries at most.
	defaultEntries = 20
	maxEntries     = 500

	// daysAtOnce is how many days are counted at once: each keeps a processor busy.
	daysAtOnce = 2
)

// cardinalityQuery reads the parameters that the views have in common: selector
// and limit.
func (a *API) cardinalityQuery(r *request) (q cardinality.Query, err error) {
	q.Limit, err = strconv.Atoi(cmp.Or(r.FormValue("limit"), strconv.Itoa(defaultEntries)))
	if err != nil || q.Limit < 1 || q.Limit > maxEntries {
		return q, badParam("limit", fmt.Errorf("must be a number from 1 to %d", maxEntries))
	}
	q.Matchers, err = a.selector(r)
	return q, err
}

func (a *API) selector(r *request) ([]*labels.Matcher, error) {
	text := r.FormValue("selector")
	if text == "" {
		return nil, nil
	}
	ms, err := a.parser.ParseMetricSelector(text)
	if err != nil {
		return nil, badParam("selector", err)
	}
	return ms, nil
}

// date reads the day that a view is about. It is zero if that is now.
func (r *request) date() (time.Time, error) {
	text := r.FormValue("date")
	if text == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(time.DateOnly, text)
	switch {
	case err != nil || day.Year() < 1970:
		return day, badParam("date", fmt.Errorf("%.32q is no day such as 2026-01-31, in UTC", text))
	case day.After(time.Now()):
		return day, badParam("date", fmt.Errorf("%s is in the future", text))
	}
	return day, nil
}

// viewFunc makes a view of now, or of a day when that is not zero.
type viewFunc func(ctx context.Context, r *request, day time.Time) (any, error)

// cardinalityView makes a handler of f. The answer is not wrapped, as that of the
// endpoints of Mimir that have the same paths. It counts all of the tenant.
func (a *API) cardinalityView(f viewFunc) http.HandlerFunc {
	return a.serve(func(ctx context.Context, w http.ResponseWriter, r *request) error {
		if err := r.view.Whole(); err != nil {
			return err
		}
		view, err := a.viewed(ctx, r, f)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(view) // an error is a client that went away
		return nil
	})
}

// viewed calls f, in one of few places if it is about a day.
func (a *API) viewed(ctx context.Context, r *request, f viewFunc) (any, error) {
	day, err := r.date()
	if err != nil {
		return nil, err
	}
	if !day.IsZero() {
		if _, err := a.days.Insert(ctx, ""); err != nil {
			return nil, err
		}
		defer a.days.Delete(0)
	}
	return f(ctx, r, day)
}

func (a *API) cardinalityRoutes() []route {
	return []route{
		{getAndPost, "/cardinality", readers, "active series by metric, label and pair", a.cardinalityView(a.cardinality)},
		{getAndPost, "/cardinality/label_names", readers, "labels by the number of their values", a.cardinalityView(a.labelNamesCardinality)},
		{getAndPost, "/cardinality/label_values", readers, "values of label_names[] by series", a.cardinalityView(a.labelValuesCardinality)},
		{getAndPost, "/cardinality/active_series", readers, "active series of a selector", a.cardinalityView(a.activeSeries)},
		{get, "/cardinality/quarantine", readers, "metrics that explode or did lately", a.cardinalityView(a.quarantines)},
	}
}

func (a *API) cardinality(ctx context.Context, r *request, day time.Time) (any, error) {
	q, err := a.cardinalityQuery(r)
	if err != nil {
		return nil, err
	}
	if day.IsZero() {
		return a.Series.SeriesReport(ctx, r.who.Tenant, q)
	}
	return a.Series.DayReport(ctx, r.who.Tenant, day, q)
}

// survey is what the reports of now and of a day have in common.
func (a *API) survey(ctx context.Context, r *request, day time.Time, q cardinality.Query) (cardinality.Survey, error) {
	if day.IsZero() {
		report, err := a.Series.SeriesReport(ctx, r.who.Tenant, q)
		if err != nil {
			return cardinality.Survey{}, err
		}
		return report.Survey, nil
	}
	report, err := a.Series.DayReport(ctx, r.who.Tenant, day, q)
	if err != nil {
		return cardinality.Survey{}, err
	}
	return report.Survey, nil
}

type labelNamesView struct {
	Values int         `json:"label_values_count_total"`
	Names  int         `json:"label_names_count"`
	List   []nameCount `json:"cardinality"`
}

type nameCount struct {
	Name   string `json:"label_name"`
	Values int    `json:"label_values_count"`
}

func (a *API) labelNamesCardinality(ctx context.Context, r *request, day time.Time) (any, error) {
	q, err := a.cardinalityQuery(r)
	if err != nil {
		return nil, err
	}
	report, err := a.survey(ctx, r, day, q)
	if err != nil {
		return nil, err
	}
	view := labelNamesView{Values: report.Values, Names: report.Names, List: []nameCount{}}
	for _, l := range report.Labels {
		view.List = append(view.List, nameCount{l.Name, l.Values})
	}
	return view, nil
}

type labelValuesView struct {
	Series int               `json:"series_count_total"`
	Labels []labelValuesList `json:"labels"`
}

type labelValuesList struct {
	Name   string       `json:"label_name"`
	Values int          `json:"label_values_count"`
	Series int          `json:"series_count"`
	List   []valueCount `json:"cardinality"`
}

type valueCount struct {
	Value  string `json:"label_value"`
	Series int    `json:"series_count"`
}

func (a *API) labelValuesCardinality(ctx context.Context, r *request, day time.Time) (any, error) {
	q, err := a.cardinalityQuery(r)
	if err != nil {
		return nil, err
	}
	if q.Names = r.Form["label_names[]"]; len(q.Names) == 0 {
		return nil, badParam("label_names[]", errors.New("is missing"))
	}
	report, err := a.survey(ctx, r, day, q)
	if err != nil {
		return nil, err
	}
	view := labelValuesView{Series: report.Series, Labels: []labelValuesList{}}
	for _, l := range report.Labels {
		list := labelValuesList{Name: l.Name, Values: l.Values, Series: l.Series, List: []valueCount{}}
		for _, p := range l.Top {
			list.List = append(list.List, valueCount{p.Value, p.Series})
		}
		view.Labels = append(view.Labels, list)
	}
	return view, nil
}

func (a *API) activeSeries(ctx context.Context, r *request, day time.Time) (any, error) {
	ms, err := a.selector(r)
	if err != nil {
		return nil, err
	}
	if ms == nil {
		return nil, badParam("selector", errors.New("is missing"))
	}
	var list []labels.Labels
	if day.IsZero() {
		list, err = a.Series.ListActiveSeries(ctx, r.who.Tenant, ms, a.cfg.MaxResults)
	} else {
		list, err = a.Series.ListDaySeries(ctx, r.who.Tenant, day, ms, a.cfg.MaxResults)
	}
	if err != nil {
		return nil, err
	}
	if list == nil {
		list = []labels.Labels{}
	}
	return struct {
		Data []labels.Labels `json:"data"`
	}{list}, nil
}

func (a *API) quarantines(_ context.Context, r *request, _ time.Time) (any, error) {
	list, err := a.Series.Quarantines(r.who.Tenant)
	return struct {
		Quarantines []cardinality.Event `json:"quarantines"`
	}{list}, err
}

// releaseQuarantine ends the quarantine of the parameter metric of a tenant.
func (a *API) releaseQuarantine(w http.ResponseWriter, r *http.Request, who tenant.Identity) {
	tenantID, metric := r.FormValue("tenant"), r.FormValue("metric")
	err := tenant.ValidateID(tenantID)
	if err == nil {
		var released bool
		if released, err = a.Series.ReleaseQuarantine(tenantID, metric); err == nil && !released {
			err = proto.Errorf(proto.KindNotFound, "weir-quarantine-unknown", "the metric %.64q of the tenant %q is not in quarantine", metric, tenantID)
		}
	}
	if err != nil {
		a.fail(w, r, tenantID, err)
		return
	}
	a.Tenants.Acted(r, who, "release quarantine", tenantID+" "+metric)
	a.Logger.WarnContext(r.Context(), "quarantine released", "tenant", tenantID, "metric", metric, "addr", r.RemoteAddr)
	w.WriteHeader(http.StatusNoContent)
}
