package tenant

import "time"

// Resource is what a rate limit counts.
type Resource int

const (
	// Samples are floats and native histograms.
	Samples Resource = iota
	// Requests are those that were read and are about to be stored.
	Requests
	// Bytes are those of a request's body, decompressed.
	Bytes
	// Buckets are those of native histograms.
	Buckets
	// Exemplars are those of any series.
	Exemplars

	// Resources is the number of resources.
	Resources
)

// Cost is what a request takes of each resource.
type Cost [Resources]float64

// Rate is what comes into a bucket, and what it holds.
type Rate struct {
	PerSecond float64 // 0: no limit
	Burst     float64
}

// Rates are those of each resource.
type Rates [Resources]Rate

// burstSeconds is how much a bucket holds that has no burst of its own: what a
// sender has gathered that was cut off, or restarted, for a moment.
const burstSeconds = 10

// Rates returns the share of l's rates that one receiver grants, of 1.
func (l *Limits) Rates(share float64) Rates {
	of := func(perSecond, burst int) Rate {
		if burst == 0 {
			burst = burstSeconds * perSecond
		}
		return Rate{PerSecond: share * float64(perSecond), Burst: share * float64(burst)}
	}
	return Rates{
		Samples:   of(l.IngestionRate, l.IngestionBurstSize),
		Requests:  of(l.RequestRate, l.RequestBurstSize),
		Bytes:     of(l.IngestionBytesRate, 0),
		Buckets:   of(l.NativeHistogramBucketsRate, 0),
		Exemplars: of(l.ExemplarsRate, 0),
	}
}

// HasRates reports whether anything has a rate at all.
func (l *Limits) HasRates() bool {
	return l.IngestionRate|l.RequestRate|l.IngestionBytesRate|l.NativeHistogramBucketsRate|l.ExemplarsRate != 0
}

// rateSettings are the names of the limits, as in the configuration.
var rateSettings = [Resources]string{
	Samples: "ingestion_rate", Requests: "request_rate", Bytes: "ingestion_bytes_rate",
	Buckets: "native_histogram_buckets_rate", Exemplars: "exemplars_rate",
}

// Setting returns the name of the limit on r.
func (r Resource) Setting() string { return rateSettings[r] }

// rateIDs are those of the errors, by what was asked for too often.
var rateIDs = [Resources]string{
	Samples: "weir-ingestion-rate", Requests: "weir-request-rate", Bytes: "weir-ingestion-bytes-rate",
	Buckets: "weir-native-histogram-buckets-rate", Exemplars: "weir-exemplars-rate",
}

// ID returns the id of the error of requests beyond the limit on r.
func (r Resource) ID() string { return rateIDs[r] }

// Bucket is the token bucket of a tenant, with a level for each resource. A
// request passes when every level has what it needs; then all are charged.
//
// A request larger than the burst passes when the level is full, and leaves it
// below zero: who comes next waits until that is paid off. So no request is too
// large for ever, and the rate holds on average whatever the size of requests. The
// level is below zero as well while tokens are promised (receiver/line.go).
//
// Another rate does not fill the bucket: its level stays, within the new burst.
//
// It has no clock and no lock: the caller calls Advance before anything else.
type Bucket struct {
	at     time.Time // that the levels are of
	rates  Rates
	levels [Resources]float64
	asked  [Resources]float64 // per second, see Ask
}

// askedOver in seconds is the time over which Asked is a mean, with weights that
// decay. As long as a bucket takes to fill: whoever is refused asked for more than
// the rate, by this mean as well.
const askedOver = burstSeconds

// Set makes rates those of the bucket. What had no limit until now is full.
func (b *Bucket) Set(rates Rates) {
	for i, r := range rates {
		if b.rates[i].PerSecond == 0 {
			b.levels[i] = r.Burst
		}
		b.levels[i] = min(b.levels[i], r.Burst)
	}
	b.rates = rates
}

// Advance makes it now. Time does not go back.
func (b *Bucket) Advance(now time.Time) {
	dt := now.Sub(b.at).Seconds()
	if b.at.IsZero() {
		dt = 0
	}
	if dt < 0 {
		return
	}
	b.at = now
	decay := max(1-dt/askedOver, 0)
	for i := range b.levels {
		if r := &b.rates[i]; r.PerSecond > 0 {
			b.levels[i] = min(b.levels[i]+dt*r.PerSecond, r.Burst)
			b.asked[i] *= decay
		}
	}
}

// Wait is how long it takes until a request of this cost may pass, and which
// resource it waits for longest.
func (b *Bucket) Wait(cost *Cost) (time.Duration, Resource) {
	var longest float64
	var of Resource
	for i, c := range cost {
		r := &b.rates[i]
		if r.PerSecond == 0 || c == 0 {
			continue
		}
		if s := (min(c, r.Burst) - b.levels[i]) / r.PerSecond; s > longest {
			longest, of = s, Resource(i)
		}
	}
	const most = 1e9 // seconds, which a Duration holds
	return time.Duration(min(longest, most) * float64(time.Second)), of
}

// Take charges the bucket, whatever its levels are.
func (b *Bucket) Take(cost *Cost) {
	for i, c := range cost {
		b.levels[i] -= c
	}
}

// Return gives back what was taken for nothing.
func (b *Bucket) Return(cost *Cost) {
	for i, c := range cost {
		b.levels[i] = min(b.levels[i]+c, b.rates[i].Burst)
	}
}

// Ask counts a request for Asked, once, whether it passes or not. A cost below zero
// takes back what counts twice.
func (b *Bucket) Ask(cost *Cost) {
	for i, c := range cost {
		if b.rates[i].PerSecond > 0 {
			b.asked[i] = max(0, b.asked[i]+c/askedOver)
		}
	}
}

// Asked is what senders asked for of late, per second: more than the rate when
// they want more than they may.
func (b *Bucket) Asked(r Resource) float64 { return b.asked[r] }

// Rate returns the rate of r.
func (b *Bucket) Rate(r Resource) float64 { return b.rates[r].PerSecond }

// Full reports whether nothing is missing in any level.
func (b *Bucket) Full() bool {
	for i, r := range b.rates {
		if r.PerSecond > 0 && b.levels[i] < r.Burst {
			return false
		}
	}
	return true
}
