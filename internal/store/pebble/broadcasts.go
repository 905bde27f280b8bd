package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"google.golang.org/protobuf/encoding/protowire"
)

// The key spaces of broadcasts.
const (
	spaceBroadcast     = 0x28 // term(1) uid(10)
	spacePassed        = 0x29 // app(4) user
	spaceTaken         = 0x2a // uid of the broadcast(10) app(4) user
	spaceBroadcastBody = 0x2b // term(1) uid(10)
)

// The terms of broadcasts stand before the UID, so that the many that live for
// minutes do not lie among the few that live for days.
const (
	termShort = 1
	termLong  = 2

	// shortLife is the longest life of the short term, and shortKept how long
	// rows of it are kept.
	shortLife = time.Hour
	shortKept = 25 * time.Hour
)

func termOf(b *chat.Broadcast) byte {
	if b.Life <= shortLife {
		return termShort
	}
	return termLong
}

func appendBroadcastKey(dst []byte, space, term byte, uid chat.UID) []byte {
	return append(append(dst, space, term), uid[:]...)
}

func appendTakenKey(dst []byte, of chat.UID, app chat.AppID, user string) []byte {
	dst = append(append(dst, spaceTaken), of[:]...)
	return append(binary.BigEndian.AppendUint32(dst, uint32(app)), user...)
}

// broadcastSize is about what a broadcast, or the notes of who was given one, add
// to a batch.
func broadcastSize(a *store.Append) int {
	n := 0
	if b := a.Broadcast; b != nil {
		n += 512 + len(b.Recall.Extra) + len(b.Audience.Package)
		for _, list := range [...][]string{b.Audience.AllTags, b.Audience.AnyTag, b.Audience.Platforms} {
			for _, text := range list {
				n += len(text) + 4
			}
		}
	}
	if a.Taking != nil {
		n += 160 * len(a.Targets)
	}
	return n
}

// The fields of a broadcast's row, tagged as in bodies.
const (
	castApp protowire.Number = iota + 1
	castKind
	castFrom
	castRequestID
	castLife
	castAllTags
	castAnyTag
	castPackage
	castPlatforms
	castRecalls
	castRecalledAt
	castRecallBools
	castRecallExtra
	castDisableUpdateLast
)

func appendBroadcast(b []byte, c *chat.Broadcast) []byte {
	b = appendUint(b, castApp, uint64(c.App))
	b = appendUint(b, castKind, uint64(c.Kind))
	b = appendText(b, castFrom, c.From)
	b = appendText(b, castRequestID, c.RequestID)
	b = appendUint(b, castLife, uint64(max(c.Life.Milliseconds(), 0)))
	for _, l := range [...]struct {
		field protowire.Number
		texts []string
	}{{castAllTags, c.Audience.AllTags}, {castAnyTag, c.Audience.AnyTag}, {castPlatforms, c.Audience.Platforms}} {
		for _, text := range l.texts {
			b = appendText(b, l.field, text)
		}
	}
	b = appendText(b, castPackage, c.Audience.Package)
	if !c.Recalls.IsZero() {
		b = protowire.AppendBytes(protowire.AppendTag(b, castRecalls, protowire.BytesType), c.Recalls[:])
		b = appendUint(b, castRecalledAt, uint64(max(c.Recall.At, 0)))
		b = appendUint(b, castRecallBools, recallBools(c.Recall.Admin, c.Recall.Delete))
		b = appendText(b, castRecallExtra, c.Recall.Extra)
		b = appendUint(b, castDisableUpdateLast, protowire.EncodeBool(c.DisableUpdateLast))
	}
	return b
}

func decodeBroadcast(row []byte, uid chat.UID) (*chat.Broadcast, error) {
	c := &chat.Broadcast{UID: uid}
	err := eachField(row, func(f protowire.Number, n uint64, text []byte) {
		switch f {
		case castApp:
			c.App = chat.AppID(n)
		case castKind:
			c.Kind = chat.BroadcastKind(n)
		case castFrom:
			c.From = string(text)
		case castRequestID:
			c.RequestID = string(text)
		case castLife:
			c.Life = time.Duration(n) * time.Millisecond
		case castAllTags:
			c.Audience.AllTags = append(c.Audience.AllTags, string(text))
		case castAnyTag:
			c.Audience.AnyTag = append(c.Audience.AnyTag, string(text))
		case castPackage:
			c.Audience.Package = string(text)
		case castPlatforms:
			c.Audience.Platforms = append(c.Audience.Platforms, string(text))
		case castRecalls:
			copy(c.Recalls[:], text)
		case castRecalledAt:
			c.Recall.At = int64(n)
		case castRecallBools:
			c.Recall.Admin, c.Recall.Delete = n&boolAdmin != 0, n&boolDelete != 0
		case castRecallExtra:
			c.Recall.Extra = string(text)
		case castDisableUpdateLast:
			c.DisableUpdateLast = n != 0
		}
	})
	if !c.Recalls.IsZero() {
		c.Recall.Operator = c.From
	}
	return c, err
}

// addBroadcast writes a broadcast, and its message beside it, so that who looks
// through broadcasts reads no messages.
func (w *writer) addBroadcast(b *pdb.Batch, c *chat.Broadcast) {
	term := termOf(c)
	w.scratch = appendBroadcast(w.scratch[:0], c)
	op := b.SetDeferred(bodyKeyLen, len(w.scratch))
	appendBroadcastKey(op.Key[:0], spaceBroadcast, term, c.UID)
	copy(op.Value, w.scratch)
	_ = op.Finish() // fails on indexed batches only
	m := c.Message
	if m == nil {
		return
	}
	w.scratch = appendBody(w.scratch[:0], m, 1, 0, nil)
	op = b.SetDeferred(bodyKeyLen, len(w.scratch)+contentLen(m.Content))
	appendBroadcastKey(op.Key[:0], spaceBroadcastBody, term, c.UID)
	copy(op.Value, w.scratch)
	appendContent(op.Value[:len(w.scratch)], m.Content)
	_ = op.Finish()
}

// addTaking notes for every target that it was given a broadcast. What says how
// far a user was passed is written over: it names the commit, by which readers
// know whether it is durable.
func (w *writer) addTaking(b *pdb.Batch, a *store.Append) {
	t, app := a.Taking, a.Message.App
	for i, user := range a.Targets {
		uid := a.Placed.First.Plus(i)
		op := b.SetDeferred(1+uidLen+4+len(user), uidLen)
		appendTakenKey(op.Key[:0], t.Of, app, user)
		copy(op.Value, uid[:])
		_ = op.Finish()
		if !t.Pass {
			continue
		}
		op = b.SetDeferred(1+4+len(user), 2*uidLen)
		appendUserKey(op.Key[:0], spacePassed, app, user)
		copy(op.Value, t.Of[:])
		copy(op.Value[uidLen:], a.Placed.First[:])
		_ = op.Finish()
	}
}

// Broadcasts implements store.Broadcasts.
func (s *Store) Broadcasts(ctx context.Context, at int64) ([]*chat.Broadcast, error) {
	var list []*chat.Broadcast
	for _, t := range [...]struct {
		term byte
		life time.Duration
	}{{termShort, shortLife}, {termLong, chat.BroadcastLife}} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		it, err := s.db.NewIter(&pdb.IterOptions{
			LowerBound: appendBroadcastKey(nil, spaceBroadcast, t.term, chat.UIDsBefore(at-t.life.Milliseconds())),
			UpperBound: []byte{spaceBroadcast, t.term + 1},
		})
		if err != nil {
			return nil, fmt.Errorf("broadcasts: %w", err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			if len(it.Key()) != bodyKeyLen {
				return nil, errors.Join(fmt.Errorf("%w: broadcast key", errRow), it.Close())
			}
			uid := chat.UID(it.Key()[2:])
			if s.isAhead(uid) {
				break
			}
			c, err := decodeBroadcast(it.Value(), uid)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("broadcast %s: %w", uid, err), it.Close())
			}
			if c.Until() >= at {
				list = append(list, c)
			}
		}
		if err := it.Close(); err != nil {
			return nil, fmt.Errorf("broadcasts: %w", err)
		}
	}
	slices.SortFunc(list, func(a, b *chat.Broadcast) int { return a.UID.Compare(b.UID) })
	return list, nil
}

// BroadcastsBehind implements store.Broadcasts.
func (s *Store) BroadcastsBehind(ctx context.Context, behind chat.UID, limit int) (list []*chat.Broadcast, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if limit <= 0 {
		return nil, chat.Invalid("limit", "must be positive")
	}
	it, err := s.db.NewIter(&pdb.IterOptions{
		// The zero byte makes it the smallest key behind that one.
		LowerBound: append(appendBroadcastKey(nil, spaceBroadcast, termLong, behind), 0),
		UpperBound: []byte{spaceBroadcast, termLong + 1},
	})
	if err != nil {
		return nil, fmt.Errorf("broadcasts: %w", err)
	}
	defer it.Close()
	for ok := it.First(); ok && len(list) < limit; ok = it.Next() {
		if len(it.Key()) != bodyKeyLen {
			s.passOver("broadcast", it.Key())
			continue
		}
		uid := chat.UID(it.Key()[2:])
		if s.isAhead(uid) {
			break
		}
		c, err := decodeBroadcast(it.Value(), uid)
		if err != nil {
			s.passOver("broadcast", it.Key())
			continue
		}
		list = append(list, c)
	}
	return list, closeIter(it)
}

// Broadcast implements store.Broadcasts.
func (s *Store) Broadcast(ctx context.Context, app chat.AppID, uid chat.UID) (*chat.Broadcast, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.isAhead(uid) {
		return nil, errNoMessage
	}
	for _, term := range [...]byte{termShort, termLong} {
		row, closer, err := s.db.Get(appendBroadcastKey(nil, spaceBroadcast, term, uid))
		if errors.Is(err, pdb.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("broadcast: %w", err)
		}
		c, err := decodeBroadcast(row, uid)
		if err := errors.Join(err, closer.Close()); err != nil {
			return nil, fmt.Errorf("broadcast %s: %w", uid, err)
		}
		if c.App != app {
			return nil, errNoMessage
		}
		row, closer, err = s.db.Get(appendBroadcastKey(nil, spaceBroadcastBody, term, uid))
		if errors.Is(err, pdb.ErrNotFound) {
			return c, nil // a recall
		}
		if err != nil {
			return nil, fmt.Errorf("broadcast: %w", err)
		}
		b, err := decodeBody(row)
		if err := errors.Join(err, closer.Close()); err != nil {
			return nil, fmt.Errorf("broadcast %s: %w", uid, err)
		}
		c.Message = b.message
		return c, nil
	}
	return nil, errNoMessage
}

// Passed implements store.Broadcasts.
func (s *Store) Passed(ctx context.Context, app chat.AppID, user string) (of chat.UID, err error) {
	if err := ctx.Err(); err != nil {
		return of, err
	}
	row, closer, err := s.db.Get(appendUserKey(nil, spacePassed, app, user))
	if errors.Is(err, pdb.ErrNotFound) {
		return of, nil
	}
	if err != nil {
		return of, fmt.Errorf("passed: %w", err)
	}
	if len(row) != 2*uidLen {
		return of, errors.Join(fmt.Errorf("%w: passed", errRow), closer.Close())
	}
	of, stamp := chat.UID(row[:uidLen]), chat.UID(row[uidLen:])
	if err := closer.Close(); err != nil {
		return of, err
	}
	return of, s.waitDurable(ctx, stamp)
}

// Taken implements store.Broadcasts.
func (s *Store) Taken(ctx context.Context, app chat.AppID, of chat.UID, user string) (uid chat.UID, err error) {
	if err := ctx.Err(); err != nil {
		return uid, err
	}
	row, closer, err := s.db.Get(appendTakenKey(nil, of, app, user))
	if errors.Is(err, pdb.ErrNotFound) {
		return uid, nil
	}
	if err != nil {
		return uid, fmt.Errorf("taken: %w", err)
	}
	if len(row) != uidLen {
		return uid, errors.Join(fmt.Errorf("%w: taken", errRow), closer.Close())
	}
	copy(uid[:], row)
	if s.isAhead(uid) {
		uid = chat.UID{}
	}
	return uid, closer.Close()
}

// CountTaken implements store.Broadcasts.
func (s *Store) CountTaken(ctx context.Context, app chat.AppID, of chat.UID, most int) (n int, err error) {
	prefix := appendTakenKey(nil, of, app, "")
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return 0, fmt.Errorf("taken: %w", err)
	}
	defer it.Close()
	for ok := it.First(); ok && n < most; ok = it.Next() {
		if n%4096 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if len(it.Value()) == uidLen && !s.isAhead(chat.UID(it.Value())) {
			n++
		}
	}
	return n, closeIter(it)
}

// expiredBroadcasts are the rows of broadcasts that nobody is given or told of
// any more.
func expiredBroadcasts(now int64) []span {
	long := chat.UIDsBefore(now - store.KeepBroadcasts.Milliseconds())
	short := chat.UIDsBefore(now - shortKept.Milliseconds())
	var spans []span
	for _, space := range [...]byte{spaceBroadcast, spaceBroadcastBody} {
		spans = append(spans,
			span{[]byte{space, termShort}, appendBroadcastKey(nil, space, termShort, short)},
			span{[]byte{space, termLong}, appendBroadcastKey(nil, space, termLong, long)})
	}
	return append(spans, span{[]byte{spaceTaken}, append([]byte{spaceTaken}, long[:]...)})
}
