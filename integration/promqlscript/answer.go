package promqlscript

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/integration/harness"
)

// answer is what the query API said.
type answer struct {
	failure         string // why there is no result; "" when there is one
	warnings, infos []string

	kind   string // scalar, string, vector or matrix
	text   string // of a string
	scalar float64
	series []series
}

type series struct {
	labels labels.Labels
	points []point // in order of time, floats before histograms
}

// point is a float, or a histogram if there is one.
type point struct {
	t         int64 // ms
	v         float64
	histogram *harness.HistogramJSON
}

// decode reads the body of an answer. A refused query must be answered as the
// client's fault, as what it is.
func decode(status int, e harness.Envelope) (answer, error) {
	a := answer{warnings: e.Warnings, infos: e.Infos}
	switch {
	case e.Status == "success" && status == http.StatusOK:
	case e.Status == "error" && (status == http.StatusBadRequest && e.ErrorType == "bad_data" ||
		status == http.StatusUnprocessableEntity && e.ErrorType == "execution"):
		a.failure = strings.TrimPrefix(e.Error, `invalid parameter "query": `)
		return a, nil
	default:
		return a, fmt.Errorf("status %d, %s, %s: %s", status, e.Status, e.ErrorType, e.Error)
	}
	var data struct {
		ResultType string
		Result     json.RawMessage
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return a, err
	}
	a.kind = data.ResultType
	return a, a.decodeResult(data.Result)
}

func (a *answer) decodeResult(raw json.RawMessage) (err error) {
	switch a.kind {
	case "scalar", "string":
		var p [2]json.RawMessage
		if err := json.Unmarshal(raw, &p); err != nil {
			return err
		}
		if err := json.Unmarshal(p[1], &a.text); err != nil {
			return err
		}
		if a.kind == "scalar" {
			a.scalar, err = strconv.ParseFloat(a.text, 64)
		}
		return err
	case "vector", "matrix":
	default:
		return fmt.Errorf("unknown type of result %q", a.kind)
	}
	var list []struct {
		Metric             labels.Labels
		Value, Histogram   *rawPoint // of a vector, one of them
		Values, Histograms []rawPoint
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	for _, l := range list {
		s := series{labels: l.Metric}
		if l.Value != nil {
			l.Values = append(l.Values, *l.Value)
		}
		if l.Histogram != nil {
			l.Histograms = append(l.Histograms, *l.Histogram)
		}
		for _, raw := range l.Values {
			p, err := raw.float()
			if err != nil {
				return err
			}
			s.points = append(s.points, p)
		}
		for _, raw := range l.Histograms {
			p, err := raw.withHistogram()
			if err != nil {
				return err
			}
			s.points = append(s.points, p)
		}
		a.series = append(a.series, s)
	}
	return nil
}

// rawPoint is [seconds, value].
type rawPoint [2]json.RawMessage

func (r rawPoint) time() (int64, error) {
	seconds, err := strconv.ParseFloat(string(r[0]), 64)
	return int64(math.Round(seconds * 1000)), err
}

func (r rawPoint) float() (p point, err error) {
	if p.t, err = r.time(); err != nil {
		return p, err
	}
	var text string
	if err := json.Unmarshal(r[1], &text); err != nil {
		return p, err
	}
	p.v, err = strconv.ParseFloat(text, 64)
	return p, err
}

func (r rawPoint) withHistogram() (p point, err error) {
	if p.t, err = r.time(); err != nil {
		return p, err
	}
	p.histogram = &harness.HistogramJSON{}
	return p, json.Unmarshal(r[1], p.histogram)
}
