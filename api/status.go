package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/tsdb"
	tsdbindex "github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/util/features"

	"github.com/weir-metrics/weir/tenant"
)

// statusOf makes a handler of a page about the process, which needs no tenant.
func (a *API) statusOf(need tenant.Scope, page func() any) http.HandlerFunc {
	return a.identified(need, func(w http.ResponseWriter, r *http.Request) {
		a.succeed(w, r, answer{data: object{page()}})
	})
}

func (a *API) statusConfig() any {
	return struct {
		YAML string `json:"yaml"`
	}{a.Settings.YAML}
}

func (a *API) statusFlags() any { return a.Settings.Flags }

// runtimeInfo has the fields of Prometheus' answer, CWD left empty: where we keep
// our data is nobody's business.
type runtimeInfo struct {
	StartTime           time.Time `json:"startTime"`
	CWD                 string    `json:"CWD"`
	Hostname            string    `json:"hostname"`
	ServerTime          time.Time `json:"serverTime"`
	ReloadConfigSuccess bool      `json:"reloadConfigSuccess"`
	LastConfigTime      time.Time `json:"lastConfigTime"`
	CorruptionCount     int64     `json:"corruptionCount"`
	GoroutineCount      int       `json:"goroutineCount"`
	GOMAXPROCS          int       `json:"GOMAXPROCS"`
	GOMEMLIMIT          int64     `json:"GOMEMLIMIT"`
	GOGC                string    `json:"GOGC"`
	GODEBUG             string    `json:"GODEBUG"`
	StorageRetention    string    `json:"storageRetention"`
}

func (a *API) statusRuntime() any {
	host, err := os.Hostname()
	if err != nil {
		host = "" // it is only shown
	}
	return runtimeInfo{
		StartTime:           a.started.UTC(),
		Hostname:            host,
		ServerTime:          time.Now().UTC(),
		ReloadConfigSuccess: true, // else we would not run
		LastConfigTime:      a.started.UTC(),
		GoroutineCount:      runtime.NumGoroutine(),
		GOMAXPROCS:          runtime.GOMAXPROCS(0),
		GOMEMLIMIT:          debug.SetMemoryLimit(-1),
		GOGC:                os.Getenv("GOGC"),
		GODEBUG:             os.Getenv("GODEBUG"),
		StorageRetention:    model.Duration(a.Settings.Retention).String(),
	}
}

// replayStatus is the progress at start, in tenants, where Prometheus counts
// segments of its one log.
func (a *API) replayStatus() any {
	done, of := a.Storage.Replay()
	return struct {
		Min     int `json:"min"`
		Max     int `json:"max"`
		Current int `json:"current"`
	}{0, of, done}
}

// enabledFeatures says what this server knows, in the categories of Prometheus.
func (a *API) enabledFeatures() any {
	known := features.NewRegistry()
	a.parser.RegisterFeatures(known)
	for _, name := range []string{"at_modifier", "negative_offset", "per_query_lookback_delta", "per_step_stats", "subqueries"} {
		known.Enable(features.PromQL, name)
	}
	known.Set(features.PromQL, "delayed_name_removal", a.cfg.enables(delayedNameRemoval))
	known.Set(features.PromQL, "type_and_unit_labels", a.cfg.enables(typeAndUnitLabels))
	for _, name := range []string{
		"exclude_alerts", "label_values_match", "query_stats", "query_warnings", "remote_write_receiver", "time_range_labels", "time_range_series",
	} {
		known.Enable(features.API, name)
	}
	known.Set(features.API, "admin", false)
	known.Set(features.API, "lifecycle", false)
	for _, name := range []string{"exemplar_storage", "native_histograms"} {
		known.Enable(features.TSDB, name)
	}
	return known.Get()
}

const (
	// defaultRanks and maxRanks are how many entries a ranking of status/tsdb has.
	defaultRanks = 10
	maxRanks     = 10_000
)

// rank is one entry of a ranking.
type rank struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

type headStats struct {
	NumSeries     uint64 `json:"numSeries"`
	NumLabelPairs int    `json:"numLabelPairs"`
	ChunkCount    int64  `json:"chunkCount"`
	MinTime       int64  `json:"minTime"`
	MaxTime       int64  `json:"maxTime"`
}

type tsdbStatus struct {
	HeadStats                   headStats `json:"headStats"`
	SeriesCountByMetricName     []rank    `json:"seriesCountByMetricName"`
	LabelValueCountByLabelName  []rank    `json:"labelValueCountByLabelName"`
	MemoryInBytesByLabelName    []rank    `json:"memoryInBytesByLabelName"`
	SeriesCountByLabelValuePair []rank    `json:"seriesCountByLabelValuePair"`
}

// statusTSDB counts the tenant's series in memory.
func (a *API) statusTSDB(_ context.Context, r *request) (answer, error) {
	limit, err := strconv.Atoi(cmp.Or(r.FormValue("limit"), strconv.Itoa(defaultRanks)))
	switch {
	case err != nil || limit < 1:
		return answer{}, badData(errors.New("limit must be a positive number"))
	case limit > maxRanks:
		return answer{}, badData(fmt.Errorf("limit must not exceed %d", maxRanks))
	}
	stats, chunks, err := a.Storage.HeadStats(r.who.Tenant, limit)
	if err != nil {
		return answer{}, err
	}
	postings := stats.IndexPostingStats
	return answer{data: object{tsdbStatus{
		HeadStats: headStats{
			NumSeries:     stats.NumSeries,
			NumLabelPairs: postings.NumLabelPairs,
			ChunkCount:    chunks,
			MinTime:       stats.MinTime,
			MaxTime:       stats.MaxTime,
		},
		SeriesCountByMetricName:     ranking(postings.CardinalityMetricsStats),
		LabelValueCountByLabelName:  ranking(postings.CardinalityLabelStats),
		MemoryInBytesByLabelName:    ranking(postings.LabelValueStats),
		SeriesCountByLabelValuePair: ranking(postings.LabelValuePairsStats),
	}}}, nil
}

func ranking(stats []tsdbindex.Stat) []rank {
	ranks := make([]rank, 0, len(stats))
	for _, s := range stats {
		ranks = append(ranks, rank{s.Name, s.Count})
	}
	return ranks
}

// statusBlocks lists the tenant's blocks on disk.
func (a *API) statusBlocks(_ context.Context, r *request) (answer, error) {
	blocks, err := a.Storage.Blocks(r.who.Tenant)
	if err != nil {
		return answer{}, err
	}
	if blocks == nil {
		blocks = []tsdb.BlockMeta{}
	}
	return answer{data: object{struct {
		Blocks []tsdb.BlockMeta `json:"blocks"`
	}{blocks}}}, nil
}

// statusRelabel says what rules did. Who may not read every series sees no
// examples, which may be of any.
func (a *API) statusRelabel(_ context.Context, r *request) (answer, error) {
	return answer{data: object{struct {
		Relabel any `json:"relabel"`
	}{a.RelabelReport(r.who.Tenant, r.who.Readable == nil)}}}, nil
}
