package main

import (
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/prometheus/common/version"

	"github.com/weir-metrics/weir/tenant"
)

// banner is what a newcomer needs first: where to write, where to read, and a
// query that already answers.
type banner struct {
	addr    net.Addr // of the HTTP listener
	tls     bool     // which speaks TLS
	mode    tenant.Mode
	tenant  string // that has data already; empty when none has
	dataDir string
}

func (b banner) print(w io.Writer) error {
	base := baseURL(b.addr, b.tls)
	var text strings.Builder
	release := ""
	if version.Version != "" {
		release = " " + version.Version
	}
	fmt.Fprintf(&text, "\nweir%s is ready; samples are kept in %s\n", release, b.dataDir)
	fmt.Fprintf(&text, "\nWrite to it: in prometheus.yml\n\n%s", indent(b.remoteWrite(base)))
	fmt.Fprintf(&text, "\nQuery it: in Grafana, a datasource of type Prometheus with the URL\n\n    %s/prometheus\n", base)
	if b.tenant != "" {
		fmt.Fprintf(&text, "\nIt stores its own metrics, so this already answers:\n\n    %s\n", b.firstQuery(base))
	}
	text.WriteByte('\n')
	_, err := io.WriteString(w, text.String())
	return err
}

// aToken stands for one, which we do not know.
const aToken = "weir_..."

// remoteWrite is the sender's side. Without retry_on_http_429 a Prometheus
// drops what a limit asks it to send later.
func (b banner) remoteWrite(base string) string {
	headers := ""
	switch b.mode {
	case tenant.ModeHeader:
		headers = "    headers:\n      " + tenant.Header + ": " + tenant.Anonymous + "  # your tenant\n"
	case tenant.ModeRequired:
		headers = "    authorization:\n      credentials: " + aToken + "  # of a credential with the scope write\n"
	}
	return "remote_write:\n" +
		"  - url: " + base + "/api/v1/push\n" +
		headers +
		"    protobuf_message: io.prometheus.write.v2.Request\n" +
		"    send_native_histograms: true\n" +
		"    send_exemplars: true\n" +
		"    queue_config:\n" +
		"      retry_on_http_429: true\n"
}

func (b banner) firstQuery(base string) string {
	header := ""
	switch b.mode {
	case tenant.ModeHeader:
		header = "-H '" + tenant.Header + ": " + b.tenant + "' "
	case tenant.ModeRequired:
		header = "-H 'Authorization: Bearer " + aToken + "' -H '" + tenant.Header + ": " + b.tenant + "' "
	}
	return "curl -s " + header + "'" + base + "/prometheus/api/v1/query?query=up'"
}

// baseURL is how a client on this machine reaches addr.
func baseURL(addr net.Addr, tls bool) string {
	scheme := "http://"
	if tls {
		scheme = "https://"
	}
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || tcp.IP.IsUnspecified() {
		_, port, err := net.SplitHostPort(addr.String())
		if err != nil {
			return scheme + addr.String()
		}
		return scheme + "localhost:" + port
	}
	return scheme + tcp.String()
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n    ") + "\n"
}
