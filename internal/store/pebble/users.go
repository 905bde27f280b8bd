package pebble

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
)

// A userRow is how a user is stored; the id is in the key.
type userRow struct {
	Name       string `json:"name,omitempty"`
	AvatarURL  string `json:"avatar,omitempty"`
	CreatedAt  int64  `json:"createdAt,omitempty"` // Unix ms
	TokensFrom int64  `json:"tokensFrom,omitempty"`

	BannedUntil int64 `json:"bannedUntil,omitempty"`
	DeletedAt   int64 `json:"deletedAt,omitempty"`
	MutedDirect int64 `json:"mutedDirect,omitempty"`
	MutedGroup  int64 `json:"mutedGroup,omitempty"`
	MutedOpen   int64 `json:"mutedOpen,omitempty"`

	Tags []string `json:"tags,omitempty"`
}

// stripes are locks shared by all users, so that there is one per user without
// keeping one per user.
type stripes struct {
	seed  maphash.Seed
	locks [256]sync.Mutex
}

// lock locks the stripes of all ids, in one order so that two callers cannot
// wait for each other, and returns what unlocks them.
func (s *stripes) lock(app chat.AppID, ids ...string) (unlock func()) {
	at := make([]int, len(ids))
	for i, id := range ids {
		at[i] = int(headID{app, id}.hash(s.seed) % uint64(len(s.locks)))
	}
	slices.Sort(at)
	at = slices.Compact(at)
	for _, i := range at {
		s.locks[i].Lock()
	}
	return func() {
		for _, i := range at {
			s.locks[i].Unlock()
		}
	}
}

// User implements store.Users.
func (s *Store) User(ctx context.Context, app chat.AppID, id string) (*chat.User, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	u, found, err := s.readUser(app, id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, chat.Fail(chat.KindNoUser, "no such user")
	}
	return u, nil
}

func (s *Store) readUser(app chat.AppID, id string) (u *chat.User, found bool, err error) {
	value, closer, err := s.db.Get(appendUserKey(nil, spaceUser, app, id))
	if errors.Is(err, pdb.ErrNotFound) {
		return &chat.User{ID: id}, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read user: %w", err)
	}
	defer closer.Close()
	u, err = decodeUser(id, value)
	return u, err == nil, err
}

func decodeUser(id string, value []byte) (*chat.User, error) {
	var row userRow
	if err := json.Unmarshal(value, &row); err != nil {
		return nil, fmt.Errorf("%w: user: %w", errRow, err)
	}
	u := &chat.User{
		ID: id, Name: row.Name, AvatarURL: row.AvatarURL, TokensFrom: row.TokensFrom,
		BannedUntil: row.BannedUntil, DeletedAt: row.DeletedAt, Tags: row.Tags,
		MutedSince: chat.Mutes{Direct: row.MutedDirect, Group: row.MutedGroup, Open: row.MutedOpen},
	}
	if row.CreatedAt != 0 {
		u.CreatedAt = time.UnixMilli(row.CreatedAt)
	}
	return u, nil
}

// UpdateUsers implements store.Users.
func (s *Store) UpdateUsers(ctx context.Context, app chat.AppID, ids []string, change func(*chat.User)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Health(); err != nil {
		return err
	}
	for _, id := range ids {
		if id == "" || len(id) > maxIDLength {
			return chat.Invalidf("userId", "1 to %d bytes, got %d", maxIDLength, len(id))
		}
	}
	// Two updates of one id in one call would both start from what is stored.
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	defer s.userLocks.lock(app, ids...)()
	b := s.db.NewBatch()
	for _, id := range ids {
		u, _, err := s.readUser(app, id)
		if err != nil {
			return err
		}
		before := *u
		change(u)
		if err := indexStates(b, app, &before, u); err != nil {
			return fmt.Errorf("user: %w", err)
		}
		row := userRow{
			Name: u.Name, AvatarURL: u.AvatarURL, TokensFrom: u.TokensFrom,
			BannedUntil: u.BannedUntil, DeletedAt: u.DeletedAt,
			MutedDirect: u.MutedSince.Direct, MutedGroup: u.MutedSince.Group, MutedOpen: u.MutedSince.Open,
			Tags: u.Tags,
		}
		if !u.CreatedAt.IsZero() {
			row.CreatedAt = u.CreatedAt.UnixMilli()
		}
		value, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("user: %w", err)
		}
		if err := b.Set(appendUserKey(nil, spaceUser, app, id), value, nil); err != nil {
			return fmt.Errorf("user: %w", err)
		}
	}
	return s.apply(b, pdb.Sync)
}
