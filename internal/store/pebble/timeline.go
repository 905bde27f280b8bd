package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// maxDays is the longest retention of missed messages an app can ask for.
const maxDays = 7

// today is the UTC day the clock shows.
func (s *Store) today() uint16 { return dayOf(s.now().UnixMilli()) }

// Head implements store.Timelines.
func (s *Store) Head(ctx context.Context, app chat.AppID, user string) (uint64, error) {
	h, err := s.pinForRead(ctx, app, user)
	if err != nil {
		return 0, err
	}
	defer h.unpin()
	return h.durable().offset, nil
}

func (s *Store) pinForRead(ctx context.Context, app chat.AppID, user string) (*head, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if user == "" || len(user) > maxIDLength {
		return nil, chat.Invalidf("userId", "1 to %d bytes, got %d", maxIDLength, len(user))
	}
	return s.heads.pin(app, user)
}

// Oldest implements store.Timelines.
func (s *Store) Oldest(ctx context.Context, app chat.AppID, user string, days int) (uint64, error) {
	h, err := s.pinForRead(ctx, app, user)
	if err != nil {
		return 0, err
	}
	defer h.unpin()
	state := h.durable()
	low := dayBefore(s.today(), min(max(days, 0), maxDays))
	switch {
	case state.offset == 0 || state.day < low:
		return state.offset + 1, nil
	case state.day == low:
		return state.first, nil
	}
	oldest := state.offset + 1
	err = s.scanTimeline(h, low, state.day, 0, state.offset, func(offset uint64, _ []byte) (bool, error) {
		oldest = offset
		return false, nil
	})
	return oldest, err
}

// Read implements store.Timelines.
func (s *Store) Read(ctx context.Context, app chat.AppID, user string, r store.Range, dst []store.Entry) ([]store.Entry, error) {
	if r.Limit <= 0 {
		return dst, chat.Invalid("limit", "must be positive")
	}
	h, err := s.pinForRead(ctx, app, user)
	if err != nil {
		return dst, err
	}
	defer h.unpin()
	state := h.durable()
	lowDay := dayBefore(s.today(), maxDays)
	if state.offset == 0 || state.day < lowDay || r.After >= state.offset {
		return dst, nil
	}
	lo, hi := r.After+1, state.offset
	if r.Before > 0 {
		hi = min(hi, r.Before-1)
	}
	if lo > hi {
		return dst, nil
	}
	limit := uint64(r.Limit)
	tailLo, tailHi := lo, hi
	if hi-lo >= limit {
		if r.Reverse {
			tailLo = hi - limit + 1
		} else {
			tailHi = lo + limit - 1
		}
	}
	// Not across midnight: an older day may be past its time.
	if tailLo >= state.first {
		if dst, ok := h.readTail(tailLo, tailHi, r.Reverse, dst); ok {
			return dst, nil
		}
	}

	if lo >= state.first {
		lowDay = state.day
	}
	return s.readRows(h, lowDay, state.day, lo, hi, r, dst)
}

// readRows is Read where memory does not do. It is apart because its closure puts
// what it uses on the heap.
func (s *Store) readRows(h *head, low, high uint16, lo, hi uint64, r store.Range, dst []store.Entry) ([]store.Entry, error) {
	scan := s.scanTimeline
	if r.Reverse {
		scan = s.scanTimelineBack
	}
	left := r.Limit
	err := scan(h, low, high, lo, hi, func(offset uint64, row []byte) (bool, error) {
		e, err := decodeEntry(row)
		if err != nil {
			return false, fmt.Errorf("timeline row: %w", err)
		}
		e.User, e.Offset = h.user, offset
		dst = append(dst, e)
		left--
		return left > 0, nil
	})
	return dst, err
}

// scanTimeline calls row for each of the user's rows of days low to high with
// offsets lo to hi, oldest first, until it says no.
func (s *Store) scanTimeline(h *head, low, high uint16, lo, hi uint64, row func(offset uint64, value []byte) (bool, error)) error {
	it, err := s.timelineIter(h, low, high)
	if err != nil {
		return err
	}
	defer it.Close()
	var key, prefix []byte
	for day := int(low); day <= int(high); day++ {
		key = appendTimelineKey(key[:0], uint16(day), h.app, h.user, lo)
		prefix = key[:len(key)-8]
		ok := it.SeekGE(key)
		if !ok {
			break
		}
		if d := keyDay(it.Key()); d > day {
			// Nothing of anybody's lies between: go on at the next day there is.
			day = d - 1
			continue
		}
		for ; ok && bytes.HasPrefix(it.Key(), prefix); ok = it.Next() {
			offset := binary.BigEndian.Uint64(it.Key()[len(prefix):])
			if offset > hi {
				return closeIter(it)
			}
			more, err := row(offset, it.Value())
			if err != nil || !more {
				return err
			}
		}
	}
	return closeIter(it)
}

// scanTimelineBack is scanTimeline from the newest to the oldest.
func (s *Store) scanTimelineBack(h *head, low, high uint16, lo, hi uint64, row func(offset uint64, value []byte) (bool, error)) error {
	it, err := s.timelineIter(h, low, high)
	if err != nil {
		return err
	}
	defer it.Close()
	var key, prefix []byte
	for day := int(high); day >= int(low); day-- {
		key = appendTimelineKey(key[:0], uint16(day), h.app, h.user, hi+1)
		prefix = key[:len(key)-8]
		ok := it.SeekLT(key)
		if !ok {
			break
		}
		if d := keyDay(it.Key()); d < day {
			day = d + 1
			continue
		}
		for ; ok && bytes.HasPrefix(it.Key(), prefix); ok = it.Prev() {
			offset := binary.BigEndian.Uint64(it.Key()[len(prefix):])
			if offset < lo {
				return closeIter(it)
			}
			more, err := row(offset, it.Value())
			if err != nil || !more {
				return err
			}
		}
	}
	return closeIter(it)
}

func keyDay(key []byte) int { return int(binary.BigEndian.Uint16(key[1:])) }

func (s *Store) timelineIter(h *head, low, high uint16) (*pdb.Iterator, error) {
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: appendTimelinePrefix(nil, low, h.app, h.user),
		UpperBound: after(appendTimelinePrefix(nil, high, h.app, h.user)),
	})
	if err != nil {
		return nil, fmt.Errorf("read timeline: %w", err)
	}
	return it, nil
}

// closeIter says why an iteration ended, when it is not that there is no more.
func closeIter(it *pdb.Iterator) error {
	if err := it.Error(); err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	return nil
}
