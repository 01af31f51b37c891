package ingester

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
)

// deletionSuffix marks a block that is being deleted; the TSDB finishes that
// when it is opened.
const deletionSuffix = ".tmp-for-deletion"

// dropBlocks deletes the blocks of a closed tenant that end at before or
// earlier, and returns the span of the others. A block whose meta.json cannot be
// read stays, and then so does the tenant.
func dropBlocks(dir string, before int64) (span, error) {
	rest := noTime
	entries, err := os.ReadDir(dir)
	if err != nil {
		return anyTime, err
	}
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		meta, err := readBlockMeta(path)
		switch {
		case err != nil:
			rest = anyTime
			continue
		case meta.MaxTime > before:
			rest.add(meta.MinTime, meta.MaxTime)
			continue
		}
		if err := os.Rename(path, path+deletionSuffix); err != nil {
			return anyTime, err
		}
		if err := os.RemoveAll(path + deletionSuffix); err != nil {
			return anyTime, err
		}
	}
	return rest, nil
}

// add makes s cover a block.
func (s *span) add(mint, maxt int64) {
	s.mint, s.maxt, s.firstEnd = min(s.mint, mint), max(s.maxt, maxt), min(s.firstEnd, maxt)
}

func readBlockMeta(block string) (meta tsdb.BlockMeta, err error) {
	b, err := os.ReadFile(filepath.Join(block, "meta.json"))
	if err == nil {
		err = json.Unmarshal(b, &meta)
	}
	return meta, err
}

// span of the blocks of an open tenant whose head is empty.
func (t *tenantDB) span() span {
	rest := noTime
	for _, b := range t.db.Blocks() {
		rest.add(b.MinTime(), b.MaxTime())
	}
	return rest
}
