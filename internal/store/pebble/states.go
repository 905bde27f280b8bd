package pebble

import (
	"context"
	"encoding/binary"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// Each state of a user has a row of its own beside the user's, in the same
// commit, so that a list of the few looks at none of the many. The row's order
// is the list's.

// listed calls f for every state that the user is in.
func listed(u *chat.User, f func(state store.UserState, order uint64)) {
	if u.BannedUntil > 0 {
		// Backwards, so that the bans that have ended are one range, the last.
		f(store.StateBanned, ^uint64(u.BannedUntil))
	}
	if u.DeletedAt > 0 {
		f(store.StateDeleted, uint64(u.DeletedAt))
	}
	for _, t := range chat.MuteTypes {
		if since := *u.MutedSince.In(t); since > 0 {
			f(store.StateMuted(t), uint64(since))
		}
	}
}

// indexStates replaces the rows of the states before a change by those after.
func indexStates(b *pdb.Batch, app chat.AppID, before, after *chat.User) (err error) {
	each := func(u *chat.User, write func(key []byte) error) {
		listed(u, func(state store.UserState, order uint64) {
			if err == nil {
				err = write(appendStateKey(nil, app, state, order, u.ID))
			}
		})
	}
	each(before, func(key []byte) error { return b.Delete(key, nil) })
	each(after, func(key []byte) error { return b.Set(key, nil, nil) })
	return err
}

// ListUsers implements store.Users. The whole list is walked for its length,
// which takes some 100 ns a row.
func (s *Store) ListUsers(ctx context.Context, app chat.AppID, state store.UserState, skip, limit int) (list []store.Listed, total int, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	prefix := appendStatePrefix(nil, app, state)
	end := after(prefix)
	if state == store.StateBanned {
		end = s.endedBans(app)
	}
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: prefix, UpperBound: end})
	if err != nil {
		return nil, 0, fmt.Errorf("list users: %w", err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if total >= skip && len(list) < limit {
			row := it.Key()[len(prefix):]
			at := beUint64(row)
			if state == store.StateBanned {
				at = ^at
			}
			list = append(list, store.Listed{User: string(row[8:]), At: int64(at)})
		}
		total++
	}
	return list, total, closeIter(it)
}

// endedBans is the first key of the app's bans that have ended by now.
func (s *Store) endedBans(app chat.AppID) []byte {
	return binary.BigEndian.AppendUint64(appendStatePrefix(nil, app, store.StateBanned), ^uint64(max(s.now().UnixMilli(), 0)))
}

// endedBanRows are the ranges of bans that have ended, one for each app that
// has any state listed. What the user's own row says of the ban stays.
func (s *Store) endedBanRows() (spans []span, err error) {
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: []byte{spaceState}, UpperBound: []byte{spaceState + 1}})
	if err != nil {
		return nil, fmt.Errorf("ended bans: %w", err)
	}
	defer it.Close()
	for ok := it.First(); ok; {
		app := chat.AppID(binary.BigEndian.Uint32(it.Key()[1:]))
		spans = append(spans, span{s.endedBans(app), after(appendStatePrefix(nil, app, store.StateBanned))})
		next := after(it.Key()[:5])
		if next == nil {
			break
		}
		ok = it.SeekGE(next)
	}
	return spans, closeIter(it)
}
