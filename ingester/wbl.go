package ingester

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// The TSDB logs out-of-order samples in a log of their own (the WBL) and moves
// them, 32 at a time, from memory into chunk files, where they are found again
// at start. A marker in the log says that what came before it for a series lies
// in the chunk at a position of those files; the replay then drops it from
// memory, provided that the files reach as far as that position.
//
// But the files are written through a buffer that a killed process takes with
// it, and the next process writes other chunks to the same positions. When that
// one is killed too, the first one's markers point at chunks that exist and are
// not theirs, and the replay drops samples that lie nowhere else.
//
// All samples stay in the log until a block has them, so the markers only save
// work. Before a TSDB is opened, they are removed: what then is in memory and in
// a chunk file as well is read once, as with any overlap. The first maintenance
// cuts it into a block, with which the log ends.
//
// For the same reason chunks of late samples are of no use when the log has no
// samples: a block has them. But they do harm. The TSDB remembers up to which
// position blocks have the late chunks, and hides what is below; and when the
// last of the old files goes, and it has written no chunk yet, it begins with
// the first position again. So then the chunk files go before the TSDB is opened,
// and the snapshot that counts on them: what is not in a block is in the logs.
//
// After a close in order the markers are true, and stay.

// logged says what there was in an out-of-order log.
type logged struct{ markers, samples bool }

// lateLog mends the out-of-order log and makes it, and the chunk files, such that
// the TSDB finds every late sample, and none that it then takes for another.
func (r *repair) lateLog() error {
	log := filepath.Join(r.dir, wlog.WblDirName)
	if err := finishSwap(log, log+".rewritten", log+".replaced"); err != nil {
		return err
	}
	var found logged
	if err := r.mendLog(damagedWBL, log, math.MaxInt, found.visit); err != nil {
		return err
	}
	if found.markers && (!r.trusted || r.lost) {
		if err := dropMarkers(log, wlog.DefaultSegmentSize, r.compression); err != nil {
			return fmt.Errorf("rewrite the out-of-order log: %w", err)
		}
	}
	if found.samples || !r.lateChunks {
		return nil
	}
	r.trusted = false
	return os.RemoveAll(filepath.Join(r.dir, headChunksDir))
}

// visit takes a record of the log.
func (l *logged) visit(rec []byte) error {
	if isMarker(rec) {
		l.markers = true
	} else {
		l.samples = l.samples || len(rec) > 0 && rec[0] != ignoredRecord
	}
	return nil
}

func isMarker(rec []byte) bool { return len(rec) > 0 && record.Type(rec[0]) == record.MmapMarkers }

// dropMarkers rewrites the out-of-order log in dir without its markers.
func dropMarkers(dir string, segmentBytes int, compression string) error {
	fresh, old := dir+".rewritten", dir+".replaced"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	w, err := wlog.NewSize(nil, nil, fresh, segmentBytes, compression)
	if err != nil {
		return err
	}
	if err = errors.Join(copyLog(w, dir), w.Close()); err != nil {
		return err
	}
	// From here on fresh is complete: a crash in between is finished next time.
	if err := os.Rename(dir, old); err != nil {
		return err
	}
	return finishSwap(dir, fresh, old)
}

// copyLog writes all records of the log in dir that are not markers to w.
func copyLog(w *wlog.WL, dir string) error {
	sr, err := wlog.NewSegmentsReader(dir)
	if err != nil {
		return err
	}
	defer sr.Close()
	r := wlog.NewReader(sr)
	for r.Next() {
		if isMarker(r.Record()) {
			continue
		}
		if err := w.Log(r.Record()); err != nil {
			return err
		}
	}
	return r.Err()
}

// finishSwap puts fresh into the place of log if that was begun, and removes
// what is left of an earlier attempt.
func finishSwap(log, fresh, old string) error {
	if _, err := os.Stat(old); err == nil {
		if _, err := os.Stat(log); errors.Is(err, fs.ErrNotExist) {
			if err := os.Rename(fresh, log); err != nil {
				return err
			}
		}
	}
	return errors.Join(os.RemoveAll(old), os.RemoveAll(fresh))
}
