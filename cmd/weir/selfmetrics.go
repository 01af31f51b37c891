package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// selfMetrics writes our own metrics into a tenant, as a Prometheus that
// scrapes us and writes by remote write 2.0 would, but without the network: a
// bare start has data to look at, and every start exercises the write path.
type selfMetrics struct {
	cfg      SelfMetricsConfig
	instance string
	gatherer prometheus.Gatherer
	// write stores an uncompressed remote-write 2.0 request.
	write    func(ctx context.Context, tenant string, request []byte) error
	logger   *slog.Logger
	failures prometheus.Counter

	failing bool // what the log last said; used by the goroutine of run alone
}

func newSelfMetrics(cfg SelfMetricsConfig, instance string, reg *prometheus.Registry, logger *slog.Logger,
	write func(ctx context.Context, tenant string, request []byte) error,
) *selfMetrics {
	s := &selfMetrics{
		cfg: cfg, instance: instance, gatherer: reg, write: write, logger: logger,
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_self_metrics_failures_total",
			Help: "Rounds of our own metrics that were not stored, or not in full.",
		}),
	}
	reg.MustRegister(s.failures)
	return s
}

// run writes a round now and one at every interval until ctx ends; first is
// called after the first round, whether or not it was stored.
func (s *selfMetrics) run(ctx context.Context, first func()) error {
	s.round(ctx)
	first()
	ticker := time.NewTicker(s.cfg.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.round(ctx)
		}
	}
}

// round writes what is gathered now. Only a change between success and failure
// is logged: a full disk would repeat the same line for ever.
func (s *selfMetrics) round(ctx context.Context) {
	request, err := gatherRequest(s.gatherer, s.instance, time.Now())
	if err == nil {
		err = s.write(ctx, s.cfg.Tenant, request)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.failures.Inc()
	}
	switch failing := err != nil; {
	case failing && !s.failing:
		s.logger.Warn("own metrics are not stored", "tenant", s.cfg.Tenant, "err", err)
	case !failing && s.failing:
		s.logger.Info("own metrics are stored again", "tenant", s.cfg.Tenant)
	}
	s.failing = err != nil
}

// gatherRequest returns what g has as an uncompressed remote-write 2.0 request,
// together with the sample up = 1 that a scraper would add.
func gatherRequest(g prometheus.Gatherer, instance string, now time.Time) ([]byte, error) {
	families, err := g.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather own metrics: %w", err)
	}
	var exposition bytes.Buffer
	enc := expfmt.NewEncoder(&exposition, expfmt.NewFormat(expfmt.TypeProtoDelim))
	for _, family := range families {
		if err := enc.Encode(family); err != nil {
			return nil, fmt.Errorf("encode %s: %w", family.GetName(), err)
		}
	}
	b := requestBuilder{symbols: writev2.NewSymbolTable(), instance: instance, now: now.UnixMilli()}
	if err := b.addExposition(exposition.Bytes()); err != nil {
		return nil, fmt.Errorf("read own metrics: %w", err)
	}
	b.addSeries(labels.FromStrings(model.MetricNameLabel, "up")).Samples =
		[]writev2.Sample{{Value: 1, Timestamp: b.now}}
	request := writev2.Request{Symbols: b.symbols.Symbols(), Timeseries: b.series}
	return request.Marshal()
}

// requestBuilder turns an exposition into a request.
type requestBuilder struct {
	symbols  writev2.SymbolsTable
	instance string
	now      int64 // ms
	family   writev2.Metadata
	series   []writev2.TimeSeries
}

// addExposition adds every series of a delimited protobuf exposition: native
// histograms as such, classic ones as the series they consist of.
func (b *requestBuilder) addExposition(exposition []byte) error {
	p := textparse.NewProtobufParser(exposition, false, false, false, false, labels.NewSymbolTable())
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch entry {
		case textparse.EntryHelp:
			_, help := p.Help() // a family begins
			b.family = writev2.Metadata{HelpRef: b.symbols.Symbolize(string(help))}
		case textparse.EntryType:
			_, kind := p.Type()
			b.family.Type = writev2.FromMetadataType(kind)
		case textparse.EntryUnit:
			_, unit := p.Unit()
			b.family.UnitRef = b.symbols.Symbolize(string(unit))
		case textparse.EntrySeries, textparse.EntryHistogram:
			b.addEntry(p, entry)
		}
	}
}

// addEntry adds the series at which p stands.
func (b *requestBuilder) addEntry(p textparse.Parser, entry textparse.Entry) {
	var lset labels.Labels
	p.Labels(&lset)
	ts := b.addSeries(lset)
	ts.Metadata = b.family
	start := p.StartTimestamp()
	if entry == textparse.EntrySeries {
		_, _, value := p.Series()
		ts.Samples = []writev2.Sample{{Value: value, Timestamp: b.now, StartTimestamp: start}}
	} else if _, _, h, fh := p.Histogram(); h != nil {
		ts.Histograms = []writev2.Histogram{writev2.FromIntHistogram(start, b.now, h)}
	} else {
		ts.Histograms = []writev2.Histogram{writev2.FromFloatHistogram(start, b.now, fh)}
	}
	var ex exemplar.Exemplar
	for p.Exemplar(&ex) {
		at := b.now
		if ex.HasTs {
			at = ex.Ts
		}
		ts.Exemplars = append(ts.Exemplars, writev2.Exemplar{
			LabelsRefs: b.symbols.SymbolizeLabels(ex.Labels, nil), Value: ex.Value, Timestamp: at,
		})
		ex = exemplar.Exemplar{}
	}
}

// addSeries adds a series with the labels that a scraper would give it.
func (b *requestBuilder) addSeries(lset labels.Labels) *writev2.TimeSeries {
	lb := labels.NewBuilder(lset)
	lb.Set(model.JobLabel, "weir").Set(model.InstanceLabel, b.instance)
	b.series = append(b.series, writev2.TimeSeries{LabelsRefs: b.symbols.SymbolizeLabels(lb.Labels(), nil)})
	return &b.series[len(b.series)-1]
}
