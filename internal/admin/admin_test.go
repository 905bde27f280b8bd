package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
)

// memory is as much of a store as is asked of the directory here.
type memory struct {
	directory.Store
	mu          sync.Mutex
	apps        []*chat.App
	users       map[string]chat.User
	credentials []chat.PushCredential
	templates   []chat.PushTemplate
}

func (m *memory) ListApps(context.Context) ([]*chat.App, error) { return m.apps, nil }

func (m *memory) PutApp(_ context.Context, a *chat.App) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.ID == 0 {
		a.ID = chat.AppID(len(m.apps) + 1)
		m.apps = append(m.apps, a)
		return nil
	}
	m.apps[a.ID-1] = a
	return nil
}

func (m *memory) User(_ context.Context, _ chat.AppID, id string) (*chat.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok := m.users[id]
	if !ok {
		return nil, chat.Fail(chat.KindNoUser, "no such user")
	}
	return &u, nil
}

func (m *memory) UpdateUsers(_ context.Context, _ chat.AppID, ids []string, change func(*chat.User)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		u := m.users[id]
		u.ID = id
		change(&u)
		m.users[id] = u
	}
	return nil
}

func newDirectory(t *testing.T) *directory.Directory {
	t.Helper()
	d, err := directory.Open(t.Context(), &memory{users: map[string]chat.User{}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// serve runs a server on a data folder and gives a client of it.
func serve(t *testing.T, dir string, s *Service) *Client {
	t.Helper()
	ln, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	srv := NewServer(s, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		if err := srv.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c, err := Connect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// The same calls give the same answers on the spot and through the socket.
func TestSameOnTheSpotAndThroughTheSocket(t *testing.T) {
	t.Parallel()
	node := Node{Running: true, Version: "v", PID: 7, Address: "127.0.0.1:1", TLS: true}
	for name, open := range map[string]func(*testing.T, *Service) API{
		"spot":   func(_ *testing.T, s *Service) API { return s },
		"socket": func(t *testing.T, s *Service) API { return serve(t, t.TempDir(), s) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			d := newDirectory(t)
			api := open(t, NewService(d, node))

			if got, err := api.Node(ctx); err != nil || got != node {
				t.Fatalf("Node = %+v, %v", got, err)
			}
			if apps, err := api.Apps(ctx); err != nil || apps == nil || len(apps) != 0 {
				t.Fatalf("Apps = %v, %v, want an empty list", apps, err)
			}
			a, err := api.CreateApp(ctx, "shop", "s3cret")
			if err != nil || a.Key != "shop" || a.Secret != "s3cret" || len(a.Changed) != 0 {
				t.Fatalf("CreateApp = %+v, %v", a, err)
			}
			if _, err := api.CreateApp(ctx, "shop", "other"); chat.KindOf(err) != chat.KindConflict {
				t.Fatalf("a second app of the same key: %v", err)
			}
			if d.App("shop").Secret != "s3cret" {
				t.Fatal("the secret was replaced by a refused call")
			}
			made, err := api.CreateApp(ctx, "", "")
			if err != nil || made.Key == "" || made.Secret == "" {
				t.Fatalf("CreateApp of a new key = %+v, %v", made, err)
			}
			a, err = api.SetApp(ctx, "shop", map[string]string{"limits.direct": "5/s"})
			if want := map[string]string{"limits.direct": "5/s"}; err != nil || !reflect.DeepEqual(a.Changed, want) {
				t.Fatalf("SetApp = %v, %v", a.Changed, err)
			}
			_, err = api.SetApp(ctx, "shop", map[string]string{"limits.direct": "many"})
			if chat.KindOf(err) != chat.KindInvalid || !strings.HasPrefix(err.Error(), "limits.direct: ") {
				t.Fatalf("SetApp of a bad value: %v", err)
			}
			if _, err = api.SetApp(ctx, "no", nil); chat.KindOf(err) != chat.KindNotFound {
				t.Fatalf("SetApp of an unknown app: %v", err)
			}
			apps, err := api.Apps(ctx)
			if err != nil || len(apps) != 2 || apps[0].Settings["limits.direct"] != "5/s" || len(apps[0].Settings) != len(chat.AppSettings) {
				t.Fatalf("Apps = %+v, %v", apps, err)
			}
		})
	}
}

// A token made by hand leaves a known user's name and avatar as they are.
func TestIssueTokenKeepsProfile(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newDirectory(t)
	api := serve(t, t.TempDir(), NewService(d, Node{}))
	app, _, err := d.EnsureApp(ctx, "shop", "s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.IssueToken(ctx, app, "ann", "Ann", "https://example.com/a.png"); err != nil {
		t.Fatal(err)
	}
	check := func(user, name, wantName, wantAvatar string) {
		t.Helper()
		tok, err := api.IssueToken(ctx, "shop", user, name)
		if err != nil {
			t.Fatal(err)
		}
		g, err := d.Verify(ctx, tok.Token)
		if err != nil || g.User.ID != user || tok.User != user || tok.App != "shop" {
			t.Fatalf("token %+v lets in %+v, %v", tok, g, err)
		}
		if g.User.Name != wantName || g.User.AvatarURL != wantAvatar {
			t.Errorf("%s is now %q with avatar %q, want %q, %q", user, g.User.Name, g.User.AvatarURL, wantName, wantAvatar)
		}
	}
	check("ann", "", "Ann", "https://example.com/a.png")
	check("ann", "Anna", "Anna", "https://example.com/a.png")
	check("bob", "", "bob", "")
	if _, err := api.IssueToken(ctx, "none", "ann", ""); chat.KindOf(err) != chat.KindNotFound {
		t.Errorf("token of an unknown app: %v", err)
	}
	if _, err := api.IssueToken(ctx, "shop", "a b", ""); chat.KindOf(err) != chat.KindInvalid {
		t.Errorf("token of a bad user id: %v", err)
	}
}

// Links to the live page come from the node that serves it, and the answer of
// one that does not says how to have it.
func TestDemoLink(t *testing.T) {
	t.Parallel()
	s := NewService(newDirectory(t), Node{Running: true})
	api := serve(t, t.TempDir(), s)
	if _, err := api.DemoLink(t.Context()); chat.KindOf(err) != chat.KindFeatureOff || !strings.Contains(err.Error(), "demo-page: on") {
		t.Errorf("without a page: %v", err)
	}
	want := DemoLink{URL: "http://127.0.0.1:1/demo/#t", Until: time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)}
	other := NewService(newDirectory(t), Node{Running: true})
	other.OfferDemo(func() DemoLink { return want })
	if got, err := serve(t, t.TempDir(), other).DemoLink(t.Context()); err != nil || got != want {
		t.Errorf("DemoLink = %+v, %v", got, err)
	}
}

func TestSocketIsTheOwnersOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	serve(t, dir, NewService(newDirectory(t), Node{}))
	fi, err := os.Stat(filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Mode().Perm(); got != 0o600 {
		t.Errorf("mode %o, want 600", got)
	}
}

func TestNotRunning(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Connect(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := Connect(t.Context(), filepath.Join(dir, "missing")); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a missing folder: %v", err)
	}
	// What a killed node leaves behind: a socket that nobody listens on.
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, socketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	if _, err := Connect(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a leftover socket: %v", err)
	}
	serve(t, dir, NewService(newDirectory(t), Node{}))
}

// A data folder whose path is too long for a socket gets one elsewhere, which
// is as private, and nothing of it stays.
func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	killed, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	// Killed: the listener goes, its files stay.
	left := killed.(*socket)
	left.UnixListener.Close()
	stale := left.files[2]

	ln, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the killed node's folder is still there: %v", err)
	}
	at, err := readPointer(dir)
	if err != nil || at == "" {
		t.Fatalf("pointer %q, %v", at, err)
	}
	for path, want := range map[string]os.FileMode{at: 0o600, filepath.Dir(at): 0o700} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, fi.Mode().Perm(), want)
		}
	}
	conn, err := dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(at)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's folder is still there: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left in the data folder: %v", entries)
	}
}

// The pointer file is only a hint: a folder it names is not removed unless it
// looks like one of ours.
func TestPointerRemovesNothingElse(t *testing.T) {
	t.Parallel()
	dir, precious := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	if err := os.Mkdir(precious, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, pointerName), []byte(precious+"/s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}
