// Package proto is weir's wire vocabulary: remote-write requests read in place,
// the frames that receivers send to ingesters, and the errors and reasons that
// reach a client.
//
//	request.go    Request: a scanner over decoded remote-write 1.0 and 2.0 bytes
//	samples.go    floats, exemplars and metadata of one scanned series
//	histogram.go  native histograms
//	builder.go    Builder: a writer of remote-write 2.0, for what is translated into it
//	frame.go      Frame and Reply, what passes between receiver and ingester
//	reason.go     why a part of a request was refused
//	errors.go     why a request as a whole was refused
//
// It is the only package with strings that alias a request's bytes; they are
// named views, and live until the buffer behind the Request is released.
package proto

import "unsafe"

// Version is a remote-write protocol version.
type Version uint8

const (
	// V1 is remote write 1.0, message prometheus.WriteRequest.
	V1 Version = 1
	// V2 is remote write 2.0, message io.prometheus.write.v2.Request.
	V2 Version = 2
)

// String returns "1.0" or "2.0".
func (v Version) String() string {
	if v == V2 {
		return "2.0"
	}
	return "1.0"
}

// Protocol buffer wire types.
const (
	wireVarint = 0
	wireI64    = 1
	wireBytes  = 2
	wireI32    = 5
)

// Tags of one byte, as they lie on the wire.
func tag(field, wire int) byte { return byte(field<<3 | wire) }

// uvarint reads a varint at b[p] and returns it with the position behind it, or
// a negative position when b ends early or the varint has more than 64 bits.
func uvarint(b []byte, p int) (uint64, int) {
	if p < len(b) && b[p] < 0x80 {
		return uint64(b[p]), p + 1
	}
	return uvarintLong(b, p)
}

// Not inlined, so that what calls it for the rare case can be.
//
//go:noinline
func uvarintLong(b []byte, p int) (uint64, int) {
	var v uint64
	for shift := uint(0); shift < 64 && p < len(b); shift += 7 {
		c := b[p]
		p++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if shift == 63 && c > 1 {
				return 0, -1
			}
			return v, p
		}
	}
	return 0, -1
}

// span reads a length at b[p] and returns the bounds of the bytes it announces,
// or a negative end.
func span(b []byte, p int) (start, end int) {
	if p < len(b) && b[p] < 0x80 {
		if end = p + 1 + int(b[p]); end <= len(b) {
			return p + 1, end
		}
		return 0, -1
	}
	return spanLong(b, p)
}

//go:noinline
func spanLong(b []byte, p int) (start, end int) {
	n, p := uvarintLong(b, p)
	if p < 0 || n > uint64(len(b)-p) {
		return 0, -1
	}
	return p, p + int(n)
}

// field is one protocol buffer field. For wireBytes, val holds its bytes; for
// the others, num does (floats as their bits).
type field struct {
	num  uint64
	val  []byte
	id   int
	wire int
}

// next reads the field at b[p] and returns the position behind it, or a
// negative one.
func (f *field) next(b []byte, p int) int {
	start := p
	t, p := uvarint(b, p)
	if p < 0 || t>>3 == 0 || t>>3 > 1<<29-1 {
		return -1
	}
	if p-start > 1 && b[p-1] == 0 {
		return -1 // longer than it need be: no encoder does that, and we compare single bytes
	}
	f.id, f.wire = int(t>>3), int(t&7)
	switch f.wire {
	case wireVarint:
		f.num, p = uvarint(b, p)
		return p
	case wireI64:
		if len(b)-p < 8 {
			return -1
		}
		f.num = le64(b, p)
		return p + 8
	case wireI32:
		if len(b)-p < 4 {
			return -1
		}
		return p + 4
	case wireBytes:
		var start int
		start, p = span(b, p)
		if p >= 0 {
			f.val = b[start:p]
		}
		return p
	}
	return -1
}

func le64(b []byte, p int) uint64 {
	_ = b[p+7]
	return uint64(b[p]) | uint64(b[p+1])<<8 | uint64(b[p+2])<<16 | uint64(b[p+3])<<24 |
		uint64(b[p+4])<<32 | uint64(b[p+5])<<40 | uint64(b[p+6])<<48 | uint64(b[p+7])<<56
}

func zigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// view returns b as a string without copying it. It is valid while b is.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
