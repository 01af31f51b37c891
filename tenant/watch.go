package tenant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pollEvery is how often the runtime file is read. A version counts once it was
// read twice in a row, so that nobody is served by the first half of a file that
// an editor is writing: two polls, well within the 5 s that are promised. The
// content is compared, not the time of the file: that works for files that are
// written in place, renamed, and behind the symbolic links of a Kubernetes
// ConfigMap, and costs a millisecond or two for each MiB.
const pollEvery = time.Second

// watch reads the runtime file again and again.
type watch struct {
	log     *slog.Logger
	metrics *fileMetrics
	read    string // hash of what was read last
	judged  string // hash of what was taken or refused last
	failure string // why it could not be read, when it could not
}

type fileMetrics struct {
	successful prometheus.Gauge
	since      prometheus.Gauge
	violations prometheus.Gauge
	tenants    prometheus.Gauge
	info       *prometheus.GaugeVec
}

func newFileMetrics(reg prometheus.Registerer) *fileMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &fileMetrics{
		successful: gauge("weir_tenants_file_last_reload_successful", "1 when the tenants file, as it is now, is in force; 0 when it could not be read or is not valid."),
		since:      gauge("weir_tenants_file_last_reload_success_timestamp_seconds", "When the version of the tenants file that is in force was taken."),
		violations: gauge("weir_tenants_file_violations", "What is wrong with the tenants file as it is now; 0 when it is in force."),
		tenants:    gauge("weir_tenants_file_tenants", "Tenants that the version in force lists."),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_tenants_file_info", Help: "The SHA-256 of the version of the tenants file that is in force.",
		}, []string{"sha256"}),
	}
	if reg != nil {
		reg.MustRegister(m.successful, m.since, m.violations, m.tenants, m.info)
	}
	return m
}

// Follow makes the directory follow the runtime file, whose present version must
// be valid. It is called at most once, before the directory is used; later
// versions are taken by Run.
func (d *Directory) Follow(cfg Config, logger *slog.Logger, reg prometheus.Registerer) error {
	d.cfg = cfg
	if cfg.File == "" {
		return nil
	}
	src, err := readFile(cfg.File)
	if err != nil {
		return err
	}
	d.watch = &watch{log: logger, metrics: newFileMetrics(reg), read: hashOfFile(src)}
	if errs := d.judge(src); len(errs) > 0 {
		return fmt.Errorf("the tenants file is not valid:\n%w", errors.Join(errs...))
	}
	return nil
}

// Run takes new versions of the runtime file until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	if d.watch == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.poll()
		}
	}
}

// poll reads the file, and judges what it has read before and not judged yet.
func (d *Directory) poll() {
	w := d.watch
	src, err := readFile(d.cfg.File)
	if err != nil {
		w.metrics.successful.Set(0)
		if w.failure != err.Error() {
			w.log.Error("tenants file not read; the version before stays in force", "err", err)
		}
		w.failure, w.judged = err.Error(), ""
		return
	}
	w.failure = ""
	hash := hashOfFile(src)
	settled := hash == w.read
	w.read = hash
	if !settled || hash == w.judged {
		return
	}
	if errs := d.judge(src); len(errs) > 0 {
		w.log.Error("tenants file refused; the version before stays in force",
			"file", d.cfg.File, "violations", len(errs), "err", errors.Join(errs...))
	}
}

// judge takes a version of the file, or returns all that is wrong with it.
func (d *Directory) judge(src []byte) []error {
	w, before := d.watch, d.current.Load()
	w.judged = hashOfFile(src)
	next, errs := parse(d.cfg, src, d.base, before)
	w.metrics.violations.Set(float64(len(errs)))
	if len(errs) > 0 {
		w.metrics.successful.Set(0)
		return errs
	}
	d.current.Store(next)
	d.record(next, before)
	w.metrics.successful.Set(1)
	w.metrics.since.SetToCurrentTime()
	w.metrics.tenants.Set(float64(len(next.tenants)))
	w.metrics.info.WithLabelValues(next.hash).Set(1)
	if before.hash != "" && before.hash != next.hash {
		w.metrics.info.DeleteLabelValues(before.hash)
	}
	w.log.Info("tenants file taken", "file", d.cfg.File, "sha256", next.hash, "plans", len(next.plans), "tenants", len(next.tenants),
		"credentials", len(next.credentials.list), "changed", next.changed(before))
	return nil
}

// changed counts the tenants of v for whom something else holds than before, or
// who are new.
func (v *version) changed(before *version) int {
	n := 0
	for id, e := range v.tenants {
		if then, listed := before.of(id); !listed || then.settings != e.settings {
			n++
		}
	}
	return n
}

// readFile returns the content of the runtime file, unless it is too long.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the tenants file: %w", err)
	}
	defer f.Close()
	var src bytes.Buffer
	if info, err := f.Stat(); err == nil {
		src.Grow(int(min(info.Size(), maxFileBytes)) + bytes.MinRead)
	}
	if _, err := src.ReadFrom(io.LimitReader(f, maxFileBytes+1)); err != nil {
		return nil, fmt.Errorf("read the tenants file: %w", err)
	}
	return src.Bytes(), nil
}
