package receiver

import (
	"net/http"
	"strings"
)

// isHandshake reports whether a request asks if we take the protocol of
// VictoriaMetrics: remote write 1.0 compressed by zstd. Vmagents before v1.116
// ask, by POST, before they use it. Later ones use it until a request is answered
// 415 or 400.
func isHandshake(hr *http.Request) bool {
	return hr.URL.RawQuery != "" && hr.URL.Query().Get("get_vm_proto_version") != ""
}

// answerHandshake says that version 1 is taken.
func answerHandshake(w http.ResponseWriter) { _, _ = w.Write([]byte("1")) }

func isVMAgent(h http.Header) bool { return strings.HasPrefix(h.Get("User-Agent"), "vmagent") }

// forVMAgent is the status that makes vmagent drop a request that can never
// succeed. Most others than 400, 409 and 415 it repeats for ever. A 400 to zstd
// it takes for a receiver without zstd: it sends the request again by snappy, and
// everything after it.
func forVMAgent(h http.Header, status int) int {
	switch {
	case status != http.StatusBadRequest && status != http.StatusRequestEntityTooLarge || !isVMAgent(h):
		return status
	case strings.EqualFold(h.Get("Content-Encoding"), string(zstandard)):
		return http.StatusConflict
	}
	return http.StatusBadRequest
}
