package ingester

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/zeebo/xxh3"
)

// logs mends the log with its checkpoint. Without a
// checkpoint the log begins with segment 0, with one right behind it.
func (r *repair) logs() error {
	wal, from := filepath.Join(r.dir, walDir), 0
	checkpoint, index, err := wlog.LastCheckpoint(wal)
	switch {
	case err == nil:
		from = index + 1
		if err := r.mendLog(damagedCheckpoint, checkpoint, 0, r.visitWAL); err != nil {
			return err
		}
	case !errors.Is(err, record.ErrNotFound) && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return r.mendLog(damagedWAL, wal, from, r.visitWAL)
}

// visitWAL takes a record of the log.
func (r *repair) visitWAL(rec []byte) error {
	if len(rec) == 0 {
		return nil
	}
	switch record.Type(rec[0]) {
	case record.Series:
		return eachSeries(rec, func(ref uint64, labels []byte) {
			r.refs.series = max(r.refs.series, ref)
			if isUsageRecord(labels) {
				r.refs.own[ref] = true
			}
			if r.snapshot {
				return
			}
			h := xxh3.Hash(labels)
			if other, ok := r.refs.byLabels[h]; ok && other != ref {
				r.refs.twice = true
			}
			r.refs.byLabels[h] = ref
		})
	case record.Tombstones:
		dec := record.NewDecoder(nil, nil)
		stones, err := dec.Tombstones(rec, nil)
		for _, s := range stones {
			r.refs.series = max(r.refs.series, uint64(s.Ref))
		}
		return err
	case record.Exemplars:
		r.refs.exemplars = true
	}
	return nil
}

// eachSeries calls f with the reference and the encoded labels of every series in
// a record.
func eachSeries(rec []byte, f func(ref uint64, labels []byte)) error {
	d := encoding.Decbuf{B: rec[1:]}
	for len(d.B) > 0 && d.Err() == nil {
		ref, from := d.Be64(), d.B
		for n := d.Uvarint(); n > 0 && d.Err() == nil; n-- {
			d.UvarintBytes()
			d.UvarintBytes()
		}
		if d.Err() == nil {
			f(ref, from[:len(from)-len(d.B)])
		}
	}
	return d.Err()
}

// mendLog reads every segment of the log in dir and mends those that are damaged.
func (r *repair) mendLog(kind, dir string, from int, visit func([]byte) error) error {
	segments, err := r.segments(kind, dir, from)
	if err != nil {
		return err
	}
	for _, i := range segments {
		path := wlog.SegmentName(dir, i)
		scan, err := scanSegment(path, visit)
		if err != nil {
			return err
		}
		r.read(scan.size)
		was, known := r.noted(path)
		if scan.size < was && scan.torn < 0 {
			r.lost = true
			r.report(kind, path, "", fmt.Errorf("%d bytes, %d when the TSDB was closed", scan.size, was))
		}
		if scan.whole() {
			continue
		}
		if len(scan.damaged) == 0 && !known {
			kind = damagedTail
		} else {
			r.lost = true
		}
		if err := r.mendSegment(kind, path, scan); err != nil {
			return fmt.Errorf("mend %s: %w", path, err)
		}
	}
	return nil
}

// noted returns the size that a file had when the TSDB was closed.
func (r *repair) noted(path string) (size int64, known bool) {
	if r.closed == nil {
		return 0, false
	}
	rel, err := filepath.Rel(r.dir, path)
	size, known = r.closed.Files[filepath.ToSlash(rel)]
	return size, known && err == nil
}

// mendSegment sets the damaged bytes of a segment aside, in a file for each range
// that is named by segment and offset, and makes the rest readable.
func (r *repair) mendSegment(kind, path string, scan logScan) error {
	err := mendSegment(path, scan, func(at byteRange, content []byte) error {
		to, err := r.away(kind, fmt.Sprintf("%s.%010d", filepath.Base(path), at.from))
		if err != nil {
			return err
		}
		return os.WriteFile(to, content, 0o644)
	})
	if err == nil {
		r.report(kind, path, r.aside, fmt.Errorf("%d damaged ranges; torn at %d of %d bytes", len(joined(scan.damaged)), scan.torn, scan.size))
	}
	return err
}

// segments returns the numbers of the segments of a log, which has all from
// number from to the last. It makes empty ones where some are missing: the TSDB
// would refuse to start, or write to a segment that the next start does not read.
func (r *repair) segments(kind, dir string, from int) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	have := map[int]bool{}
	first, last := from, -1
	note := func(path string) (number int, ok bool) {
		i, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			return 0, false
		}
		first, last = min(first, i), max(last, i)
		return i, true
	}
	for _, e := range entries {
		if i, ok := note(e.Name()); ok {
			have[i] = true
		}
	}
	if r.closed != nil {
		for path := range r.closed.Files {
			if p := filepath.Join(r.dir, filepath.FromSlash(path)); filepath.Dir(p) == dir {
				note(p)
			}
		}
	}
	if kind == damagedCheckpoint || kind == damagedWAL && from > 0 { // it is behind a checkpoint
		last = max(last, from)
	}
	var all []int
	for i := first; i <= last; i++ {
		all = append(all, i)
		if have[i] {
			continue
		}
		r.lost = true
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(wlog.SegmentName(dir, i), nil, 0o644); err != nil {
			return nil, err
		}
		r.report(kind, wlog.SegmentName(dir, i), "", errors.New("the file is missing"))
	}
	return all, nil
}
