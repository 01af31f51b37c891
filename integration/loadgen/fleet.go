package loadgen

import (
	"fmt"
	"slices"
	"strings"
)

type label struct{ name, value string }

// fleet knows every series by number: series i is metric i%len(catalogue) of
// pod i/len(catalogue). Pods carry a generation, which churn raises.
type fleet struct {
	cfg       Config
	catalogue []variant
	pods      int
	start     int64 // timestamp of round 0 in ms
}

func newFleet(cfg Config, start int64) *fleet {
	c := catalogue(cfg.ClassicHistograms, cfg.NativeHistograms)
	return &fleet{cfg: cfg, catalogue: c, pods: (cfg.Series + len(c) - 1) / len(c), start: start}
}

func (f *fleet) variant(series int) *variant { return &f.catalogue[series%len(f.catalogue)] }
func (f *fleet) pod(series int) int          { return series / len(f.catalogue) }

// generation says how often a pod has been replaced up to a round. Pods go in
// turn, so that each round replaces the same share.
func (f *fleet) generation(pod, round int) int {
	replaced := int(f.cfg.Churn * float64(f.pods) * float64(round))
	return (replaced + f.pods - 1 - pod) / f.pods
}

// roundStart returns the timestamp of the start of a round in ms.
func (f *fleet) roundStart(round int) int64 {
	return f.start + int64(round)*f.cfg.Interval.Milliseconds()
}

// phase of a series within the interval in ms: a target is scraped at the same
// phase of every interval, and by the second of an HA pair at another one.
func (f *fleet) phase(series, replica int) int64 {
	target := uint64(f.pod(series))<<2 | uint64(f.variant(series).source)
	return int64(mix(f.cfg.Seed, target<<1|uint64(max(replica, 0))) % uint64(f.cfg.Interval.Milliseconds()))
}

var (
	namespaces = []string{"checkout", "catalog-search", "customer-identity", "fulfilment-eu", "payments-core", "recommendation", "platform-gateway", "data-pipeline"}
	services   = []string{"orders-api", "cart-service", "payment-gateway", "inventory-sync", "session-store", "pricing-engine", "event-consumer", "mail-dispatcher", "feature-flags", "image-resizer"}
)

const podAlphabet = "bcdfghjklmnpqrstvwxz2456789"

// letters returns n characters of what Kubernetes puts into pod names.
func letters(h uint64, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = podAlphabet[h%uint64(len(podAlphabet))]
		h /= uint64(len(podAlphabet))
	}
	return string(b)
}

// appendLabels appends the labels of a series, sorted by name. replica is -1
// without HA pairs.
func (f *fleet) appendLabels(dst []label, series, generation, replica int) []label {
	pod, v := f.pod(series), f.variant(series)
	h := mix(f.cfg.Seed, uint64(pod))
	deployment := mix(f.cfg.Seed+1, uint64(pod/12)) // about a dozen replicas each
	born := mix(h, uint64(generation))
	node := mix(f.cfg.Seed+2, uint64(pod/30)) // about thirty pods a node
	namespace := namespaces[deployment%uint64(len(namespaces))]
	service := services[(deployment>>8)%uint64(len(services))]
	nodeName := fmt.Sprintf("ip-10-%d-%d-%d.ec2.internal", node%64, (node>>8)%256, (node>>16)%256)

	dst = append(dst,
		label{"__name__", v.name},
		label{"cluster", "prod-eu-west-1-blue"},
		label{"container", service},
		label{"namespace", namespace},
		label{"node", nodeName},
		label{"pod", service + "-" + letters(deployment, 10) + "-" + letters(born, 5)},
		label{"prometheus", "monitoring/k8s"})
	switch v.source {
	case fromApp:
		dst = append(dst, label{"endpoint", "http-metrics"}, label{"job", namespace + "/" + service}, label{"service", service},
			label{"instance", fmt.Sprintf("10.%d.%d.%d:8080", 64+born%64, (born>>8)%256, (born>>16)%256)})
	case fromKubelet:
		dst = append(dst, label{"endpoint", "https-metrics"}, label{"job", "kubelet"}, label{"service", "kubelet"},
			label{"instance", fmt.Sprintf("10.%d.%d.%d:10250", node%64, (node>>8)%256, (node>>16)%256)},
			label{"metrics_path", "/metrics/cadvisor"})
	case fromState:
		dst = append(dst, label{"endpoint", "http"}, label{"job", "kube-state-metrics"}, label{"service", "kube-state-metrics"},
			label{"instance", "10.64.3.17:8080"},
			label{"uid", fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", uint32(born), uint16(born>>32), born>>48&0xfff, h&0xfff, h>>16)})
	}
	if v.label != "" {
		dst = append(dst, label{v.label, v.value})
	}
	if replica >= 0 {
		dst = append(dst, label{"__replica__", fmt.Sprintf("prometheus-k8s-%d", replica)})
	}
	slices.SortFunc(dst, func(a, b label) int { return strings.Compare(a.name, b.name) })
	return dst
}
