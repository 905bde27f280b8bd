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
	// Rows stand under the day of their UID. After the clock stepped back UIDs
	// can be ahead of it, so the newest one's day counts too.
	newest := dayOf(max(now, s.durable.Load().Millis()))
	low := dayOf(oldest)
	for day := newest; day >= low && day+2 >= newest; day-- {
		o, err := s.onceOf(day, key)
		if err != nil || o != nil && o.First.Millis() > oldest {
			return o, err
		}
	}
	if low+2 < newest {
		for day := dayOf(now); day >= low; day-- {
			o, err := s.onceOf(day, key)
			if err != nil || o != nil && o.First.Millis() > oldest {
				return o, err
			}
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
