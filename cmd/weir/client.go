package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// clientFlags say how a command reaches a weir that runs.
type clientFlags struct {
	URL        string        `name:"url" default:"${url}" help:"Where weir listens."`
	TokenFile  string        `name:"token-file" placeholder:"FILE" help:"File with the bearer token; without it the environment variable WEIR_TOKEN."`
	CAFile     string        `name:"tls.ca-file" placeholder:"FILE" help:"Certificates to trust, instead of the system's."`
	CertFile   string        `name:"tls.cert-file" placeholder:"FILE" help:"Client certificate."`
	KeyFile    string        `name:"tls.key-file" placeholder:"FILE" help:"Key of the client certificate."`
	SkipVerify bool          `name:"tls.skip-verify" help:"Do not verify the server's certificate."`
	Timeout    time.Duration `name:"timeout" default:"1m" help:"How long to wait for the answer."`
}

// readerFlags are those of commands that ask for a tenant.
type readerFlags struct {
	clientFlags `set:"url=http://127.0.0.1:9009"`
	Tenant      string `name:"tenant" placeholder:"ID" help:"Tenant to ask for, if the credential does not say."`
}

// tokenVariable is the environment variable with the token: a flag would show in
// the list of processes.
const tokenVariable = "WEIR_TOKEN"

// maxAnswerBytes is more than any answer to a command.
const maxAnswerBytes = 64 << 20

// get posts the parameters of a query to path, and decodes the data of the answer.
func (f *readerFlags) get(ctx context.Context, getenv func(string) (string, bool), path string, form url.Values, data any) error {
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	resp, body, err := f.do(hr, getenv)
	if err != nil {
		return err
	}
	return readAnswer(resp, body, data)
}

// do sends a request for the tenant.
func (f *readerFlags) do(hr *http.Request, getenv func(string) (string, bool)) (*http.Response, []byte, error) {
	if f.Tenant != "" {
		hr.Header.Set("X-Scope-OrgID", f.Tenant)
	}
	return f.clientFlags.do(hr, getenv)
}

// do sends a request, of which only the path is known and perhaps a form as its
// body, and returns the whole answer.
func (f *clientFlags) do(hr *http.Request, getenv func(string) (string, bool)) (*http.Response, []byte, error) {
	token, err := f.token(getenv)
	if err != nil {
		return nil, nil, err
	}
	config, err := f.tlsConfig()
	if err != nil {
		return nil, nil, err
	}
	if hr.URL, err = url.Parse(strings.TrimRight(f.URL, "/") + hr.URL.String()); err != nil {
		return nil, nil, err
	}
	hr.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	hr.Header.Set("User-Agent", "weir")
	if token != "" {
		hr.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: f.Timeout, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DisableKeepAlives: true}}
	resp, err := client.Do(hr)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer of %s: %w", f.URL, err)
	}
	return resp, body, nil
}

// readAnswer decodes the envelope of an answer, and the data in it; with nil data an
// error was expected.
func readAnswer(resp *http.Response, body []byte, data any) error {
	var envelope struct {
		Status string          `json:"status"`
		Data   json.RawMessage `json:"data"`
		Error  string          `json:"error"`
	}
	err := json.Unmarshal(body, &envelope)
	switch {
	case err == nil && envelope.Status == "success" && data != nil:
		return json.Unmarshal(envelope.Data, data)
	case err == nil && envelope.Error != "":
		return fmt.Errorf("%s: %s", resp.Status, envelope.Error)
	}
	return fmt.Errorf("%s is no answer of weir: %s: %.200q", resp.Request.URL.Redacted(), resp.Status, body)
}

func (f *clientFlags) token(getenv func(string) (string, bool)) (string, error) {
	if f.TokenFile == "" {
		token, _ := getenv(tokenVariable)
		return token, nil
	}
	b, err := os.ReadFile(f.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("read the token: %s is empty", f.TokenFile)
	}
	return token, nil
}

func (f *clientFlags) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{InsecureSkipVerify: f.SkipVerify}
	if f.CAFile != "" {
		pem, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificates to trust: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the certificates to trust: there are none in %s", f.CAFile)
		}
	}
	if (f.CertFile == "") != (f.KeyFile == "") {
		return nil, errors.New("-tls.cert-file and -tls.key-file belong together")
	}
	if f.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
