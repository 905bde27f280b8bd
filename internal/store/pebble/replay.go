package pebble

import (
	"context"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
)

// replayHeads brings the head rows from the checkpointer's watermark up to seq,
// the end of the log. After it every head is exactly its row.
func (s *Store) replayHeads(seq uint64) error {
	states := map[headID]*headState{}
	from := s.marks[headsConsumer].Load()
	for at := from; at < seq; {
		records, err := s.ReadLog(context.Background(), at, 256)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return fmt.Errorf("the log ends at %d, should go to %d", at, seq)
		}
		for _, rec := range records {
			for _, ref := range rec.Refs {
				if err := s.replayRequest(states, ref.UID); err != nil {
					return err
				}
			}
			at = rec.Seq
		}
		if len(states) >= checkpointHeads || at >= seq {
			if err := s.writeHeads(states, at); err != nil {
				return err
			}
			clear(states)
		}
	}
	return nil
}

func (s *Store) replayRequest(states map[headID]*headState, ref chat.UID) error {
	b, _, err := s.readWhole(ref)
	if err != nil {
		// Bodies outlive their log records, so this is damage, and going on would
		// give an offset twice.
		return fmt.Errorf("heads of request %s: %w", ref, err)
	}
	day := dayOf(ref.Millis())
	for _, e := range b.entries(ref) {
		id := headID{b.message.App, e.User}
		state := states[id]
		if state == nil {
			stored, err := readHead(s.db, id.app, id.user)
			if err != nil {
				return err
			}
			state = &stored
			states[id] = state
		}
		if e.Offset > state.offset {
			state.advance(e.Offset, day)
		}
	}
	return nil
}

// writeHeads writes head rows and how far in the log they go.
func (s *Store) writeHeads(states map[headID]*headState, seq uint64) error {
	b := s.db.NewBatch()
	for id, state := range states {
		if err := b.Set(appendUserKey(nil, spaceHead, id.app, id.user), appendHead(nil, *state), nil); err != nil {
			return fmt.Errorf("head row: %w", err)
		}
	}
	if err := addMark(b, headsConsumer, seq); err != nil {
		return err
	}
	if err := s.apply(b, pdb.NoSync); err != nil {
		return err
	}
	s.marks[headsConsumer].raise(seq)
	return nil
}
