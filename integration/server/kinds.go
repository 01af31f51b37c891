package server

import (
	"os"
	"path/filepath"
)

// Weir is the server under test, with the defaults of the bare binary but for
// the profiling listener, whose port several at once would fight over.
func Weir() Kind {
	return Kind{
		Name:    "weir",
		Package: "github.com/weir-metrics/weir/cmd/weir",
		Module:  ".",
		Args: func(listen, dataDir string) []string {
			return []string{"-data.dir", dataDir, "-http.listen", listen, "-admin.listen="}
		},
		WritePath: "/api/v1/push",
		APIPath:   "/prometheus",
		ReadyPath: "/ready",
		SpeaksV2:  true,
	}
}

// Prometheus is the peer that shares weir's TSDB: its remote-write receiver
// with default storage settings and nothing to scrape.
func Prometheus() Kind {
	return Kind{
		Name:    "prometheus",
		Package: "github.com/prometheus/prometheus/cmd/prometheus",
		Module:  "tools/prometheus",
		Prepare: func(dataDir string) error {
			return os.WriteFile(filepath.Join(dataDir, "prometheus.yml"), []byte("global: {}\n"), 0o644)
		},
		Args: func(listen, dataDir string) []string {
			return []string{
				"--config.file=" + filepath.Join(dataDir, "prometheus.yml"),
				"--storage.tsdb.path=" + filepath.Join(dataDir, "tsdb"),
				"--web.listen-address=" + listen,
				"--web.enable-remote-write-receiver",
				"--log.level=warn",
			}
		},
		WritePath: "/api/v1/write",
		APIPath:   "",
		ReadyPath: "/-/ready",
		SpeaksV2:  true,
	}
}

// PrometheusOutOfOrder is Prometheus with an out-of-order window of window (a
// Prometheus duration), and with its exemplar storage on: the closest that it
// comes to weir's defaults. Tests of the tests run against it.
func PrometheusOutOfOrder(window string) Kind {
	k := Prometheus()
	k.Prepare = func(dataDir string) error {
		config := "storage:\n  exemplars:\n    max_exemplars: 100000\n  tsdb:\n    out_of_order_time_window: " + window + "\n"
		return os.WriteFile(filepath.Join(dataDir, "prometheus.yml"), []byte(config), 0o644)
	}
	args := k.Args
	k.Args = func(listen, dataDir string) []string {
		return append(args(listen, dataDir), "--enable-feature=exemplar-storage,metadata-wal-records")
	}
	return k
}

// PrometheusWith is Prometheus with a configuration file of this text, as a
// client: one that scrapes, writes and reads remotely. As an agent it has no
// storage but its write-ahead log.
func PrometheusWith(config string, agent bool) Kind {
	k := Prometheus()
	k.Prepare = func(dataDir string) error {
		return os.WriteFile(filepath.Join(dataDir, "prometheus.yml"), []byte(config), 0o644)
	}
	if agent {
		k.Args = func(listen, dataDir string) []string {
			return []string{
				"--agent",
				"--config.file=" + filepath.Join(dataDir, "prometheus.yml"),
				"--storage.agent.path=" + filepath.Join(dataDir, "agent"),
				"--web.listen-address=" + listen,
				"--log.level=warn",
			}
		}
	}
	return k
}

// Promtool is no server, but a program that is built like one.
func Promtool() Kind {
	return Kind{Name: "promtool", Package: "github.com/prometheus/prometheus/cmd/promtool", Module: "tools/prometheus"}
}

// OTelExport is no server either: it sends what it reads from standard input
// through the remote-write exporter of the OpenTelemetry collector.
func OTelExport() Kind {
	return Kind{Name: "otelexport", Package: ".", Module: "tools/otelexport"}
}

// VictoriaMetrics is the single-node peer with its defaults. It does not speak
// remote-write 2.0.
func VictoriaMetrics() Kind {
	return Kind{
		Name:    "victoria-metrics",
		Package: "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics",
		Module:  "tools/victoriametrics",
		Args: func(listen, dataDir string) []string {
			return []string{
				"-storageDataPath=" + filepath.Join(dataDir, "vm"),
				"-httpListenAddr=" + listen,
				"-loggerLevel=WARN",
			}
		},
		WritePath: "/api/v1/write",
		APIPath:   "/prometheus",
		ReadyPath: "/health",
	}
}

// VMAgent is the agent that scrapes for VictoriaMetrics. What it scrapes and
// where it writes are added as Options.ExtraArgs.
func VMAgent() Kind {
	return Kind{
		Name:    "vmagent",
		Package: "github.com/VictoriaMetrics/VictoriaMetrics/app/vmagent",
		Module:  "tools/victoriametrics",
		Args: func(listen, dataDir string) []string {
			return []string{
				"-httpListenAddr=" + listen,
				"-remoteWrite.tmpDataPath=" + filepath.Join(dataDir, "queue"),
				"-loggerLevel=WARN",
			}
		},
		WritePath: "/api/v1/write",
		ReadyPath: "/-/ready",
	}
}
