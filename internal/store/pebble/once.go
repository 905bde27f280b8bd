package pebble

import (
	"context"
	"errors"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/store"
)

// Once implements store.Onces.
func (s *Store) Once(ctx context.Context, key [16]byte) (*store.Once, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := s.now().UnixMilli()
	oldest := now - store.OnceLife.Milliseconds()
	// A row stands under the day of its UID. That is ahead of the clock after the
	// clock stepped back, so the newest UID's day counts as well.
	newest := int64(dayOf(s.durable.Load().Millis()))
	today := int64(dayOf(now))
	for _, day := range [...]int64{newest, newest - 1, today, today - 1} {
		if day < 0 || day < today-1 {
			continue
		}
		o, err := s.onceOf(uint16(day), key)
		if err != nil || o != nil && o.First.Millis() > oldest {
			return o, err
		}
	}
	return nil, nil
}

func (s *Store) onceOf(day uint16, key [16]byte) (*store.Once, error) {
	var buf [onceKeyLen]byte
	row, closer, err := s.db.Get(appendOnceKey(buf[:0], day, key))
	if errors.Is(err, pdb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read once: %w", err)
	}
	defer closer.Close()
	o, err := decodeOnce(row)
	if err != nil {
		return nil, fmt.Errorf("once: %w", err)
	}
	if s.isAhead(o.First) {
		return nil, nil
	}
	o.Key = key
	return o, nil
}
