package ledger

import (
	"container/list"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/proto"
)

// Sender tells those apart who send for one tenant.
type Sender struct {
	Credential string `json:"credential,omitempty"` // its name
	UserAgent  string `json:"userAgent"`
	Address    string `json:"address"`  // without a port
	Protocol   string `json:"protocol"` // 1.0, 2.0 or otlp
}

// cut returns views that are no longer than what is kept.
func (s Sender) cut() Sender {
	return Sender{cut(s.Credential, maxNameBytes), cut(s.UserAgent, maxNameBytes), cut(s.Address, maxNameBytes), cut(s.Protocol, maxNameBytes)}
}

func (s Sender) clone() Sender {
	return Sender{strings.Clone(s.Credential), strings.Clone(s.UserAgent), strings.Clone(s.Address), strings.Clone(s.Protocol)}
}

// SenderStatus is what is known of a sender.
type SenderStatus struct {
	Sender
	Encoding  string     `json:"encoding"` // of its last request
	First     time.Time  `json:"first"`    // request
	Last      time.Time  `json:"last"`     // request
	Requests  int        `json:"requests"`
	Retries   int        `json:"retries"`             // requests that were sent before, by the sender's word
	Written   int        `json:"written"`             // samples of every kind
	Refused   int        `json:"refused"`             // samples of every kind, of requests whose rest was stored; with those that rules drop
	Failed    int        `json:"failed"`              // requests of which nothing was stored, or not all
	LastError *LastError `json:"lastError,omitempty"` // never written again: a new one is a new pointer

	Newest   int64     `json:"-"` // timestamp of the newest sample of the last request that had any, ms; NoTime: none had
	NewestAt time.Time `json:"-"` // when that request came
}

// LastError is the last refusal of a sender's samples or requests.
type LastError struct {
	ID        string    `json:"id"`
	Detail    string    `json:"detail"`
	At        time.Time `json:"at"`
	RequestID string    `json:"requestId,omitempty"`
}

// Lag is how far the newest sample was behind our clock when it came; below 0,
// it was ahead. It is 0 when there was none.
func (s *SenderStatus) Lag() time.Duration {
	if s.Newest == NoTime {
		return 0
	}
	const far = 100 * 365 * 24 * time.Hour // less than the longest Duration
	at := s.NewestAt.UnixMilli()
	newest := min(max(s.Newest, at-far.Milliseconds()), at+far.Milliseconds())
	return time.Duration(at-newest) * time.Millisecond
}

func (s *SenderStatus) record(rq *Request, now time.Time) {
	if s.Requests == 0 {
		s.First = now
	}
	s.Last = now
	s.Requests++
	if s.Encoding != rq.Encoding {
		s.Encoding = kept(rq.Encoding, maxNameBytes)
	}
	if rq.Attempt > 0 {
		s.Retries++
	}
	s.Written += rq.Written.Total()
	if rq.Newest != NoTime {
		s.Newest, s.NewestAt = rq.Newest, now
	}
	for i := range rq.Refused {
		s.Refused += rq.Refused[i].Counts.Total()
	}
	if rq.Err != nil {
		s.Failed++
		s.remember(rq, rq.Err.ID, now, func() string { return rq.Err.Msg })
		return
	}
	// What the tenant's own rules drop is no error, and would hide those that are.
	wrong := func(x Refused) bool { return x.Reason != proto.RelabelDropped }
	if i := slices.IndexFunc(rq.Refused, wrong); i >= 0 {
		x := &rq.Refused[i]
		s.remember(rq, x.Reason.ID(), now, func() string {
			_, detail := rq.Example(x)
			return detail
		})
	}
}

// remember keeps an error, unless the one that is kept is as good.
func (s *SenderStatus) remember(rq *Request, id string, now time.Time, detail func() string) {
	if s.LastError != nil && id == s.LastError.ID && now.Sub(s.LastError.At) < exampleEvery {
		return
	}
	s.LastError = &LastError{ID: id, Detail: kept(detail(), maxDetailBytes), At: now, RequestID: kept(rq.ID, maxNameBytes)}
}

// senders are those of one tenant. When there are too many, the one goes that was
// not heard of for longest.
type senders struct {
	rows  map[Sender]*list.Element
	order *list.List // of *SenderStatus, heard of last first
}

func newSenders() senders {
	return senders{rows: make(map[Sender]*list.Element), order: list.New()}
}

// find returns what is known of a sender, as the one heard of last.
func (ss *senders) find(key *Sender, now time.Time) *SenderStatus {
	if e := ss.rows[*key]; e != nil {
		ss.order.MoveToFront(e)
		return e.Value.(*SenderStatus)
	}
	ss.forget(now)
	if ss.order.Len() >= MaxSenders {
		ss.drop(ss.order.Back())
	}
	s := &SenderStatus{Sender: key.clone(), Newest: NoTime}
	ss.rows[s.Sender] = ss.order.PushFront(s)
	return s
}

// forget drops those that are gone.
func (ss *senders) forget(now time.Time) {
	for e := ss.order.Back(); e != nil && now.Sub(e.Value.(*SenderStatus).Last) > forgetSender; e = ss.order.Back() {
		ss.drop(e)
	}
}

func (ss *senders) drop(e *list.Element) {
	delete(ss.rows, ss.order.Remove(e).(*SenderStatus).Sender)
}

func (ss *senders) all() []SenderStatus {
	out := make([]SenderStatus, 0, ss.order.Len())
	for e := ss.order.Front(); e != nil; e = e.Next() {
		out = append(out, *e.Value.(*SenderStatus))
	}
	return out
}
