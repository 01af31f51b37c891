package ledger

import (
	"container/list"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/proto"
)

// Refusal is what was refused of a tenant's writes for one reason, of one metric,
// from one sender.
type Refusal struct {
	Reason   string       `json:"reason"` // an id of docs/errors.md
	Metric   string       `json:"metric"` // "" of series without a name, and of requests as a whole; AnyMetric
	Sender   Sender       `json:"sender"`
	Requests int          `json:"requests"`
	Counts   proto.Counts `json:"counts"` // of samples; zero for requests as a whole
	First    time.Time    `json:"first"`
	Last     time.Time    `json:"last"`
	Example  Example      `json:"example"`
}

// Example is one refusal out of many, a few seconds old while they go on.
type Example struct {
	Labels    []Label   `json:"labels,omitempty"`    // of the series, as far as may be shown and the first of them if they are many
	Timestamp int64     `json:"timestamp,omitempty"` // of the sample, ms
	Detail    string    `json:"detail"`              // the value, the limit
	RequestID string    `json:"requestId,omitempty"`
	At        time.Time `json:"at"`
}

// Label of an example. Examples may have a name twice, which is why they are no
// labels.Labels.
type Label struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// exampleEvery is how old an example may become while there are newer ones.
const exampleEvery = 10 * time.Second

func exampleOf(rq *Request, x *Refused) Example {
	ls, detail := rq.Example(x)
	e := Example{Timestamp: x.T, Detail: kept(detail, maxDetailBytes)}
	for left := maxLabelsBytes; len(ls) > 0 && left > 0; ls = ls[1:] {
		l := Label{kept(ls[0].Name, min(left, maxNameBytes)), kept(ls[0].Value, min(left, maxLabelsBytes/4))}
		left -= len(l.Name) + len(l.Value) + 16 // with their headers
		e.Labels = append(e.Labels, l)
	}
	return e
}

func (r *Refusal) record(rq *Request, n proto.Counts, now time.Time, example func() Example) {
	if r.Requests == 0 {
		r.First = now
	}
	r.Requests++
	r.Counts.Add(n)
	r.Last = now
	if now.Sub(r.Example.At) >= exampleEvery {
		r.Example = example()
		r.Example.RequestID, r.Example.At = kept(rq.ID, maxNameBytes), now
	}
}

type refusalKey struct {
	reason, metric string
	sender         Sender
}

// refusals are those of one tenant. When there are too many, the oldest of the
// reason that has most goes: a flood for one reason does not hide the others.
type refusals struct {
	rows     map[refusalKey]*list.Element // of a list of byReason
	byReason map[string]*list.List        // of *Refusal, the newest first
}

func newRefusals() refusals {
	return refusals{rows: make(map[refusalKey]*list.Element), byReason: make(map[string]*list.List)}
}

// find returns the refusal of key, as the newest.
func (rs *refusals) find(key refusalKey) *Refusal {
	if e := rs.rows[key]; e != nil {
		rs.byReason[key.reason].MoveToFront(e)
		return e.Value.(*Refusal)
	}
	if len(rs.rows) >= MaxRefusals {
		rs.dropOldest()
	}
	key.metric = strings.Clone(key.metric)
	of := rs.byReason[key.reason]
	if of == nil {
		of = list.New()
		rs.byReason[key.reason] = of
	}
	r := &Refusal{Reason: key.reason, Metric: key.metric, Sender: key.sender}
	rs.rows[key] = of.PushFront(r)
	return r
}

func (rs *refusals) dropOldest() {
	var most *list.List
	for _, of := range rs.byReason {
		if most == nil || of.Len() > most.Len() {
			most = of
		}
	}
	r := most.Remove(most.Back()).(*Refusal)
	delete(rs.rows, refusalKey{r.Reason, r.Metric, r.Sender})
	if most.Len() == 0 {
		delete(rs.byReason, r.Reason)
	}
}

func (rs *refusals) all() []Refusal {
	out := make([]Refusal, 0, len(rs.rows))
	for _, e := range rs.rows {
		out = append(out, *e.Value.(*Refusal))
	}
	slices.SortFunc(out, func(a, b Refusal) int { return b.Last.Compare(a.Last) })
	return out
}
