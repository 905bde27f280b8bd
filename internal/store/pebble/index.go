package pebble

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

const (
	// historyMonths and openMonths are how long history is kept, the current
	// month not counted.
	historyMonths = 6
	openMonths    = 2
	// indexBatch is how many rows go in one batch at most, so that the writer is
	// never held up for long.
	indexBatch = 4000
	// indexBulk is how many rows are gathered in memory before they are written.
	indexBulk = 100_000
)

// A bulk gathers what a stretch of the log adds to the index: rows with their
// keys, in the order of the log, all in one piece of memory.
type bulk struct {
	memory []byte
	rows   []bulkRow
}

type bulkRow struct {
	at         uint32 // of the key in memory; the value follows
	key, value uint16
}

func (x *bulk) key(r bulkRow) []byte { return x.memory[r.at:][:r.key] }

func (x *bulk) value(r bulkRow) []byte { return x.memory[r.at+uint32(r.key):][:r.value] }

// end makes a row of what was appended to memory since at.
func (x *bulk) end(at, key int) {
	x.rows = append(x.rows, bulkRow{at: uint32(at), key: uint16(key - at), value: uint16(len(x.memory) - key)})
}

// IndexLog implements store.Index.
func (s *Store) IndexLog(ctx context.Context, records []store.LogRecord) error {
	s.indexMu.Lock()
	defer s.indexMu.Unlock()
	mark := s.marks[store.IndexConsumer].Load()
	var x bulk
	for i, rec := range records {
		if rec.Seq > mark {
			for _, ref := range rec.Refs {
				if err := ctx.Err(); err != nil {
					return err
				}
				b, l, err := s.readWhole(ref.UID)
				if chat.KindOf(err) == chat.KindNotFound {
					continue // expired before the index came by
				}
				if err != nil {
					return err
				}
				x.add(ref.UID, b, l != lifeMissed)
			}
			mark = rec.Seq
		}
		if len(x.rows) >= indexBulk || i == len(records)-1 {
			if err := s.writeIndex(&x, mark); err != nil {
				return err
			}
			x.memory, x.rows = x.memory[:0], x.rows[:0]
		}
	}
	return nil
}

// add takes one request in.
func (x *bulk) add(ref chat.UID, b *body, history bool) {
	m := b.message
	if m.Event != nil {
		return // it changes messages, and is none
	}
	last := m.ChannelType != chat.Open && m.Flags&chat.Kept != 0 && !m.DisableUpdateLast
	month := monthOf(ref.Millis())
	one := func(owner, channel string, kind store.EntryKind, bits byte, index int) {
		ch := store.ChannelRef{App: m.App, Owner: owner, Type: m.ChannelType, Channel: channel}
		if history || bits != 0 {
			uid := ref.Plus(index)
			at := len(x.memory)
			x.memory = appendLifePrefix(x.memory, lifeOf(m.ChannelType, history), month, &ch)
			x.memory = append(x.memory, uid[:]...)
			key := len(x.memory)
			x.memory = appendHistory(x.memory, kind, bits, index)
			x.end(at, key)
		}
		quiet := !last && bits&rowCounted != 0
		if last || quiet {
			if quiet {
				ch.Type |= quietType
			}
			at := len(x.memory)
			x.memory = appendChannelKey(x.memory, m.App, owner, ch.Type, channel)
			key := len(x.memory)
			x.memory = appendEntry(x.memory, kind, index, ref, "")
			x.end(at, key)
		}
	}
	bits := bitsOf(m)
	for i, t := range b.targets {
		switch {
		case m.ChannelType == chat.Open:
			one("", t.id, store.EntryIn, 0, i)
			continue
		case t.id == m.From: // nobody has to read what they said to themselves
			one(t.id, m.From, store.EntryIn, 0, i)
			continue
		}
		one(t.id, m.From, store.EntryIn, bits, i)
		if b.echoAt > 0 {
			one(m.From, t.id, store.EntryOut, 0, i)
		}
	}
}

// bitsOf are the bits of a message's rows at its recipients.
func bitsOf(m *chat.Message) (bits byte) {
	if m.Flags&chat.Counted != 0 {
		bits |= rowCounted
	}
	if m.WantsReceipt() {
		bits |= rowReceipt
	}
	return bits
}

// writeIndex writes the bulk in pieces and the watermark with the last one. A
// crash between two pieces repeats the stretch, which writes the same rows.
//
// The rows are sorted first, as Pebble's memtable finds the place of a key from
// that of the one before it. Measured with 1000 recipients in no order, sorting
// and all, this took the index from 5.5 to 3.8 µs per recipient.
func (s *Store) writeIndex(x *bulk, seq uint64) error {
	if seq == s.marks[store.IndexConsumer].Load() {
		return nil
	}
	slices.SortFunc(x.rows, func(a, b bulkRow) int {
		if c := bytes.Compare(x.key(a), x.key(b)); c != 0 {
			return c
		}
		return cmp.Compare(a.at, b.at) // the log is in UID order: what comes later is newer
	})
	b := s.db.NewBatchWithSize(min(len(x.rows), indexBatch)*80 + 64)
	rows := 0
	for i, r := range x.rows {
		if i+1 < len(x.rows) && bytes.Equal(x.key(r), x.key(x.rows[i+1])) {
			continue // only a channel's last message is kept
		}
		if err := b.Set(x.key(r), x.value(r), nil); err != nil {
			return fmt.Errorf("index row: %w", err)
		}
		if rows++; rows%indexBatch == 0 {
			if err := s.apply(b, pdb.NoSync); err != nil {
				return err
			}
			b = s.db.NewBatchWithSize(min(len(x.rows)-i, indexBatch)*80 + 64)
		}
	}
	if err := addMark(b, store.IndexConsumer, seq); err != nil {
		return err
	}
	if err := s.apply(b, pdb.NoSync); err != nil {
		return err
	}
	s.marks[store.IndexConsumer].raise(seq)
	return nil
}

// waitIndex waits until the index has come as far as the log is now.
func (s *Store) waitIndex(ctx context.Context) error {
	head := s.log.head.Load()
	if head == 0 {
		return ctx.Err()
	}
	return s.marks[store.IndexConsumer].waitAbove(ctx, head-1, s.failure.done, s.Health)
}

// History implements store.Index.
func (s *Store) History(ctx context.Context, ch store.ChannelRef, r store.HistoryRange) ([]store.HistoryEntry, error) {
	if r.Limit <= 0 {
		return nil, chat.Invalid("limit", "must be positive")
	}
	if len(ch.Owner) > maxIDLength || len(ch.Channel) > maxIDLength {
		return nil, chat.TooLong("channelId", maxIDLength, max(len(ch.Owner), len(ch.Channel)), "bytes")
	}
	if err := s.waitIndex(ctx); err != nil {
		return nil, err
	}
	newest := monthOf(max(s.now().UnixMilli(), s.durable.Load().Millis()))
	oldest := oldestMonth(ch.Type, s.now().UnixMilli())
	if !r.Before.IsZero() {
		newest = min(newest, monthOf(r.Before.Millis()))
	}
	if !r.After.IsZero() {
		oldest = max(oldest, monthOf(r.After.Millis()))
	}
	if newest < oldest {
		return nil, nil
	}
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: appendHistoryPrefix(nil, oldest, &ch),
		UpperBound: after(appendHistoryPrefix(nil, newest, &ch)),
	})
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	defer it.Close()
	var list []store.HistoryEntry
	for n := range newest - oldest + 1 {
		month := newest - n
		if r.Forward {
			month = oldest + n
		}
		more, err := historyMonth(it, month, &ch, &r, &list)
		if err != nil || !more {
			return list, err
		}
	}
	return list, closeIter(it)
}

// historyMonth adds what one month has of the range, and reports whether more
// can follow in the next.
func historyMonth(it *pdb.Iterator, month uint16, ch *store.ChannelRef, r *store.HistoryRange, list *[]store.HistoryEntry) (more bool, err error) {
	prefix := appendHistoryPrefix(nil, month, ch)
	from, to, step := bytes.Clone(prefix), after(prefix), it.Prev
	if !r.After.IsZero() && month == monthOf(r.After.Millis()) {
		// The zero byte makes it the smallest key behind that of After.
		from = append(append(from, r.After[:]...), 0)
	}
	if !r.Before.IsZero() && month == monthOf(r.Before.Millis()) {
		to = append(bytes.Clone(prefix), r.Before[:]...)
	}
	var ok bool
	if r.Forward {
		ok, step = it.SeekGE(from), it.Next
	} else {
		ok = it.SeekLT(to)
	}
	for ; ok && bytes.Compare(it.Key(), from) >= 0 && bytes.Compare(it.Key(), to) < 0; ok = step() {
		h, err := decodeHistory(it.Value(), chat.UID(it.Key()[len(prefix):]))
		if err != nil {
			return false, err
		}
		*list = append(*list, h)
		if len(*list) >= r.Limit {
			return false, nil
		}
	}
	return true, closeIter(it)
}

func oldestMonth(ct chat.ChannelType, now int64) uint16 {
	months := uint16(historyMonths)
	if ct == chat.Open {
		months = openMonths
	}
	return monthOf(now) - months
}

// Channels implements store.Index.
func (s *Store) Channels(ctx context.Context, app chat.AppID, user string, limit int) ([]store.ChannelState, error) {
	if limit <= 0 {
		return nil, chat.Invalid("limit", "must be positive")
	}
	if len(user) > maxIDLength {
		return nil, chat.TooLong("userId", maxIDLength, len(user), "bytes")
	}
	if err := s.waitIndex(ctx); err != nil {
		return nil, err
	}
	var list []store.ChannelState
	quiet := 0
	prefix := appendChannelPrefix(nil, app, user)
	err := s.eachRow(prefix, func(key, value []byte) error {
		e, err := decodeEntry(value)
		if err != nil {
			return fmt.Errorf("channel list: %w", err)
		}
		c := store.ChannelState{Type: chat.ChannelType(key[len(prefix)]), Channel: string(key[len(prefix)+1:])}
		if c.Type&quietType != 0 {
			c.Type, c.Quiet = c.Type&^quietType, e.UID
			quiet++
		} else {
			c.Last = store.HistoryEntry{UID: e.UID, Ref: e.Ref, Kind: e.Kind}
		}
		list = append(list, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if quiet > 0 {
		list = withQuiet(list)
	}
	slices.SortFunc(list, func(a, b store.ChannelState) int {
		if c := b.Last.UID.Compare(a.Last.UID); c != 0 {
			return c
		}
		return b.Quiet.Compare(a.Quiet)
	})
	return list[:min(limit, len(list))], nil
}

// withQuiet joins the two rows that a channel can have.
func withQuiet(list []store.ChannelState) []store.ChannelState {
	slices.SortFunc(list, func(a, b store.ChannelState) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Channel, b.Channel), a.Quiet.Compare(b.Quiet))
	})
	joined := list[:1]
	for _, c := range list[1:] {
		if before := &joined[len(joined)-1]; before.Type == c.Type && before.Channel == c.Channel {
			before.Quiet = c.Quiet
		} else {
			joined = append(joined, c)
		}
	}
	return joined
}

// Channel implements store.Index.
func (s *Store) Channel(ctx context.Context, ch store.ChannelRef) (c store.ChannelState, err error) {
	c = store.ChannelState{Type: ch.Type, Channel: ch.Channel}
	if err := checkChannelRef(&ch); err != nil {
		return c, err
	}
	if err := s.waitIndex(ctx); err != nil {
		return c, err
	}
	last, err := s.channelRow(&ch, ch.Type)
	if err != nil {
		return c, err
	}
	quiet, err := s.channelRow(&ch, ch.Type|quietType)
	c.Last = store.HistoryEntry{UID: last.UID, Ref: last.Ref, Kind: last.Kind}
	c.Quiet = quiet.UID
	return c, err
}

func (s *Store) channelRow(ch *store.ChannelRef, t chat.ChannelType) (e store.Entry, err error) {
	row, closer, err := s.db.Get(appendChannelKey(nil, ch.App, ch.Owner, t, ch.Channel))
	if errors.Is(err, pdb.ErrNotFound) {
		return e, nil
	}
	if err == nil {
		e, err = decodeEntry(row)
		_ = closer.Close()
	}
	if err != nil {
		return e, fmt.Errorf("channel list: %w", err)
	}
	return e, nil
}
