package proto

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUvarint(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		p    int
		want uint64
		next int // -1: not a varint
	}{
		{name: "empty", next: -1},
		{name: "behind the end", b: []byte{1}, p: 1, next: -1},
		{name: "zero", b: []byte{0}, want: 0, next: 1},
		{name: "one byte", b: []byte{0x7f}, want: 127, next: 1},
		{name: "two bytes", b: []byte{0x80, 0x01}, want: 128, next: 2},
		{name: "in the middle", b: []byte{0xff, 0xac, 0x02, 0xff}, p: 1, want: 300, next: 3},
		{name: "more bytes than it needs", b: []byte{0x81, 0x80, 0x00}, want: 1, next: 3},
		{name: "cut", b: []byte{0x80}, next: -1},
		{name: "cut in the middle", b: []byte{0xff, 0xff, 0xff, 0xff}, next: -1},
		{name: "largest", b: binary.AppendUvarint(nil, math.MaxUint64), want: math.MaxUint64, next: 10},
		{name: "ten bytes, small", b: []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}, want: 0, next: 10},
		{name: "65 bits", b: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, next: -1},
		{name: "eleven bytes", b: []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}, next: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for what, read := range map[string]func([]byte, int) (uint64, int){"uvarint": uvarint, "uvarintLong": uvarintLong} {
				got, next := read(c.b, c.p)
				require.Equal(t, c.next, next, what)
				if next >= 0 {
					require.Equal(t, c.want, got, what)
				}
			}
		})
	}
}

func TestSpan(t *testing.T) {
	long := append(binary.AppendUvarint(nil, 200), make([]byte, 200)...)
	for _, c := range []struct {
		name       string
		b          []byte
		start, end int // -1: not there
	}{
		{name: "no length", end: -1},
		{name: "nothing", b: []byte{0}, start: 1, end: 1},
		{name: "to the end", b: []byte{2, 'a', 'b'}, start: 1, end: 3},
		{name: "more follows", b: []byte{1, 'a', 'b'}, start: 1, end: 2},
		{name: "one short", b: []byte{3, 'a', 'b'}, end: -1},
		{name: "length cut", b: []byte{0x80}, end: -1},
		{name: "long", b: long, start: 2, end: 202},
		{name: "long, one short", b: long[:201], end: -1},
		{name: "length of more bytes than it needs", b: []byte{0x81, 0x00, 'a'}, start: 2, end: 3},
		{name: "2^63, which is negative as an int", b: binary.AppendUvarint(nil, 1<<63), end: -1},
		{name: "2^64-1", b: binary.AppendUvarint(nil, math.MaxUint64), end: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			start, end := span(c.b, 0)
			require.Equal(t, c.end, end)
			if end >= 0 {
				require.Equal(t, c.start, start)
			}
		})
	}
}

func TestField(t *testing.T) {
	tagOf := func(id uint64, wire uint64) []byte { return binary.AppendUvarint(nil, id<<3|wire) }
	for _, c := range []struct {
		name string
		b    []byte
		want field
		next int // -1: malformed
	}{
		{name: "nothing", next: -1},
		{name: "varint", b: []byte{0x08, 0x96, 0x01}, want: field{id: 1, wire: wireVarint, num: 150}, next: 3},
		{name: "varint missing", b: []byte{0x08}, next: -1},
		{name: "64 bits", b: []byte{0x09, 1, 0, 0, 0, 0, 0, 0, 0x80}, want: field{id: 1, wire: wireI64, num: 1<<63 | 1}, next: 9},
		{name: "64 bits cut", b: []byte{0x09, 1, 0, 0, 0, 0, 0, 0}, next: -1},
		{name: "bytes", b: []byte{0x12, 2, 'h', 'i', 0xff}, want: field{id: 2, wire: wireBytes, val: []byte("hi")}, next: 4},
		{name: "bytes cut", b: []byte{0x12, 2, 'h'}, next: -1},
		{name: "32 bits", b: []byte{0x15, 1, 2, 3, 4}, want: field{id: 2, wire: wireI32}, next: 5},
		{name: "32 bits cut", b: []byte{0x15, 1, 2, 3}, next: -1},
		{name: "group start", b: []byte{0x0b, 0x0c}, next: -1},
		{name: "group end", b: []byte{0x0c}, next: -1},
		{name: "wire type 6", b: []byte{0x0e, 0}, next: -1},
		{name: "wire type 7", b: []byte{0x0f, 0}, next: -1},
		{name: "field 0", b: []byte{0x00, 0}, next: -1},
		{name: "field 16, a tag of two bytes", b: append(tagOf(16, 0), 7), want: field{id: 16, wire: wireVarint, num: 7}, next: 3},
		{name: "largest field number", b: append(tagOf(1<<29-1, 0), 7), want: field{id: 1<<29 - 1, wire: wireVarint, num: 7}, next: 6},
		{name: "field number too large", b: append(tagOf(1<<29, 0), 7), next: -1},
		// Read as field 2 it would be missed by code that looks for the byte 0x12.
		{name: "one-byte tag in two bytes", b: []byte{0x92, 0x00, 0}, next: -1},
		{name: "one-byte tag in ten bytes", b: []byte{0x92, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0}, next: -1},
		{name: "two-byte tag in three bytes", b: []byte{0x80, 0x81, 0x00, 7}, next: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f field
			next := f.next(c.b, 0)
			require.Equal(t, c.next, next)
			if next >= 0 {
				require.Equal(t, c.want, f)
			}
		})
	}
}

func TestZigzag(t *testing.T) {
	for _, v := range []int64{0, -1, 1, 63, -64, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64} {
		got, n := binary.Varint(binary.AppendVarint(nil, v))
		require.Positive(t, n)
		require.Equal(t, v, got)
		u, _ := binary.Uvarint(binary.AppendVarint(nil, v))
		require.Equal(t, v, zigzag(u))
	}
}
