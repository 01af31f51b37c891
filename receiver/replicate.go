package receiver

import (
	"context"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tracing"
)

// replicate sends the request's frame to the ingester and counts what became of
// it. Series that the ingester does not know are sent again with their labels. The
// error may be that a part was postponed: then req counts the rest.
func (r *Receiver) replicate(ctx context.Context, req *request) (err error) {
	ctx, span := tracing.Start(ctx, "replicate")
	defer func() { tracing.End(span, err) }()
	req.reply.Rejected.Track = req.rejected.Track
	if err := r.Ingester.Write(ctx, req.who.Tenant, &req.frame, &req.reply); err != nil {
		return err
	}
	req.settle(&req.reply, req.origin)
	req.settleMetadata(req.reply.Families)
	for _, m := range req.learned {
		req.series[m.series].metadata.Store(m.hash)
	}
	if len(req.reply.Unknown) == 0 {
		return req.postponement()
	}
	var (
		taught       proto.Frame
		taughtOrigin []uint32
		reply        proto.Reply
	)
	taught.Sender = req.frame.Sender
	reply.Rejected.Track = req.rejected.Track
	if err := req.teach(r.cfg.maxSpelled(), &taught, &taughtOrigin); err != nil {
		return err
	}
	if err := r.Ingester.Write(ctx, req.who.Tenant, &taught, &reply); err != nil {
		return err
	}
	req.settle(&reply, taughtOrigin)
	if len(reply.Unknown) > 0 {
		return proto.Errorf(proto.KindInternal, "weir-internal", "an ingester does not know %d series whose labels it was sent", len(reply.Unknown))
	}
	return req.postponement()
}

// postponement is why a part of the request was postponed, nil when none was.
func (req *request) postponement() error {
	if req.postponed == nil {
		return nil
	}
	return req.postponed
}

// settle takes over what an ingester answered about a frame whose series i is
// the request's series origin[i].
func (req *request) settle(reply *proto.Reply, origin []uint32) {
	for _, h := range reply.Handles {
		req.series[origin[h.Series]].handle.Store(h.Handle)
	}
	req.nearSeries = append(req.nearSeries[:0], reply.Near...)
	req.written.Add(reply.Written)
	if reply.Cause != nil {
		req.postponed = reply.Cause
		for _, i := range reply.Held {
			req.held = append(req.held, origin[i])
		}
	}
	req.rejected.Merge(&reply.Rejected, func(i uint32) uint32 { return origin[i] })
}

// teach copies the series that the ingester does not know into f, with their
// labels.
func (req *request) teach(maxBytes int, f *proto.Frame, origin *[]uint32) error {
	unknown := req.reply.Unknown
	var floats, histograms, exemplars uint32
	for i, s := range req.frame.Series {
		if len(unknown) > 0 && unknown[0] == uint32(i) {
			unknown = unknown[1:]
			ls, _ := req.admit(&req.series[req.origin[i]].Series)
			if err := req.spell(ls, maxBytes); err != nil {
				return err
			}
			f.Labels = append(f.Labels, proto.SeriesLabels{Series: uint32(len(f.Series)), Labels: req.copyLabels(ls)})
			*origin = append(*origin, req.origin[i])
			f.Series = append(f.Series, s)
			f.Floats = append(f.Floats, req.frame.Floats[floats:floats+s.Floats]...)
			f.Histograms = append(f.Histograms, req.frame.Histograms[histograms:histograms+s.Histograms]...)
			f.Exemplars = append(f.Exemplars, req.frame.Exemplars[exemplars:exemplars+s.Exemplars]...)
		}
		floats += s.Floats
		histograms += s.Histograms
		exemplars += s.Exemplars
	}
	return nil
}
