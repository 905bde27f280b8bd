package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// A block is three rows, always written together: who is on the list, with
// their place; who stands at the place; and, under the one who is blocked, by
// whom. The last lets a send ask for both directions in one place each.

// Block implements store.Blocks.
func (s *Store) Block(ctx context.Context, app chat.AppID, user string, others []string) error {
	if err := s.mayChange(ctx, append([]string{user}, others...)); err != nil {
		return err
	}
	defer s.userLocks.lock(app, user)()
	on, newest, err := s.blocklist(app, user)
	if err != nil {
		return err
	}
	// The clock keeps places from being given again when the newest line was
	// removed.
	place := max(newest, uint64(max(s.now().UnixMicro(), 0)))
	b := s.db.NewBatch()
	for _, other := range others {
		if on[other] {
			continue
		}
		on[other] = true
		place++
		if err := errors.Join(
			b.Set(append(appendOwnPrefix(nil, spaceBlock, app, user), other...), binary.BigEndian.AppendUint64(nil, place), nil),
			b.Set(appendPlaceKey(app, user, place), []byte(other), nil),
			b.Set(append(appendOwnPrefix(nil, spaceBlocker, app, other), user...), nil, nil),
		); err != nil {
			return fmt.Errorf("block: %w", err)
		}
	}
	if len(on) > store.MaxBlocklist {
		_ = b.Close()
		return chat.Invalidf("blocklist", "at most %d users, got %d", store.MaxBlocklist, len(on))
	}
	return s.apply(b, pdb.Sync)
}

// Unblock implements store.Blocks.
func (s *Store) Unblock(ctx context.Context, app chat.AppID, user string, others []string) error {
	if err := s.mayChange(ctx, append([]string{user}, others...)); err != nil {
		return err
	}
	defer s.userLocks.lock(app, user)()
	b := s.db.NewBatch()
	for _, other := range others {
		key := append(appendOwnPrefix(nil, spaceBlock, app, user), other...)
		value, closer, err := s.db.Get(key)
		if errors.Is(err, pdb.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("unblock: %w", err)
		}
		place := beUint64(value)
		if err := errors.Join(
			closer.Close(),
			b.Delete(key, nil),
			b.Delete(appendPlaceKey(app, user, place), nil),
			b.Delete(append(appendOwnPrefix(nil, spaceBlocker, app, other), user...), nil),
		); err != nil {
			return fmt.Errorf("unblock: %w", err)
		}
	}
	return s.apply(b, pdb.Sync)
}

// mayChange says why rows about the users cannot be written now.
func (s *Store) mayChange(ctx context.Context, ids []string) error {
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
	return nil
}

// blocklist is who is on the user's list, and the newest place in it.
func (s *Store) blocklist(app chat.AppID, user string) (on map[string]bool, newest uint64, err error) {
	on = map[string]bool{}
	prefix := appendOwnPrefix(nil, spaceBlock, app, user)
	err = s.eachRow(prefix, func(key, value []byte) error {
		on[string(key[len(prefix):])] = true
		newest = max(newest, beUint64(value))
		return nil
	})
	return on, newest, err
}

func appendPlaceKey(app chat.AppID, user string, place uint64) []byte {
	return binary.BigEndian.AppendUint64(appendOwnPrefix(nil, spacePlace, app, user), place)
}

// Blocklist implements store.Blocks.
func (s *Store) Blocklist(ctx context.Context, app chat.AppID, user string, r store.BlockRange) ([]store.Block, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(user) > maxIDLength {
		return nil, chat.TooLong("userId", maxIDLength, len(user), "bytes")
	}
	prefix := appendOwnPrefix(nil, spacePlace, app, user)
	o := &pdb.IterOptions{LowerBound: prefix, UpperBound: after(prefix)}
	switch {
	case r.After == 0:
	case r.Reverse:
		o.UpperBound = appendPlaceKey(app, user, r.After)
	default:
		o.LowerBound = after(appendPlaceKey(app, user, r.After))
	}
	it, err := s.db.NewIter(o)
	if err != nil {
		return nil, fmt.Errorf("blocklist: %w", err)
	}
	defer it.Close()
	first, next := it.First, it.Next
	if r.Reverse {
		first, next = it.Last, it.Prev
	}
	var list []store.Block
	for ok := first(); ok && len(list) < r.Limit; ok = next() {
		list = append(list, store.Block{User: string(it.Value()), Place: beUint64(it.Key()[len(prefix):])})
	}
	return list, closeIter(it)
}

// Blocked implements store.Blocks.
func (s *Store) Blocked(ctx context.Context, app chat.AppID, user string, others []string) ([]string, error) {
	return s.among(ctx, spaceBlock, app, user, others)
}

// Blockers implements store.Blocks.
func (s *Store) Blockers(ctx context.Context, app chat.AppID, user string, others []string) ([]string, error) {
	return s.among(ctx, spaceBlocker, app, user, others)
}

// among gives those of the others who have a row of the user's. A list without
// rows costs a single look. A long one is walked side by side with the others,
// in order, each leaping to where the other one is, so that it costs no more
// looks than there are others: a nuisance may be blocked by millions.
func (s *Store) among(ctx context.Context, space byte, app chat.AppID, user string, others []string) (found []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key := appendOwnPrefix(make([]byte, 0, 5+1+2*maxIDLength), space, app, user)
	prefix := len(key)
	if len(others) == 1 {
		_, closer, err := s.db.Get(append(key, others[0]...))
		if errors.Is(err, pdb.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("blocks: %w", err)
		}
		return others, closer.Close()
	}
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: key, UpperBound: after(key)})
	if err != nil {
		return nil, fmt.Errorf("blocks: %w", err)
	}
	defer it.Close()
	if !it.First() {
		return nil, closeIter(it)
	}
	// Most lists are short. Sorting a thousand others costs more than reading
	// such a list: 180 µs against 30.
	var rows []string
	ok := true
	for ; ok && len(rows) <= len(others)/8; ok = it.Next() {
		rows = append(rows, string(it.Key()[prefix:]))
	}
	if !ok {
		for _, o := range others {
			if _, on := slices.BinarySearch(rows, o); on {
				found = append(found, o)
			}
		}
		slices.Sort(found)
		return found, closeIter(it)
	}
	rest := slices.Sorted(slices.Values(others))
	for ok = it.First(); ok && len(rest) > 0; {
		at := it.Key()[prefix:]
		switch c := bytes.Compare(at, []byte(rest[0])); {
		case c == 0:
			found = append(found, rest[0])
			rest = rest[1:]
			ok = it.Next()
		case c < 0:
			ok = it.SeekGE(append(key[:prefix], rest[0]...))
		default:
			rest = rest[sort.Search(len(rest), func(i int) bool { return bytes.Compare([]byte(rest[i]), at) >= 0 }):]
		}
	}
	return found, closeIter(it)
}
