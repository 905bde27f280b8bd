// Package directory knows who and what exists: the apps, their users, the tokens
// that let users in, and their open channels.
package directory

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// Store is what the directory keeps its knowledge in.
type Store interface {
	store.Apps
	store.Users
	store.Blocks
	store.OpenChannels
	store.PushDevices
	store.PushSettings
}

// A Directory answers from memory for apps, and from the store for users.
type Directory struct {
	store Store
	now   func() time.Time

	change sync.Mutex // one change to apps at a time; readers never take it
	apps   atomic.Pointer[snapshot]
	open   *openBook

	pushChanges sync.Map // chat.AppID → *atomic.Uint64
	// PushWebHosts are hosts of push services besides those that browsers have. It is
	// set before anything is asked of the directory.
	PushWebHosts []string
}

// A snapshot is every app at one moment. It is never changed, so a call that
// holds an app is served by one consistent set of settings.
type snapshot struct {
	byKey map[string]*chat.App
	byID  map[chat.AppID]*chat.App
}

// Open loads the apps.
func Open(ctx context.Context, s Store, now func() time.Time) (*Directory, error) {
	d := &Directory{store: s, now: now, open: newOpenBook(now)}
	apps, err := s.ListApps(ctx)
	if err != nil {
		return nil, err
	}
	d.publish(apps)
	return d, nil
}

func (d *Directory) publish(apps []*chat.App) {
	s := &snapshot{byKey: map[string]*chat.App{}, byID: map[chat.AppID]*chat.App{}}
	for _, a := range apps {
		s.byKey[a.Key], s.byID[a.ID] = a, a
	}
	d.apps.Store(s)
}

// App is the app with this key, or nil.
func (d *Directory) App(key string) *chat.App { return d.apps.Load().byKey[key] }

// AppByID is the app with this number, or nil.
func (d *Directory) AppByID(id chat.AppID) *chat.App { return d.apps.Load().byID[id] }

// Apps lists all apps, oldest first.
func (d *Directory) Apps() []*chat.App {
	apps := slices.Collect(maps.Values(d.apps.Load().byID))
	slices.SortFunc(apps, func(a, b *chat.App) int { return int(a.ID) - int(b.ID) })
	return apps
}

// CreateApp makes an app with a key and a secret of its own.
func (d *Directory) CreateApp(ctx context.Context) (*chat.App, error) {
	d.change.Lock()
	defer d.change.Unlock()
	return d.create(ctx, randomText(13), randomText(26))
}

// EnsureApp makes sure that the app exists with this secret. What says what had
// to be done: "", "created" or "secret replaced".
func (d *Directory) EnsureApp(ctx context.Context, key, secret string) (app *chat.App, what string, err error) {
	if err := checkAppKey(key); err != nil {
		return nil, "", err
	}
	if secret == "" || len(secret) > maxSecret {
		return nil, "", chat.Invalidf("app secret", "1 to %d bytes", maxSecret)
	}
	d.change.Lock()
	defer d.change.Unlock()
	old := d.App(key)
	switch {
	case old == nil:
		app, err = d.create(ctx, key, secret)
		return app, "created", err
	case old.Secret == secret:
		return old, "", nil
	}
	app, err = d.replace(ctx, old, func(a *chat.App) error { a.Secret = secret; return nil })
	return app, "secret replaced", err
}

// SetApp changes settings of an app by name, all or none.
func (d *Directory) SetApp(ctx context.Context, key string, values map[string]string) (*chat.App, error) {
	d.change.Lock()
	defer d.change.Unlock()
	old := d.App(key)
	if old == nil {
		return nil, &chat.Error{Kind: chat.KindNotFound, Field: "app", Rule: "no app has this key"}
	}
	return d.replace(ctx, old, func(a *chat.App) error {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if err := a.Settings.Set(name, values[name]); err != nil {
				return err
			}
		}
		return nil
	})
}

const (
	maxAppKey = 32
	maxSecret = 128
)

// checkAppKey keeps keys short and plain: they stand in every access token,
// which must not grow past 256 bytes.
func checkAppKey(key string) error {
	if len(key) == 0 || len(key) > maxAppKey {
		return chat.Invalidf("app key", "1 to %d characters, got %d", maxAppKey, len(key))
	}
	for _, c := range key {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return chat.Invalid("app key", "may hold only letters, digits, - and _")
		}
	}
	return nil
}

func (d *Directory) create(ctx context.Context, key, secret string) (*chat.App, error) {
	tokenKey := make([]byte, 32)
	rand.Read(tokenKey)
	app := &chat.App{
		Key: key, Secret: secret, TokenKey: tokenKey,
		CreatedAt: d.now().Truncate(time.Millisecond), Settings: chat.DefaultSettings(),
	}
	if err := d.store.PutApp(ctx, app); err != nil {
		return nil, err
	}
	d.publish(append(d.Apps(), app))
	return app, nil
}

func (d *Directory) replace(ctx context.Context, old *chat.App, change func(*chat.App) error) (*chat.App, error) {
	app := *old
	app.Settings.CustomTypes = maps.Clone(old.Settings.CustomTypes)
	if err := change(&app); err != nil {
		return nil, err
	}
	if err := d.store.PutApp(ctx, &app); err != nil {
		return nil, err
	}
	apps := d.Apps()
	apps[slices.IndexFunc(apps, func(a *chat.App) bool { return a.ID == app.ID })] = &app
	d.publish(apps)
	return &app, nil
}

// randomText is n characters of 5 random bits each.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))[:n]
}

// User is what is known of a user; KindNoUser when they were never issued a
// token.
func (d *Directory) User(ctx context.Context, app *chat.App, id string) (*chat.User, error) {
	if err := chat.CheckID("userId", id); err != nil {
		return nil, err
	}
	u, err := d.store.User(ctx, app.ID, id)
	if errors.Is(err, &chat.Error{Kind: chat.KindNoUser}) || err == nil && !u.Registered() {
		return nil, errNoUser
	}
	return u, err
}

var errNoUser = &chat.Error{Kind: chat.KindNoUser, Field: "userId", Rule: "no such user"}

// CheckRegistered refuses ids that were never issued a token. field names
// where they stood in the request.
func (d *Directory) CheckRegistered(ctx context.Context, app *chat.App, field string, ids ...string) error {
	for _, id := range ids {
		u, err := d.store.User(ctx, app.ID, id)
		if errors.Is(err, &chat.Error{Kind: chat.KindNoUser}) || err == nil && !u.Registered() {
			return &chat.Error{Kind: chat.KindNoUser, Field: field, Rule: "user " + id + " was never issued a token, and this app takes registered users only"}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
