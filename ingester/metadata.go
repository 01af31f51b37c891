package ingester

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/metadata"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// perFamily is how many different statements about one metric family are kept:
// applications of different versions disagree.
const perFamily = 5

// metadataFile lies in a tenant's directory; the TSDB leaves it alone.
const metadataFile = "metadata.json"

// metadataStore keeps what senders say of a tenant's metric families. It is
// written to disk from time to time: senders repeat themselves, so a crash
// loses nothing that does not come back within minutes.
type metadataStore struct {
	mu       sync.RWMutex
	families map[string][]metadata.Metadata // newest statement first; guarded by mu
	dirty    bool                           // guarded by mu
}

// keepMetadata takes over what the frame says of metric families. Where none is to be
// kept, nobody is told that theirs was not.
func (i *Ingester) keepMetadata(t *tenantDB, f *proto.Frame, reply *proto.Reply) {
	lim := t.limits()
	reply.Families = t.metadata.add(reply.Families, f.Metadata, lim)
	if lim.MaxMetadataEntries == 0 {
		i.metrics.metadataDropped.Add(float64(len(reply.Families)))
		reply.Families = reply.Families[:0]
	}
	reply.Written.Metadata += len(f.Metadata) - len(reply.Families)
}

// add takes statements over and appends to refused the indexes of those that it did
// not, because they are of new families beyond the limit.
func (s *metadataStore) add(refused []uint32, ms []proto.Metadata, lim *tenant.Limits) []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range ms {
		known := s.families[m.Family]
		if len(known) > 0 && known[0] == m.Metadata {
			continue
		}
		if len(known) == 0 && len(s.families) >= lim.MaxMetadataEntries {
			refused = append(refused, uint32(i))
			continue
		}
		if s.families == nil {
			s.families = make(map[string][]metadata.Metadata)
		}
		known = slices.DeleteFunc(slices.Clone(known), func(k metadata.Metadata) bool { return k == m.Metadata })
		known = slices.Insert(known, 0, m.Metadata)
		s.families[m.Family] = known[:min(len(known), perFamily)]
		s.dirty = true
	}
	return refused
}

// get returns the statements about one family, or about all when it is empty.
func (s *metadataStore) get(family string) map[string][]metadata.Metadata {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make(map[string][]metadata.Metadata)
	if family != "" {
		if ms := s.families[family]; len(ms) > 0 {
			out[family] = slices.Clone(ms)
		}
		return out
	}
	for f, ms := range s.families {
		out[f] = slices.Clone(ms)
	}
	return out
}

// load reads what an earlier process wrote.
func (s *metadataStore) load(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, metadataFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var families map[string][]metadata.Metadata
	if err == nil {
		err = json.Unmarshal(b, &families)
	}
	if err != nil {
		return fmt.Errorf("read metric metadata: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.families = families
	return nil
}

// save writes the statements when there are new ones.
func (s *metadataStore) save(dir string) error {
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = false
	b, err := json.Marshal(s.families)
	s.mu.Unlock()
	if !dirty {
		return nil
	}
	if err == nil {
		tmp := filepath.Join(dir, metadataFile+".tmp")
		if err = os.WriteFile(tmp, b, 0o644); err == nil {
			err = os.Rename(tmp, filepath.Join(dir, metadataFile))
		}
	}
	if err != nil {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
		return fmt.Errorf("write metric metadata: %w", err)
	}
	return nil
}
