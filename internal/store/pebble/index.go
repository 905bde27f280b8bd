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

const (
	// historyMonths and openMonths are how long history is kept, the current
	// month not counted.
	historyMonths = 6
	openMonths    = 2
	// indexRows is how many rows go in one batch at most, so that the writer is
	// never held up for long.
	indexRows = 4000
)

// An indexBulk gathers what a stretch of the log adds to the index.
type indexBulk struct {
	history []historyRow
	last    map[channelID]channelLast
}

type historyRow struct {
	ch    store.ChannelRef
	uid   chat.UID
	kind  store.EntryKind
	index int
}

type channelID struct {
	app     chat.AppID
	user    string
	ct      chat.ChannelType
	channel string
}

type channelLast struct {
	ref   chat.UID
	kind  store.EntryKind
	index int
}

// IndexLog implements store.Index.
func (s *Store) IndexLog(ctx context.Context, records []store.LogRecord) error {
	s.indexMu.Lock()
	defer s.indexMu.Unlock()
	mark := s.marks[store.IndexConsumer].Load()
	bulk := indexBulk{last: map[channelID]channelLast{}}
	seq := mark
	for _, rec := range records {
		if rec.Seq <= mark {
			continue
		}
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
			bulk.add(ref.UID, b, l != lifeMissed)
		}
		seq = rec.Seq
	}
	if seq == mark {
		return nil
	}
	return s.writeIndex(&bulk, seq)
}

// add takes one request in.
func (x *indexBulk) add(ref chat.UID, b *body, history bool) {
	m := b.message
	last := m.ChannelType != chat.Open && m.Flags&chat.Kept != 0 && !m.DisableUpdateLast
	one := func(owner, channel string, kind store.EntryKind, index int) {
		if history {
			x.history = append(x.history, historyRow{
				ch:  store.ChannelRef{App: m.App, Owner: owner, Type: m.ChannelType, Channel: channel},
				uid: ref.Plus(index), kind: kind, index: index,
			})
		}
		if last {
			// The log is in UID order, so what comes later is newer.
			x.last[channelID{m.App, owner, m.ChannelType, channel}] = channelLast{ref, kind, index}
		}
	}
	for i, t := range b.targets {
		if m.ChannelType == chat.Open {
			one("", t.id, store.EntryIn, i)
			continue
		}
		one(t.id, m.From, store.EntryIn, i)
		if b.echoAt > 0 && t.id != m.From {
			one(m.From, t.id, store.EntryOut, i)
		}
	}
}

// writeIndex writes the bulk in pieces and the watermark with the last one. A
// crash between two pieces repeats the stretch, which writes the same rows.
func (s *Store) writeIndex(x *indexBulk, seq uint64) error {
	var b *pdb.Batch
	var key, value []byte
	rows := 0
	set := func() error {
		if b == nil {
			b = s.db.NewBatchWithSize(indexRows * 64)
		}
		if err := b.Set(key, value, nil); err != nil {
			return fmt.Errorf("index row: %w", err)
		}
		if rows++; rows < indexRows {
			return nil
		}
		full := b
		b, rows = nil, 0
		return s.apply(full, pdb.NoSync)
	}
	for i := range x.history {
		h := &x.history[i]
		key = append(appendHistoryPrefix(key[:0], monthOf(h.uid.Millis()), &h.ch), h.uid[:]...)
		value = appendHistory(value[:0], h.kind, h.index)
		if err := set(); err != nil {
			return err
		}
	}
	for id, l := range x.last {
		key = appendChannelKey(key[:0], id.app, id.user, id.ct, id.channel)
		value = appendEntry(value[:0], l.kind, l.index, l.ref, "")
		if err := set(); err != nil {
			return err
		}
	}
	if b == nil {
		b = s.db.NewBatch()
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
func (s *Store) History(ctx context.Context, ch store.ChannelRef, before chat.UID, limit int) ([]store.HistoryEntry, error) {
	if limit <= 0 {
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
	if !before.IsZero() {
		newest = min(newest, monthOf(before.Millis()))
	}
	var list []store.HistoryEntry
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: appendHistoryPrefix(nil, oldest, &ch),
		UpperBound: after(appendHistoryPrefix(nil, newest, &ch)),
	})
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	defer it.Close()
	for month := newest; month >= oldest && len(list) < limit; month-- {
		prefix := appendHistoryPrefix(nil, month, &ch)
		end := after(prefix)
		if !before.IsZero() && month == monthOf(before.Millis()) {
			end = append(bytes.Clone(prefix), before[:]...)
		}
		for ok := it.SeekLT(end); ok && len(list) < limit && bytes.HasPrefix(it.Key(), prefix); ok = it.Prev() {
			h, err := decodeHistory(it.Value(), chat.UID(it.Key()[len(prefix):]))
			if err != nil {
				return nil, err
			}
			list = append(list, h)
		}
	}
	return list, closeIter(it)
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
	prefix := appendChannelPrefix(nil, app, user)
	err := s.eachRow(prefix, func(key, value []byte) error {
		e, err := decodeEntry(value)
		if err != nil {
			return fmt.Errorf("channel list: %w", err)
		}
		list = append(list, store.ChannelState{
			Type:    chat.ChannelType(key[len(prefix)]),
			Channel: string(key[len(prefix)+1:]),
			Last:    store.HistoryEntry{UID: e.UID, Ref: e.Ref, Kind: e.Kind},
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b store.ChannelState) int { return b.Last.UID.Compare(a.Last.UID) })
	return list[:min(limit, len(list))], nil
}
