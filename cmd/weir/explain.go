package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/ledger"
)

// explainFlags are the command that says why samples are missing.
type explainFlags struct {
	Selectors []string    `arg:"" name:"selector" help:"Series to explain, such as '{__name__=\"up\",job=\"node\"}'."`
	JSON      bool        `name:"json" help:"Print the answer as it came."`
	Client    readerFlags `embed:""`
}

// run asks a weir and prints what it says.
func (f *explainFlags) run(ctx context.Context, getenv func(string) (string, bool), stdout io.Writer) error {
	var list []api.Explanation
	if err := f.Client.get(ctx, getenv, "/api/v1/explain", url.Values{"match[]": f.Selectors}, &list); err != nil {
		return err
	}
	if f.JSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(list)
	}
	var b strings.Builder
	for i := range list {
		writeExplanation(&b, &list[i])
	}
	_, err := io.WriteString(stdout, plain(b.String()))
	return err
}

// plain returns lines of text without what terminals obey: senders choose names of
// labels and user agents, and whoever looks may be an operator.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// writeExplanation writes what a person reads.
func writeExplanation(b *strings.Builder, e *api.Explanation) {
	fmt.Fprintf(b, "%s\n%s: %s\n", e.Selector, e.Verdict, e.Summary)
	for i, c := range e.Causes {
		fmt.Fprintf(b, "\n%d. %s (%s)\n   %s\n", i+1, c.ID, c.Of, c.What)
		if r := c.Refusal; r != nil {
			writeRefusal(b, r)
		}
		writeLimit(b, &c)
		fmt.Fprintf(b, "   to do:  %s\n", c.Fix)
		if c.Docs != "" {
			fmt.Fprintf(b, "   more:   %s\n", c.Docs)
		}
	}
	b.WriteByte('\n')
}

// writeLimit writes the limit behind a cause, if there is one.
func writeLimit(b *strings.Builder, c *api.Cause) {
	if c.Limit == "" {
		return
	}
	b.WriteString("   limit:  " + c.Limit)
	switch v := c.Value.(type) {
	case nil:
	case float64: // as JSON has all numbers
		b.WriteString(" is " + strconv.FormatFloat(v, 'f', -1, 64))
	default:
		fmt.Fprintf(b, " is %v", v)
	}
	if c.Origin != "" {
		fmt.Fprintf(b, " (from: %s)", c.Origin)
	}
	b.WriteByte('\n')
}

func writeRefusal(b *strings.Builder, r *ledger.Refusal) {
	if len(r.Example.Labels) > 0 {
		pairs := make([]string, 0, len(r.Example.Labels))
		for _, l := range r.Example.Labels {
			pairs = append(pairs, fmt.Sprintf("%s=%q", l.Name, l.Value))
		}
		fmt.Fprintf(b, "   series: {%s}\n", strings.Join(pairs, ", "))
	}
	if r.Example.Timestamp != 0 {
		fmt.Fprintf(b, "   sample: of %s\n", time.UnixMilli(r.Example.Timestamp).UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(b, "   sender: %s at %s", r.Sender.UserAgent, r.Sender.Address)
	if r.Sender.Credential != "" {
		fmt.Fprintf(b, ", credential %s", r.Sender.Credential)
	}
	if r.Example.RequestID != "" {
		fmt.Fprintf(b, ", request %s", r.Example.RequestID)
	}
	fmt.Fprintf(b, "\n   count:  %d samples in %d requests, %s to %s\n", r.Counts.Total(), r.Requests,
		r.First.UTC().Format(time.RFC3339), r.Last.UTC().Format(time.RFC3339))
}
