package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"google.golang.org/protobuf/encoding/protowire"
)

// The parts of a state: one row for the whole, one for each pair of metadata, so
// that changing one of three hundred pairs writes one of them, and one for each
// chunk of a stream. They stand in the order in which readers want them. They are
// stored; never reuse one.
const (
	partWhole = 0
	partPair  = 1 // key
	partChunk = 2 // seq(8)
)

const (
	overlayKeyLen = bodyKeyLen + 1
	dueKeyLen     = 1 + 8 + 4 + uidLen
)

func appendPairKey(dst []byte, l life, uid chat.UID, key string) []byte {
	return append(append(appendBodyKey(dst, spaceOverlay, l, uid), partPair), key...)
}

func appendChunkPrefix(dst []byte, l life, uid chat.UID) []byte {
	return append(appendBodyKey(dst, spaceOverlay, l, uid), partChunk)
}

func appendChunkKey(dst []byte, l life, uid chat.UID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(appendChunkPrefix(dst, l, uid), seq)
}

func appendDueKey(dst []byte, d store.DueState) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, spaceDue), uint64(max(d.Due, 0)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(d.App))
	return append(dst, d.UID[:]...)
}

// changeSize is about what an event and changes of state add to a batch.
func changeSize(a *store.Append) int {
	n := broadcastSize(a) + (len(a.Views)+len(a.Marks))*viewSize
	if a.Preferences != nil {
		n += preferencesSize
	}
	if a.Message.Event != nil {
		n += eventSize(a.Message.Event)
	}
	for i := range a.States {
		c := &a.States[i]
		n += 512 + len(c.Chunk)
		if c.State == nil {
			continue
		}
		if c.State.Edit != nil {
			n += len(c.State.Edit.Content)
		}
		for _, k := range c.Keys {
			n += 64 + len(k) + len(c.State.Metadata[k].Value)
		}
	}
	return n
}

func eventSize(e *chat.Event) int {
	n := 256 + len(e.Content) + len(e.Extra) + len(e.UIDs)*(uidLen+2)
	for k, v := range e.Set {
		n += len(k) + len(v) + 16
	}
	for _, k := range e.Removed {
		n += len(k) + 16
	}
	if o := e.Own; o != nil {
		n += len(o.Tags)*tagSize + (len(o.Tagged)+len(o.Untagged))*2*chat.MaxID
	}
	return n
}

// addState writes a change of state. Its rows carry the UID of the append, by
// which readers know whether they are durable.
func (w *writer) addState(b *pdb.Batch, a *store.Append, c *store.StateChange) error {
	uid := c.UID
	if uid.IsZero() {
		uid = a.Placed.First
	}
	app, l := a.Message.App, lifeOf(uid.ChannelType(), c.History)
	due := int64(0)
	if c.State != nil {
		due = c.State.Due
		row := appendState(nil, app, a.Placed.First, c.State)
		if err := b.Set(append(appendBodyKey(nil, spaceOverlay, l, uid), partWhole), row, nil); err != nil {
			return fmt.Errorf("state: %w", err)
		}
		for _, k := range c.Keys {
			key := appendPairKey(nil, l, uid, k)
			p, there := c.State.Metadata[k]
			err := b.Delete(key, nil)
			if there {
				err = b.Set(key, appendPair(nil, &p), nil)
			}
			if err != nil {
				return fmt.Errorf("metadata: %w", err)
			}
		}
		if err := addChunk(b, l, uid, c); err != nil {
			return fmt.Errorf("chunk: %w", err)
		}
	}
	if c.WasDue == due {
		return nil
	}
	if c.WasDue != 0 {
		if err := b.Delete(appendDueKey(nil, store.DueState{App: app, UID: uid, Due: c.WasDue}), nil); err != nil {
			return fmt.Errorf("due: %w", err)
		}
	}
	if due != 0 {
		if err := b.Set(appendDueKey(nil, store.DueState{App: app, UID: uid, Due: due}), nil, nil); err != nil {
			return fmt.Errorf("due: %w", err)
		}
	}
	return nil
}

// addChunk writes what the text of a stream grows by.
func addChunk(b *pdb.Batch, l life, uid chat.UID, c *store.StateChange) error {
	if c.Joined {
		prefix := appendChunkPrefix(nil, l, uid)
		if err := b.DeleteRange(prefix, after(prefix), nil); err != nil {
			return err
		}
	}
	if c.Chunk == "" || c.State.Stream == nil {
		return nil
	}
	op := b.SetDeferred(overlayKeyLen+8, len(c.Chunk))
	appendChunkKey(op.Key[:0], l, uid, c.State.Stream.Seq)
	copy(op.Value, c.Chunk)
	return op.Finish()
}

// Overlays implements store.Overlays.
//
// A row is written over its predecessor, so what was there before a commit that
// is not durable yet cannot be read any more. Readers who meet such a row wait
// for its commit, which is a sync at most.
func (s *Store) Overlays(ctx context.Context, app chat.AppID, uids []chat.UID) ([]*chat.State, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	list := make([]*chat.State, len(uids))
	return list, s.readStates(ctx, app, uids, list, true)
}

// BareOverlay implements store.Overlays.
func (s *Store) BareOverlay(ctx context.Context, app chat.AppID, uid chat.UID) (*chat.State, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var one [1]*chat.State
	err := s.readStates(ctx, app, []chat.UID{uid}, one[:], false)
	return one[0], err
}

// readStates fills in the list, and waits until all it has read is durable.
func (s *Store) readStates(ctx context.Context, app chat.AppID, uids []chat.UID, list []*chat.State, texts bool) error {
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: []byte{spaceOverlay}, UpperBound: []byte{spaceOverlay + 1}})
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	var newest chat.UID
	for i, uid := range uids {
		var stamp chat.UID
		if list[i], stamp, err = readState(it, app, uid, texts); err != nil {
			break
		}
		if stamp.Compare(newest) > 0 {
			newest = stamp
		}
	}
	if cerr := it.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("read state: %w", cerr)
	}
	if err == nil {
		err = s.waitDurable(ctx, newest)
	}
	if err != nil {
		clear(list)
	}
	return err
}

// waitDurable returns when the commit that gave uid is durable and in the
// timelines.
func (s *Store) waitDurable(ctx context.Context, uid chat.UID) error {
	for {
		n := s.published.Load()
		if uid.Compare(*s.told.Load()) <= 0 {
			return nil
		}
		if err := s.published.waitAbove(ctx, n, s.failure.done, s.Health); err != nil {
			return err
		}
	}
}

// readState reads the state of one message, nil when it has none in this app,
// and which commit wrote it.
func readState(it *pdb.Iterator, app chat.AppID, uid chat.UID, texts bool) (st *chat.State, stamp chat.UID, err error) {
	var buf [overlayKeyLen]byte
	for _, l := range livesOf(uid.ChannelType()) {
		prefix := appendBodyKey(buf[:0], spaceOverlay, l, uid)
		ok := it.SeekGE(append(prefix, partWhole))
		if !ok || !bytes.Equal(it.Key()[:len(it.Key())-1], prefix) {
			if err := closeIter(it); err != nil {
				return nil, stamp, err
			}
			continue
		}
		st, owner, stamp, err := decodeState(it.Value())
		if err != nil {
			return nil, stamp, fmt.Errorf("state of %s: %w", uid, err)
		}
		if owner != app {
			return nil, chat.UID{}, nil
		}
		var text []byte
		for ok = it.Next(); ok && len(it.Key()) > overlayKeyLen && bytes.HasPrefix(it.Key(), prefix); ok = it.Next() {
			if it.Key()[overlayKeyLen-1] == partChunk {
				if !texts {
					break
				}
				text = append(text, it.Value()...)
				continue
			}
			p, err := decodePair(it.Value())
			if err != nil {
				return nil, stamp, fmt.Errorf("metadata of %s: %w", uid, err)
			}
			if st.Metadata == nil {
				st.Metadata = map[string]chat.Pair{}
			}
			st.Metadata[string(it.Key()[overlayKeyLen:])] = p
		}
		if st.Stream != nil {
			st.Stream.Text = string(text)
		}
		return st, stamp, closeIter(it)
	}
	return nil, stamp, nil
}

// Due implements store.Overlays.
func (s *Store) Due(ctx context.Context, until int64, limit int) ([]store.DueState, error) {
	if err := ctx.Err(); err != nil || limit <= 0 {
		return nil, err
	}
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: []byte{spaceDue},
		UpperBound: appendDueKey(nil, store.DueState{Due: min(until, math.MaxInt64-1) + 1}),
	})
	if err != nil {
		return nil, fmt.Errorf("read due: %w", err)
	}
	defer it.Close()
	var list []store.DueState
	for ok := it.First(); ok && len(list) < limit; ok = it.Next() {
		key := it.Key()
		if len(key) != dueKeyLen {
			return nil, fmt.Errorf("%w: due", errRow)
		}
		list = append(list, store.DueState{
			Due: int64(beUint64(key[1:])),
			App: chat.AppID(binary.BigEndian.Uint32(key[9:])),
			UID: chat.UID(key[13:]),
		})
	}
	return list, closeIter(it)
}

// The fields of a state's row, of a pair's and of an event, tagged as in bodies.
const (
	stateApp protowire.Number = iota + 1
	stateStamp
	stateRecalledAt
	stateRecallOperator
	stateRecallBools
	stateRecallExtra
	stateEditedAt
	stateEditContent
	stateVersion
	stateTold
	stateToldAt
	stateDue
	stateOperator
	stateQuiet

	stateReadAt protowire.Number = 21
)

// The state's fields of a stream. Its text stands in rows of its own.
const (
	stateStreamSeq protowire.Number = iota + 15
	stateStreamBytes
	stateStreamBools
	stateStreamReason
	stateStreamLastAt
	stateStreamIdle
)

const (
	pairValue protowire.Number = iota + 1
	pairAt
	pairVersion
	pairRemoved
)

const (
	eventKind protowire.Number = iota + 1
	eventUID
	eventOperator
	eventAt
	eventBools
	eventExtra
	eventContent
	eventSetKey
	eventSetValue
	eventRemoved
	eventMessage // one of several UIDs
	eventUpTo
)

// The fields of an event that is about no message. 11 to 19, and those from 30
// on, are of other kinds.
const (
	eventChannelType protowire.Number = iota + 20
	eventChannel
	eventOwnPart
	eventPinnedAt
	eventLevel // zigzag
	eventQuiet
	eventTag // one of all the user has
	eventTagID
	eventTaggedAt
	eventTagged
)

// The fields of a channel in an event.
const (
	taggedType protowire.Number = iota + 1
	taggedChannel
	taggedOff // it lost the tag
)

// The bits of stateRecallBools and eventBools.
const (
	boolAdmin = 1 << iota
	boolDelete
	boolNotLast // states only
)

// The bits of stateStreamBools.
const (
	boolComplete = 1 << iota
	boolInterrupted
	boolHasReason
)

func streamBools(s *chat.Stream) (v uint64) {
	for i, set := range [...]bool{s.Complete, s.Interrupted, s.HasReason} {
		if set {
			v |= 1 << i
		}
	}
	return v
}

func recallBools(admin, del bool) (v uint64) {
	if admin {
		v |= boolAdmin
	}
	if del {
		v |= boolDelete
	}
	return v
}

// eachField hands over the fields of a row: numbers as n, everything else as
// text. Fields of other forms are of a later version and skipped.
func eachField(row []byte, take func(f protowire.Number, n uint64, text []byte)) error {
	for len(row) > 0 {
		f, typ, n := protowire.ConsumeTag(row)
		if n < 0 {
			return fmt.Errorf("%w: tag", errRow)
		}
		row = row[n:]
		var v uint64
		var text []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(row)
		case protowire.BytesType:
			text, n = protowire.ConsumeBytes(row)
		default:
			n, f = protowire.ConsumeFieldValue(f, typ, row), 0
		}
		if n < 0 {
			return fmt.Errorf("%w: field %d", errRow, f)
		}
		row = row[n:]
		if f > 0 {
			take(f, v, text)
		}
	}
	return nil
}

func appendState(b []byte, app chat.AppID, stamp chat.UID, st *chat.State) []byte {
	b = appendUint(b, stateApp, uint64(app))
	b = protowire.AppendBytes(protowire.AppendTag(b, stateStamp, protowire.BytesType), stamp[:])
	if r := st.Recall; r != nil {
		b = appendUint(b, stateRecalledAt, uint64(r.At))
		b = appendText(b, stateRecallOperator, r.Operator)
		bools := recallBools(r.Admin, r.Delete)
		if r.DisableUpdateLast {
			bools |= boolNotLast
		}
		b = appendUint(b, stateRecallBools, bools)
		b = appendText(b, stateRecallExtra, r.Extra)
	}
	if e := st.Edit; e != nil {
		b = appendUint(b, stateEditedAt, uint64(e.At))
		b = appendText(b, stateEditContent, e.Content)
	}
	b = appendUint(b, stateVersion, st.Version)
	b = appendUint(b, stateTold, st.Told)
	b = appendUint(b, stateToldAt, uint64(max(st.ToldAt, 0)))
	b = appendUint(b, stateDue, uint64(max(st.Due, 0)))
	b = appendText(b, stateOperator, st.Operator)
	b = appendText(b, stateQuiet, st.Quiet)
	if s := st.Stream; s != nil {
		b = appendUint(b, stateStreamSeq, s.Seq)
		b = appendUint(b, stateStreamBytes, uint64(max(s.Bytes, 0)))
		b = appendUint(b, stateStreamBools, streamBools(s))
		b = appendUint(b, stateStreamReason, protowire.EncodeZigZag(s.Reason))
		b = appendUint(b, stateStreamLastAt, uint64(max(s.LastAt, 0)))
		b = appendUint(b, stateStreamIdle, uint64(max(s.Idle, 0)))
	}
	return appendUint(b, stateReadAt, uint64(max(st.ReadAt, 0)))
}

func decodeState(row []byte) (st *chat.State, app chat.AppID, stamp chat.UID, err error) {
	st = &chat.State{}
	recall := func() *chat.Recall {
		if st.Recall == nil {
			st.Recall = &chat.Recall{}
		}
		return st.Recall
	}
	edit := func() *chat.Edit {
		if st.Edit == nil {
			st.Edit = &chat.Edit{}
		}
		return st.Edit
	}
	stream := func() *chat.Stream {
		if st.Stream == nil {
			st.Stream = &chat.Stream{}
		}
		return st.Stream
	}
	err = eachField(row, func(f protowire.Number, n uint64, text []byte) {
		switch f {
		case stateApp:
			app = chat.AppID(n)
		case stateStamp:
			copy(stamp[:], text)
		case stateRecalledAt:
			recall().At = int64(n)
		case stateRecallOperator:
			recall().Operator = string(text)
		case stateRecallBools:
			recall().Admin, recall().Delete, recall().DisableUpdateLast = n&boolAdmin != 0, n&boolDelete != 0, n&boolNotLast != 0
		case stateRecallExtra:
			recall().Extra = string(text)
		case stateEditedAt:
			edit().At = int64(n)
		case stateEditContent:
			edit().Content = string(text)
		case stateVersion:
			st.Version = n
		case stateTold:
			st.Told = n
		case stateToldAt:
			st.ToldAt = int64(n)
		case stateDue:
			st.Due = int64(n)
		case stateOperator:
			st.Operator = string(text)
		case stateQuiet:
			st.Quiet = string(text)
		case stateStreamSeq:
			stream().Seq = n
		case stateStreamBytes:
			stream().Bytes = int(n)
		case stateStreamBools:
			s := stream()
			s.Complete, s.Interrupted, s.HasReason = n&boolComplete != 0, n&boolInterrupted != 0, n&boolHasReason != 0
		case stateStreamReason:
			stream().Reason = protowire.DecodeZigZag(n)
		case stateStreamLastAt:
			stream().LastAt = int64(n)
		case stateStreamIdle:
			stream().Idle = int64(n)
		case stateReadAt:
			st.ReadAt = int64(n)
		}
	})
	return st, app, stamp, err
}

func appendPair(b []byte, p *chat.Pair) []byte {
	b = appendText(b, pairValue, p.Value)
	b = appendUint(b, pairAt, uint64(max(p.At, 0)))
	b = appendUint(b, pairVersion, p.Version)
	return appendUint(b, pairRemoved, protowire.EncodeBool(p.Removed))
}

func decodePair(row []byte) (p chat.Pair, err error) {
	err = eachField(row, func(f protowire.Number, n uint64, text []byte) {
		switch f {
		case pairValue:
			p.Value = string(text)
		case pairAt:
			p.At = int64(n)
		case pairVersion:
			p.Version = n
		case pairRemoved:
			p.Removed = n != 0
		}
	})
	return p, err
}

func appendEvent(b []byte, e *chat.Event) []byte {
	b = appendUint(b, eventKind, uint64(e.Kind))
	b = protowire.AppendBytes(protowire.AppendTag(b, eventUID, protowire.BytesType), e.UID[:])
	b = appendText(b, eventOperator, e.Operator)
	b = appendUint(b, eventAt, uint64(max(e.At, 0)))
	b = appendUint(b, eventBools, recallBools(e.Admin, e.Delete))
	b = appendText(b, eventExtra, e.Extra)
	b = appendText(b, eventContent, e.Content)
	for _, k := range slices.Sorted(maps.Keys(e.Set)) {
		b = protowire.AppendString(protowire.AppendTag(b, eventSetKey, protowire.BytesType), k)
		b = protowire.AppendString(protowire.AppendTag(b, eventSetValue, protowire.BytesType), e.Set[k])
	}
	for _, k := range e.Removed {
		b = appendText(b, eventRemoved, k)
	}
	for _, uid := range e.UIDs {
		b = protowire.AppendBytes(protowire.AppendTag(b, eventMessage, protowire.BytesType), uid[:])
	}
	if !e.UpTo.IsZero() {
		b = protowire.AppendBytes(protowire.AppendTag(b, eventUpTo, protowire.BytesType), e.UpTo[:])
	}
	b = appendUint(b, eventChannelType, uint64(e.ChannelType))
	b = appendText(b, eventChannel, e.Channel)
	if e.Own != nil {
		b = appendOwn(b, e.Own)
	}
	return b
}

func appendOwn(b []byte, o *chat.OwnChange) []byte {
	b = appendUint(b, eventOwnPart, uint64(o.Part))
	b = appendUint(b, eventPinnedAt, uint64(max(o.PinnedAt, 0)))
	b = appendUint(b, eventLevel, protowire.EncodeZigZag(int64(o.Level)))
	if o.Quiet != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, eventQuiet, protowire.BytesType), appendQuiet(nil, o.Quiet))
	}
	for i := range o.Tags {
		b = protowire.AppendBytes(protowire.AppendTag(b, eventTag, protowire.BytesType), appendTag(nil, &o.Tags[i]))
	}
	b = appendText(b, eventTagID, o.Tag)
	b = appendUint(b, eventTaggedAt, uint64(max(o.TaggedAt, 0)))
	for i, list := range [...][]chat.Channel{o.Tagged, o.Untagged} {
		for _, ch := range list {
			row := appendText(appendUint(nil, taggedType, uint64(ch.Type)), taggedChannel, ch.ID)
			row = appendUint(row, taggedOff, uint64(i))
			b = protowire.AppendBytes(protowire.AppendTag(b, eventTagged, protowire.BytesType), row)
		}
	}
	return b
}

func decodeTagged(row []byte, o *chat.OwnChange) error {
	var ch chat.Channel
	list := &o.Tagged
	err := eachField(row, func(f protowire.Number, n uint64, text []byte) {
		switch f {
		case taggedType:
			ch.Type = chat.ChannelType(n)
		case taggedChannel:
			ch.ID = string(text)
		case taggedOff:
			if n != 0 {
				list = &o.Untagged
			}
		}
	})
	*list = append(*list, ch)
	return err
}

func decodeEvent(row []byte) (*chat.Event, error) {
	e := &chat.Event{}
	key := ""
	own := func() *chat.OwnChange {
		if e.Own == nil {
			e.Own = &chat.OwnChange{}
		}
		return e.Own
	}
	var inner error
	err := eachField(row, func(f protowire.Number, n uint64, text []byte) {
		if inner != nil {
			return
		}
		switch f {
		case eventKind:
			e.Kind = chat.EventKind(n)
		case eventUID:
			copy(e.UID[:], text)
		case eventOperator:
			e.Operator = string(text)
		case eventAt:
			e.At = max(int64(n), 0)
		case eventBools:
			e.Admin, e.Delete = n&boolAdmin != 0, n&boolDelete != 0
		case eventExtra:
			e.Extra = string(text)
		case eventContent:
			e.Content = string(text)
		case eventSetKey:
			key = string(text)
		case eventSetValue:
			if e.Set == nil {
				e.Set = map[string]string{}
			}
			e.Set[key] = string(text)
		case eventRemoved:
			e.Removed = append(e.Removed, string(text))
		case eventMessage:
			var uid chat.UID
			copy(uid[:], text)
			e.UIDs = append(e.UIDs, uid)
		case eventUpTo:
			copy(e.UpTo[:], text)
		case eventChannelType:
			e.ChannelType = chat.ChannelType(n)
		case eventChannel:
			e.Channel = string(text)
		case eventOwnPart:
			own().Part = chat.OwnPart(n)
		case eventPinnedAt:
			own().PinnedAt = max(int64(n), 0)
		case eventLevel:
			own().Level = chat.NotifyLevel(protowire.DecodeZigZag(n))
		case eventQuiet:
			own().Quiet, inner = decodeQuiet(text)
		case eventTag:
			var t chat.Tag
			t, inner = decodeTag(text)
			own().Tags = append(own().Tags, t)
		case eventTagID:
			own().Tag = string(text)
		case eventTaggedAt:
			own().TaggedAt = max(int64(n), 0)
		case eventTagged:
			inner = decodeTagged(text, own())
		}
	})
	if e.Own != nil && e.Own.Part == 0 {
		e.Own = nil
	}
	return e, errors.Join(err, inner)
}
