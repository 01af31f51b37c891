package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/weir-metrics/weir/cardinality"
)

// quarantineFlags are commands for metrics that one label makes explode.
type quarantineFlags struct {
	List struct {
		JSON   bool        `name:"json" help:"Print the answer as it came."`
		Client readerFlags `embed:""`
	} `cmd:"" help:"List them, and those that did lately, of a tenant."`
	Release struct {
		Tenant string      `arg:"" help:"Tenant that has the metric."`
		Metric string      `arg:"" help:"Its name."`
		Client clientFlags `embed:"" set:"url=http://127.0.0.1:9010"`
	} `cmd:"" help:"Take new series of a metric again, and leave it alone for a while. Only the admin listener does that."`
}

func (f *quarantineFlags) run(ctx context.Context, command string, getenv func(string) (string, bool), stdout io.Writer) error {
	if command == "quarantine list" {
		return f.list(ctx, getenv, stdout)
	}
	return f.release(ctx, getenv, stdout)
}

func (f *quarantineFlags) list(ctx context.Context, getenv func(string) (string, bool), stdout io.Writer) error {
	hr, err := http.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/cardinality/quarantine", nil)
	if err != nil {
		return err
	}
	resp, body, err := f.List.Client.do(hr, getenv)
	if err != nil {
		return err
	}
	var answer struct {
		Quarantines *[]cardinality.Event `json:"quarantines"`
	}
	if resp.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil || answer.Quarantines == nil {
		return readAnswer(resp, body, nil)
	}
	if f.List.JSON {
		_, err := stdout.Write(body)
		return err
	}
	var b strings.Builder
	for i := range *answer.Quarantines {
		writeQuarantine(&b, &(*answer.Quarantines)[i])
	}
	if b.Len() == 0 {
		b.WriteString("no metric explodes, or did lately\n")
	}
	_, err = io.WriteString(stdout, plain(b.String()))
	return err
}

// writeQuarantine writes what a person reads.
func writeQuarantine(b *strings.Builder, e *cardinality.Event) {
	does := "its new series are held back"
	switch {
	case e.Released:
		does = "an operator released it"
	case e.EndedAt != nil:
		does = "it is over"
	case !e.Enforced:
		does = "it is reported only"
	}
	fmt.Fprintf(b, "%s: %s\n   by:      %s\n   series:  %d, before it began %d\n   since:   %s", e.Metric, does,
		strings.Join(e.Labels, ", "), e.Series, e.Base, e.BeganAt.UTC().Format(time.RFC3339))
	if e.EndedAt != nil {
		fmt.Fprintf(b, " until %s", e.EndedAt.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(b, "\n   sender:  %s\n   refused: %d times, of %d different series lately\n", cmp.Or(e.Sender, "unknown"), e.HeldBack, e.Attempted)
	for _, example := range e.Examples {
		fmt.Fprintf(b, "   such as: %s\n", example)
	}
}

func (f *quarantineFlags) release(ctx context.Context, getenv func(string) (string, bool), stdout io.Writer) error {
	form := url.Values{"tenant": {f.Release.Tenant}, "metric": {f.Release.Metric}}
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, "/ingester/quarantine/release", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	resp, body, err := f.Release.Client.do(hr, getenv)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusNotFound && !json.Valid(body) {
		return errors.New("that is not the admin listener, see http.admin_listen: " + resp.Request.URL.Redacted())
	}
	if resp.StatusCode != http.StatusNoContent {
		return readAnswer(resp, body, nil)
	}
	_, err = fmt.Fprintf(stdout, "new series of %s are taken again\n", f.Release.Metric)
	return err
}
