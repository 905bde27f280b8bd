package pebble

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

const (
	expireEvery = 10 * time.Minute
	// bodyMargin is how much longer a body is kept than what refers to it, so
	// that whoever has just read an entry can still read its body.
	bodyMargin = 24 * time.Hour
	// logPiece is how many records the log is cut by at least: a range delete per
	// record would cost more than the record.
	logPiece = 4096
)

func (s *Store) runExpiry(ctx context.Context) {
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := s.Expire(ctx); err != nil && ctx.Err() == nil && s.broken() == nil {
				s.logger.Error("store: expiry failed", "error", err)
			}
		}
	}
}

// Expire drops what is past its time, each kind with one range delete: days of
// timelines, bodies by their life, history months, onces, bans that have ended,
// what became of notifications, and the part of the log that all consumers have
// passed. It runs by itself every few minutes.
func (s *Store) Expire(ctx context.Context) error {
	s.expireMu.Lock()
	defer s.expireMu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	// Heads are replayed from bodies after a crash, so no body may go before the
	// head rows have passed it, however far the clock has just jumped.
	if err := s.checkpointHeads(); err != nil {
		return err
	}
	now := s.now().UnixMilli()
	today := dayOf(now)
	b := s.db.NewBatch()
	drop := func(space []byte, end []byte) error {
		if has, err := s.hasRows(space, end); err != nil || !has {
			return err
		}
		if err := b.DeleteRange(space, end, nil); err != nil {
			return fmt.Errorf("expire: %w", err)
		}
		return nil
	}
	oldestOnce := dayOf(now - store.OnceLife.Milliseconds())
	oldestMissed := int64(dayBefore(today, maxDays))*dayMillis - bodyMargin.Milliseconds()
	steps := []span{
		{[]byte{spaceTimeline}, timelineDay(dayBefore(today, maxDays))},
		{[]byte{spaceOnce}, binary.BigEndian.AppendUint16([]byte{spaceOnce}, oldestOnce)},
	}
	for _, l := range lives {
		oldest := oldestMissed
		if l == lifeMissed {
			space := []byte{spaceHistory, byte(l)}
			steps = append(steps, span{space, binary.BigEndian.AppendUint16(append([]byte(nil), space...), monthOf(oldestMissed))})
		} else {
			ct := chat.Direct
			if l == lifeOpen {
				ct = chat.Open
			}
			month := oldestMonth(ct, now)
			oldest = monthStart(month) - bodyMargin.Milliseconds()
			for _, space := range [][]byte{{spaceHistory, byte(l)}, {spaceMarked, byte(l)}} {
				steps = append(steps, span{space, binary.BigEndian.AppendUint16(append([]byte(nil), space...), month)})
			}
		}
		first := chat.NewUID(max(oldest, 0), 0, 0, 0)
		for _, space := range []byte{spaceBody, spaceTargets, spaceOverlay, spaceLeft} {
			steps = append(steps, span{[]byte{space, byte(l)}, appendBodyKey(nil, space, l, first)})
		}
	}
	steps = append(steps, expiredDeliveries(today)...)
	steps = append(steps, expiredBroadcasts(now)...)
	steps = append(steps, expiredPush(today)...)
	bans, err := s.endedBanRows()
	if err != nil {
		return err
	}
	steps = append(steps, bans...)
	passed := s.log.head.Load()
	for _, m := range s.marks {
		passed = min(passed, m.Load())
	}
	if passed >= s.logDropped+logPiece {
		steps = append(steps, span{[]byte{spaceLog}, appendLogKey(nil, passed+1)})
	}
	for _, r := range steps {
		if err := drop(r.from, r.to); err != nil {
			return err
		}
	}
	if err := s.apply(b, pdb.NoSync); err != nil {
		return err
	}
	if passed >= s.logDropped+logPiece {
		s.logDropped = passed
	}
	s.bodies.forget(func(ref chat.UID) bool {
		return ref.Millis() < oldestMissed && !s.keepsBody(ref)
	})
	return nil
}

// A span is the rows from one key up to another.
type span struct{ from, to []byte }

// keepsBody reports whether a body past the time of missed messages is kept as
// history. The cache does not know lives, so the row is asked.
func (s *Store) keepsBody(ref chat.UID) bool {
	_, l, err := s.readBody(ref)
	return err == nil && l != lifeMissed
}

// hasRows reports whether there is a row from one key to another: range deletes
// of nothing would pile up.
func (s *Store) hasRows(from, to []byte) (bool, error) {
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return false, fmt.Errorf("expire: %w", err)
	}
	defer it.Close()
	return it.First(), closeIter(it)
}

// monthStart is when a month number begins, in Unix milliseconds.
func monthStart(month uint16) int64 {
	return time.Date(int(month)/12, time.Month(month%12+1), 1, 0, 0, 0, 0, time.UTC).UnixMilli()
}
