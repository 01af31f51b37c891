package querier

import (
	"github.com/weir-metrics/weir/proto"
)

// Limits bound what one query reads, counted while it is read. 0 is no limit.
type Limits struct {
	Series     int   // selected, each selector counting anew
	ChunkBytes int64 // of chunks, encoded, before those that replicas repeat are dropped
}

// budget is what a query has read so far. Like the querier that it belongs to it
// is used by one goroutine at a time.
type budget struct {
	limits     Limits
	series     int
	chunkBytes int64
}

// addSeries counts one more.
func (b *budget) addSeries() error {
	b.series++
	if b.limits.Series > 0 && b.series > b.limits.Series {
		return proto.Errorf(proto.KindTooLarge, "weir-query-too-many-series",
			"the query selects more than %d series, the limit query.max_series; use narrower selectors", b.limits.Series)
	}
	return nil
}

// addChunk counts a chunk of n bytes.
func (b *budget) addChunk(n int) error {
	b.chunkBytes += int64(n)
	if b.limits.ChunkBytes > 0 && b.chunkBytes > b.limits.ChunkBytes {
		return proto.Errorf(proto.KindTooLarge, "weir-query-too-many-chunk-bytes",
			"the query reads more than %d bytes of chunks, the limit query.max_chunk_bytes; use narrower selectors or a shorter range", b.limits.ChunkBytes)
	}
	return nil
}
