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

// The key spaces of what only a trace reads.
const (
	spaceDelivery = 0x20 // day(2) app(4) len(1) user, to(8) session(16) kind(1)
	spaceReach    = 0x21 // uid(10)
	spaceLeft     = 0x22 // life(1) uid(10)
)

const (
	// deliveryPiece is how many rows go in one batch: well below what Pebble
	// treats in a way of its own.
	deliveryPiece = 8192

	sessionLen = len(store.Delivery{}.Session)
)

func appendDeliveryPrefix(dst []byte, day uint16, app chat.AppID, user string) []byte {
	dst = binary.BigEndian.AppendUint16(append(dst, spaceDelivery), day)
	dst = binary.BigEndian.AppendUint32(dst, uint32(app))
	return appendLong(dst, user)
}

func deliveryDay(day uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{spaceDelivery}, day)
}

func reachKey(uid chat.UID) []byte { return append([]byte{spaceReach}, uid[:]...) }

// PutDeliveries implements store.Deliveries. The rows stand under the day of
// their Until.
func (s *Store) PutDeliveries(ctx context.Context, list []store.Delivery) error {
	if err := s.Health(); err != nil {
		return err
	}
	var key, value []byte
	for len(list) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(len(list), deliveryPiece)
		b := s.db.NewBatchWithSize(96 * n)
		for i := range list[:n] {
			d := &list[i]
			if d.User == "" || len(d.User) > maxIDLength {
				return errors.Join(chat.Invalidf("userId", "1 to %d bytes, got %d", maxIDLength, len(d.User)), b.Close())
			}
			for after := d.After; after < d.To; {
				to := min(d.To, after+store.MaxDeliverySpan)
				key = appendDeliveryPrefix(key[:0], dayOf(d.Until), d.App, d.User)
				key = binary.BigEndian.AppendUint64(key, to)
				key = append(append(key, d.Session[:]...), byte(d.Kind))
				value = appendDelivery(value[:0], d, to-after)
				if err := b.Set(key, value, nil); err != nil {
					return fmt.Errorf("delivery: %w", err)
				}
				after = to
			}
		}
		list = list[n:]
		// A sync for all of it, as for cursors: without one, a quiet server would
		// keep it in memory for hours.
		o := pdb.NoSync
		if len(list) == 0 {
			o = pdb.Sync
		}
		if err := s.apply(b, o); err != nil {
			return err
		}
	}
	return nil
}

// A delivery row is the number of entries, the last and the first time, device
// and platform.

func appendDelivery(b []byte, d *store.Delivery, count uint64) []byte {
	b = protowire.AppendVarint(b, count)
	b = protowire.AppendVarint(b, uint64(d.Until))
	b = protowire.AppendVarint(b, uint64(max(d.Until-d.From, 0)))
	b = protowire.AppendString(b, d.Device)
	return append(b, d.Platform...)
}

func decodeDelivery(row []byte, d *store.Delivery) error {
	var v [3]uint64
	for i := range v {
		x, n := protowire.ConsumeVarint(row)
		if n < 0 {
			return fmt.Errorf("%w: delivery", errRow)
		}
		v[i], row = x, row[n:]
	}
	device, n := protowire.ConsumeBytes(row)
	if n < 0 || v[0] > d.To {
		return fmt.Errorf("%w: delivery", errRow)
	}
	d.After, d.Until = d.To-v[0], int64(v[1])
	d.From = d.Until - int64(v[2])
	d.Device, d.Platform = string(device), string(row[n:])
	return nil
}

// Deliveries implements store.Deliveries.
func (s *Store) Deliveries(ctx context.Context, app chat.AppID, user string, offset uint64, since int64) (list []store.Delivery, err error) {
	if user == "" || len(user) > maxIDLength {
		return nil, chat.Invalidf("userId", "1 to %d bytes, got %d", maxIDLength, len(user))
	}
	today := s.today()
	low := max(dayOf(since), dayBefore(today, maxDays))
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: deliveryDay(low), UpperBound: []byte{spaceDelivery + 1}})
	if err != nil {
		return nil, fmt.Errorf("deliveries: %w", err)
	}
	defer it.Close()
	var prefix, key []byte
	// A clock that was set back may have left rows of tomorrow.
	for day := int(low); day <= int(today)+1; day++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		prefix = appendDeliveryPrefix(prefix[:0], uint16(day), app, user)
		key = binary.BigEndian.AppendUint64(append(key[:0], prefix...), offset)
		for ok := it.SeekGE(key); ok && bytes.HasPrefix(it.Key(), prefix); ok = it.Next() {
			rest := it.Key()[len(prefix):]
			if len(rest) != 8+sessionLen+1 {
				return nil, fmt.Errorf("%w: delivery key", errRow)
			}
			d := store.Delivery{App: app, User: user, To: beUint64(rest), Kind: store.DeliveryKind(rest[8+sessionLen])}
			if d.To-offset >= store.MaxDeliverySpan {
				break
			}
			copy(d.Session[:], rest[8:])
			if err := decodeDelivery(it.Value(), &d); err != nil {
				return nil, err
			}
			if d.After >= offset {
				continue
			}
			if list = append(list, d); len(list) == store.MaxDeliveries {
				return list, nil
			}
		}
	}
	return list, closeIter(it)
}

// PutReach implements store.Deliveries. A UID carries its time, so no day is
// needed beside it.
func (s *Store) PutReach(_ context.Context, list []store.Reach) error {
	if err := s.Health(); err != nil {
		return err
	}
	if len(list) == 0 {
		return nil
	}
	b := s.db.NewBatchWithSize(32 * len(list))
	for _, r := range list {
		if err := b.Set(reachKey(r.UID), appendUvarint(nil, uint64(max(r.Members, 0))), nil); err != nil {
			return fmt.Errorf("reach: %w", err)
		}
	}
	return s.apply(b, pdb.Sync)
}

// Reach implements store.Deliveries.
func (s *Store) Reach(ctx context.Context, uid chat.UID) (members int, known bool, err error) {
	if err := ctx.Err(); err != nil {
		return 0, false, err
	}
	row, closer, err := s.db.Get(reachKey(uid))
	if errors.Is(err, pdb.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("reach: %w", err)
	}
	defer closer.Close()
	v, n := protowire.ConsumeVarint(row)
	if n < 0 {
		return 0, false, fmt.Errorf("%w: reach", errRow)
	}
	return int(v), true, nil
}

// addLeft writes who was left out of the request, beside its body and for as
// long. Most requests leave nobody out and have no such row.
func (w *writer) addLeft(b *pdb.Batch, a *store.Append) {
	if len(a.Left) == 0 {
		return
	}
	w.scratch = w.scratch[:0]
	for _, id := range a.Left {
		w.scratch = protowire.AppendString(w.scratch, id)
	}
	op := b.SetDeferred(bodyKeyLen, len(w.scratch))
	appendBodyKey(op.Key[:0], spaceLeft, lifeOf(a.Message.ChannelType, a.History), a.Placed.First)
	copy(op.Value, w.scratch)
	_ = op.Finish() // fails on indexed batches only
}

// LeftOut implements store.Deliveries.
func (s *Store) LeftOut(ctx context.Context, ref chat.UID) (list []string, err error) {
	if err := ctx.Err(); err != nil || s.isAhead(ref) {
		return nil, err
	}
	for _, l := range livesOf(ref.ChannelType()) {
		row, closer, err := s.db.Get(appendBodyKey(nil, spaceLeft, l, ref))
		if errors.Is(err, pdb.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("left out: %w", err)
		}
		for rest := row; len(rest) > 0; {
			id, n := protowire.ConsumeBytes(rest)
			if n < 0 {
				return nil, errors.Join(fmt.Errorf("%w: left out", errRow), closer.Close())
			}
			list, rest = append(list, string(id)), rest[n:]
		}
		return list, closer.Close()
	}
	return nil, nil
}

// expiredDeliveries are the rows that a trace is not told any more.
func expiredDeliveries(today uint16) []span {
	oldest := dayBefore(today, maxDays)
	first := chat.NewUID(int64(oldest)*dayMillis, 0, 0, 0)
	return []span{
		{[]byte{spaceDelivery}, deliveryDay(oldest)},
		{[]byte{spaceReach}, reachKey(first)},
	}
}
