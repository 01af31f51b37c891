package ingester

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/encoding"

	"github.com/weir-metrics/weir/cardinality"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// What a tenant uses is written into the tenant, as series that it can query and
// alert on. They are weir's and not the tenant's: they go past admission and the
// table of identities, so no limit refuses them, no rule changes them, they are
// not active series, and their samples are not among those that it has stored.
//
// They must change nothing for the tenant otherwise. So they are written only
// while somebody sends samples of now, and never ahead of the newest of those:
// or the tenant's time would go on without it, samples that it sends late would
// be too old, and its TSDB never be idle and closed. They carry the time of what was
// newest at the maintenance before: the requests of that time have been counted in full.

// usageFresh is how old a tenant's newest sample may be while its usage is written.
const usageFresh = 5 * time.Minute

const (
	usagePrefix = "weir_tenant_"
	usageJob    = "weir"
	usageLimit  = "limit" // the label that names one
	usageRatio  = usagePrefix + "limit_used_ratio"
)

// usageNames are the names of the series, of TenantUsage's numbers in order.
var usageNames = [...]string{
	usagePrefix + "received_samples_total", usagePrefix + "stored_samples_total", usagePrefix + "stored_bytes",
	usagePrefix + "active_series", usagePrefix + "queries_total", usagePrefix + "read_samples_total",
}

// TenantUsage is what a tenant uses.
type TenantUsage struct {
	tenant.Activity
	Stored uint64     `json:"stored_samples"`
	Bytes  int64      `json:"stored_bytes"` // on disk: blocks, logs and chunk files
	Active int        `json:"active_series"`
	Limits []LimitUse `json:"limits"` // those that the tenant has
}

// LimitUse is how much of a limit a tenant uses.
type LimitUse struct {
	Limit    string    `json:"limit"`
	Current  float64   `json:"current"`
	Maximum  float64   `json:"maximum"`
	Ratio    float64   `json:"ratio"`
	Forecast *Forecast `json:"forecast"` // nil: it is not known to be reached, or nobody forecasts this limit
}

// Forecast is when a limit is reached.
type Forecast struct {
	ReachedAt time.Time `json:"reached_at"`
	Seconds   int64     `json:"seconds"`  // from now
	PerHour   float64   `json:"per_hour"` // that the use grows by
}

// usageSample is a sample of one of the series.
type usageSample struct {
	name, limit string
	value       float64
}

func (s usageSample) labels() labels.Labels {
	if s.limit == "" {
		return labels.FromStrings(model.MetricNameLabel, s.name, model.JobLabel, usageJob)
	}
	return labels.FromStrings(model.MetricNameLabel, s.name, model.JobLabel, usageJob, usageLimit, s.limit)
}

// samples are what is written of u.
func (u *TenantUsage) samples() []usageSample {
	var out []usageSample
	for i, v := range []float64{
		float64(u.Received), float64(u.Stored), float64(u.Bytes), float64(u.Active), float64(u.Queries), float64(u.Read),
	} {
		out = append(out, usageSample{name: usageNames[i], value: v})
	}
	for _, l := range u.Limits {
		out = append(out, usageSample{usageRatio, l.Limit, l.Ratio})
	}
	return out
}

// isUsageSeries reports whether labels are those of a series that weir writes.
func isUsageSeries(ls labels.Labels) bool {
	name := ls.Get(model.MetricNameLabel)
	if !strings.HasPrefix(name, usagePrefix) || ls.Get(model.JobLabel) != usageJob {
		return false
	}
	if name == usageRatio {
		return ls.Len() == 3 && ls.Has(usageLimit)
	}
	return ls.Len() == 2 && slices.Contains(usageNames[:], name)
}

// isUsageRecord does so of labels as a record has them, in order. Of others it
// reads no more than the first.
func isUsageRecord(encoded []byte) bool {
	d := encoding.Decbuf{B: encoded}
	n := d.Uvarint()
	if n > 3 || string(d.UvarintBytes()) != model.MetricNameLabel {
		return false
	}
	name := d.UvarintStr()
	if !strings.HasPrefix(name, usagePrefix) {
		return false
	}
	b := labels.NewScratchBuilder(n)
	b.Add(model.MetricNameLabel, name)
	for range n - 1 {
		b.Add(d.UvarintStr(), d.UvarintStr())
	}
	return d.Err() == nil && isUsageSeries(b.Labels())
}

// usageTime is the timestamp of what is written of usage now, when newest is the
// time of the tenant's newest sample and last that of before; all ms.
func usageTime(now, newest, last int64) (at int64, ok bool) {
	at = min(now, newest)
	return at, at > last && newest >= now-usageFresh.Milliseconds()
}

// UsageOf returns what a tenant uses. It does not open the tenant.
func (i *Ingester) UsageOf(tenantID string) TenantUsage {
	s, t := i.look(tenantID)
	switch {
	case s == nil:
		return TenantUsage{Limits: i.limitUse(tenantID, nil)}
	case t == nil:
		u, err := readUsage(i.tenantDir(tenantID)) // of a closed tenant nothing is only in the log
		if err == nil {
			s.activity.learn(u.Activity)
		}
		bytes, _ := dirBytes(i.tenantDir(tenantID)) // of blocks, one of which may be going
		return TenantUsage{Activity: s.activity.total(), Stored: u.Samples, Bytes: bytes, Limits: i.limitUse(tenantID, nil)}
	}
	return i.usageOf(t)
}

func (i *Ingester) usageOf(t *tenantDB) TenantUsage {
	u := TenantUsage{Activity: t.activity.total(), Stored: t.stored.Load(), Limits: i.limitUse(t.id, t), Bytes: t.db.Head().Size()}
	t.series.count(time.Now(), func(a *cardinality.Active) { u.Active = a.Total() })
	for _, b := range t.db.Blocks() {
		u.Bytes += b.Size()
	}
	return u
}

// limitUse is how much of its limits a tenant uses, of which t is open, or nil.
func (i *Ingester) limitUse(tenantID string, t *tenantDB) []LimitUse {
	var quotas []proto.Quota
	if i.RateUse != nil {
		quotas = i.RateUse(tenantID)
	}
	rates := len(quotas)
	var next cardinality.Forecast
	active := func(a *cardinality.Active) { quotas, next = a.Use(quotas, 0), a.Forecast() }
	if t != nil {
		t.series.count(time.Now(), active)
	} else {
		active(cardinality.NewActive(activeLimits(i.Limits(tenantID)), 1))
	}
	out := []LimitUse{}
	for n, q := range quotas {
		l := LimitUse{Limit: q.Limit, Current: q.Current, Maximum: q.Maximum, Ratio: q.Ratio()}
		if n == rates && next.In > 0 { // the first of series is that of the tenant
			l.Forecast = &Forecast{time.Now().Add(next.In).UTC().Truncate(time.Second), int64(next.In.Seconds()), next.PerHour}
		}
		out = append(out, l)
	}
	return out
}

// exportUsage writes what a tenant uses into it, if it is in use and the disk has
// room. The next time makes up for one that failed. A head that was cut empty
// takes no samples of that time any more.
func (i *Ingester) exportUsage(ctx context.Context, t *tenantDB, now time.Time) {
	t.maintenance.Lock()
	defer t.maintenance.Unlock()
	head := t.db.Head()
	newest := t.newest
	t.newest = head.MaxTime()
	at, ok := usageTime(now.UnixMilli(), newest, t.exported)
	if !ok || head.NumSeries() == 0 || i.disk.level() != diskRoomy {
		return
	}
	u := i.usageOf(t)
	if err := t.writeUsageSamples(ctx, at, u.samples()); err != nil {
		i.metrics.usageFailures.Inc()
		t.log.Debug("usage is not written into the tenant", "err", err)
		return
	}
	t.exported = at
	t.unsynced.Store(true)
}

// writeUsageSamples appends samples of series of weir's own. One that is not newer
// than its series is left out: it was written before a start, or by somebody else.
// The caller holds maintenance.
func (t *tenantDB) writeUsageSamples(ctx context.Context, at int64, samples []usageSample) error {
	t.commits.RLock()
	defer t.commits.RUnlock()
	if err := t.writable(nil); err != nil {
		return err
	}
	app := t.db.AppenderV2(ctx)
	var failed error
	for _, s := range samples {
		_, err := app.Append(0, s.labels(), 0, at, s.value, nil, nil, newerOnly)
		if err != nil && !errors.Is(err, storage.ErrOutOfOrderSample) && !errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
			failed = errors.Join(failed, err)
		}
	}
	return errors.Join(failed, t.commit(ctx, app))
}
