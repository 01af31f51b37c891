package proto_test

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/weir-metrics/weir/proto"
)

// A message is the shape of a protocol buffer message: what the tests need to
// take one apart, and to write one by hand.
type message map[int]fieldKind

type fieldKind struct {
	wire int      // of a single value
	list bool     // a number that may be packed
	sub  *message // for wire type 2: the message inside, nil: text
	text string   // what the field is to oddities, when that matters
}

const (
	varint  = 0
	i64     = 1
	wireLen = 2
	i32     = 5
)

var (
	labelMessage = message{1: {wire: wireLen}, 2: {wire: wireLen}}
	spanMessage  = message{1: {wire: varint}, 2: {wire: varint}}

	histogramV1 = message{
		1: {wire: varint}, 2: {wire: i64}, 3: {wire: i64}, 4: {wire: varint}, 5: {wire: i64}, 6: {wire: varint}, 7: {wire: i64},
		8: {wire: wireLen, sub: &spanMessage}, 9: {wire: varint, list: true}, 10: {wire: i64, list: true},
		11: {wire: wireLen, sub: &spanMessage}, 12: {wire: varint, list: true}, 13: {wire: i64, list: true},
		14: {wire: varint}, 15: {wire: varint}, 16: {wire: i64, list: true},
	}
	histogramV2 = with(histogramV1, 17, fieldKind{wire: varint})

	sampleV1 = message{1: {wire: i64}, 2: {wire: varint}}
	sampleV2 = with(sampleV1, 3, fieldKind{wire: varint})

	exemplarV1 = message{1: {wire: wireLen, sub: &labelMessage}, 2: {wire: i64}, 3: {wire: varint}}
	exemplarV2 = with(exemplarV1, 1, fieldKind{wire: varint, list: true, text: "ref"})

	seriesV1 = message{
		1: {wire: wireLen, sub: &labelMessage, text: "label"}, 2: {wire: wireLen, sub: &sampleV1},
		3: {wire: wireLen, sub: &exemplarV1}, 4: {wire: wireLen, sub: &histogramV1},
	}
	seriesV2 = message{
		1: {wire: varint, list: true, text: "ref"}, 2: {wire: wireLen, sub: &sampleV2},
		3: {wire: wireLen, sub: &histogramV2}, 4: {wire: wireLen, sub: &exemplarV2},
		5: {wire: wireLen, text: "metadata", sub: &message{1: {wire: varint}, 3: {wire: varint, text: "ref"}, 4: {wire: varint, text: "ref"}}},
	}
	requestV1 = message{
		1: {wire: wireLen, sub: &seriesV1},
		3: {wire: wireLen, text: "metadata of version 1", sub: &message{1: {wire: varint}, 2: {wire: wireLen}, 4: {wire: wireLen}, 5: {wire: wireLen}}},
	}
	requestV2 = message{4: {wire: wireLen}, 5: {wire: wireLen, sub: &seriesV2}}
)

func with(m message, id int, k fieldKind) message {
	out := maps.Clone(m)
	out[id] = k
	return out
}

func requestMessage(v proto.Version) *message {
	if v == proto.V2 {
		return &requestV2
	}
	return &requestV1
}

// wireField is one field of a message.
type wireField struct {
	id, wire int
	num      uint64
	val      []byte
}

func (f *wireField) appendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(f.id)<<3|uint64(f.wire))
	switch f.wire {
	case varint:
		return binary.AppendUvarint(dst, f.num)
	case i64:
		return binary.LittleEndian.AppendUint64(dst, f.num)
	case i32:
		return binary.LittleEndian.AppendUint32(dst, uint32(f.num))
	default:
		dst = binary.AppendUvarint(dst, uint64(len(f.val)))
		return append(dst, f.val...)
	}
}

func encode(fields ...wireField) []byte {
	var out []byte
	for i := range fields {
		out = fields[i].appendTo(out)
	}
	return out
}

// errOdd is the end of what can be taken apart: what is wrong there is noted.
var errOdd = errors.New("odd")

// An oddity is something that a request may say and that our decoder is known
// to take differently from the generated one. No sender says any of this.
type oddity string

const (
	// Our decoder refuses these; the generated code takes them.
	oddGroup    oddity = "a group, which proto3 does not have"
	oddNumber   oddity = "a field number above 2^29-1, cut to 32 bits"
	oddOverflow oddity = "a varint above 64 bits, cut to 64"
	oddTag      oddity = "a tag with more bytes than it needs"
	oddPacked   oddity = "a packed number that ends behind its field"
	// Here they differ in what they read.
	oddRef      oddity = "a symbol reference above 32 bits, cut to 32; to us it is out of range"
	oddMetadata oddity = "two metadata messages in a series, merged; to us the last one counts"
	// The generated code refuses these; ours ignores the field, or refuses the series only.
	oddLenient oddity = "a field that our decoder reads when it needs it, or never"
	// Both refuse these.
	oddBroken oddity = "not a protocol buffer message of this type"
)

// oddities lists what is odd in a request.
func oddities(v proto.Version, request []byte) map[oddity]bool {
	odd := map[oddity]bool{}
	examine(odd, *requestMessage(v), request)
	return odd
}

func examine(odd map[oddity]bool, m message, b []byte) {
	seen := map[int]int{}
	for len(b) > 0 {
		f, rest, err := takeField(odd, b)
		if err != nil {
			return
		}
		b = rest
		k, known := m[f.id]
		if !known {
			continue
		}
		if seen[f.id]++; seen[f.id] > 1 && k.text == "metadata" {
			odd[oddMetadata] = true
		}
		switch {
		case f.wire == k.wire:
			if k.text == "ref" && f.num > 1<<32-1 {
				odd[oddRef] = true
			}
		case f.wire == wireLen && k.list:
			examinePacked(odd, k, f.val)
			continue
		case k.text == "metadata of version 1":
			odd[oddLenient] = true
		default:
			odd[oddBroken] = true
			return
		}
		if k.sub == nil {
			continue
		}
		inner := map[oddity]bool{}
		examine(inner, *k.sub, f.val)
		if inner[oddBroken] && (k.text == "metadata" || k.text == "label") {
			delete(inner, oddBroken)
			inner[oddLenient] = true
		}
		maps.Copy(odd, inner)
	}
}

func examinePacked(odd map[oddity]bool, k fieldKind, b []byte) {
	for len(b) > 0 {
		if k.wire == i64 {
			if len(b) < 8 {
				odd[oddPacked] = true
				return
			}
			b = b[8:]
			continue
		}
		n, rest, overflow := takeVarint(b)
		if rest == nil {
			odd[oddPacked] = true
			return
		}
		if overflow {
			odd[oddOverflow] = true
		}
		if k.text == "ref" && n > 1<<32-1 {
			odd[oddRef] = true
		}
		b = rest
	}
}

// takeVarint reads a varint plainly; rest is nil when there is none.
func takeVarint(b []byte) (n uint64, rest []byte, overflow bool) {
	for i, c := range b {
		if i == 10 {
			return 0, nil, false
		}
		if i == 9 && c&0x7f > 1 {
			overflow = true
		}
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return n, b[i+1:], overflow
		}
	}
	return 0, nil, false
}

// takeField reads a field plainly, and notes what is odd with it.
func takeField(odd map[oddity]bool, b []byte) (f wireField, rest []byte, err error) {
	fail := func(o oddity) (wireField, []byte, error) {
		odd[o] = true
		return f, nil, errOdd
	}
	t, rest, overflow := takeVarint(b)
	switch {
	case rest == nil, t>>3 == 0:
		return fail(oddBroken)
	case overflow:
		return fail(oddOverflow)
	case t>>3 > 1<<29-1:
		return fail(oddNumber)
	case len(b)-len(rest) > len(binary.AppendUvarint(nil, t)):
		return fail(oddTag)
	}
	f.id, f.wire = int(t>>3), int(t&7)
	switch f.wire {
	case varint:
		f.num, rest, overflow = takeVarint(rest)
		if overflow {
			odd[oddOverflow] = true
		}
	case i64:
		if len(rest) < 8 {
			return fail(oddBroken)
		}
		f.num, rest = binary.LittleEndian.Uint64(rest), rest[8:]
	case i32:
		if len(rest) < 4 {
			return fail(oddBroken)
		}
		f.num, rest = uint64(binary.LittleEndian.Uint32(rest)), rest[4:]
	case wireLen:
		var n uint64
		if n, rest, overflow = takeVarint(rest); overflow {
			return fail(oddOverflow)
		}
		if rest != nil && n > uint64(len(rest)) {
			return fail(oddBroken)
		}
		if rest != nil {
			f.val, rest = slices.Clip(rest[:n]), rest[n:]
		}
	case 3, 4:
		return fail(oddGroup)
	default:
		return fail(oddBroken)
	}
	if rest == nil {
		return fail(oddBroken)
	}
	return f, rest, nil
}
