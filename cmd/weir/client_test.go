package main

import (
	"bytes"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const oneExplanation = `{"status":"success","data":[{"selector":"up","verdict":"stored","summary":"All is well.","series":1,"causes":[]}]}`

// withLimits are explanations of limits of every type of value.
const withLimits = `{"status":"success","data":[{"selector":"up","verdict":"refused","summary":"No.","causes":[
{"id":"a","limit":"limits.ingestion_rate","limitValue":2000000,"limitOrigin":"plan gold"},{"id":"b","limit":"limits.past_grace","limitValue":"1h","limitOrigin":"tenant"},
{"id":"c","limit":"limits.label_sets"},{"id":"d"}]}]}`

// TestExplainCommand: what is sent to the server, and what is made of its answer.
func TestExplainCommand(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	token, empty := file("token", "s3cret\n"), file("empty", "\n")
	for _, c := range []struct {
		name           string
		args           []string
		env            map[string]string
		status         int
		answer         string
		auth, tenant   string // what the server is sent
		code           int
		stdout, stderr string // parts
	}{
		{name: "nothing asked for", answer: oneExplanation, stdout: "up\nstored: All is well.\n"},
		{name: "token from a file", args: []string{"-token-file", token}, answer: oneExplanation, auth: "Bearer s3cret", stdout: "stored"},
		{name: "token from the environment", env: map[string]string{"WEIR_TOKEN": "other"}, answer: oneExplanation, auth: "Bearer other", stdout: "stored"},
		{name: "the file wins", args: []string{"-token-file", token}, env: map[string]string{"WEIR_TOKEN": "other"}, answer: oneExplanation, auth: "Bearer s3cret", stdout: "stored"},
		{name: "limits", answer: withLimits, stdout: "   limit:  limits.ingestion_rate is 2000000 (from: plan gold)\n"},
		{name: "limits that are no numbers", answer: withLimits, stdout: "   limit:  limits.past_grace is 1h (from: tenant)\n"},
		{name: "limits without a value", answer: withLimits, stdout: "   limit:  limits.label_sets\n"},
		{name: "tenant", args: []string{"-tenant", "team-a"}, answer: oneExplanation, tenant: "team-a", stdout: "stored"},
		{name: "json", args: []string{"-json"}, answer: oneExplanation, stdout: `"verdict": "stored"`},
		{name: "refused", status: 401, answer: `{"status":"error","errorType":"unauthenticated","error":"weir-tenant-missing: no tenant"}`,
			code: 1, stderr: "weir: 401 Unauthorized: weir-tenant-missing: no tenant"},
		{name: "something else", status: 200, answer: "<html>", code: 1, stderr: `is no answer of weir: 200 OK: "<html>"`},
		{name: "no such file", args: []string{"-token-file", "absent"}, code: 1, stderr: "read the token: open absent"},
		{name: "empty file", args: []string{"-token-file", empty}, code: 1, stderr: "is empty"},
		{name: "certificate without key", args: []string{"-tls.cert-file", token}, code: 1, stderr: "belong together"},
		{name: "no certificates", args: []string{"-tls.ca-file", token}, code: 1, stderr: "there are none in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, "/api/v1/explain", r.URL.Path)
				assert.Equal(t, "up", r.FormValue("match[]"))
				assert.Equal(t, c.auth, r.Header.Get("Authorization"))
				assert.Equal(t, c.tenant, r.Header.Get("X-Scope-OrgID"))
				if c.status != 0 {
					w.WriteHeader(c.status)
				}
				_, _ = w.Write([]byte(c.answer))
			}))
			defer s.Close()
			var stdout, stderr bytes.Buffer
			args := append([]string{"explain", "up", "-url", s.URL + "/"}, c.args...)
			require.Equal(t, c.code, run(t.Context(), args, env(c.env), &stdout, &stderr), "%s", &stderr)
			require.Contains(t, stdout.String(), c.stdout)
			require.Contains(t, stderr.String(), c.stderr)
			require.NotContains(t, stderr.String(), "s3cret")
		})
	}
}

// TestExplainByTLS: a server's certificate is verified, against a file if there is
// one.
func TestExplainByTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(oneExplanation)) }))
	defer s.Close()
	s.Config.ErrorLog = nil
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	for _, c := range []struct {
		flags []string
		code  int
		says  string
	}{
		{nil, 1, "certificate"},
		{[]string{"-tls.ca-file", ca}, 0, "stored"},
		{[]string{"-tls.skip-verify"}, 0, "stored"},
	} {
		t.Run(strings.Join(c.flags, " "), func(t *testing.T) {
			var out bytes.Buffer
			require.Equal(t, c.code, run(t.Context(), append([]string{"explain", "up", "-url", s.URL}, c.flags...), env(nil), &out, &out), "%s", &out)
			require.Contains(t, out.String(), c.says)
		})
	}
}
