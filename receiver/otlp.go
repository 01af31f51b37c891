package receiver

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// OTLPConfig says how OTLP metrics become series. The settings but the last two
// are Prometheus' own, by the same names.
type OTLPConfig struct {
	TranslationStrategy     string        `yaml:"translation_strategy"`
	PromoteAttributes       []string      `yaml:"promote_resource_attributes"`
	PromoteAllAttributes    bool          `yaml:"promote_all_resource_attributes"`
	IgnoreAttributes        []string      `yaml:"ignore_resource_attributes"`
	PromoteScope            bool          `yaml:"promote_scope_metadata"`
	KeepIdentifying         bool          `yaml:"keep_identifying_resource_attributes"`
	ConvertHistogramsToNHCB bool          `yaml:"convert_histograms_to_nhcb"`
	DeltaMaxSeries          int           `yaml:"delta_max_series_per_tenant"`
	DeltaMaxStale           time.Duration `yaml:"delta_max_stale"`
}

func defaultOTLPConfig() OTLPConfig {
	return OTLPConfig{
		TranslationStrategy:     string(otlptranslator.UnderscoreEscapingWithSuffixes),
		PromoteAttributes:       []string{}, // resource attributes that become labels of every series
		PromoteAllAttributes:    false,      // all of them, but those below
		IgnoreAttributes:        []string{},
		PromoteScope:            false,     // name, version, schema URL and attributes of the scope as labels otel_scope_…
		KeepIdentifying:         false,     // service.name, service.namespace, service.instance.id in target_info, beside job and instance
		ConvertHistogramsToNHCB: false,     // true: one native histogram with custom buckets for one with explicit bounds
		DeltaMaxSeries:          100_000,   // whose deltas are added up, in memory; 0: deltas are refused
		DeltaMaxStale:           time.Hour, // after which the sum of a series that got no delta begins anew
	}
}

var translationStrategies = []string{
	string(otlptranslator.UnderscoreEscapingWithSuffixes), string(otlptranslator.UnderscoreEscapingWithoutSuffixes),
	string(otlptranslator.NoUTF8EscapingWithSuffixes), string(otlptranslator.NoTranslation),
}

// Validate reports every violation, each with its path below prefix, the value
// and the rule.
func (c *OTLPConfig) Validate(prefix string) []error {
	var errs []error
	if !slices.Contains(translationStrategies, c.TranslationStrategy) {
		errs = append(errs, fmt.Errorf("%s.translation_strategy: %q: must be one of %q", prefix, c.TranslationStrategy, translationStrategies))
	}
	if c.PromoteAllAttributes && len(c.PromoteAttributes) > 0 {
		errs = append(errs, fmt.Errorf("%s.promote_resource_attributes: %q: must be empty while promote_all_resource_attributes is true", prefix, c.PromoteAttributes))
	}
	if !c.PromoteAllAttributes && len(c.IgnoreAttributes) > 0 {
		errs = append(errs, fmt.Errorf("%s.ignore_resource_attributes: %q: must be empty while promote_all_resource_attributes is false", prefix, c.IgnoreAttributes))
	}
	if c.DeltaMaxSeries < 0 {
		errs = append(errs, fmt.Errorf("%s.delta_max_series_per_tenant: %d: must not be negative", prefix, c.DeltaMaxSeries))
	}
	if c.DeltaMaxStale <= 0 {
		errs = append(errs, fmt.Errorf("%s.delta_max_stale: %s: must be longer than 0s", prefix, c.DeltaMaxStale))
	}
	return errs
}

// settings are those of the translator.
func (c *OTLPConfig) settings() prometheusremotewrite.Settings {
	strategy := otlptranslator.TranslationStrategyOption(c.TranslationStrategy)
	return prometheusremotewrite.Settings{
		AddMetricSuffixes: strategy.ShouldAddSuffixes(),
		AllowUTF8:         !strategy.ShouldEscape(),
		PromoteResourceAttributes: prometheusremotewrite.NewPromoteResourceAttributes(config.OTLPConfig{
			PromoteAllResourceAttributes: c.PromoteAllAttributes,
			PromoteResourceAttributes:    c.PromoteAttributes,
			IgnoreResourceAttributes:     c.IgnoreAttributes,
		}),
		KeepIdentifyingResourceAttributes: c.KeepIdentifying,
		ConvertHistogramsToNHCB:           c.ConvertHistogramsToNHCB,
		PromoteScopeMetadata:              c.PromoteScope,
		// As Prometheus has them by default.
		LabelNameUnderscoreSanitization:      true,
		LabelNamePreserveMultipleUnderscores: true,
	}
}

// OTLP serves OTLP metrics over HTTP. A request is decoded and translated by the
// libraries of OpenTelemetry and Prometheus into one remote-write 2.0 message,
// and goes on as that: every limit, verdict and count is shared.
//
//	serveOTLP ── read
//	          └─ writeOTLP ── decodeOTLP: bytes, measured, to objects (otlp_limits.go)
//	                       ├─ translate: objects to series (otlp_translate.go, otlp_points.go)
//	                       │    └─ sums.add: deltas to sums (otlp_delta.go)
//	                       └─ write: as any other request
//
// Specification: OTLP 1.10.
func (r *Receiver) OTLP() http.Handler { return http.HandlerFunc(r.serveOTLP) }

const (
	typeProtobuf = "application/x-protobuf"
	typeJSON     = "application/json"
)

var otlp = endpoint{
	name: "OTLP", accept: typeProtobuf + ", " + typeJSON, encodings: []encoding{identity, gzipped, zstandard},
}

func (r *Receiver) serveOTLP(w http.ResponseWriter, hr *http.Request) {
	a := otlpAnswer{ct: typeJSON}
	who, err := r.Tenants.Authenticate(hr, tenant.ScopeWrite)
	a.tenantID = who.Tenant
	ct, enc, unspoken := negotiateOTLP(hr.Header)
	if unspoken == nil {
		a.ct = ct
	}
	if err != nil && who.Tenant == "" {
		r.answerOTLP(w, hr, &a, err)
		return
	}
	ctx, cancel := context.WithTimeout(hr.Context(), r.cfg.Timeout)
	defer cancel()
	a.req = newRequest()
	defer a.req.release()
	r.begin(a.req, hr, who)
	a.req.otlp = true
	a.req.trace(hr.Header)
	a.req.frame.Sender = senderOf(&who, hr)
	if err == nil {
		err = unspoken
	}
	if err == nil {
		err = r.read(w, hr, enc, a.req)
	}
	if err == nil {
		if a.refused, err = r.writeOTLP(ctx, ct, a.req); err != nil {
			r.giveBack(a.req)
		}
	}
	r.answerOTLP(w, hr, &a, err)
}

// negotiateOTLP tells the media type and the encoding from the headers.
func negotiateOTLP(h http.Header) (ct string, enc encoding, err error) {
	named, err := only(h, "Content-Type")
	if err != nil {
		return "", "", err
	}
	ct, params, err := mime.ParseMediaType(named)
	if err != nil || ct != typeProtobuf && ct != typeJSON || params["proto"] != "" {
		return "", "", otlp.unsupported("Content-Type", named)
	}
	enc, err = otlp.encoding(h)
	return ct, enc, err
}

// decodeOTLP decodes a body whose objects fit into memory.
func (r *Receiver) decodeOTLP(ct string, req *request) (pmetric.Metrics, error) {
	me, body := measure{limit: r.cfg.maxObjects()}, req.decoded
	er := pmetricotlp.NewExportRequest()
	if ct == typeJSON {
		if err := me.json(body); err != nil {
			return pmetric.Metrics{}, err
		}
		if err := req.hold.Take(int64(me.bytes)); err != nil {
			return pmetric.Metrics{}, err
		}
		if err := er.UnmarshalJSON(body); err != nil {
			return pmetric.Metrics{}, notJSON(req.quoting(err))
		}
		return er.Metrics(), nil
	}
	if err := me.protobuf(exportRequest, body, 0); err != nil {
		return pmetric.Metrics{}, err
	}
	if err := req.hold.Take(int64(me.bytes)); err != nil {
		return pmetric.Metrics{}, err
	}
	if err := er.UnmarshalProto(body); err != nil {
		return pmetric.Metrics{}, proto.Errorf(proto.KindBadData, "weir-otlp-malformed",
			"the body is not an ExportMetricsServiceRequest: %s", req.quoting(err))
	}
	return er.Metrics(), nil
}

// writeOTLP stores the request and returns how many of its data points were
// refused.
func (r *Receiver) writeOTLP(ctx context.Context, ct string, req *request) (refused int, err error) {
	md, err := r.decodeOTLP(ct, req)
	if err != nil {
		return 0, err
	}
	if md.DataPointCount() > r.cfg.MaxSamples {
		return 0, tooManySamples(r.cfg.MaxSamples)
	}
	// Before anything is translated, and before the turn of the tenant's deltas.
	sent, buckets := otlpCounts(md, &r.cfg.OTLP)
	if err := r.pace(ctx, req, costOf(sent, buckets, len(req.decoded))); err != nil {
		req.sent, req.scanned = sent, true // it counts as any that is refused for a rate
		return 0, err
	}
	dropValueless(md, req)
	toSum := pmetric.NewMetrics()
	if r.cfg.OTLP.DeltaMaxSeries > 0 {
		toSum = takeDeltas(md)
	}
	req.rejected.Track = true
	t := newTranslation(&r.cfg, r.metrics.warnings, req)
	if err := t.translate(ctx, md, nil); err != nil {
		return 0, err
	}
	if toSum.MetricCount() > 0 {
		held, err := r.deltas.take(ctx, &req.who)
		if err != nil {
			return 0, err
		}
		defer r.deltas.giveBack(req.who.Tenant, held)
		if err := t.translate(ctx, toSum, held); err != nil {
			return 0, err
		}
	}
	// What was compressed is read; its buffer holds the message now.
	req.body, req.decoded = req.decoded, t.out.Message()
	if err := r.write(ctx, proto.V2, req, r.cfg.MaxSamples); err != nil {
		return 0, err
	}
	return t.settle(), nil
}
