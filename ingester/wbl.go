package ingester

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
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
// the first position again. So then the chunk files go before anybody uses them.

// logged says what there was in an out-of-order log.
type logged struct{ markers, samples bool }

// dropMarkers rewrites the out-of-order log of the TSDB in dir without its
// markers, and says what was in it.
func dropMarkers(dir string, segmentBytes int, compression string) (found logged, err error) {
	log := filepath.Join(dir, wlog.WblDirName)
	fresh, old := log+".rewritten", log+".replaced"
	if err := finishSwap(log, fresh, old); err != nil {
		return found, err
	}
	if found, err = eachRecord(log, nil); err != nil || !found.markers {
		return found, err
	}
	if err := os.RemoveAll(fresh); err != nil {
		return found, err
	}
	w, err := wlog.NewSize(nil, nil, fresh, segmentBytes, compression)
	if err != nil {
		return found, err
	}
	_, err = eachRecord(log, func(rec []byte) error { return w.Log(rec) })
	if err = errors.Join(err, w.Close()); err != nil {
		return found, fmt.Errorf("rewrite the out-of-order log: %w", err)
	}
	// From here on fresh is complete: a crash in between is finished next time.
	if err := os.Rename(log, old); err != nil {
		return found, err
	}
	return found, finishSwap(log, fresh, old)
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

// eachRecord calls keep, unless it is nil, with every record of a log that is
// not a marker, and says what there was. The last record may not have been
// written to its end; it was not acknowledged then.
func eachRecord(log string, keep func([]byte) error) (found logged, err error) {
	if _, err := os.Stat(log); errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	sr, err := wlog.NewSegmentsReader(log)
	if err != nil {
		return found, fmt.Errorf("read the out-of-order log: %w", err)
	}
	defer sr.Close()
	dec := record.NewDecoder(labels.NewSymbolTable(), nil)
	r := wlog.NewReader(sr)
	for r.Next() {
		if dec.Type(r.Record()) == record.MmapMarkers {
			found.markers = true
			continue
		}
		found.samples = true
		if keep != nil {
			if err := keep(r.Record()); err != nil {
				return found, err
			}
		}
	}
	var corruption *wlog.CorruptionErr
	if _, last, _ := wlog.Segments(log); errors.As(r.Err(), &corruption) && corruption.Segment == last {
		return found, nil
	}
	return found, r.Err()
}

// withoutLateChunks opens the TSDB again without its chunk files, and without
// the snapshot that counts on them: what is not in a block is in the logs.
func (t *tenantDB) withoutLateChunks(db *tsdb.DB, o *tsdb.Options) (*tsdb.DB, error) {
	if err := errors.Join(db.Close(), dropSnapshots(t.dir), os.RemoveAll(filepath.Join(t.dir, headChunksDir))); err != nil {
		return nil, err
	}
	return t.openTSDB(o)
}
