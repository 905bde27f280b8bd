package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of a view's row, tagged as in bodies.
const (
	viewStamp protowire.Number = iota + 1
	viewReadUpTo
	viewClearedUpTo
	viewRemovedUpTo
	viewPinnedAt
	viewLevel // zigzag
	viewTag
	viewTagAt

	viewReadAt    protowire.Number = 21
	viewClearedAt protowire.Number = 22
	viewRemovedAt protowire.Number = 23
)

// markAt is the field behind the stamp in a mark's row.
const markAt protowire.Number = 1

// viewSize is about what a change of a view or a mark adds to a batch.
const viewSize = 3 * maxIDLength

func appendViewPrefix(dst []byte, app chat.AppID, owner string) []byte {
	return appendOwnPrefix(dst, spaceView, app, owner)
}

func appendViewKey(dst []byte, ch *store.ChannelRef) []byte {
	return append(append(appendViewPrefix(dst, ch.App, ch.Owner), byte(ch.Type)), ch.Channel...)
}

func appendMarkPrefix(dst []byte, month uint16, ch *store.ChannelRef) []byte {
	dst = binary.BigEndian.AppendUint16(append(dst, spaceMarked, byte(lifeOf(ch.Type, true))), month)
	dst = binary.BigEndian.AppendUint32(dst, uint32(ch.App))
	dst = appendLong(dst, ch.Owner)
	return appendLong(append(dst, byte(ch.Type)), ch.Channel)
}

// addViews writes what the append changes of views. As with states, each row
// carries the UID of the append, by which readers know whether it is durable.
func (w *writer) addViews(b *pdb.Batch, a *store.Append) error {
	for i := range a.Views {
		c := &a.Views[i]
		row := protowire.AppendBytes(protowire.AppendTag(nil, viewStamp, protowire.BytesType), a.Placed.First[:])
		if c.View != nil {
			row = appendView(row, c.View)
		}
		if err := b.Set(appendViewKey(nil, &c.Channel), row, nil); err != nil {
			return fmt.Errorf("view: %w", err)
		}
	}
	if c := a.Preferences; c != nil {
		row := protowire.AppendBytes(protowire.AppendTag(nil, viewStamp, protowire.BytesType), a.Placed.First[:])
		if c.Preferences != nil {
			row = appendPreferences(row, c.Preferences)
		}
		if err := b.Set(appendPreferencesKey(nil, c.App, c.User), row, nil); err != nil {
			return fmt.Errorf("preferences: %w", err)
		}
	}
	for i := range a.Marks {
		c := &a.Marks[i]
		key := appendMarkPrefix(nil, monthOf(c.UID.Millis()), &c.Channel)
		key = append(append(key, c.UID[:]...), byte(c.Mark))
		row := appendUint(append([]byte(nil), a.Placed.First[:]...), markAt, uint64(max(c.At, 0)))
		if err := b.Set(key, row, nil); err != nil {
			return fmt.Errorf("mark: %w", err)
		}
	}
	return nil
}

func appendView(b []byte, v *chat.View) []byte {
	for _, f := range [...]struct {
		number protowire.Number
		uid    chat.UID
	}{{viewReadUpTo, v.ReadUpTo}, {viewClearedUpTo, v.ClearedUpTo}, {viewRemovedUpTo, v.RemovedUpTo}} {
		if !f.uid.IsZero() {
			b = protowire.AppendBytes(protowire.AppendTag(b, f.number, protowire.BytesType), f.uid[:])
		}
	}
	b = appendUint(b, viewReadAt, uint64(max(v.ReadAt, 0)))
	b = appendUint(b, viewClearedAt, uint64(max(v.ClearedAt, 0)))
	b = appendUint(b, viewRemovedAt, uint64(max(v.RemovedAt, 0)))
	b = appendUint(b, viewPinnedAt, uint64(max(v.PinnedAt, 0)))
	b = appendUint(b, viewLevel, protowire.EncodeZigZag(int64(v.Level)))
	for _, t := range v.Tags {
		b = protowire.AppendString(protowire.AppendTag(b, viewTag, protowire.BytesType), t.ID)
		b = appendUint(b, viewTagAt, uint64(max(t.At, 0)))
	}
	return b
}

// decodeView is the view that a row holds, nil when it was forgotten.
func decodeView(row []byte) (v *chat.View, stamp chat.UID, err error) {
	v = &chat.View{}
	some := false
	err = eachField(row, func(f protowire.Number, n uint64, text []byte) {
		some = some || f != viewStamp
		switch f {
		case viewStamp:
			copy(stamp[:], text)
		case viewReadUpTo:
			copy(v.ReadUpTo[:], text)
		case viewClearedUpTo:
			copy(v.ClearedUpTo[:], text)
		case viewRemovedUpTo:
			copy(v.RemovedUpTo[:], text)
		case viewReadAt:
			v.ReadAt = int64(n)
		case viewClearedAt:
			v.ClearedAt = int64(n)
		case viewRemovedAt:
			v.RemovedAt = int64(n)
		case viewPinnedAt:
			v.PinnedAt = int64(n)
		case viewLevel:
			v.Level = chat.NotifyLevel(protowire.DecodeZigZag(n))
		case viewTag:
			v.Tags = append(v.Tags, chat.ViewTag{ID: string(text)})
		case viewTagAt:
			if len(v.Tags) > 0 {
				v.Tags[len(v.Tags)-1].At = int64(n)
			}
		}
	})
	if !some {
		v = nil
	}
	return v, stamp, err
}

func checkChannelRef(ch *store.ChannelRef) error {
	if n := max(len(ch.Owner), len(ch.Channel)); n > maxIDLength {
		return chat.TooLong("channelId", maxIDLength, n, "bytes")
	}
	return nil
}

// View implements store.Views.
func (s *Store) View(ctx context.Context, ch store.ChannelRef) (*chat.View, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkChannelRef(&ch); err != nil {
		return nil, err
	}
	row, closer, err := s.db.Get(appendViewKey(nil, &ch))
	if errors.Is(err, pdb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("view: %w", err)
	}
	v, stamp, err := decodeView(row)
	_ = closer.Close()
	if err != nil {
		return nil, fmt.Errorf("view: %w", err)
	}
	return v, s.waitDurable(ctx, stamp)
}

// Views implements store.Views.
func (s *Store) Views(ctx context.Context, app chat.AppID, user string) (list []store.OwnView, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(user) > maxIDLength {
		return nil, chat.TooLong("userId", maxIDLength, len(user), "bytes")
	}
	var newest chat.UID
	prefix := appendViewPrefix(nil, app, user)
	err = s.eachRow(prefix, func(key, row []byte) error {
		if key[len(prefix)] == 0 {
			return nil // preferences
		}
		v, stamp, err := decodeView(row)
		if err != nil {
			return fmt.Errorf("views: %w", err)
		}
		if stamp.Compare(newest) > 0 {
			newest = stamp
		}
		if v != nil {
			list = append(list, store.OwnView{
				Type: chat.ChannelType(key[len(prefix)]), Channel: string(key[len(prefix)+1:]), View: v,
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, s.waitDurable(ctx, newest)
}

// Marks implements store.Views. Rows of different months are apart, so a range
// is read month by month.
func (s *Store) Marks(ctx context.Context, ch store.ChannelRef, from, to chat.UID) (list []store.Marked, err error) {
	if err := ctx.Err(); err != nil || from.Compare(to) > 0 {
		return nil, err
	}
	if err := checkChannelRef(&ch); err != nil {
		return nil, err
	}
	first := max(monthOf(from.Millis()), oldestMonth(ch.Type, s.now().UnixMilli()))
	last := min(monthOf(to.Millis()), monthOf(max(s.now().UnixMilli(), s.durable.Load().Millis())))
	if first > last {
		return nil, nil
	}
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: appendMarkPrefix(nil, first, &ch),
		UpperBound: after(appendMarkPrefix(nil, last, &ch)),
	})
	if err != nil {
		return nil, fmt.Errorf("marks: %w", err)
	}
	var newest chat.UID
	for month := first; month <= last && err == nil; month++ {
		prefix := appendMarkPrefix(nil, month, &ch)
		seek := prefix
		if month == monthOf(from.Millis()) {
			seek = append(bytes.Clone(prefix), from[:]...)
		}
		for ok := it.SeekGE(seek); ok && bytes.HasPrefix(it.Key(), prefix); ok = it.Next() {
			m, stamp, merr := decodeMark(it.Key()[len(prefix):], it.Value())
			if err = merr; err != nil || m.UID.Compare(to) > 0 {
				break
			}
			if stamp.Compare(newest) > 0 {
				newest = stamp
			}
			list = append(list, m)
		}
	}
	if cerr := it.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("marks: %w", cerr)
	}
	if err != nil {
		return nil, err
	}
	return list, s.waitDurable(ctx, newest)
}

// decodeMark reads a mark from what its key has behind the channel, and its row, and
// gives the commit that put it.
func decodeMark(rest, row []byte) (m store.Marked, stamp chat.UID, err error) {
	if len(rest) != uidLen+1 {
		return m, stamp, fmt.Errorf("%w: mark", errRow)
	}
	m.UID, m.Mark = chat.UID(rest[:uidLen]), store.Mark(rest[uidLen])
	copy(stamp[:], row)
	if len(row) > uidLen {
		err = eachField(row[uidLen:], func(f protowire.Number, n uint64, _ []byte) {
			if f == markAt {
				m.At = int64(n)
			}
		})
	}
	if err != nil {
		err = fmt.Errorf("mark: %w", err)
	}
	return m, stamp, err
}
