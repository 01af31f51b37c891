package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-metrics/weir/proto"
)

const (
	// refreshEvery is how often keys are fetched when nothing calls for it: a key
	// that its issuer takes out is refused after that. Files are read more often.
	refreshEvery     = 5 * time.Minute
	refreshFileEvery = 5 * time.Second

	// pause is between two fetches whatever calls for one, so that tokens with
	// made-up key ids cost an issuer 12 requests a minute.
	pause = 5 * time.Second

	// fetchTimeout bounds a fetch, and patience how long a request waits for it.
	fetchTimeout = 5 * time.Second
	patience     = 2 * time.Second

	// maxAnswerBytes bounds what an issuer may send.
	maxAnswerBytes = 1 << 20

	discoveryPath = "/.well-known/openid-configuration"
)

// issuer has the keys of an Issuer.
type issuer struct {
	cfg     Issuer
	algs    []jose.SignatureAlgorithm
	client  *http.Client
	logger  *slog.Logger
	metrics metrics

	keys    atomic.Pointer[keySet] // nil: never had any
	fetched atomic.Int64           // when the fetch began that brought them or found them as they were, Unix ns

	wake    chan struct{} // asks run for a fetch
	mu      sync.Mutex
	began   time.Time     // when the last fetch did; guarded by mu
	running bool          // whether it is not over; guarded by mu
	over    chan struct{} // closed when the fetch that runs is, or the next one; guarded by mu
}

type metrics struct {
	fetches *prometheus.CounterVec
	fetched *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	return metrics{
		fetches: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "weir_oidc_key_fetches_total", Help: "Fetches of the keys of an issuer of JSON web tokens, by result (ok, failed).",
		}, []string{"issuer", "result"}),
		fetched: promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_oidc_keys_timestamp_seconds", Help: "When the keys of an issuer were fetched last, with success.",
		}, []string{"issuer"}),
	}
}

func newIssuer(cfg Issuer, logger *slog.Logger, m metrics) *issuer {
	i := &issuer{cfg: cfg, logger: logger, metrics: m, wake: make(chan struct{}, 1), over: make(chan struct{}), client: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: fetchTimeout, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= 3 || !mayFetch(r.URL.String()) {
				return errors.New("it redirects too often, or away from https")
			}
			return nil
		},
	}}
	algs := cfg.Algorithms
	if len(algs) == 0 {
		algs = DefaultAlgorithms
	}
	for _, alg := range algs {
		i.algs = append(i.algs, jose.SignatureAlgorithm(alg))
	}
	for _, result := range []string{"ok", "failed"} {
		m.fetches.WithLabelValues(cfg.URL, result)
	}
	return i
}

// verify returns the keys by one of which a token is signed. What it claims is not
// verified before that.
func (i *issuer) verify(ctx context.Context, signed *jose.JSONWebSignature, c claims, now time.Time) (*keySet, *proto.Error) {
	header := signed.Signatures[0].Header
	if !slices.Contains(i.algs, jose.SignatureAlgorithm(header.Algorithm)) {
		return nil, invalid("is signed by an algorithm that its issuer does not use")
	}
	keys := i.keys.Load()
	found := keys.candidates(header)
	if len(found) == 0 {
		i.await(ctx)
		keys = i.keys.Load()
		found = keys.candidates(header)
	}
	if len(found) == 0 {
		return nil, i.unknownKey(c.issued, now)
	}
	for _, k := range found {
		if _, err := signed.Verify(k); err == nil {
			return keys, nil
		}
	}
	return nil, invalid("is not signed by its issuer")
}

// unknownKey is the answer to a token with a key that we do not have. If we looked
// after the token came, or long enough after it was issued, there is no such key.
// If not, as while the issuer cannot be reached, the key may be a new one.
func (i *issuer) unknownKey(issued, arrived time.Time) *proto.Error {
	fetched := time.Unix(0, i.fetched.Load())
	if i.keys.Load() != nil && (!fetched.Before(arrived) || !issued.IsZero() && issued.Add(clockSkew).Before(fetched)) {
		return invalid("is signed with a key that its issuer does not have, or not any more")
	}
	e := proto.Errorf(proto.KindUnavailable, "weir-issuer-unavailable",
		"the key that the token is signed with is not known here yet, and its issuer cannot be asked just now; repeat the request")
	e.RetryAfter = pause
	return e
}

// await asks run for a fetch, if one may begin or runs already, and waits until it
// is over, with patience.
func (i *issuer) await(ctx context.Context) {
	i.mu.Lock()
	over, may := i.over, i.running || time.Since(i.began) >= pause
	i.mu.Unlock()
	if !may {
		return
	}
	select {
	case i.wake <- struct{}{}:
	default:
	}
	select {
	case <-over:
	case <-ctx.Done():
	case <-time.After(patience):
	}
}

// run keeps the keys up to date until ctx ends.
func (i *issuer) run(ctx context.Context) {
	defer i.client.CloseIdleConnections()
	for {
		next := time.After(i.refresh(ctx))
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-next:
				waiting = false
			case <-i.wake:
				i.mu.Lock()
				waiting = time.Since(i.began) < pause // it asked for the fetch that is over
				i.mu.Unlock()
			}
		}
	}
}

// refresh fetches the keys, lets go who waits for that, and returns when to do it
// again.
func (i *issuer) refresh(ctx context.Context) (again time.Duration) {
	i.mu.Lock()
	i.began, i.running = time.Now(), true
	i.mu.Unlock()
	err := i.fetch(ctx)
	i.mu.Lock()
	i.running = false
	close(i.over)
	i.over = make(chan struct{})
	i.mu.Unlock()
	switch {
	case err != nil:
		return pause
	case i.cfg.KeysFile != "":
		return refreshFileEvery
	}
	return refreshEvery
}

// fetch takes the keys as they are now. When it fails, those that are there stay.
func (i *issuer) fetch(ctx context.Context) error {
	began := time.Now()
	src, err := i.read(ctx)
	var next *keySet
	if err == nil {
		next, err = parseKeys(src)
	}
	if err != nil {
		i.metrics.fetches.WithLabelValues(i.cfg.URL, "failed").Inc()
		i.logger.Warn("keys of an issuer of tokens not fetched; those that are known stay in force", "issuer", i.cfg.URL, "err", err)
		return err
	}
	i.metrics.fetches.WithLabelValues(i.cfg.URL, "ok").Inc()
	i.metrics.fetched.WithLabelValues(i.cfg.URL).Set(float64(began.Unix()))
	if now := i.keys.Load(); now == nil || now.hash != next.hash {
		i.keys.Store(next)
		i.logger.Info("keys of an issuer of tokens taken", "issuer", i.cfg.URL, "keys", len(next.keys))
	}
	i.fetched.Store(began.UnixNano())
	return nil
}

// read returns the JWKS.
func (i *issuer) read(ctx context.Context) ([]byte, error) {
	if i.cfg.KeysFile != "" {
		f, err := os.Open(i.cfg.KeysFile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return readAll(f)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	keysURL := i.cfg.KeysURL
	if keysURL == "" {
		var err error
		if keysURL, err = i.discover(ctx); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
	}
	return i.get(ctx, keysURL)
}

// discover asks the issuer where its keys are (OpenID Connect Discovery 1.0).
func (i *issuer) discover(ctx context.Context) (keysURL string, err error) {
	src, err := i.get(ctx, strings.TrimSuffix(i.cfg.URL, "/")+discoveryPath)
	if err != nil {
		return "", err
	}
	var about struct {
		Issuer  string `json:"issuer"`
		KeysURL string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(src, &about); err != nil {
		return "", errors.New("what it says is not JSON")
	}
	if about.Issuer != i.cfg.URL {
		return "", fmt.Errorf("it says to be the issuer %.200q", about.Issuer)
	}
	if !mayFetch(about.KeysURL) {
		return "", fmt.Errorf("its jwks_uri is %.200q, not an https URL", about.KeysURL)
	}
	return about.KeysURL, nil
}

func (i *issuer) get(ctx context.Context, from string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", from, resp.Status)
	}
	return readAll(resp.Body)
}

func readAll(r io.Reader) ([]byte, error) {
	src, err := io.ReadAll(io.LimitReader(r, maxAnswerBytes+1))
	if err == nil && len(src) > maxAnswerBytes {
		err = fmt.Errorf("it is longer than %d bytes", maxAnswerBytes)
	}
	return src, err
}
