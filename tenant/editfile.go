package tenant

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// newFileMode is of a runtime file that was not there: the hashes in it tell
// nobody a secret, but who may do what.
const newFileMode = 0o640

// EditFile makes a change to the runtime file, over the settings of a process,
// and replaces the file in one step if all of it is valid then. A file that is
// not there is made. Two editors wait for each other; one that does not, such as
// a person's, is noticed if it wrote meanwhile. RollBack takes it back.
func EditFile(cfg Config, base Settings, change func(*Edit) error) error {
	_, err := rewrite(cfg, &base, func(_ string, src []byte) ([]byte, error) { return edited(src, change) })
	return err
}

// rewritten is what a runtime file said before it was rewritten, as far as it was
// valid, and after.
type rewritten struct{ before, after *version }

// rewrite replaces the runtime file by what next makes of its name and content. The
// content before is kept beside it.
func rewrite(cfg Config, base *Settings, next func(name string, src []byte) ([]byte, error)) (rewritten, error) {
	name, mode, err := target(cfg.File)
	if err != nil {
		return rewritten{}, err
	}
	unlock, err := lockDir(filepath.Dir(name))
	if err != nil {
		return rewritten{}, fmt.Errorf("lock the folder of %s: %w", name, err)
	}
	defer unlock()
	src, err := readIfThere(name)
	if err != nil {
		return rewritten{}, err
	}
	out, err := next(name, src)
	if err != nil {
		return rewritten{}, fmt.Errorf("%s: %w", cfg.File, err)
	}
	none := &version{unlisted: entry{settings: base}}
	before, errs := parse(cfg, src, base, none)
	if len(errs) > 0 {
		before = none
	}
	after, errs := parse(cfg, out, base, before)
	if len(errs) > 0 {
		return rewritten{}, fmt.Errorf("the file is as it was, because with this change it would not be valid:\n%w", errors.Join(errs...))
	}
	if !bytes.Equal(out, src) {
		err = exchange(name, src, out, mode)
	}
	return rewritten{before, after}, err
}

// exchange replaces src, the content of a file, by out, and keeps it beside.
func exchange(name string, src, out []byte, mode fs.FileMode) error {
	if err := keepBefore(name, src, out, mode); err != nil {
		return fmt.Errorf("keep the version before beside %s: %w", name, err)
	}
	now, err := readIfThere(name)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, src) {
		return fmt.Errorf("%s: was changed by somebody else meanwhile, and is as they left it; try again", name)
	}
	if err := replace(name, out, mode); err != nil {
		return err
	}
	return forgetOlder(name, out)
}

// target returns the file behind symbolic links, which are to stay, and the mode
// it has or is to have.
func target(name string) (string, fs.FileMode, error) {
	behind, err := filepath.EvalSymlinks(name)
	if errors.Is(err, fs.ErrNotExist) {
		return name, newFileMode, nil
	}
	if err != nil {
		return "", 0, err
	}
	info, err := os.Stat(behind)
	if err != nil {
		return "", 0, err
	}
	return behind, info.Mode().Perm(), nil
}

func readIfThere(name string) ([]byte, error) {
	src, err := readFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return src, err
}

// replace puts content in the place of a file, so that whoever reads it, also
// after a power cut, finds either the one or the other.
func replace(name string, content []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, ".tenants-*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), keepOwner(f, name), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
