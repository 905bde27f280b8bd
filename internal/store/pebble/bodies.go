package pebble

import (
	"context"
	"errors"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// maxFindBack is how many bodies of one millisecond Find looks through. Only
// runs whose clocks overlapped share one, which the floor of the clock rules
// out; the bound is for a folder that somebody put together by hand.
const maxFindBack = 64

var errNoMessage = chat.Fail(chat.KindNotFound, "no such message, or not kept any more")

// Message implements store.Messages.
func (s *Store) Message(ctx context.Context, ref chat.UID) (*chat.Message, error) {
	if m := s.bodies.get(ref); m != nil {
		return m, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, _, err := s.readBody(ref)
	if err != nil {
		return nil, err
	}
	s.bodies.put(ref, b.message)
	return b.message, nil
}

// readBody reads a body that readers may see, without targets that stand in a
// row of their own.
func (s *Store) readBody(ref chat.UID) (*body, life, error) {
	if s.isAhead(ref) {
		return nil, 0, errNoMessage
	}
	var buf [bodyKeyLen]byte
	for _, l := range livesOf(ref.ChannelType()) {
		row, closer, err := s.db.Get(appendBodyKey(buf[:0], spaceBody, l, ref))
		if errors.Is(err, pdb.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read body: %w", err)
		}
		b, err := decodeBody(row)
		_ = closer.Close()
		if err != nil {
			return nil, 0, fmt.Errorf("body %s: %w", ref, err)
		}
		return b, l, nil
	}
	return nil, 0, errNoMessage
}

// isAhead reports whether uid is of a commit that a crash could take back.
func (s *Store) isAhead(uid chat.UID) bool { return uid.Compare(*s.durable.Load()) > 0 }

// readTargets fills in the body's targets.
func (s *Store) readTargets(ref chat.UID, l life, b *body) error {
	if len(b.targets) == b.count {
		return nil
	}
	row, closer, err := s.db.Get(appendBodyKey(nil, spaceTargets, l, ref))
	if errors.Is(err, pdb.ErrNotFound) {
		return errNoMessage
	}
	if err != nil {
		return fmt.Errorf("read targets: %w", err)
	}
	defer closer.Close()
	b.targets, err = decodeTargets(row, b.count)
	if err != nil {
		return fmt.Errorf("targets of %s: %w", ref, err)
	}
	return nil
}

// readWhole is readBody with all targets.
func (s *Store) readWhole(ref chat.UID) (*body, life, error) {
	b, l, err := s.readBody(ref)
	if err == nil {
		err = s.readTargets(ref, l, b)
	}
	return b, l, err
}

// Given implements store.Messages.
func (s *Store) Given(ctx context.Context, ref chat.UID) ([]store.Target, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, _, err := s.readWhole(ref)
	if err != nil {
		return nil, err
	}
	given := make([]store.Target, len(b.targets))
	for i, t := range b.targets {
		given[i] = store.Target{ID: t.id, Offset: t.offset}
	}
	return given, nil
}

// Find implements store.Messages.
func (s *Store) Find(ctx context.Context, app chat.AppID, uid chat.UID) (*store.Append, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.isAhead(uid) {
		return nil, errNoMessage
	}
	for _, l := range livesOf(uid.ChannelType()) {
		a, err := s.findIn(l, app, uid)
		if a != nil || err != nil {
			return a, err
		}
	}
	return nil, errNoMessage
}

// findIn goes back from uid to the body whose block holds it.
func (s *Store) findIn(l life, app chat.AppID, uid chat.UID) (*store.Append, error) {
	key := appendBodyKey(nil, spaceBody, l, uid)
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: []byte{spaceBody, byte(l)},
		UpperBound: after(key),
	})
	if err != nil {
		return nil, fmt.Errorf("find: %w", err)
	}
	defer it.Close()
	ok := it.Last()
	for range maxFindBack {
		if !ok {
			return nil, closeIter(it)
		}
		first := chat.UID(it.Key()[2:])
		if first.Millis() != uid.Millis() {
			return nil, nil
		}
		b, err := decodeBody(it.Value())
		if err != nil {
			return nil, fmt.Errorf("body %s: %w", first, err)
		}
		if uid.IndexIn(first, b.count) >= 0 {
			if b.message.App != app || b.message.Event != nil {
				return nil, errNoMessage
			}
			if err := s.readTargets(first, l, b); err != nil {
				return nil, err
			}
			return b.append(first, l), nil
		}
		ok = it.Prev()
	}
	return nil, nil
}

// append is the request as it was when it was answered, without its Once.
func (b *body) append(first chat.UID, l life) *store.Append {
	a := &store.Append{Message: b.message, History: l != lifeMissed}
	a.Targets = make([]string, len(b.targets))
	for i, t := range b.targets {
		a.Targets[i] = t.id
	}
	a.Placed = store.Placed{First: first, Entries: b.entries(first)}
	return a
}

// entries are the timeline entries the request gave, in the order of the writer.
func (b *body) entries(first chat.UID) []store.Entry {
	if b.message.ChannelType == chat.Open {
		return nil
	}
	entries := make([]store.Entry, 0, b.count)
	for i, t := range b.targets {
		uid := first.Plus(i)
		entries = append(entries, store.Entry{User: t.id, Offset: t.offset, UID: uid, Ref: first, Kind: store.EntryIn})
		if b.echoAt > 0 && t.id != b.message.From {
			// The sender's entries are one after the other, one per target, so
			// the first offset tells them all.
			entries = append(entries, store.Entry{
				User: b.message.From, Offset: b.echoAt + uint64(i), UID: uid, Ref: first,
				Peer: t.id, Kind: store.EntryOut,
			})
		}
	}
	return entries
}
