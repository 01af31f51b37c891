package tenant

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// Whoever rewrites the runtime file keeps the version before beside it, under a name
// with the hash of the version that came after:
//
//	tenants.yml                          the version with the SHA-256 5f0c…
//	tenants.yml.before-5f0c7b2a91e4d830  what it replaced
//
// So it is known what the file was before, as long as nobody else changed it, and
// never taken for what a version that somebody wrote by hand was before.

// beforeInfix stands between the name of the file and the hash.
const beforeInfix = ".before-"

// beforeName is where the version before content is kept.
func beforeName(name string, content []byte) string {
	return name + beforeInfix + hashOfFile(content)[:16]
}

// keepBefore keeps src, which is about to be replaced by out. A file that was not
// there is not kept.
func keepBefore(name string, src, out []byte, mode fs.FileMode) error {
	if src == nil {
		return nil
	}
	return replace(beforeName(name, out), src, mode)
}

// forgetOlder removes all that is kept but what was before out.
func forgetOlder(name string, out []byte) error {
	dir, kept := filepath.Dir(name), filepath.Base(beforeName(name, out))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(name)+beforeInfix) && e.Name() != kept {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// RolledBack says what RollBack did.
type RolledBack struct {
	From, To    string   // SHA-256 of the versions
	Tenants     int      // listed, for whom something else holds now
	Credentials []string // ids of those that are not what they were: secrets that were revoked may count again
}

// RollBack puts back the version of the runtime file that was there before the last
// edit by EditFile, if it is valid over the settings of a process, or before the last
// call of RollBack: twice is not at all. It refuses to when the file is not as weir
// left it.
func RollBack(cfg Config, base Settings) (RolledBack, error) {
	var to []byte
	r, err := rewrite(cfg, &base, func(name string, src []byte) (kept []byte, err error) {
		kept, err = readFile(beforeName(name, src))
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("no version is kept that was before this one (SHA-256 %s): weir has not edited the file yet, or somebody else has since", hashOfFile(src))
		}
		to = kept
		return kept, err
	})
	if err != nil {
		return RolledBack{}, err
	}
	return RolledBack{
		From: r.before.hash, To: hashOfFile(to), Tenants: r.after.changed(r.before), Credentials: r.after.credentialsUnlike(r.before),
	}, nil
}

// credentialsUnlike returns the ids of credentials of v that before does not have so.
func (v *version) credentialsUnlike(before *version) []string {
	then := make(map[string]Credential)
	if before.credentials != nil {
		for _, c := range before.credentials.list {
			then[c.ID] = c
		}
	}
	var ids []string
	for _, c := range v.credentials.list {
		if !reflect.DeepEqual(then[c.ID], c) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}
