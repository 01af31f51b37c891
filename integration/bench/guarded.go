package bench

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/weir-metrics/weir/integration/server"
)

// Guarded is weir with all that stands between a sender and its tenant: a
// token, every kind of limit, ten rules and two detectors. No limit is reached and
// no series dropped, so that it stores the same samples. Half of the rules
// change something in the series of package loadgen, and they keep each apart.
func Guarded() server.Kind {
	token := newToken()
	k := server.Weir()
	k.Name = "weir-guarded"
	k.Headers = map[string]string{"Authorization": "Bearer " + token}
	k.Prepare = func(dataDir string) error {
		return os.WriteFile(guards(dataDir), fmt.Appendf(nil, guarded, sha256.Sum256([]byte(token))), 0o600)
	}
	args := k.Args
	k.Args = func(listen, dataDir string) []string {
		return append(args(listen, dataDir), "-tenants.file", guards(dataDir), "-set", "auth.mode=required")
	}
	return k
}

// newToken makes a token of the only form that weir takes (docs/operations.md#credentials).
func newToken() string {
	var b [32 + crc32.Size]byte
	rand.Read(b[:32]) // never fails
	binary.BigEndian.PutUint32(b[32:], crc32.ChecksumIEEE(b[:32]))
	return "weir_" + base64.RawURLEncoding.EncodeToString(b[:])
}

func guards(dataDir string) string { return filepath.Join(dataDir, "tenants.yml") }

// guarded is the tenants file, but for the hash of the token.
const guarded = `
credentials:
- {id: fleet, tenants: [fleet], scopes: [write], secrets: [{sha256: %x}]}
tenants:
  fleet:
    limits:
      ingestion_rate: 1000000000
      request_rate: 10000000
      ingestion_bytes_rate: 1000000000000
      native_histogram_buckets_rate: 1000000000
      exemplars_rate: 1000000000
      max_active_series: 100000000
      max_series_per_metric: 10000000
      label_sets:
      - {name: payments, match: '{namespace="payments-core"}', max_active_series: 10000000}
    relabel:
      metric_relabel_configs:
      - {source_labels: [__name__], regex: 'go_sched_.*|process_virtual_memory_.*', action: drop}
      - {source_labels: [namespace], regex: '.+', action: keep}
      - {source_labels: [job, container], regex: 'kubelet;(POD|pause)', action: drop}
      - {source_labels: [pod], regex: '(.+)-[a-z0-9]{10}-[a-z0-9]{5}', target_label: deployment}
      - {source_labels: [cluster], regex: '(.+)-(blue|green)', target_label: region}
      - {source_labels: [instance], regex: '([^:]+):[0-9]+', target_label: host}
      - {source_labels: [http_route], regex: '/internal/.*', target_label: route, replacement: internal}
      - {source_labels: [pod], modulus: 16, target_label: shard, action: hashmod}
      - {regex: 'label_(.+)', action: labelmap}
      - {regex: 'uid|endpoint|prometheus', action: labeldrop}
      redact:
      - {detector: email, action: hash}
      - {detector: ipv4, action: hash}
`
