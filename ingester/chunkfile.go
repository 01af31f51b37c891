package ingester

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/fileutil"
)

// chunkHeader is what stands before the length of a chunk in a chunk file of the
// head: series reference, first and last timestamp, encoding.
const chunkHeader = chunks.SeriesRefSize + 2*chunks.MintMaxtSize + chunks.ChunkEncodingSize

// errChunkFile says that a chunk file is damaged.
var errChunkFile = errors.New("damaged chunk file")

// chunkScan is what a chunk file has.
type chunkScan struct {
	highest uint64 // series reference
	late    bool   // chunks of late samples
}

// scanChunkFile checks every chunk of a chunk file of the head. The TSDB checks the same, but takes zeros for the
// end of the file, whatever follows.
func scanChunkFile(path string) (found chunkScan, err error) {
	if st, err := os.Stat(path); err != nil {
		return found, err
	} else if st.Size() < chunks.HeadChunkFileHeaderSize {
		return found, fmt.Errorf("%w: %d bytes", errChunkFile, st.Size())
	}
	f, err := fileutil.OpenMmapFile(path)
	if err != nil {
		return found, err
	}
	defer f.Close()
	b := f.Bytes()
	if binary.BigEndian.Uint32(b) != chunks.MagicHeadChunks || b[chunks.MagicChunksSize] != 1 {
		return found, fmt.Errorf("%w: header % x", errChunkFile, b[:chunks.HeadChunkFileHeaderSize])
	}
	for at := chunks.HeadChunkFileHeaderSize; at < len(b); {
		rest := b[at:]
		if isZero(rest[:min(len(rest), chunkHeader-chunks.ChunkEncodingSize)]) {
			if !isZero(rest) {
				return found, fmt.Errorf("%w: zeros at %d", errChunkFile, at)
			}
			break
		}
		n, err := chunkSize(rest)
		if err != nil {
			return found, fmt.Errorf("%w at %d", err, at)
		}
		found.highest = max(found.highest, binary.BigEndian.Uint64(rest))
		found.late = found.late || rest[chunkHeader-1]&chunks.OutOfOrderMask != 0
		at += n
	}
	return found, nil
}

// chunkSize checks the chunk that b begins with and returns its size on disk.
func chunkSize(b []byte) (int, error) {
	if len(b) < chunks.MaxHeadChunkMetaSize {
		return 0, fmt.Errorf("%w: %d bytes are no chunk", errChunkFile, len(b))
	}
	data, n := binary.Uvarint(b[chunkHeader : chunkHeader+chunks.MaxChunkLengthFieldSize])
	if n <= 0 || data > uint64(len(b)) {
		return 0, fmt.Errorf("%w: length of a chunk", errChunkFile)
	}
	end := chunkHeader + n + int(data)
	if end+chunks.CRCSize > len(b) {
		return 0, fmt.Errorf("%w: the file ends in a chunk", errChunkFile)
	}
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return 0, fmt.Errorf("%w: checksum of a chunk", errChunkFile)
	}
	return end + chunks.CRCSize, nil
}
