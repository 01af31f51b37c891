package proto_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
)

// TestIndex compares an Index with a map. Most hashes agree in the bits that
// choose a slot, so that they crowd, and many in what a slot has of them.
func TestIndex(t *testing.T) {
	hash := rapid.Custom(func(t *rapid.T) proto.Hash {
		return proto.Hash{
			Hi: uint64(rapid.IntRange(0, 20).Draw(t, "hi")) << rapid.SampledFrom([]int{0, 32}).Draw(t, "high"),
			Lo: uint64(rapid.IntRange(0, 3).Draw(t, "lo"))<<rapid.SampledFrom([]int{0, 1, 4, 8, 32, 60}).Draw(t, "shift") + uint64(rapid.SampledFrom([]int{0, 15, -1}).Draw(t, "base")),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		var (
			x     proto.Index
			order []proto.Hash
			model = map[proto.Hash]uint32{}
		)
		for _, h := range rapid.SliceOfN(hash, 0, 300).Draw(t, "hashes") {
			number, known := model[h]
			got, found := x.Find(h)
			require.Equal(t, known, found)
			if known {
				require.Equal(t, number, got)
				continue
			}
			require.Equal(t, uint32(len(order)), x.Add(h))
			model[h] = uint32(len(order))
			order = append(order, h)
			require.Equal(t, len(order), x.Len())
		}
		for i, h := range order {
			number, found := x.Find(h)
			require.True(t, found)
			require.Equal(t, uint32(i), number)
			require.Equal(t, h, x.At(number))
			require.True(t, x.Is(uint32(i), h))
			require.False(t, x.Is(uint32(i), proto.Hash{Hi: h.Hi + 1000, Lo: h.Lo}))
			require.False(t, x.Is(uint32(i+1), h))
		}
	})
}

func TestIndexEmpty(t *testing.T) {
	var x proto.Index
	for _, h := range []proto.Hash{{}, {Hi: 1}, {Lo: 1}} {
		_, found := x.Find(h)
		require.False(t, found)
		require.False(t, x.Is(0, h))
		require.False(t, x.Is(proto.NoHandle, h))
	}
	require.Zero(t, x.Len())
}

// TestIndexOneSlot adds hashes that all want the same slot of any table.
func TestIndexOneSlot(t *testing.T) {
	for _, lo := range []uint64{0, 0xffff_ffff_ffff_ffff} { // the first slot, and the last, behind which it goes on in front
		var x proto.Index
		const n = 1000
		for i := range uint64(n) {
			require.Equal(t, uint32(i), x.Add(proto.Hash{Hi: i, Lo: lo}))
		}
		for i := range uint64(n) {
			number, found := x.Find(proto.Hash{Hi: i, Lo: lo})
			require.True(t, found)
			require.Equal(t, uint32(i), number)
		}
		_, found := x.Find(proto.Hash{Hi: n, Lo: lo})
		require.False(t, found)
	}
}

// TestIndexIsNoHandle asks for the handle that stands for none.
func TestIndexIsNoHandle(t *testing.T) {
	var x proto.Index
	for i := range uint64(65) {
		x.Add(proto.Hash{Hi: i, Lo: i})
		require.False(t, x.Is(proto.NoHandle, proto.Hash{Hi: i, Lo: i}))
	}
}
