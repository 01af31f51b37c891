package receiver

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/weir-metrics/weir/proto"
)

// encoding is a content coding, as it is spelled in HTTP.
type encoding string

const (
	identity  encoding = "identity"
	snappy    encoding = "snappy" // the block format
	zstandard encoding = "zstd"
	gzipped   encoding = "gzip"
)

// decoders decompress bodies. They never make more than max bytes of one, and
// take no memory for a length that the body cannot have, nor before req.hold has
// it.
type decoders struct {
	max  int           // bytes
	zstd *zstd.Decoder // decodes whole buffers, as many at once as there are processors, each in its caller's goroutine
	gzip sync.Pool     // of *gzip.Reader
}

func (d *decoders) init(n int) {
	d.max = n
	var err error
	d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(uint64(n)), zstd.WithDecoderMaxWindow(uint64(max(n, zstd.MinWindowSize))))
	if err != nil {
		panic(err) // an option out of its range, which the configuration rules out
	}
}

// decode decodes req.body into req.decoded.
func (d *decoders) decode(enc encoding, req *request) error {
	switch enc {
	case snappy:
		return d.unsnappy(req)
	case zstandard:
		return d.unzstd(req)
	case gzipped:
		return d.gunzip(req)
	}
	if len(req.body) > d.max {
		return d.tooLarge(len(req.body))
	}
	if err := req.hold.Take(workingBytes(len(req.body))); err != nil {
		return err
	}
	req.decoded = append(req.decoded[:0], req.body...)
	return nil
}

// workingBytes is what a request takes that has n bytes decoded: those, and as
// much again for its series and its frame.
func workingBytes(n int) int64 { return 2 * int64(n) }

func (d *decoders) tooLarge(n int) error {
	return tooLarge("decoded", int64(n), "max_decoded_bytes", d.max)
}

func (d *decoders) unsnappy(req *request) error {
	n, err := s2.DecodedLen(req.body)
	if err != nil {
		return notSnappy(err)
	}
	if n > d.max {
		return d.tooLarge(n)
	}
	if n > 32*len(req.body) {
		return proto.Errorf(proto.KindBadData, "weir-snappy-malformed",
			"the body of %d bytes declares %d bytes decoded, more than snappy can pack into it", len(req.body), n)
	}
	if err := req.hold.Take(workingBytes(n)); err != nil {
		return err
	}
	if cap(req.decoded) < n {
		req.decoded = make([]byte, n+n/4)
	}
	if req.decoded, err = s2.Decode(req.decoded[:cap(req.decoded)], req.body); err != nil {
		return notSnappy(err)
	}
	return nil
}

func notSnappy(err error) error {
	return proto.Errorf(proto.KindBadData, "weir-snappy-malformed", "the body is not snappy block format: %v", err)
}

// A block of a zstd frame takes at least this many bytes and decodes to at most
// that many.
const leastZstdBlock, mostOfZstdBlock = 4, 128 << 10

func (d *decoders) unzstd(req *request) error {
	var h zstd.Header
	held := 0
	if err := h.Decode(req.body); err == nil && h.HasFCS {
		if h.FrameContentSize > uint64(d.max) {
			return d.tooLarge(int(min(h.FrameContentSize, 1<<62)))
		}
		if most := uint64(len(req.body)/leastZstdBlock+1) * mostOfZstdBlock; h.FrameContentSize > most {
			return proto.Errorf(proto.KindBadData, "weir-zstd-malformed",
				"the body of %d bytes declares %d bytes decoded, more than zstd can pack into it", len(req.body), h.FrameContentSize)
		}
		held = int(h.FrameContentSize)
		if err := req.hold.Take(workingBytes(held)); err != nil {
			return err
		}
	}
	if len(req.body) == 0 {
		return notZstd(io.ErrUnexpectedEOF) // it would decode to nothing
	}
	decoded, err := d.zstd.DecodeAll(req.body, req.decoded[:0])
	if decoded != nil {
		req.decoded = decoded
	}
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return d.tooLarge(d.max + 1)
	case err != nil:
		return notZstd(err)
	}
	// What a frame does not declare, or what follows the first one, counts late:
	// there is one such body for each processor at most.
	return req.hold.Take(workingBytes(len(req.decoded) - held))
}

func notZstd(err error) error {
	return proto.Errorf(proto.KindBadData, "weir-zstd-malformed", "the body is not zstd: %v", err)
}

func (d *decoders) gunzip(req *request) error {
	zr, _ := d.gzip.Get().(*gzip.Reader)
	if zr == nil {
		zr = new(gzip.Reader)
	}
	defer d.gzip.Put(zr)
	err := zr.Reset(bytes.NewReader(req.body))
	if err == nil {
		req.decoded, err = readAll(io.LimitReader(zr, int64(d.max)+1), req.decoded[:0], -1, &req.hold)
	}
	var refused *proto.Error
	switch {
	case errors.As(err, &refused):
		return err
	case err != nil:
		return proto.Errorf(proto.KindBadData, "weir-gzip-malformed", "the body is not gzip: %v", err)
	case len(req.decoded) > d.max:
		return d.tooLarge(len(req.decoded))
	}
	return req.hold.Take(workingBytes(len(req.decoded)) - int64(len(req.decoded))) // the rest: readAll took what it read
}
