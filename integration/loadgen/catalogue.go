package loadgen

import "strconv"

// kind says how the samples of a series develop.
type kind uint8

const (
	counter kind = iota
	gauge
	constant // a gauge that never changes: limits, flags, info metrics
	native   // a native histogram
)

// source is the exporter that a metric comes from: it decides job, endpoint,
// instance and extra labels.
type source uint8

const (
	fromApp     source = iota // the pod's own /metrics
	fromKubelet               // cAdvisor
	fromState                 // kube-state-metrics
)

// family is a metric as its # TYPE line declares it.
type family struct {
	source source
	name   string
	kind   kind
	help   string
	unit   string
	label  string   // one more label of its series; empty: none
	values []string // of label: one series each
}

// variant is one series that every pod exposes.
type variant struct {
	source     source
	kind       kind
	metricType uint8 // as the protocols number it: 1 counter, 2 gauge, 3 histogram
	name       string
	help, unit string
	label      string // empty: none
	value      string
}

var buckets = []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"}

// families of one pod. Names, types, labels and help texts are those of the
// real exporters.
var families = []family{
	{fromApp, "http_server_requests_total", counter, "Total number of HTTP requests served, by status code.", "", "code", []string{"200", "201", "204", "302", "400", "401", "404", "429", "500", "503"}},
	{fromApp, "http_server_response_size_bytes_total", counter, "Bytes written in HTTP response bodies, by handler.", "bytes", "handler", []string{"/api/v1/orders", "/api/v1/carts/{id}", "/api/v1/payments", "/healthz"}},
	{fromApp, "grpc_client_handled_total", counter, "Total number of RPCs completed by the client, regardless of success or failure.", "", "grpc_method", []string{"GetInventory", "ReserveStock", "ListCustomers", "AuthorizePayment", "GetFeatureFlags", "PublishEvent"}},
	{fromApp, "db_client_connections_usage", gauge, "The number of connections that are currently in the state described by the state attribute.", "", "state", []string{"idle", "used", "pending"}},
	{fromApp, "go_goroutines", gauge, "Number of goroutines that currently exist.", "", "", nil},
	{fromApp, "go_gc_duration_seconds", gauge, "A summary of the wall-time pause (stop-the-world) duration in garbage collection cycles.", "seconds", "quantile", []string{"0", "0.25", "0.5", "0.75", "1"}},
	{fromApp, "go_memstats_heap_alloc_bytes", gauge, "Number of heap bytes allocated and currently in use.", "bytes", "", nil},
	{fromApp, "go_memstats_alloc_bytes_total", counter, "Total number of bytes allocated in heap until now, even if released already.", "bytes", "", nil},
	{fromApp, "go_info", constant, "Information about the Go environment.", "", "version", []string{"go1.26.1"}},
	{fromApp, "process_cpu_seconds_total", counter, "Total user and system CPU time spent in seconds.", "seconds", "", nil},
	{fromApp, "process_resident_memory_bytes", gauge, "Resident memory size in bytes.", "bytes", "", nil},
	{fromApp, "process_open_fds", gauge, "Number of open file descriptors.", "", "", nil},
	{fromApp, "process_start_time_seconds", constant, "Start time of the process since unix epoch in seconds.", "seconds", "", nil},
	{fromApp, "up", constant, "", "", "", nil},
	{fromApp, "scrape_duration_seconds", gauge, "", "", "", nil},
	{fromApp, "scrape_samples_scraped", constant, "", "", "", nil},
	{fromKubelet, "container_cpu_usage_seconds_total", counter, "Cumulative cpu time consumed in seconds.", "seconds", "cpu", []string{"total"}},
	{fromKubelet, "container_cpu_cfs_throttled_seconds_total", counter, "Total time duration the container has been throttled.", "seconds", "", nil},
	{fromKubelet, "container_cpu_cfs_periods_total", counter, "Number of elapsed enforcement period intervals.", "", "", nil},
	{fromKubelet, "container_memory_working_set_bytes", gauge, "Current working set in bytes.", "bytes", "", nil},
	{fromKubelet, "container_memory_failures_total", counter, "Cumulative count of memory allocation failures.", "", "failure_type", []string{"pgfault", "pgmajfault"}},
	{fromKubelet, "container_network_receive_bytes_total", counter, "Cumulative count of bytes received", "bytes", "interface", []string{"eth0", "lo"}},
	{fromKubelet, "container_network_transmit_packets_dropped_total", counter, "Cumulative count of packets dropped while transmitting", "", "interface", []string{"eth0", "lo"}},
	{fromKubelet, "container_fs_writes_bytes_total", counter, "Cumulative count of bytes written", "bytes", "device", []string{"/dev/nvme0n1"}},
	{fromKubelet, "container_last_seen", gauge, "Last time a container was seen by the exporter", "", "", nil},
	{fromState, "kube_pod_status_phase", constant, "The pods current phase.", "", "phase", []string{"Pending", "Running", "Succeeded", "Failed", "Unknown"}},
	{fromState, "kube_pod_container_resource_requests", constant, "The number of requested request resource by a container.", "", "resource", []string{"cpu", "memory"}},
	{fromState, "kube_pod_container_resource_limits", constant, "The number of requested limit resource by a container.", "", "resource", []string{"cpu", "memory"}},
	{fromState, "kube_pod_container_status_restarts_total", counter, "The number of container restarts per container.", "", "", nil},
	{fromState, "kube_pod_container_status_ready", constant, "Describes whether the containers readiness check succeeded.", "", "", nil},
}

// classicFamilies become _bucket, _sum and _count.
var classicFamilies = []family{
	{fromApp, "http_server_request_duration_seconds", counter, "Duration of HTTP requests in seconds.", "seconds", "", nil},
	{fromApp, "grpc_client_handling_seconds", counter, "Histogram of response latency (seconds) of the gRPC until it is finished by the application.", "seconds", "", nil},
}

// nativeFamilies become one native histogram per value.
var nativeFamilies = []family{
	{fromApp, "http_server_native_request_duration_seconds", native, "Duration of HTTP requests in seconds.", "seconds", "handler", []string{"/api/v1/orders", "/api/v1/carts/{id}", "/api/v1/payments", "/healthz"}},
	{fromApp, "db_client_native_operation_duration_seconds", native, "Duration of database client operations.", "seconds", "operation", []string{"select", "insert", "update", "delete"}},
}

// catalogue returns the series of one pod. nativeShare of them are native
// histograms, spread evenly.
func catalogue(classic bool, nativeShare float64) []variant {
	var floats, natives []variant
	for _, f := range families {
		floats = appendVariants(floats, f)
	}
	for _, f := range classicFamilies {
		if classic {
			floats = appendClassic(floats, f)
		}
	}
	for _, f := range nativeFamilies {
		natives = appendVariants(natives, f)
	}
	if nativeShare == 0 {
		return floats
	}
	if nativeShare == 1 {
		return natives
	}
	var out []variant
	due := 0.0
	for _, v := range floats {
		out = append(out, v)
		for due += nativeShare / (1 - nativeShare); due >= 1; due-- {
			n := natives[len(out)%len(natives)]
			n.label, n.value = "series", strconv.Itoa(len(out))
			out = append(out, n)
		}
	}
	return out
}

func appendVariants(dst []variant, f family) []variant {
	v := variant{source: f.source, kind: f.kind, metricType: metricType(f.kind), name: f.name, help: f.help, unit: f.unit}
	if f.label == "" {
		return append(dst, v)
	}
	v.label = f.label
	for _, v.value = range f.values {
		dst = append(dst, v)
	}
	return dst
}

func appendClassic(dst []variant, f family) []variant {
	v := variant{source: f.source, kind: counter, metricType: metricType(native), help: f.help, unit: f.unit}
	v.name, v.label = f.name+"_bucket", "le"
	for _, v.value = range buckets {
		dst = append(dst, v)
	}
	v.label, v.value = "", ""
	v.name = f.name + "_sum"
	dst = append(dst, v)
	v.name = f.name + "_count"
	return append(dst, v)
}

func metricType(k kind) uint8 {
	switch k {
	case counter:
		return 1
	case native:
		return 3
	default:
		return 2
	}
}
