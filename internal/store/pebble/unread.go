package pebble

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// checkKept waits for the index where the question can be answered.
func (s *Store) checkKept(ctx context.Context, ch *store.ChannelRef, limit int) error {
	if limit <= 0 {
		return chat.Invalid("limit", "must be positive")
	}
	if err := checkChannelRef(ch); err != nil {
		return err
	}
	return s.waitIndex(ctx)
}

// missedAfter is behind which UID a message that is not in history must be.
func (s *Store) missedAfter(r *store.KeptRange) chat.UID {
	at := chat.UIDsBefore(int64(dayBefore(dayOf(s.now().UnixMilli()), maxDays)) * dayMillis)
	for _, uid := range [...]chat.UID{r.After, r.Missed} {
		if uid.Compare(at) > 0 {
			at = uid
		}
	}
	return at
}

// Unread implements store.Index.
func (s *Store) Unread(ctx context.Context, ch store.ChannelRef, r store.KeptRange) (n int, err error) {
	if err := s.checkKept(ctx, &ch, r.Limit); err != nil {
		return 0, err
	}
	var newest chat.UID
	for _, part := range [...]struct {
		life  life
		after chat.UID
	}{{lifeHistory, r.After}, {lifeMissed, s.missedAfter(&r)}} {
		w := markWalk{s: s, ch: &ch}
		err := s.eachKept(ctx, &ch, part.life, part.after, func(uid chat.UID, bits byte) (bool, error) {
			if bits&rowCounted == 0 {
				return true, nil
			}
			marked, err := w.has(uid)
			if err == nil && !marked {
				n++
			}
			return n < r.Limit, err
		})
		if cerr := w.close(); err == nil {
			err = cerr
		}
		if err != nil {
			return 0, err
		}
		if w.stamp.Compare(newest) > 0 {
			newest = w.stamp
		}
		if n >= r.Limit {
			break
		}
	}
	return n, s.waitDurable(ctx, newest)
}

// Wanting implements store.Index.
func (s *Store) Wanting(ctx context.Context, ch store.ChannelRef, r store.KeptRange) (list []chat.UID, err error) {
	if err := s.checkKept(ctx, &ch, r.Limit); err != nil {
		return nil, err
	}
	collect := func(l life, after chat.UID) error {
		most := len(list) + r.Limit
		return s.eachKept(ctx, &ch, l, after, func(uid chat.UID, bits byte) (bool, error) {
			if bits&rowReceipt != 0 {
				list = append(list, uid)
			}
			return len(list) < most, nil
		})
	}
	if err := collect(lifeHistory, r.After); err != nil {
		return nil, err
	}
	if err := collect(lifeMissed, s.missedAfter(&r)); err != nil {
		return nil, err
	}
	slices.SortFunc(list, chat.UID.Compare)
	return list[:min(r.Limit, len(list))], nil
}

// Newest implements store.Index.
func (s *Store) Newest(ctx context.Context, ch store.ChannelRef) (newest chat.UID, err error) {
	c, err := s.Channel(ctx, ch) // waits for the index
	if err != nil {
		return newest, err
	}
	inHistory, err := s.newestIn(&ch, lifeOf(ch.Type, true), oldestMonth(ch.Type, s.now().UnixMilli()))
	if err != nil {
		return newest, err
	}
	var missed chat.UID
	if ch.Type != chat.Open {
		after := s.missedAfter(&store.KeptRange{})
		if missed, err = s.newestIn(&ch, lifeMissed, monthOf(after.Millis())); err != nil {
			return newest, err
		}
	}
	return slices.MaxFunc([]chat.UID{c.Last.UID, c.Quiet, inHistory, missed}, chat.UID.Compare), nil
}

// newestMonth is that of the newest row there can be.
func (s *Store) newestMonth() uint16 {
	return monthOf(max(s.now().UnixMilli(), s.durable.Load().Millis()))
}

func (s *Store) newestIn(ch *store.ChannelRef, l life, oldest uint16) (uid chat.UID, err error) {
	newest := s.newestMonth()
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: appendLifePrefix(nil, l, oldest, ch),
		UpperBound: after(appendLifePrefix(nil, l, newest, ch)),
	})
	if err != nil {
		return uid, fmt.Errorf("history: %w", err)
	}
	defer it.Close()
	for month := newest; month >= oldest; month-- {
		prefix := appendLifePrefix(nil, l, month, ch)
		if it.SeekLT(after(prefix)) && bytes.HasPrefix(it.Key(), prefix) {
			return chat.UID(it.Key()[len(prefix):]), nil
		}
	}
	return uid, closeIter(it)
}

// eachKept hands over what one life of history has of a channel behind a UID,
// oldest first, until take wants no more.
func (s *Store) eachKept(ctx context.Context, ch *store.ChannelRef, l life, behind chat.UID, take func(uid chat.UID, bits byte) (more bool, err error)) error {
	first := max(monthOf(behind.Millis()), oldestMonth(ch.Type, s.now().UnixMilli()))
	last := s.newestMonth()
	if first > last {
		return nil
	}
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: appendLifePrefix(nil, l, first, ch),
		UpperBound: after(appendLifePrefix(nil, l, last, ch)),
	})
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	defer it.Close()
	for month := first; month <= last; month++ {
		prefix := appendLifePrefix(nil, l, month, ch)
		seek := prefix
		if month == monthOf(behind.Millis()) {
			// The zero byte makes it the smallest key behind.
			seek = append(append(bytes.Clone(prefix), behind[:]...), 0)
		}
		n := 0
		for ok := it.SeekGE(seek); ok && bytes.HasPrefix(it.Key(), prefix); ok = it.Next() {
			if n++; n%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			rest := it.Key()[len(prefix):]
			if len(rest) != uidLen || len(it.Value()) == 0 {
				return fmt.Errorf("%w: history", errRow)
			}
			if more, err := take(chat.UID(rest), it.Value()[0]&^rowKind); err != nil || !more {
				return err
			}
		}
	}
	return closeIter(it)
}

// A markWalk goes along the marks of a channel beside those who ask in the order
// of UIDs. Nothing is read before somebody asks.
type markWalk struct {
	s      *Store
	ch     *store.ChannelRef
	it     *pdb.Iterator
	prefix []byte // of the month
	month  uint16
	some   bool     // the iterator stands on a mark of the month
	stamp  chat.UID // of the newest mark that was met
}

// has reports whether the message has a mark.
func (w *markWalk) has(uid chat.UID) (bool, error) {
	if month := monthOf(uid.Millis()); w.it == nil || month != w.month {
		if w.it == nil {
			it, err := w.s.db.NewIter(&pdb.IterOptions{
				LowerBound: appendMarkPrefix(nil, month, w.ch),
				UpperBound: after(appendMarkPrefix(nil, w.s.newestMonth(), w.ch)),
			})
			if err != nil {
				return false, fmt.Errorf("marks: %w", err)
			}
			w.it = it
		}
		w.prefix, w.month = appendMarkPrefix(w.prefix[:0], month, w.ch), month
		w.some = w.it.SeekGE(append(bytes.Clone(w.prefix), uid[:]...))
	}
	for ; w.some && bytes.HasPrefix(w.it.Key(), w.prefix); w.some = w.it.Next() {
		rest := w.it.Key()[len(w.prefix):]
		if len(rest) != uidLen+1 {
			return false, fmt.Errorf("%w: mark", errRow)
		}
		switch bytes.Compare(rest[:uidLen], uid[:]) {
		case 0:
			var stamp chat.UID
			copy(stamp[:], w.it.Value())
			if stamp.Compare(w.stamp) > 0 {
				w.stamp = stamp
			}
			return true, nil
		case 1:
			return false, nil
		}
	}
	w.some = false
	return false, closeIter(w.it)
}

func (w *markWalk) close() error {
	if w.it == nil {
		return nil
	}
	if err := w.it.Close(); err != nil {
		return fmt.Errorf("marks: %w", err)
	}
	return nil
}
