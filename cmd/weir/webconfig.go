package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"

	"github.com/weir-metrics/weir/proto"
)

// webConfig is a web config file, as the programs around Prometheus take it for
// TLS, with the files that it names. They are read again while weir runs:
//
//	files ── readWebConfig ──> web.Config ── compileWebConfig ──> *webVersion, in force for connections from now on
//
// A version that is not valid, such as half of a pair of certificate and key,
// changes nothing. The toolkit's own server reads the files again in each
// handshake instead, which fails while they are being replaced, and its basic
// auth and rate limit know no tenants; of it we use the format.
//
// A nil *webConfig is of a listener without TLS.
type webConfig struct {
	file    string
	logger  *slog.Logger
	metrics webMetrics
	inForce atomic.Pointer[webVersion]

	// Of Run alone: what was read last, and taken or refused last.
	read, judged [sha256.Size]byte
	failure      string // why the files could not be read, when they could not
}

// webVersion is one version of what a web config file says. It is immutable.
//
// Each has a tls.Config of its own, and with that its own session tickets: a
// client that resumes a session under a later version has to show its
// certificate again.
type webVersion struct {
	tls     *tls.Config
	clients [sha256.Size]byte    // of what is asked of client certificates
	expires map[string]time.Time // when the first of our certificates does, and of the CAs of clients
}

// maxWebFileBytes bounds each of the files.
const maxWebFileBytes = 1 << 20

// webPollEvery is how often the files are read. As with the tenants file, a
// version counts once it was read twice in a row.
const webPollEvery = time.Second

// openWebConfig reads a web config file, which must be valid; setting is what
// names it. Without a file the answer is nil.
func openWebConfig(setting, file string, logger *slog.Logger, m webMetrics) (*webConfig, error) {
	if file == "" {
		return nil, nil
	}
	w := &webConfig{file: file, logger: logger, metrics: m}
	cfg, hash, err := readWebConfig(file)
	if err == nil {
		err = w.judge(cfg, hash)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", setting, file, err)
	}
	w.read = hash
	m.register(w)
	return w, nil
}

// run takes new versions until ctx ends.
func (w *webConfig) run(ctx context.Context) error {
	tick := time.NewTicker(webPollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			w.poll()
		}
	}
}

// poll reads the files, and judges what it has read before and not judged yet.
func (w *webConfig) poll() {
	cfg, hash, err := readWebConfig(w.file)
	if err != nil {
		w.metrics.successful.Set(0)
		if w.failure != err.Error() {
			w.logger.Error("web config not read; the version before stays in force", "file", w.file, "err", err)
		}
		w.failure, w.judged = err.Error(), [sha256.Size]byte{}
		return
	}
	w.failure = ""
	settled := hash == w.read
	w.read = hash
	if !settled || hash == w.judged {
		return
	}
	if err := w.judge(cfg, hash); err != nil {
		w.logger.Error("web config refused; the version before stays in force", "file", w.file, "err", err)
	}
}

// judge takes a version, or says why it does not.
func (w *webConfig) judge(cfg *web.Config, hash [sha256.Size]byte) error {
	w.judged = hash
	v, err := compileWebConfig(cfg)
	if err != nil {
		w.metrics.successful.Set(0)
		return err
	}
	w.inForce.Store(v)
	w.metrics.successful.Set(1)
	w.logger.Info("web config taken", "file", w.file, "http2", cfg.HTTPConfig.HTTP2, "client_auth", cfg.TLSConfig.ClientAuth,
		"certificate_expires", v.expires["server"])
	return nil
}

// wrap returns the connection as its server is to see it.
func (w *webConfig) wrap(c *connection) net.Conn {
	if w == nil {
		return c
	}
	v := w.inForce.Load()
	c.vouched.Store(v)
	return tls.Server(c, v.tls)
}

// renewBefore is how long before its client's certificate expires a connection is
// ended, after an answer, so that the client shows the successor in time.
const renewBefore = time.Minute

// errStale is for a client whose certificate expired, or lost its CA, since it
// connected. It is told to come back: if it has the successor, nothing is lost,
// and if not, the handshake fails.
var errStale = proto.Errorf(proto.KindUnavailable, "weir-certificate-stale",
	"the certificate that you showed when you connected expired, or is not trusted any more; connect again, with its successor")

// check looks at a client's certificate again, which was good when it connected:
// connections may last for weeks. ending reports whether the connection is to end
// after this request.
func (w *webConfig) check(c *connection, state *tls.ConnectionState, now time.Time) (ending bool, err *proto.Error) {
	if w == nil || state == nil {
		return false, nil
	}
	v := w.inForce.Load()
	if then := c.vouched.Load(); then != v {
		if then.clients != v.clients && !v.vouchesFor(state, now) {
			return true, errStale
		}
		c.vouched.Store(v)
	}
	if len(state.VerifiedChains) == 0 {
		return false, nil
	}
	left := goodUntil(state.VerifiedChains).Sub(now)
	if left < 0 {
		return true, errStale
	}
	return left < renewBefore, nil
}

// vouchesFor reports whether a client that connected under another version would
// be let in under this one.
func (v *webVersion) vouchesFor(state *tls.ConnectionState, now time.Time) bool {
	certs := state.PeerCertificates
	switch {
	case len(certs) == 0:
		return v.tls.ClientAuth != tls.RequireAnyClientCert && v.tls.ClientAuth != tls.RequireAndVerifyClientCert
	case v.tls.ClientAuth < tls.VerifyClientCertIfGiven:
		return len(state.VerifiedChains) == 0 // or it would pass for verified still
	}
	opts := x509.VerifyOptions{
		Roots: v.tls.ClientCAs, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	raw := make([][]byte, len(certs))
	for i, cert := range certs {
		raw[i] = cert.Raw
		if i > 0 {
			opts.Intermediates.AddCert(cert)
		}
	}
	chains, err := certs[0].Verify(opts)
	if err == nil && v.tls.VerifyPeerCertificate != nil {
		err = v.tls.VerifyPeerCertificate(raw, chains)
	}
	return err == nil && len(state.VerifiedChains) > 0
}

// goodUntil is when the last of the chains expires, each with the first of its
// certificates.
func goodUntil(chains [][]*x509.Certificate) time.Time {
	var last time.Time
	for _, chain := range chains {
		if first := firstToExpire(chain); first.After(last) {
			last = first
		}
	}
	return last
}

func firstToExpire(certs []*x509.Certificate) time.Time {
	return slices.MinFunc(certs, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
}

// readWebConfig returns what a web config file says with the content of the files
// that it names in place of their names, and the hash of all.
func readWebConfig(file string) (*web.Config, [sha256.Size]byte, error) {
	hash := sha256.New()
	src, err := readBounded(file)
	if err != nil {
		return nil, [sha256.Size]byte{}, err
	}
	cfg := &web.Config{ // the defaults of the toolkit
		TLSConfig:  web.TLSConfig{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13},
		HTTPConfig: web.HTTPConfig{HTTP2: true},
	}
	dec := yaml.NewDecoder(bytes.NewReader(src))
	dec.KnownFields(true)
	if err := dec.Decode(cfg); err != nil && !errors.Is(err, io.EOF) {
		return nil, [sha256.Size]byte{}, err
	}
	fmt.Fprintf(hash, "%d %s", len(src), src)
	t := &cfg.TLSConfig
	t.SetDirectory(filepath.Dir(file))
	for _, named := range []struct {
		setting string
		path    *string
		text    *string
	}{
		{"cert_file", &t.TLSCertPath, &t.TLSCert},
		{"key_file", &t.TLSKeyPath, (*string)(&t.TLSKey)},
		{"client_ca_file", &t.ClientCAs, &t.ClientCAsText},
	} {
		if *named.path == "" {
			continue
		}
		src, err := readBounded(*named.path)
		if err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("tls_server_config.%s: %w", named.setting, err)
		}
		fmt.Fprintf(hash, "%d %s", len(src), src)
		*named.path, *named.text = "", string(src)
	}
	return cfg, [sha256.Size]byte(hash.Sum(nil)), nil
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxWebFileBytes+1))
	if err == nil && len(src) > maxWebFileBytes {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxWebFileBytes)
	}
	return src, err
}

// compileWebConfig returns the version that cfg describes, or all that is wrong
// with it.
func compileWebConfig(cfg *web.Config) (*webVersion, error) {
	t := &cfg.TLSConfig
	errs := refusals(cfg)
	v := &webVersion{expires: make(map[string]time.Time)}
	var err error
	if v.tls, err = web.ConfigToTLSConfig(t); err != nil {
		return nil, errors.Join(append(errs, fmt.Errorf("tls_server_config: %w", err))...)
	}
	own, err := tls.X509KeyPair([]byte(t.TLSCert), []byte(t.TLSKey))
	errs = append(errs, err)
	v.tls.GetCertificate, v.tls.Certificates = nil, []tls.Certificate{own}
	v.tls.NextProtos = []string{"http/1.1"}
	if cfg.HTTPConfig.HTTP2 {
		v.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	chain, err := certificatesIn([]byte(t.TLSCert))
	if err != nil {
		errs = append(errs, fmt.Errorf("tls_server_config.cert_file: %w", err))
	} else {
		v.expires["server"] = firstToExpire(chain)
	}
	if t.ClientCAsText != "" {
		if cas, err := certificatesIn([]byte(t.ClientCAsText)); err != nil {
			errs = append(errs, fmt.Errorf("tls_server_config.client_ca_file: %w", err))
		} else {
			v.expires["client_ca"] = firstToExpire(cas)
		}
	}
	v.clients = sha256.Sum256(fmt.Appendf(nil, "%d %q %q", v.tls.ClientAuth, t.ClientAllowedSans, t.ClientCAsText))
	return v, errors.Join(errs...)
}

// refusals are for what the format has and a listener of weir has not, and for
// what is a trap in it.
func refusals(cfg *web.Config) []error {
	var errs []error
	refuse := func(is bool, why string) {
		if is {
			errs = append(errs, errors.New(why))
		}
	}
	t := &cfg.TLSConfig
	verifies := t.ClientAuth == "VerifyClientCertIfGiven" || t.ClientAuth == "RequireAndVerifyClientCert"
	refuse(len(cfg.Users) > 0, "basic_auth_users: is not for weir: with auth.mode: required senders show tokens, also by basic auth")
	refuse(cfg.RateLimiterConfig != web.RateLimiterConfig{}, "rate_limit: is not for weir: limits are by tenant")
	refuse(len(cfg.HTTPConfig.Header) > 0, "http_server_config.headers: is not for weir: let a proxy add them")
	// Without CAs of its own, crypto/tls trusts every CA of the operating system
	// to say who a client is.
	refuse(verifies && t.ClientCAsText == "", "tls_server_config.client_ca_file: must be set where certificates of clients are verified")
	refuse(len(t.ClientAllowedSans) > 0 && t.ClientAuth != "RequireAndVerifyClientCert",
		"tls_server_config.client_allowed_sans: needs client_auth_type: RequireAndVerifyClientCert")
	refuse(t.MinVersion > t.MaxVersion, "tls_server_config.min_version: must not be above max_version: nobody could connect")
	return errs
}

func certificatesIn(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("has no certificate in PEM")
	}
	return certs, nil
}

// webMetrics are those of TLS on one listener.
type webMetrics struct {
	reg        prometheus.Registerer
	successful prometheus.Gauge
	failures   prometheus.Counter
	expires    *prometheus.Desc
}

// newWebMetrics returns metrics that are there once a web config is opened with
// them.
func newWebMetrics(listener string, reg prometheus.Registerer) webMetrics {
	labels := prometheus.Labels{"listener": listener}
	return webMetrics{
		reg: reg,
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "weir_tls_last_reload_successful", ConstLabels: labels,
			Help: "1 when the web config file and the files that it names, as they are now, are in force; 0 when they could not be read or are not valid.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_tls_handshake_failures_total", ConstLabels: labels,
			Help: "Connections that ended before their TLS handshake was complete, such as those of clients without a valid certificate.",
		}),
		expires: prometheus.NewDesc("weir_tls_certificate_expires_seconds",
			"Seconds until the first certificate of a file expires, negative once it has: of our own (server), and of the CAs that vouch for clients (client_ca).",
			[]string{"certificate"}, labels),
	}
}

func (m webMetrics) register(w *webConfig) {
	if m.reg != nil {
		m.reg.MustRegister(m.successful, m.failures, w)
	}
}

// Describe implements prometheus.Collector.
func (w *webConfig) Describe(ch chan<- *prometheus.Desc) { ch <- w.metrics.expires }

// Collect implements prometheus.Collector.
func (w *webConfig) Collect(ch chan<- prometheus.Metric) {
	for name, at := range w.inForce.Load().expires {
		ch <- prometheus.MustNewConstMetric(w.metrics.expires, prometheus.GaugeValue, time.Until(at).Seconds(), name)
	}
}
