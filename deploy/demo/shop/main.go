// Command shop is what the demo scrapes beside Prometheus and weir: an
// application whose latencies are a native histogram with exemplars. Its
// customers are made up.
package main

import (
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:19080", "address of /metrics")
	flag.Parse()
	latency := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                        "shop_request_duration_seconds",
		Help:                        "Time to answer a customer.",
		NativeHistogramBucketFactor: 1.1,
	}, []string{"page"})
	reg := prometheus.NewRegistry()
	reg.MustRegister(latency)
	go serveCustomers(latency)
	http.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	server := &http.Server{Addr: *listen, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// serveCustomers observes about a hundred requests a second, each with its trace.
func serveCustomers(latency *prometheus.HistogramVec) {
	pages := []string{"basket", "front", "pay", "search"}
	for range time.Tick(10 * time.Millisecond) {
		page := rand.IntN(len(pages))
		seconds := 0.01 * float64(page+1) * rand.ExpFloat64()
		trace := prometheus.Labels{"trace_id": fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64())}
		latency.WithLabelValues(pages[page]).(prometheus.ExemplarObserver).ObserveWithExemplar(seconds, trace)
	}
}
