package ingester

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

// Before a tenant's TSDB is opened, its files are read once. What is damaged is
// set aside, so that only what the damage covers is missing, and the TSDB finds
// nothing to repair:
//
//	a log, a checkpoint   the damaged bytes; the records around them stay
//	chunk files           all of them and the snapshot: the logs have their samples
//	the snapshot          it alone: the log has its samples
//	a block               it alone
//	metadata              the file: senders repeat what was in it
//
// A series whose labels are lost with a record cannot be told any more, and its
// samples are dropped. They must not come to another series: the TSDB gives a
// new series the next reference after those of the series it loads, and would
// find chunks and out-of-order samples of the lost one under it at the start
// after. So the highest reference that is written anywhere is made known to it.

// damagedDir is where damaged files are moved to, below the tenant's directory.
const damagedDir = "damaged"

// Kinds of what can be damaged.
const (
	damagedWAL        = "wal"
	damagedCheckpoint = "checkpoint"
	damagedWBL        = "wbl"
	damagedChunks     = "chunks_head"
	damagedSnapshot   = "snapshot"
	damagedBlock      = "block"
	damagedMetadata   = "metadata"
	damagedTail       = "torn" // a log that ends within a record, as after a kill during a write, which was not acknowledged
)

var damagedKinds = []string{damagedWAL, damagedCheckpoint, damagedWBL, damagedChunks, damagedSnapshot, damagedBlock, damagedMetadata, damagedTail}

// repair is the work on one tenant's files before its TSDB is opened.
type repair struct {
	dir         string
	log         *slog.Logger
	metrics     *metrics
	read        func(bytes int64) // progress
	compression string            // of logs
	aside       string            // where damaged files of this start go; made with the first

	closed *closing         // how the TSDB was closed, nil: it was not
	files  map[string]int64 // that are there now

	refs     logRefs
	loaded   uint64 // highest reference that the TSDB will know of
	snapshot bool   // the TSDB can start from its snapshot
	trusted  bool   // chunk files are as they were when the TSDB was closed
	lost     bool   // records of a log are lost

	lateChunks bool // there are chunks of late samples
}

// logRefs is what a pass over the logs tells about series references.
type logRefs struct {
	highest   uint64            // anywhere
	series    uint64            // highest of a series or tombstone record of the log
	byLabels  map[uint64]uint64 // reference by hash of the labels
	twice     bool              // a series has two references
	exemplars bool              // there are exemplars
	own       map[uint64]bool   // of series that weir writes into the tenant
}

// run leaves files that the TSDB can open, or says why it cannot.
func (r *repair) run() (err error) {
	if _, err := os.Stat(r.dir); errors.Is(err, fs.ErrNotExist) {
		return nil // a new tenant
	}
	if r.closed, err = takeClosing(r.dir); err != nil {
		return err
	}
	r.files = sizes(r.dir)
	r.refs.byLabels, r.refs.own = make(map[uint64]uint64), make(map[uint64]bool)
	for _, step := range []func() error{r.blocks, r.chunks, r.lateLog, r.snapshots, r.logs, r.reserve} {
		if err := step(); err != nil {
			return err
		}
	}
	r.refs.byLabels = nil
	return nil
}

// setAside moves a file or directory away.
func (r *repair) setAside(kind, path string, cause error) error {
	to, err := r.away(kind, filepath.Base(path))
	if err != nil {
		return err
	}
	if err := os.Rename(path, to); err != nil {
		return fmt.Errorf("set a damaged file aside: %w", err)
	}
	r.report(kind, path, to, cause)
	return nil
}

// away returns a path for something damaged.
func (r *repair) away(kind, name string) (string, error) {
	if r.aside == "" {
		r.aside = filepath.Join(r.dir, damagedDir, time.Now().UTC().Format("2006-01-02T15-04-05.000Z"))
	}
	dir := filepath.Join(r.aside, kind)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("set a damaged file aside: %w", err)
	}
	return filepath.Join(dir, name), nil
}

func (r *repair) report(kind, path, to string, cause error) {
	r.metrics.damagedFiles.WithLabelValues(kind).Inc()
	r.log.Error("damaged file, set aside", "kind", kind, "path", path, "to", to, "err", cause)
}

// blocks sets blocks aside that cannot be opened. The TSDB would refuse to start,
// or leave the block out and say so in its log only. Chunks are checked when they
// are read, not here: there can be any number of them.
func (r *repair) blocks() error {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		dir := filepath.Join(r.dir, e.Name())
		b, err := tsdb.OpenBlock(nil, dir, nil, nil)
		if err == nil {
			err = b.Close()
		}
		if err == nil {
			continue
		}
		if !isDamage(err) {
			return fmt.Errorf("open block %s: %w", e.Name(), err)
		}
		if err := r.setAside(damagedBlock, dir, err); err != nil {
			return err
		}
	}
	return nil
}

// isDamage tells a file that is broken from a system that cannot read it now:
// that has too many files open, forbids it, or has no memory.
func isDamage(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return true
	}
	return slices.Contains([]syscall.Errno{syscall.ENOENT, syscall.EIO, syscall.EINVAL, syscall.ENOTDIR, syscall.EISDIR}, errno)
}

// chunks checks the chunk files. One that is damaged makes all of them useless,
// because the TSDB leaves out of the replay what it thinks is in them; the logs
// have all of it.
func (r *repair) chunks() error {
	dir := filepath.Join(r.dir, headChunksDir)
	r.trusted = r.closed.agrees(r.files, headChunksDir)
	var cause error
	if r.closed != nil && !r.trusted {
		cause = fmt.Errorf("%w: other files than when the TSDB was closed", errChunkFile)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before := ""
	for i, e := range entries {
		if cause != nil {
			break
		}
		path := filepath.Join(dir, e.Name())
		if !follows(before, e.Name()) {
			cause = fmt.Errorf("%w: there is none between %s and %s", errChunkFile, before, e.Name())
			break
		}
		before = e.Name()
		found, err := scanChunkFile(path)
		if st, serr := e.Info(); serr == nil {
			r.read(st.Size())
			if i == len(entries)-1 && r.closed == nil && st.Size() < 8 {
				continue // begun when the process ended; the TSDB removes it
			}
		}
		if err != nil && !errors.Is(err, errChunkFile) {
			return fmt.Errorf("read %s: %w", path, err)
		}
		cause = err
		r.refs.highest = max(r.refs.highest, found.highest)
		r.lateChunks = r.lateChunks || found.late
	}
	if cause == nil {
		return nil
	}
	r.trusted, r.lateChunks = false, false
	if len(entries) == 0 {
		r.report(damagedChunks, dir, "", cause)
		return nil
	}
	return r.setAside(damagedChunks, dir, cause)
}

// follows reports whether a chunk file's number is the one after another's. The
// first may have any: the TSDB removes files from the beginning.
func follows(before, name string) bool {
	a, errA := strconv.Atoi(before)
	b, errB := strconv.Atoi(name)
	return errA != nil || errB != nil || b == a+1
}

// snapshots decides whether the TSDB may start from its snapshot, and removes all
// others.
func (r *repair) snapshots() error {
	if path := findSnapshot(r.dir); path != "" && r.closed != nil {
		err := scanSnapshot(path, func(ref uint64) { r.loaded = max(r.loaded, ref) })
		if err == nil && !r.closed.agrees(r.files, filepath.Base(path)) {
			err = fmt.Errorf("%w: other files than when the TSDB was closed", errSnapshot)
		}
		if err != nil {
			if !isDamage(err) {
				return err
			}
			return r.setAside(damagedSnapshot, path, err)
		}
		r.snapshot = r.trusted
	}
	if r.snapshot {
		return nil
	}
	r.loaded = 0
	return dropSnapshots(r.dir)
}

// reserve makes the TSDB give new series references that are higher than all that
// are written anywhere. A tombstone says that a reference was in use.
func (r *repair) reserve() error {
	known := r.refs.series
	if r.snapshot {
		known = r.loaded
	}
	highest := max(r.refs.highest, r.refs.series)
	if r.lost {
		lost, ref, err := r.orphans()
		if err != nil {
			return err
		}
		highest = max(highest, ref)
		if lost > 0 {
			r.metrics.orphanedSamples.Add(float64(lost))
			r.log.Error("samples of series whose labels are lost", "samples", lost)
		}
	}
	if highest <= known {
		return nil
	}
	w, err := wlog.New(nil, nil, filepath.Join(r.dir, walDir), compression.None)
	if err != nil {
		return err
	}
	var enc record.Encoder
	err = w.Log(enc.Tombstones([]tombstones.Stone{{
		Ref:       storage.SeriesRef(highest + 1), // nobody's
		Intervals: tombstones.Intervals{{Mint: math.MinInt64, Maxt: math.MaxInt64}},
	}}, nil))
	return errors.Join(err, w.Close())
}

// orphans counts the samples in the logs whose series nothing tells any more, and
// returns the highest reference of any sample.
func (r *repair) orphans() (samples int, highest uint64, err error) {
	known := map[uint64]struct{}{}
	if r.snapshot {
		if err := scanSnapshot(findSnapshot(r.dir), func(ref uint64) { known[ref] = struct{}{} }); err != nil {
			return 0, 0, err
		}
	}
	var refs []uint64
	dec := record.NewDecoder(nil, r.log)
	visit := func(rec []byte) error {
		if dec.Type(rec) == record.Series {
			return eachSeries(rec, func(ref uint64, _ []byte) { known[ref] = struct{}{} })
		}
		if refs, err = sampleRefs(&dec, rec, refs[:0]); err != nil {
			return err
		}
		for _, ref := range refs {
			highest = max(highest, ref)
			if _, ok := known[ref]; !ok {
				samples++
			}
		}
		return nil
	}
	wal := filepath.Join(r.dir, walDir)
	dirs := []string{wal, filepath.Join(r.dir, wlog.WblDirName)}
	if checkpoint, _, err := wlog.LastCheckpoint(wal); err == nil {
		dirs = slices.Insert(dirs, 0, checkpoint)
	}
	for _, dir := range dirs {
		first, last, err := wlog.Segments(dir)
		if errors.Is(err, fs.ErrNotExist) || first < 0 {
			continue
		}
		for i := first; err == nil && i <= last; i++ {
			_, err = scanSegment(wlog.SegmentName(dir, i), visit)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return samples, highest, nil
}

// sampleRefs appends the series reference of every sample in a record to dst.
func sampleRefs(dec *record.Decoder, rec []byte, dst []uint64) ([]uint64, error) {
	switch dec.Type(rec) {
	case record.Samples, record.SamplesV2:
		samples, err := dec.Samples(rec, nil)
		for _, s := range samples {
			dst = append(dst, uint64(s.Ref))
		}
		return dst, err
	case record.HistogramSamples, record.CustomBucketsHistogramSamples, record.HistogramSamplesV2:
		samples, err := dec.HistogramSamples(rec, nil)
		for _, s := range samples {
			dst = append(dst, uint64(s.Ref))
		}
		return dst, err
	case record.FloatHistogramSamples, record.CustomBucketsFloatHistogramSamples, record.FloatHistogramSamplesV2:
		samples, err := dec.FloatHistogramSamples(rec, nil)
		for _, s := range samples {
			dst = append(dst, uint64(s.Ref))
		}
		return dst, err
	}
	return dst, nil
}
