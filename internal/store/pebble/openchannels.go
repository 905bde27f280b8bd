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

// appendFactPrefix begins the keys of a channel's facts of one kind. The kind
// comes before the channel, so that the few channels that have one are listed
// without a look at the many that do not.
func appendFactPrefix(dst []byte, app chat.AppID, kind store.OpenKind, channel string) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, spaceFact), uint32(app))
	return appendLong(append(dst, byte(kind)), channel)
}

func appendOpenDueKey(dst []byte, d store.DueChannel) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, spaceOpenDue), uint64(max(d.Due, 0)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(d.App))
	return append(dst, d.Channel...)
}

// factKinds are the kinds a channel can have, newest last.
const factKinds = store.OpenLowType

// OpenFacts implements store.OpenChannels.
func (s *Store) OpenFacts(ctx context.Context, app chat.AppID, channel string) (list []store.OpenFact, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(channel) > maxIDLength {
		return nil, chat.TooLong("channelId", maxIDLength, len(channel), "bytes")
	}
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: appendFactPrefix(nil, app, 0, ""), UpperBound: appendFactPrefix(nil, app, factKinds+1, ""),
	})
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	defer it.Close()
	for kind := store.OpenKind(1); kind <= factKinds; kind++ {
		prefix := appendFactPrefix(nil, app, kind, channel)
		for ok := it.SeekGE(prefix); ok && bytes.HasPrefix(it.Key(), prefix); ok = it.Next() {
			list = append(list, store.OpenFact{
				Kind: kind, Key: string(it.Key()[len(prefix):]), Value: append([]byte{}, it.Value()...),
			})
		}
	}
	return list, closeIter(it)
}

// PutOpenFacts implements store.OpenChannels.
func (s *Store) PutOpenFacts(ctx context.Context, app chat.AppID, channel string, c store.OpenChange) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Health(); err != nil {
		return err
	}
	if len(channel) > maxIDLength {
		return chat.TooLong("channelId", maxIDLength, len(channel), "bytes")
	}
	b := s.db.NewBatch()
	if c.Drop {
		// Single rows: a range delete for each kind of each channel that ends would
		// pile up.
		old, err := s.OpenFacts(ctx, app, channel)
		if err != nil {
			return err
		}
		for _, f := range old {
			if err := b.Delete(append(appendFactPrefix(nil, app, f.Kind, channel), f.Key...), nil); err != nil {
				return fmt.Errorf("open channel: %w", err)
			}
		}
	}
	for _, f := range c.Facts {
		if f.Kind < 1 || f.Kind > factKinds {
			return fmt.Errorf("open channel: no kind %d", f.Kind)
		}
		key := append(appendFactPrefix(nil, app, f.Kind, channel), f.Key...)
		err := error(nil)
		if f.Value == nil {
			err = b.Delete(key, nil)
		} else {
			err = b.Set(key, f.Value, nil)
		}
		if err != nil {
			return fmt.Errorf("open channel: %w", err)
		}
	}
	due := store.DueChannel{App: app, Channel: channel}
	if c.WasDue != c.Due {
		if due.Due = c.WasDue; due.Due != 0 {
			if err := b.Delete(appendOpenDueKey(nil, due), nil); err != nil {
				return fmt.Errorf("open channel: %w", err)
			}
		}
		if due.Due = c.Due; due.Due != 0 {
			if err := b.Set(appendOpenDueKey(nil, due), nil, nil); err != nil {
				return fmt.Errorf("open channel: %w", err)
			}
		}
	}
	return s.apply(b, pdb.Sync)
}

// ListOpen implements store.OpenChannels.
func (s *Store) ListOpen(ctx context.Context, app chat.AppID, kind store.OpenKind, behind string, limit int) (list []string, err error) {
	if err := ctx.Err(); err != nil || limit <= 0 {
		return nil, err
	}
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: appendFactPrefix(nil, app, kind, "")[:6], UpperBound: appendFactPrefix(nil, app, kind+1, "")[:6],
	})
	if err != nil {
		return nil, fmt.Errorf("open channels: %w", err)
	}
	defer it.Close()
	ok := it.First()
	if behind != "" {
		ok = it.SeekGE(after(appendFactPrefix(nil, app, kind, behind)))
	}
	for ok && len(list) < limit {
		rest := it.Key()[6:]
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return nil, fmt.Errorf("%w: open channel", errRow)
		}
		channel := string(rest[1 : 1+int(rest[0])])
		if channel != "" { // that is the whole app's
			list = append(list, channel)
		}
		ok = it.SeekGE(after(appendFactPrefix(nil, app, kind, channel)))
	}
	return list, closeIter(it)
}

// OpenDue implements store.OpenChannels.
func (s *Store) OpenDue(ctx context.Context, until int64, limit int) (list []store.DueChannel, err error) {
	if err := ctx.Err(); err != nil || limit <= 0 {
		return nil, err
	}
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: []byte{spaceOpenDue}, UpperBound: appendOpenDueKey(nil, store.DueChannel{Due: until + 1}),
	})
	if err != nil {
		return nil, fmt.Errorf("open channels: %w", err)
	}
	defer it.Close()
	for ok := it.First(); ok && len(list) < limit; ok = it.Next() {
		key := it.Key()
		if len(key) < 13 {
			return nil, fmt.Errorf("%w: due channel", errRow)
		}
		list = append(list, store.DueChannel{
			Due: int64(beUint64(key[1:])), App: chat.AppID(binary.BigEndian.Uint32(key[9:])), Channel: string(key[13:]),
		})
	}
	return list, closeIter(it)
}
