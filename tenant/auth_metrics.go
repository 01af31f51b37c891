package tenant

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type authMetrics struct {
	requests *prometheus.CounterVec
	ok       prometheus.Counter // of requests
}

func newAuthMetrics(reg prometheus.Registerer) *authMetrics {
	requests := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "weir_auth_requests_total",
		Help: "Requests that were asked who sends them, by result: weir-ok, or the id of the error.",
	}, []string{"result"})
	return &authMetrics{requests: requests, ok: requests.WithLabelValues("weir-ok")}
}

// shownSecrets bounds the secrets that our metrics tell apart: those that expire
// first. The endpoint lists all.
const shownSecrets = 500

var (
	expiresDesc = prometheus.NewDesc("weir_credential_expires_seconds",
		"Seconds until a secret of a credential expires, negative once it has; of those that expire first. secret is the first 8 digits of its hash.",
		[]string{"credential", "secret"}, nil)
	lastUsedDesc = prometheus.NewDesc("weir_credential_last_used_timestamp_seconds",
		"When a secret of a credential was used last, since the process started; of those that expire first.",
		[]string{"credential", "secret"}, nil)
)

// credentialMetrics shows the credentials of a directory as they are when it is
// asked.
type credentialMetrics struct{ *Directory }

// Describe implements prometheus.Collector.
func (credentialMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- expiresDesc
	ch <- lastUsedDesc
}

// Collect implements prometheus.Collector.
func (m credentialMetrics) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	for _, s := range m.Credentials().firstToExpire(shownSecrets) {
		id := s.of.who.Credential
		if !s.expires.IsZero() {
			ch <- prometheus.MustNewConstMetric(expiresDesc, prometheus.GaugeValue, s.expires.Sub(now).Seconds(), id, s.name)
		}
		if last := s.use.last.Load(); last != 0 {
			ch <- prometheus.MustNewConstMetric(lastUsedDesc, prometheus.GaugeValue, float64(last), id, s.name)
		}
	}
}

// firstToExpire returns at most n secrets: those that expire, the first to do so
// first, then the others.
func (cs *Credentials) firstToExpire(n int) []*heldSecret {
	if cs == nil {
		return nil
	}
	all := make([]*heldSecret, 0, len(cs.bySecret))
	for _, s := range cs.bySecret {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *heldSecret) int {
		if a.expires.IsZero() != b.expires.IsZero() {
			if a.expires.IsZero() {
				return 1
			}
			return -1
		}
		return cmp.Or(a.expires.Compare(b.expires), cmp.Compare(a.of.who.Credential, b.of.who.Credential), cmp.Compare(a.name, b.name))
	})
	return all[:min(n, len(all))]
}
