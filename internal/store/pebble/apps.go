package pebble

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
)

// An appRow is how an app is stored: only settings that differ from their
// defaults, so that a new release may improve a default.
type appRow struct {
	ID        chat.AppID        `json:"id"`
	Key       string            `json:"key"`
	Secret    string            `json:"secret"`
	TokenKey  []byte            `json:"tokenKey"`
	CreatedAt int64             `json:"createdAt"` // Unix ms
	Settings  map[string]string `json:"settings,omitempty"`
}

// loadApps reads all apps into memory: they are few, and every call needs one.
func (s *Store) loadApps() error {
	s.apps = map[chat.AppID]*chat.App{}
	return s.eachRow([]byte{spaceApp}, func(_, value []byte) error {
		var row appRow
		if err := json.Unmarshal(value, &row); err != nil {
			return fmt.Errorf("app: %w", err)
		}
		app := &chat.App{
			ID: row.ID, Key: row.Key, Secret: row.Secret, TokenKey: row.TokenKey,
			CreatedAt: time.UnixMilli(row.CreatedAt), Settings: chat.DefaultSettings(),
		}
		for name, v := range row.Settings {
			// A setting that a later release dropped must not keep the store shut.
			if err := app.Settings.Set(name, v); err != nil {
				s.logger.Warn("store: app setting ignored", "app", row.Key, "setting", name, "error", err)
			}
		}
		s.apps[app.ID] = app
		return nil
	})
}

// ListApps implements store.Apps.
func (s *Store) ListApps(ctx context.Context) ([]*chat.App, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	list := make([]*chat.App, 0, len(s.apps))
	for _, a := range s.apps {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b *chat.App) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// PutApp implements store.Apps.
func (s *Store) PutApp(ctx context.Context, app *chat.App) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Health(); err != nil {
		return err
	}
	if app.Key == "" {
		return chat.Invalid("key", "is required")
	}
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	if app.ID != 0 && s.apps[app.ID] == nil {
		return chat.Failf(chat.KindNotFound, "no app with id %d", app.ID)
	}
	next := chat.AppID(1)
	for id, other := range s.apps {
		if other.Key == app.Key && id != app.ID {
			return chat.Fail(chat.KindConflict, "the app key is taken")
		}
		next = max(next, id+1)
	}
	stored := *app
	if stored.ID == 0 {
		stored.ID = next
	}
	if stored.CreatedAt.IsZero() {
		stored.CreatedAt = s.now()
	}
	stored.CreatedAt = time.UnixMilli(stored.CreatedAt.UnixMilli())
	row, err := json.Marshal(appRow{
		ID: stored.ID, Key: stored.Key, Secret: stored.Secret, TokenKey: stored.TokenKey,
		CreatedAt: stored.CreatedAt.UnixMilli(), Settings: stored.Settings.Changed(),
	})
	if err != nil {
		return fmt.Errorf("app: %w", err)
	}
	b := s.db.NewBatch()
	if err := b.Set(appKey(stored.ID), row, nil); err != nil {
		return fmt.Errorf("app: %w", err)
	}
	if err := s.apply(b, pdb.Sync); err != nil {
		return err
	}
	app.ID, app.CreatedAt = stored.ID, stored.CreatedAt
	s.apps[stored.ID] = &stored
	return nil
}

// eachRow calls f for every row whose key has the prefix.
func (s *Store) eachRow(prefix []byte, f func(key, value []byte) error) error {
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if err := f(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return closeIter(it)
}
