package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// formatVersion is the format this release writes. A change that older releases
// cannot read raises it and adds a migration.
const formatVersion = 1

// migrations bring a store forward: the one at i takes format i+1 to i+2. Each
// adds to the batch that also stores the new version. The FORMAT file follows, so
// a crash in between leaves a folder that both releases understand rightly.
var migrations []migration

type migration func(*pdb.DB, *pdb.Batch) error

const (
	formatName = "FORMAT"
	lockName   = "LOCK"
	dbName     = "db"
	formatWord = "parley store "
)

// mayBeThere are names that a folder without a store may already have.
var mayBeThere = map[string]bool{
	lockName: true, ballastName: true, formatName + ".tmp": true, "admin.sock": true, "lost+found": true,
}

// A folder is a data folder this process has claimed.
type folder struct {
	fs      vfs.FS
	dir     string
	lock    io.Closer
	ballast bool   // the ballast file is there
	version uint64 // of the FORMAT file
}

// claim checks that the folder is a store, or may become one, and locks it.
func claim(o Options) (*folder, error) {
	if o.Dir == "" {
		return nil, errors.New("open store: no data folder given")
	}
	f := &folder{fs: o.FS, dir: o.Dir}
	if vfs.Root(o.FS) == vfs.Default {
		f.fs = ownerOnly{o.FS}
		abs, err := filepath.Abs(o.Dir)
		if err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		f.dir = abs
	}
	if _, err := f.inspect(); err != nil {
		return nil, err
	}
	if err := f.fs.MkdirAll(f.dir, 0o700); err != nil {
		return nil, f.explain("make the data folder", err)
	}
	lock, err := f.fs.Lock(f.path(lockName))
	if err != nil {
		return nil, f.explain("lock the data folder", err)
	}
	f.lock = lock
	// Somebody else may have made the store while we had no lock yet.
	fresh, err := f.inspect()
	if err == nil && fresh {
		err = f.stamp()
	}
	if err != nil {
		return nil, errors.Join(err, f.lock.Close())
	}
	return f, nil
}

func (f *folder) path(name string) string { return f.fs.PathJoin(f.dir, name) }

// inspect reports whether there is no store yet. It only reads.
func (f *folder) inspect() (fresh bool, err error) {
	names, err := f.fs.List(f.dir)
	if errors.Is(err, iofs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, f.explain("read the data folder", err)
	}
	stamped, foreign := false, ""
	for _, name := range names {
		switch {
		case name == formatName:
			stamped = true
		case name == ballastName:
			f.ballast = true
		case !mayBeThere[name]:
			foreign = name
		}
	}
	if !stamped {
		if foreign != "" {
			return false, fmt.Errorf("open store: %s is not a Parley data folder: it holds %q and no %s file; use an empty folder", f.dir, foreign, formatName)
		}
		return true, nil
	}
	text, err := f.readFile(formatName)
	if err != nil {
		return false, f.explain("read the data folder", err)
	}
	version, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(text), formatWord), 10, 32)
	if err != nil || !strings.HasPrefix(text, formatWord) {
		return false, fmt.Errorf("open store: %s is not a Parley data folder: its %s file says something else", f.dir, formatName)
	}
	if version > formatVersion {
		return false, errNewer(version)
	}
	f.version = version
	return false, nil
}

func errNewer(version uint64) error {
	return fmt.Errorf("open store: the data is of format %d, this release knows up to %d; use the release that wrote it, or a later one", version, formatVersion)
}

// stamp marks the folder as a store, before anything else is in it.
func (f *folder) stamp() error {
	tmp := f.path(formatName + ".tmp")
	file, err := f.fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return f.explain("write to the data folder", err)
	}
	_, err = fmt.Fprintf(file, "%s%d\n", formatWord, formatVersion)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return f.explain("write to the data folder", err)
	}
	if err := f.fs.Rename(tmp, f.path(formatName)); err != nil {
		return f.explain("write to the data folder", err)
	}
	f.version = formatVersion
	return f.sync()
}

// sync makes names in the folder durable, and the folder's own.
func (f *folder) sync() error {
	for _, dir := range []string{f.dir, f.fs.PathDir(f.dir)} {
		d, err := f.fs.OpenDir(dir)
		if err != nil {
			return f.explain("sync the data folder", err)
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return f.explain("sync the data folder", err)
		}
	}
	return nil
}

func (f *folder) readFile(name string) (string, error) {
	file, err := f.fs.Open(f.path(name))
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 256))
	return string(text), err
}

// explain says in words what is wrong with the folder.
func (f *folder) explain(doing string, err error) error {
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EACCES) && doing == "lock the data folder" && f.writable(),
		strings.Contains(err.Error(), "lock held by current process"):
		return fmt.Errorf("open store: %s is in use by another process: %w", f.dir, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, iofs.ErrPermission):
		return fmt.Errorf("open store: %s is not writable for this user: %w", f.dir, err)
	}
	return fmt.Errorf("open store: cannot %s: %w", doing, err)
}

// writable tells apart the two meanings of EACCES when a lock is asked for: some
// systems answer it for a lock that is taken.
func (f *folder) writable() bool {
	info, err := f.fs.Stat(f.path(lockName))
	return err == nil && info.Mode().Perm()&0o200 != 0
}

// migrate adds to b what brings the database from one format to another. A new
// database has format 0 and nothing to bring forward.
func migrate(db *pdb.DB, b *pdb.Batch, from, to uint64, steps []migration) error {
	if from == to {
		return nil
	}
	for v := from; from > 0 && v < to; v++ {
		if err := steps[v-1](db, b); err != nil {
			return fmt.Errorf("migrate from format %d: %w", v, err)
		}
	}
	if err := b.Set(metaKey(metaFormat), appendUvarint(nil, to), nil); err != nil {
		return fmt.Errorf("format version: %w", err)
	}
	return nil
}

func beUint64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// ownerOnly makes new files readable for their owner only, whatever the umask:
// they hold messages and secrets.
type ownerOnly struct{ vfs.FS }

func (o ownerOnly) Unwrap() vfs.FS { return o.FS }

func (o ownerOnly) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return private(name)(o.FS.Create(name, c))
}

func (o ownerOnly) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return private(name)(o.FS.OpenReadWrite(name, c, opts...))
}

func (o ownerOnly) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return private(newname)(o.FS.ReuseForWrite(oldname, newname, c))
}

func (o ownerOnly) Lock(name string) (io.Closer, error) {
	l, err := o.FS.Lock(name)
	if err == nil {
		err = os.Chmod(name, 0o600)
	}
	return l, err
}

func (o ownerOnly) MkdirAll(dir string, _ os.FileMode) error { return o.FS.MkdirAll(dir, 0o700) }

func private(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		if err := os.Chmod(name, 0o600); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
}
