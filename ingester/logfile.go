package ingester

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"github.com/prometheus/prometheus/util/compression"
)

// A log of the TSDB is a directory of numbered files, its segments. A segment is
// a sequence of pages of 32 KiB, and a page one of frames:
//
//	┌─────────┬───────────┬───────────┬──────┐
//	│ kind 1B │ length 2B │ CRC32C 4B │ data │
//	└─────────┴───────────┴───────────┴──────┘
//
// A record is one full frame, or a first, middle ones and a last. Zeros fill the
// end of a page that has no room for a header, and the end of a segment.
//
// The TSDB's own repair drops everything behind the first frame that it cannot
// read, later segments included. What lies behind is whole, though: so we find
// the next frame, and overwrite what lies between by frames that are read and
// ignored. No byte moves, so that positions in the log stay true.
const (
	logPage   = 32 << 10
	logHeader = 7

	frameFull   = 1
	frameFirst  = 2
	frameMiddle = 3
	frameLast   = 4

	frameKinds  = 7      // bits of the first byte
	frameSnappy = 1 << 3 // the record is compressed so
	frameZstd   = 1 << 4

	// ignoredRecord is a type of record that readers skip.
	ignoredRecord = 0xff
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// byteRange is a range of offsets in a file, without to.
type byteRange struct{ from, to int64 }

// logScan is what a pass over a segment found.
type logScan struct {
	size    int64
	damaged []byteRange // what cannot be read, by offset; none reaches into another page
	torn    int64       // where the record begins that the file ends in; -1: it ends well
}

func (s *logScan) whole() bool { return len(s.damaged) == 0 && s.torn < 0 }

// segmentScanner is a pass over a segment.
type segmentScanner struct {
	logScan
	visit  func(record []byte) error
	at     int64       // offset of the page at hand
	frames []byteRange // of the record that has begun and not ended
	record []byte      // their data
	zeros  []byteRange // since the last frame: damage, when another one follows
	buffer compression.DecodeBuffer
}

// scanSegment reads a segment and calls visit with every record, which is valid
// until visit returns; its error makes the record a damaged one.
func scanSegment(path string, visit func(record []byte) error) (logScan, error) {
	f, err := os.Open(path)
	if err != nil {
		return logScan{}, err
	}
	defer f.Close()
	s := segmentScanner{logScan: logScan{torn: -1}, visit: visit, buffer: compression.NewSyncDecodeBuffer()}
	page := make([]byte, logPage)
	for {
		n, err := io.ReadFull(f, page)
		s.scan(page[:n])
		s.at += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			s.size = s.at
			if len(s.frames) > 0 {
				s.torn = s.frames[0].from
			}
			slices.SortFunc(s.damaged, func(a, b byteRange) int { return int(a.from - b.from) })
			return s.logScan, nil
		case err != nil:
			return s.logScan, fmt.Errorf("read %s: %w", path, err)
		}
	}
}

// What frameAt finds.
const (
	frameGood  = iota
	frameZeros // nothing but zeros up to the end
	frameCut   // the file ends within the frame
	frameBad
)

// frameAt looks at the frame of a page that begins at from, and returns where it
// ends.
func frameAt(page []byte, from int) (what, to int) {
	if isZero(page[from:]) {
		return frameZeros, len(page)
	}
	if len(page)-from < logHeader {
		if len(page) < logPage {
			return frameCut, len(page)
		}
		return frameBad, len(page)
	}
	kind := page[from] & frameKinds
	to = from + logHeader + int(binary.BigEndian.Uint16(page[from+1:]))
	switch {
	case to > logPage, kind < frameFull, kind > frameLast:
		return frameBad, len(page)
	case to > len(page):
		return frameCut, len(page)
	case crc32.Checksum(page[from+logHeader:to], castagnoli) != binary.BigEndian.Uint32(page[from+3:]):
		return frameBad, to
	}
	return frameGood, to
}

// nextFrame returns where the first good frame behind from begins that another
// good one or the end of the page follows, or the end of the page.
func nextFrame(page []byte, from int) int {
	for at := from + 1; at+logHeader < len(page); at++ {
		what, to := frameAt(page, at)
		if what != frameGood || to == at+logHeader {
			continue
		}
		if to == len(page) {
			return at
		}
		if after, _ := frameAt(page, to); after == frameGood || after == frameZeros {
			return at
		}
	}
	return len(page)
}

// scan reads a page.
func (s *segmentScanner) scan(page []byte) {
	for from := 0; from < len(page); {
		what, to := frameAt(page, from)
		switch {
		case what == frameGood:
			s.frame(page[from:to], byteRange{s.at + int64(from), s.at + int64(to)})
		case what == frameZeros:
			at := byteRange{s.at + int64(from), s.at + int64(to)}
			if from == 0 { // a page is begun with a record
				s.drop()
				s.damaged = append(s.damaged, at)
			} else if to-from >= logHeader {
				s.zeros = append(s.zeros, at)
			}
		default:
			to = nextFrame(page, from)
			if what == frameCut && to == len(page) {
				if s.torn = s.at + int64(from); len(s.frames) > 0 {
					s.torn = s.frames[0].from
				}
				s.frames = s.frames[:0]
				return
			}
			s.drop()
			s.damaged = append(s.damaged, byteRange{s.at + int64(from), s.at + int64(to)})
		}
		from = to
	}
}

// frame takes a good frame.
func (s *segmentScanner) frame(b []byte, at byteRange) {
	if len(s.zeros) > 0 {
		s.drop()
		s.damaged = append(s.damaged, s.zeros...)
		s.zeros = s.zeros[:0]
	}
	kind := b[0] & frameKinds
	if kind == frameFull || kind == frameFirst {
		s.drop() // it has no end
	} else if len(s.frames) == 0 {
		s.damaged = append(s.damaged, at) // it has no beginning
		return
	}
	s.frames = append(s.frames, at)
	data := b[logHeader:]
	if kind != frameFull {
		s.record = append(s.record, data...)
		data = s.record
	}
	if kind == frameFull || kind == frameLast {
		if err := s.end(b[0], data); err != nil {
			s.drop()
		}
		s.frames, s.record = s.frames[:0], s.record[:0]
	}
}

// end hands a record on.
func (s *segmentScanner) end(flags byte, record []byte) (err error) {
	with := compression.None
	if flags&frameSnappy != 0 {
		with = compression.Snappy
	} else if flags&frameZstd != 0 {
		with = compression.Zstd
	}
	if record, err = compression.Decode(with, record, s.buffer); err != nil {
		return err
	}
	return s.visit(record)
}

// drop makes the frames of the record that has begun damaged ones.
func (s *segmentScanner) drop() {
	s.damaged = append(s.damaged, s.frames...)
	s.frames, s.record = s.frames[:0], s.record[:0]
}

// ignoredFrame returns n bytes that a reader of the log skips: a frame with a
// record of a type that nobody knows, or zeros at the end of a page.
func ignoredFrame(n int64) []byte {
	b := make([]byte, n)
	if n < logHeader {
		return b
	}
	if n > logHeader {
		b[logHeader] = ignoredRecord
	}
	b[0] = frameFull
	binary.BigEndian.PutUint16(b[1:], uint16(n-logHeader))
	binary.BigEndian.PutUint32(b[3:], crc32.Checksum(b[logHeader:], castagnoli))
	return b
}

// mendSegment makes a segment readable again. First it calls keep with each
// range that it is about to overwrite or cut off, and its content.
func mendSegment(path string, scan logScan, keep func(at byteRange, content []byte) error) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	lost := joined(scan.damaged)
	if scan.torn >= 0 {
		lost = append(lost, byteRange{scan.torn, scan.size})
	}
	for _, at := range lost {
		content := make([]byte, at.to-at.from)
		if _, err := f.ReadAt(content, at.from); err != nil {
			return err
		}
		if err := keep(at, content); err != nil {
			return err
		}
	}
	for _, at := range scan.damaged {
		if _, err := f.WriteAt(ignoredFrame(at.to-at.from), at.from); err != nil {
			return err
		}
	}
	if scan.torn >= 0 {
		if err := f.Truncate(scan.torn); err != nil {
			return err
		}
	}
	return f.Sync()
}

// joined returns ranges with those that touch made one.
func joined(ranges []byteRange) []byteRange {
	var out []byteRange
	for _, s := range ranges {
		if n := len(out); n > 0 && out[n-1].to == s.from {
			out[n-1].to = s.to
		} else {
			out = append(out, s)
		}
	}
	return out
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
