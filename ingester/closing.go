package ingester

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// A TSDB that is closed in order leaves a snapshot of what it has in memory, so
// that the next start need not replay the log. The TSDB itself would load any
// snapshot that it finds, and take for granted that the chunk files still hold
// what they held then; where they do not, samples would be gone that the log
// has. So the last thing that close writes is a list of the files and their
// sizes, and the first thing that open does is to compare and remove it. The
// snapshot, and the positions in the out-of-order log, are trusted only by the
// start after that close, and only when the list agrees. Every other start
// replays the whole log. (docs/decisions/0011)
const closingFile = "closed.json"

// snapshotPrefix begins the names of snapshots.
const snapshotPrefix = "chunk_snapshot."

// closing is what a TSDB left when it was closed in order.
type closing struct {
	Files map[string]int64 `json:"files"` // size in bytes by path below the tenant's directory
}

// snapshotFrom is the size of the log in bytes from which a snapshot is worth its
// files: less is replayed as fast as a snapshot is read.
const snapshotFrom = 64 << 10

// closeDB closes the TSDB, with a snapshot if that is worth it, and notes that it
// did. A snapshot that cannot be written costs the next start time and nothing
// else.
func (t *tenantDB) closeDB() error {
	head := t.db.Head()
	err := t.db.Close()
	if err != nil && !strings.HasPrefix(err.Error(), "chunk snapshot: ") {
		return err
	}
	// A TSDB that was opened with a snapshot has written one, unless that failed.
	if t.failed.Load() != 0 {
		return dropSnapshots(t.dir) // what is damaged of the log must be found
	}
	wal, err := dirBytes(filepath.Join(t.dir, walDir))
	switch {
	case !t.snapshots || head.NumSeries() == 0:
		err = errors.Join(err, dropSnapshots(t.dir))
	case wal >= snapshotFrom:
		_, err = head.ChunkSnapshot()
	}
	if err != nil {
		t.log.Warn("no snapshot for the next start", "err", err)
	}
	if err := writeClosing(t.dir); err != nil {
		t.log.Warn("the next start replays the whole log", "err", err)
	}
	return nil
}

// writeClosing notes what a TSDB that was closed in order left in dir. It is not
// forced to the disk: a list that a power cut takes or spoils is one that does
// not agree.
func writeClosing(dir string) error {
	b, err := json.Marshal(closing{Files: sizes(dir)})
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, closingFile+".tmp")
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return fmt.Errorf("note the end of the TSDB: %w", err)
	}
	return os.Rename(tmp, filepath.Join(dir, closingFile))
}

// takeClosing reads and removes what writeClosing noted; nil: the TSDB was not
// closed in order.
func takeClosing(dir string) (*closing, error) {
	path := filepath.Join(dir, closingFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	var c closing
	if json.Unmarshal(b, &c) != nil || c.Files == nil {
		return nil, nil
	}
	return &c, nil
}

// sizes returns the sizes of the files of logs, chunk files and snapshots below
// dir.
func sizes(dir string) map[string]int64 {
	out := make(map[string]int64)
	top, _ := os.ReadDir(dir) // what cannot be read is not in the list, and then does not agree
	for _, d := range top {
		if name := d.Name(); d.IsDir() && (name == walDir || name == wlog.WblDirName || name == headChunksDir || isSnapshot(name)) {
			_ = filepath.WalkDir(filepath.Join(dir, name), func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				if st, err := e.Info(); err == nil {
					rel, _ := filepath.Rel(dir, path)
					out[filepath.ToSlash(rel)] = st.Size()
				}
				return nil
			})
		}
	}
	return out
}

// isSnapshot is false for one that was not written to its end.
func isSnapshot(name string) bool {
	return strings.HasPrefix(name, snapshotPrefix) && filepath.Ext(name) != ".tmp"
}

// below are the files of a list below a directory.
func below(files map[string]int64, dir string) map[string]int64 {
	out := maps.Clone(files)
	maps.DeleteFunc(out, func(path string, _ int64) bool { return !strings.HasPrefix(path, dir+"/") })
	return out
}

// agrees reports whether the files below a directory are those that were noted.
// It is false without a note.
func (c *closing) agrees(now map[string]int64, dir string) bool {
	return c != nil && maps.Equal(below(c.Files, dir), below(now, dir))
}

// Kinds of records of a snapshot.
const (
	snapshotSeries     = 1
	snapshotTombstones = 2
)

var errSnapshot = errors.New("damaged snapshot")

// scanSnapshot checks every record of the snapshot in dir and calls visit with
// the references of its series. Series come first and tombstones after them, so
// a snapshot with these has all series.
func scanSnapshot(dir string, visit func(ref uint64)) error {
	first, last, err := wlog.Segments(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", errSnapshot, err)
	}
	if first != 0 {
		return fmt.Errorf("%w: its first file is missing", errSnapshot)
	}
	complete := false
	for i := first; i <= last; i++ {
		scan, err := scanSegment(wlog.SegmentName(dir, i), func(rec []byte) error {
			if len(rec) == 0 {
				return errSnapshot // the TSDB would panic
			}
			if rec[0] == snapshotSeries {
				d := encoding.Decbuf{B: rec[1:]}
				visit(d.Be64())
			}
			complete = complete || rec[0] == snapshotTombstones
			return nil
		})
		if err != nil {
			return err
		}
		if !scan.whole() {
			return fmt.Errorf("%w: file %d", errSnapshot, i)
		}
	}
	if !complete {
		return fmt.Errorf("%w: it has no end", errSnapshot)
	}
	return nil
}

// findSnapshot returns the snapshot that the TSDB in dir would load, or "".
func findSnapshot(dir string) string {
	path, _, _, err := tsdb.LastChunkSnapshot(dir)
	if err != nil {
		return ""
	}
	return path
}
