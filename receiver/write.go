package receiver

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/relabel"
	"github.com/weir-metrics/weir/tenant"
)

// request is the working memory of one write request. It comes from a pool and
// has one owner, the goroutine that serves the request.
type request struct {
	hr            *http.Request // that brought it; nil: it is our own
	source        string        // from where hr came
	otlp          bool
	who           tenant.Identity
	policy        policy
	hold          overload.Hold // what it holds of the bytes in flight
	body, decoded []byte
	scan          proto.Request
	series        []scanned // the request's series, in order
	undecided     []uint32  // indexes into series: no verdict, or one to move
	frame         proto.Frame
	origin        []uint32  // index into series of each frame series
	learned       []learned // metadata in the frame that version 2 series brought
	reply         proto.Reply

	paced      bool          // let through by the rates of the tenant, or refused
	paid       tenant.Cost   // what it was charged
	nearRates  []proto.Quota // of the tenant
	nearSeries []proto.Quota // limits on series, likewise

	rated    ratedSets // that over and paidSets are about
	over     sets      // that are used up
	paidSets setUse    // what they were charged

	parsed  int // series whose labels were parsed
	spelled int // bytes of the labels that were copied

	sent, written proto.Counts     // sent once all of it is scanned
	scanned       bool             // all of it was
	traced        bool             // the sender wants a receipt
	newest        int64            // timestamp of the newest sample, ms; ledger.NoTime: none was read
	rejected      proto.Rejections // examples name indexes into series
	unseen        []unseen         // some of what was rejected that is no series
	postponed     *proto.Error     // why a part is to be sent again; nil: none is
	held          []uint32         // indexes of the series it is of

	dropped  proto.Rejections     // by rules: not stored, and no refusal; of one reason
	redacted redactions           // what redaction changed
	changes  [relabel.Changes]int // new series by what shadow rules would change
	unsorted int                  // new series whose labels were not sorted

	ruling  ruling                // scratch
	labels  []labels.Label        // scratch
	builder labels.ScratchBuilder // scratch
	canon   []byte                // scratch
	entry   ledger.Request        // scratch
}

// scanned is a series of a request and what becomes of it.
type scanned struct {
	proto.Series
	*verdict
}

// unseen is something that was refused and is none of the request's series.
type unseen struct {
	reason proto.Reason
	counts proto.Counts
	t      int64 // ms
	labels labels.Labels
	detail string
}

// learned is the hash of metadata that series said, to be remembered once the
// ingester has it.
type learned struct{ series, hash uint32 }

// maxPooled is the size from which a buffer is left to the garbage collector
// rather than kept for the next request, which will hardly need it.
const maxPooled = 8 << 20

var requests = sync.Pool{New: func() any { return new(request) }}

func newRequest() *request { return requests.Get().(*request) }

// release gives req back. Nothing may point into its buffers any more. The
// verdicts it points to stay until the next request overwrites them.
func (req *request) release() {
	req.hold.Leave()
	proto.Poison(req.body)
	proto.Poison(req.decoded)
	if cap(req.body) > maxPooled || cap(req.decoded) > maxPooled || cap(req.series) > maxPooled/64 ||
		cap(req.frame.Floats) > maxPooled/16 || cap(req.frame.Histograms)+cap(req.frame.Exemplars) > maxPooled/64 ||
		cap(req.frame.Metadata)+cap(req.frame.Labels) > maxPooled/64 || cap(req.labels)+cap(req.rejected.Refused)+cap(req.reply.Rejected.Refused) > maxPooled/64 {
		return
	}
	req.series, req.undecided = req.series[:0], req.undecided[:0]
	req.origin, req.learned = req.origin[:0], req.learned[:0]
	req.frame.Reset()
	req.reply.Reset()
	req.rejected.Reset()
	req.dropped.Reset()
	req.sent, req.written, req.parsed, req.spelled, req.unsorted = proto.Counts{}, proto.Counts{}, 0, 0, 0
	req.redacted, req.changes = redactions{}, [relabel.Changes]int{}
	if req.ruling.seen > maxPooled {
		req.ruling = ruling{}
	}
	req.ruling.seen = 0
	req.scanned, req.traced = false, false
	clear(req.unseen)
	req.unseen = req.unseen[:0]
	req.entry = ledger.Request{Refused: req.entry.Refused[:0]}
	req.postponed, req.held = nil, req.held[:0]
	req.hr, req.source, req.otlp, req.who, req.policy = nil, "", false, tenant.Identity{}, policy{}
	req.paced, req.paid = false, tenant.Cost{}
	req.nearRates, req.nearSeries = req.nearRates[:0], req.nearSeries[:0]
	req.rated, req.over, req.paidSets = nil, 0, setUse{}
	requests.Put(req)
}

// write stores the decoded request, of at most maxSeries series, and counts in
// req what became of it. An error means that nothing may have been stored, or not
// all, and says whether the sender should try again.
func (r *Receiver) write(ctx context.Context, v proto.Version, req *request, maxSeries int) error {
	adm := r.admissionsOf(&req.who)
	adm.under(req.policy)
	req.ruling.hashWith(adm.key)
	if err := req.scan.Reset(v, req.decoded, adm.seed, r.cfg.MaxSymbols); err != nil {
		return err
	}
	if err := req.lookUp(adm, maxSeries, r.cfg.MaxSamples); err != nil {
		return err
	}
	if len(req.undecided) > 0 {
		if err := req.decide(adm, r.ratedSets(req), r.cfg.maxSpelled()); err != nil {
			return err
		}
	}
	if err := r.paceSets(req); err != nil {
		return err
	}
	if err := req.build(r.cfg.maxSpelled(), time.Now()); err != nil {
		return err
	}
	if err := r.pace(ctx, req, req.cost()); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return timedOut(r.cfg.Timeout)
	}
	return r.replicate(ctx, req)
}

// lookUp scans every series of the request and finds its verdict.
func (req *request) lookUp(adm *admissions, maxSeries, maxSamples int) error {
	adm.mu.RLock()
	defer adm.mu.RUnlock()
	current := adm.policy == req.policy // else they have just changed, and the verdicts are not ours
	var next uint32
	samples := 0
	for {
		var s scanned
		more, err := req.scan.Next(&s.Series)
		if err != nil {
			return err
		}
		if !more {
			if samples+req.scan.MetadataCount() > maxSamples {
				return tooManySamples(maxSamples)
			}
			req.scanned = true
			return nil
		}
		counts := s.Counts()
		if samples += counts.Total(); samples > maxSamples {
			return tooManySamples(maxSamples)
		}
		req.sent.Add(counts)
		if len(req.series) >= maxSeries {
			return proto.Errorf(proto.KindTooLarge, "weir-too-many-series",
				"the request has more than %d series (max_series_per_request); %s", maxSeries, smallerBatches)
		}
		old := false
		if s.Cacheable() && current {
			s.verdict, old = adm.find(s.Key, &next)
		}
		if s.verdict == nil || old {
			req.undecided = append(req.undecided, uint32(len(req.series)))
		}
		req.series = append(req.series, s)
	}
}

func tooManySamples(limit int) error {
	return proto.Errorf(proto.KindTooLarge, "weir-too-many-samples",
		"the request has more than %d samples (max_samples_per_request); %s", limit, smallerBatches)
}

// decide passes the missing verdicts and remembers them. Labels of series that
// are admitted for the first time go into the frame. Together they may have
// maxBytes: in version 2 few bytes stand for many.
func (req *request) decide(adm *admissions, rated ratedSets, maxBytes int) error {
	decisions := make([]decision, len(req.undecided))
	rep := adm.reportOf(req.policy)
	for n, i := range req.undecided {
		if req.series[i].verdict != nil {
			continue // known, in the old generation
		}
		var err error
		if decisions[n], err = req.decideOne(i, adm.seed, rep, rated, maxBytes); err != nil {
			return err
		}
	}
	adm.mu.Lock()
	defer adm.mu.Unlock()
	for n, i := range req.undecided {
		s, d := &req.series[i], decisions[n]
		switch v := s.verdict; {
		case v != nil:
			s.verdict = adm.insert(req.policy, s.Key, v.decision, v.handle.Load(), v.metadata.Load())
		case !s.Cacheable():
			s.verdict = new(verdict).set(d, proto.NoHandle, 0)
		default:
			s.verdict = adm.insert(req.policy, s.Key, d, proto.NoHandle, 0)
		}
	}
	return nil
}

// decideOne decides about series i, which is new.
func (req *request) decideOne(i uint32, seed uint64, rep *report, rated ratedSets, maxBytes int) (d decision, err error) {
	req.parsed++
	req.ruling.begin(rep != nil && rep.shadow != nil)
	ls, no := req.admit(&req.series[i].Series)
	req.ruling.compare = false
	req.note(rep)
	d.reason, d.canary = no.reason, req.ruling.canary
	if no.reason != proto.OK {
		return d, req.spell(nil, maxBytes)
	}
	if err := req.spell(ls, maxBytes); err != nil {
		return d, err
	}
	d.id, req.canon = proto.Identity(ls, seed, req.canon)
	d.sets = rated.of(ls)
	req.frame.Labels = append(req.frame.Labels, proto.SeriesLabels{Series: i, Labels: req.copyLabels(ls)})
	return d, nil
}

// spell counts the bytes of labels that are about to be copied, and refuses the
// request when they and its metadata have more than maxBytes, or those that rules
// looked at.
func (req *request) spell(ls []labels.Label, maxBytes int) error {
	for _, l := range ls {
		req.spelled += len(l.Name) + len(l.Value)
	}
	if n := max(req.spelled, req.ruling.seen); n > maxBytes {
		return tooLarge("when its symbols are written out", int64(n), "4 x max_decoded_bytes", maxBytes)
	}
	return nil
}

// manyLabels is how many labels beyond the limit are looked at, because they may
// have no value, which makes them none.
const manyLabels = 1000

// admit reads the labels of s and decides about them. The labels are views of
// the request, valid until the next call.
func (req *request) admit(s *proto.Series) (canonical []labels.Label, no refusal) {
	lim := req.policy.limits()
	if n := req.scan.LabelCount(s); n > manyLabels+lim.MaxLabelsPerSeries {
		return nil, refusal{reason: proto.LabelsTooMany, labels: n}
	}
	ls, reason := req.scan.AppendLabels(req.labels[:0], s)
	req.labels = ls
	if reason != proto.OK {
		return nil, refusal{reason: reason}
	}
	return admit(req.policy, ls, &req.ruling)
}

// copyLabels returns canonical labels that share no memory with ls.
func (req *request) copyLabels(ls []labels.Label) labels.Labels {
	req.builder.Reset()
	for _, l := range ls {
		req.builder.Add(l.Name, l.Value)
	}
	return req.builder.Labels()
}

// build decodes the samples of the admitted series into the frame. It checks
// what depends on the sample rather than on its series.
func (req *request) build(maxBytes int, now time.Time) error {
	lim := req.policy.limits()
	f := &req.frame
	redacts := req.policy.redacts()
	newLabels := f.Labels
	f.Labels = f.Labels[:0]
	b := bounds{newest: ledger.NoTime, min: -1 << 63, max: now.Add(lim.FutureGrace).UnixMilli(), now: now, lim: lim}
	if lim.PastGrace > 0 {
		b.min = now.Add(-lim.PastGrace).UnixMilli()
	}
	for i := range req.series {
		s := &req.series[i]
		isNew := len(newLabels) > 0 && newLabels[0].Series == uint32(i)
		switch s.reason {
		case proto.OK:
			if req.over != 0 && req.beyondSetRate(uint32(i)) {
				if isNew {
					newLabels = newLabels[1:]
				}
				continue
			}
		case proto.RelabelDropped:
			req.drop(uint32(i))
			continue
		default:
			req.refuse(uint32(i))
			continue
		}
		nf, nh, ne := len(f.Floats), len(f.Histograms), len(f.Exemplars)
		if err := req.scan.AppendSamples(f, &s.Series, uint32(i), &req.rejected); err != nil {
			return err
		}
		if len(f.Exemplars) > ne && redacts {
			req.redactExemplars(uint32(i), ne)
		}
		b.check(req, uint32(i), nf, nh, ne)
		if isNew {
			f.Labels = append(f.Labels, proto.SeriesLabels{Series: uint32(len(f.Series)), Labels: newLabels[0].Labels})
			newLabels = newLabels[1:]
		}
		f.Series = append(f.Series, proto.FrameSeries{
			ID: s.id, Handle: s.handle.Load(), Floats: uint32(len(f.Floats) - nf),
			Histograms: uint32(len(f.Histograms) - nh), Exemplars: uint32(len(f.Exemplars) - ne),
		})
		req.origin = append(req.origin, uint32(i))
		if h := req.scan.MetadataHash(&s.Series); h != 0 && h != s.verdict.metadata.Load() {
			name := ""
			if isNew {
				name = f.Labels[len(f.Labels)-1].Labels.Get(model.MetricNameLabel)
			} else {
				name = req.nameOf(uint32(i))
			}
			req.learnMetadata(lim, uint32(i), h, name)
			if err := req.spell(nil, maxBytes); err != nil {
				return err
			}
		}
	}
	req.newest = b.newest
	return req.scan.MetadataV1(func(m proto.Metadata) { req.addMetadata(lim, proto.NoSeries, m) })
}

// refuse counts a series whose verdict is a refusal. A series that carries
// nothing but labels or metadata counts as one piece of metadata.
func (req *request) refuse(i uint32) {
	s := &req.series[i]
	counts := s.Counts()
	if counts.Total() == 0 {
		counts.Metadata = 1
		req.sent.Metadata++
	}
	req.rejected.Add(s.reason, counts, i, 0, func() string {
		_, no := req.admit(&s.Series)
		return no.detail(req.policy)
	})
}

// drop counts a series that rules drop. That is no refusal.
func (req *request) drop(i uint32) {
	s := &req.series[i]
	req.dropped.Add(proto.RelabelDropped, s.Counts(), i, 0, func() string {
		_, no := req.admit(&s.Series)
		return no.detail(req.policy)
	})
}

// refuseUnseen counts what of a request is refused that is none of its series,
// or did not become one. ls are the labels that it has or would have, as far as
// they are known.
func (req *request) refuseUnseen(reason proto.Reason, counts proto.Counts, t int64, ls labels.Labels, detail func() string) {
	req.sent.Add(counts)
	req.refused(reason, counts, t, ls, detail)
}

// refused is refuseUnseen for what is counted as sent already.
func (req *request) refused(reason proto.Reason, counts proto.Counts, t int64, ls labels.Labels, detail func() string) {
	said := func() string { return req.policy.hide(detail()) }
	req.rejected.Add(reason, counts, proto.NoSeries, t, said)
	if len(req.unseen) < maxGroups {
		req.unseen = append(req.unseen, unseen{reason, counts, t, req.policy.hideLabels(ls), said()})
	}
}
