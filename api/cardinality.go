package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

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
	// Quarantines returns the explosions of the tenant's metrics.
	Quarantines(tenant string) ([]cardinality.Event, error)
	// ReleaseQuarantine ends one; it is false when there is none.
	ReleaseQuarantine(tenant, metric string) (bool, error)
}

const (
	// defaultEntries is what Mimir lists by default, maxEntries at most.
	defaultEntries = 20
	maxEntries     = 500
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

// cardinalityView makes a handler of f. The answer is not wrapped, as that of the
// endpoints of Mimir that have the same paths. It counts all of the tenant.
func (a *API) cardinalityView(f func(ctx context.Context, r *request) (any, error)) http.HandlerFunc {
	return a.serve(func(ctx context.Context, w http.ResponseWriter, r *request) error {
		if err := r.view.Whole(); err != nil {
			return err
		}
		view, err := f(ctx, r)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(view) // an error is a client that went away
		return nil
	})
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

func (a *API) cardinality(ctx context.Context, r *request) (any, error) {
	q, err := a.cardinalityQuery(r)
	if err != nil {
		return nil, err
	}
	return a.Series.SeriesReport(ctx, r.who.Tenant, q)
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

func (a *API) labelNamesCardinality(ctx context.Context, r *request) (any, error) {
	q, err := a.cardinalityQuery(r)
	if err != nil {
		return nil, err
	}
	report, err := a.Series.SeriesReport(ctx, r.who.Tenant, q)
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

func (a *API) labelValuesCardinality(ctx context.Context, r *request) (any, error) {
	q, err := a.cardinalityQuery(r)
	if err != nil {
		return nil, err
	}
	if q.Names = r.Form["label_names[]"]; len(q.Names) == 0 {
		return nil, badParam("label_names[]", errors.New("is missing"))
	}
	report, err := a.Series.SeriesReport(ctx, r.who.Tenant, q)
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

func (a *API) activeSeries(ctx context.Context, r *request) (any, error) {
	ms, err := a.selector(r)
	if err != nil {
		return nil, err
	}
	if ms == nil {
		return nil, badParam("selector", errors.New("is missing"))
	}
	list, err := a.Series.ListActiveSeries(ctx, r.who.Tenant, ms, a.cfg.MaxResults)
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

func (a *API) quarantines(_ context.Context, r *request) (any, error) {
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
