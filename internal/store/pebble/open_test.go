package pebble

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// direct is an append of a direct message that is kept.
func direct(from string, targets ...string) *store.Append {
	return &store.Append{
		Message: &chat.Message{
			App: 1, ChannelType: chat.Direct, Flags: chat.Kept | chat.Counted | chat.Missed,
			From: from, Type: "app:text", Content: `{"text":"hello"}`, Persist: true,
		},
		Targets: targets,
		History: true,
	}
}

func mustAppend(t testing.TB, s *Store, a *store.Append) {
	t.Helper()
	if err := s.Append(context.Background(), a); err != nil {
		t.Fatal(err)
	}
}

// listing is every file under dir with its content, to see that nothing changed.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		all.WriteString(path + "\n")
		if !d.IsDir() {
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestOpenRefusesAndTouchesNothing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"foreign folder", map[string]string{"letters.txt": "dear"}, "not a Parley data folder"},
		{"foreign format file", map[string]string{"FORMAT": "tar 7"}, "not a Parley data folder"},
		{"newer format", map[string]string{"FORMAT": "parley store 99\n"}, "format 99"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := listing(t, dir)
			s, err := Open(context.Background(), Options{Dir: dir, Logger: quiet})
			if err == nil {
				mustClose(t, s)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if now := listing(t, dir); now != before {
				t.Errorf("the folder was changed to:\n%s", now)
			}
		})
	}
}

func TestOpenRefusesNewerDatabase(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{Dir: "data", FS: fs})
	if err := s.db.Set(metaKey(metaFormat), appendUvarint(nil, formatVersion+1), nil); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s, err := Open(context.Background(), Options{Dir: "data", FS: fs, Logger: quiet})
	if err == nil {
		mustClose(t, s)
		t.Fatal("a newer database was opened")
	}
	if !strings.Contains(err.Error(), "format 2") {
		t.Errorf("got %v, want the format named", err)
	}
}

func TestOpenInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir})
	before := listing(t, dir)
	_, err := Open(context.Background(), Options{Dir: dir, Logger: quiet})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v, want it in use", err)
	}
	if listing(t, dir) != before {
		t.Error("the folder was changed")
	}
	mustAppend(t, s, direct("alice", "bob"))
	mustClose(t, s)
	mustClose(t, mustOpen(t, Options{Dir: dir}))
}

func TestOpenReadOnlyFolder(t *testing.T) {
	t.Parallel()
	writes := 0
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			writes++
			return syscall.EROFS
		}
		return nil
	}))
	_, err := Open(context.Background(), Options{Dir: "data", FS: fs, Logger: quiet})
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "not writable") {
		t.Errorf("got %v, want a folder that is not writable", err)
	}
	if writes == 0 {
		t.Error("nothing was tried")
	}
}

func TestFilesAreTheOwners(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := mustOpen(t, Options{Dir: dir})
	mustAppend(t, s, direct("alice", "bob"))
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	files := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files++
		// Pebble makes its marker files itself; they are empty.
		if (d.IsDir() || info.Size() > 0) && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("%d files, %v", files, err)
	}
}

// TestOpenInUseByAnotherProcess has a second process hold the folder.
func TestOpenInUseByAnotherProcess(t *testing.T) {
	if dir := os.Getenv("PARLEY_TEST_HOLD"); dir != "" {
		s := mustOpen(t, Options{Dir: dir})
		mustAppend(t, s, direct("alice", "bob"))
		fmt.Println("holding")
		_, _ = io.Copy(io.Discard, os.Stdin)
		mustClose(t, s)
		return
	}
	t.Parallel()
	dir := t.TempDir()
	holder := exec.Command(os.Args[0], "-test.run=^TestOpenInUseByAnotherProcess$")
	holder.Env = append(os.Environ(), "PARLEY_TEST_HOLD="+dir)
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "holding" {
	}
	before := listing(t, dir)
	if _, err := Open(context.Background(), Options{Dir: dir, Logger: quiet}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v, want it in use", err)
	}
	if listing(t, dir) != before {
		t.Error("the folder was changed")
	}
	_ = in.Close()
	for lines.Scan() {
	}
	if err := holder.Wait(); err != nil {
		t.Errorf("the holder: %v", err)
	}
	s := mustOpen(t, Options{Dir: dir})
	defer mustClose(t, s)
	if n, err := s.Head(context.Background(), 1, "bob"); n != 1 || err != nil {
		t.Errorf("head is %d, %v, want 1", n, err)
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "data", FS: vfs.NewMem()})
	defer mustClose(t, s)
	step := func(name string) migration {
		return func(_ *pdb.DB, b *pdb.Batch) error { return b.Set(metaKey(name), []byte{1}, nil) }
	}
	steps := []migration{step("one to two"), step("two to three"), step("three to four")}
	for _, tt := range []struct {
		from, to uint64
		want     string
	}{
		{4, 4, ""},
		{0, 4, "format"}, // new: there is nothing to bring forward
		{1, 3, "one to two, two to three, format"},
		{3, 4, "three to four, format"},
	} {
		b := s.db.NewBatch()
		if err := migrate(s.db, b, tt.from, tt.to, steps); err != nil {
			t.Fatal(err)
		}
		var got []string
		for r := b.Reader(); ; {
			_, key, _, ok, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			got = append(got, string(key[1:]))
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("from %d to %d: %q, want %q", tt.from, tt.to, got, tt.want)
		}
		_ = b.Close()
	}
	failing := []migration{func(*pdb.DB, *pdb.Batch) error { return errDisk }}
	if err := migrate(s.db, s.db.NewBatch(), 1, 2, failing); !errors.Is(err, errDisk) {
		t.Errorf("a migration that fails: %v", err)
	}
}

// Restored data is a new life: clients that were further are told so, and
// nothing else changes.
func TestNewLife(t *testing.T) {
	t.Parallel()
	o := Options{Dir: "data", FS: vfs.NewMem()}
	s := mustOpen(t, o)
	was := s.Epoch()
	mustAppend(t, s, direct("alice", "bob"))
	mustClose(t, s)

	o.NewLife = true
	s = mustOpen(t, o)
	is := s.Epoch()
	mustClose(t, s)
	if is == was {
		t.Fatalf("a new life has the old epoch %s", is)
	}
	o.NewLife = false
	s = mustOpen(t, o)
	defer mustClose(t, s)
	if s.Epoch() != is {
		t.Errorf("epoch %s after another restart, want %s", s.Epoch(), is)
	}
	if n, err := s.Head(t.Context(), 1, "bob"); n != 1 || err != nil {
		t.Errorf("head %d, %v in the new life, want 1", n, err)
	}
}
