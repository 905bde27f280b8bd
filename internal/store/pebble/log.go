package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"google.golang.org/protobuf/encoding/protowire"
)

// A batchLog is the in-memory side of the log of committed batches.
type batchLog struct {
	head gate // newest durable sequence number
}

// LogHead implements store.Log.
func (s *Store) LogHead() uint64 { return s.log.head.Load() }

// WaitLog implements store.Log.
func (s *Store) WaitLog(ctx context.Context, after uint64) error {
	return s.log.head.waitAbove(ctx, after, s.failure.done, s.Health)
}

// ReadLog implements store.Log.
func (s *Store) ReadLog(ctx context.Context, after uint64, max int) ([]store.LogRecord, error) {
	head := s.log.head.Load()
	if max <= 0 || after >= head {
		return nil, ctx.Err()
	}
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: appendLogKey(nil, after+1),
		UpperBound: appendLogKey(nil, head+1),
	})
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	defer it.Close()
	var records []store.LogRecord
	for ok := it.First(); ok && len(records) < max; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rec, err := decodeLogRow(it.Value())
		if err != nil {
			return nil, fmt.Errorf("log: %w", err)
		}
		rec.Seq = binary.BigEndian.Uint64(it.Key()[1:])
		records = append(records, rec)
	}
	return records, closeIter(it)
}

// Watermark implements store.Log.
func (s *Store) Watermark(_ context.Context, consumer string) (uint64, error) {
	m, err := s.mark(consumer)
	if err != nil {
		return 0, err
	}
	return m.Load(), nil
}

// SetWatermark implements store.Log.
func (s *Store) SetWatermark(_ context.Context, consumer string, seq uint64) error {
	if _, err := s.mark(consumer); err != nil {
		return err
	}
	return s.setMark(consumer, seq)
}

func (s *Store) mark(consumer string) (*gate, error) {
	m := s.marks[consumer]
	if m == nil {
		return nil, chat.Failf(chat.KindNotFound, "no consumer of the log was named %q when the store was opened", consumer)
	}
	return m, nil
}

// setMark moves a watermark. It is not synced: what the consumer did before is
// before it in the same log, so it can be lost but not be ahead.
func (s *Store) setMark(consumer string, seq uint64) error {
	if seq <= s.marks[consumer].Load() {
		return nil
	}
	b := s.db.NewBatch()
	if err := addMark(b, consumer, seq); err != nil {
		return err
	}
	if err := s.apply(b, pdb.NoSync); err != nil {
		return err
	}
	s.marks[consumer].raise(seq)
	return nil
}

func addMark(b *pdb.Batch, consumer string, seq uint64) error {
	if err := b.Set(markKey(consumer), appendUvarint(nil, seq), nil); err != nil {
		return fmt.Errorf("watermark: %w", err)
	}
	return nil
}

// readUint reads a row that is one number; 0 when it is not there.
func readUint(db *pdb.DB, key []byte) (uint64, error) {
	row, closer, err := db.Get(key)
	if errors.Is(err, pdb.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	v, n := protowire.ConsumeVarint(row)
	if n != len(row) || n < 0 {
		return 0, fmt.Errorf("%w: number", errRow)
	}
	return v, nil
}
