package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"google.golang.org/protobuf/encoding/protowire"
)

// pushPart is how long a batch of a change of push may get, in bytes. It is well
// below what Pebble treats in a way of its own.
const pushPart = 4 << 20

// ChangePush implements store.PushQueue.
func (s *Store) ChangePush(ctx context.Context, c *store.PushChange) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Health(); err != nil {
		return err
	}
	var mark *gate
	if c.Watermark > 0 {
		m, err := s.mark(store.PushConsumer)
		if err != nil {
			return err
		}
		if c.Watermark > m.Load() {
			mark = m
		}
	}
	size, err := checkPush(c)
	if err != nil {
		return err
	}
	w := &pushWriter{
		batch: s.db.NewBatchWithSize(min(size, pushPart) + 256), most: pushPart,
		next: func(b *pdb.Batch) (*pdb.Batch, error) {
			return s.db.NewBatchWithSize(pushPart), s.apply(b, pdb.NoSync)
		},
	}
	if size <= pushPart {
		w.drop(c)
		w.put(c)
	} else {
		w.long(c)
	}
	if mark != nil && w.err == nil {
		w.err = addMark(w.batch, store.PushConsumer, c.Watermark)
	}
	if w.err != nil {
		return errors.Join(w.err, w.batch.Close())
	}
	o := pdb.NoSync
	if c.Sync {
		o = pdb.Sync
	}
	if err := s.apply(w.batch, o); err != nil {
		return err
	}
	if mark != nil {
		mark.raise(c.Watermark)
	}
	return nil
}

// A pushWriter writes a change of push.
type pushWriter struct {
	batch *pdb.Batch
	value []byte
	err   error // the first; nothing is written after it

	// gone are the keys to delete last, when the change is written in parts: of most
	// bytes each, and what next does with one that is full, to give an empty one.
	gone map[string]struct{}
	most int
	next func(*pdb.Batch) (*pdb.Batch, error)
}

// long writes a change in parts. What is new comes before what is gone, so that
// nothing is lost when it is cut off in between. What is both is not deleted.
func (w *pushWriter) long(c *store.PushChange) {
	w.gone = make(map[string]struct{}, len(c.Drop)+len(c.Looked))
	for i := range c.Drop {
		w.gone[string(appendJobKey(nil, &c.Drop[i]))] = struct{}{}
	}
	for i := range c.Looked {
		w.gone[string(appendLookKey(nil, c.Looked[i].Due, c.Looked[i].Ref))] = struct{}{}
	}
	w.put(c)
	for key := range w.gone {
		w.delete([]byte(key))
	}
}

func (w *pushWriter) delete(key []byte) {
	if w.err != nil {
		return
	}
	op := w.batch.DeleteDeferred(len(key))
	copy(op.Key, key)
	_ = op.Finish() // fails on indexed batches only
	w.cut()
}

// set gives room for a row with w.value. The caller fills its key in and calls cut.
func (w *pushWriter) set(keyLen int) *pdb.DeferredBatchOp {
	op := w.batch.SetDeferred(keyLen, len(w.value))
	copy(op.Value, w.value)
	return op
}

// cut begins a new part when the change is written in parts and this one is full.
func (w *pushWriter) cut() {
	if w.gone != nil && w.batch.Len() >= w.most && w.err == nil {
		w.batch, w.err = w.next(w.batch)
	}
}

func (w *pushWriter) drop(c *store.PushChange) {
	for i := range c.Drop {
		j := &c.Drop[i]
		op := w.batch.DeleteDeferred(jobKeyLen(j))
		appendJobKey(op.Key[:0], j)
		_ = op.Finish()
	}
	var key []byte
	for i := range c.Looked {
		key = appendLookKey(key[:0], c.Looked[i].Due, c.Looked[i].Ref)
		w.delete(key)
	}
}

func (w *pushWriter) put(c *store.PushChange) {
	for i := range c.Put {
		if w.err != nil {
			return
		}
		j := &c.Put[i]
		w.value = appendJob(w.value[:0], j)
		op := w.set(jobKeyLen(j))
		key := appendJobKey(op.Key[:0], j)
		if w.gone != nil {
			delete(w.gone, string(key))
		}
		_ = op.Finish()
		w.cut()
	}
	var key []byte
	for i := range c.Look {
		l := &c.Look[i]
		w.value = appendLook(w.value[:0], l)
		key = appendLookKey(key[:0], l.Due, l.Ref)
		if _, ok := w.gone[string(key)]; ok {
			delete(w.gone, string(key))
			w.row(key)
			continue
		}
		w.merge(key)
	}
	for i := range c.Halt {
		h := &c.Halt[i]
		key = appendHaltKey(key[:0], &h.Lane)
		if h.Since == 0 {
			w.delete(key)
			continue
		}
		w.value = appendHalt(w.value[:0], h)
		w.row(key)
	}
	for i := range c.Reasons {
		r := &c.Reasons[i]
		if len(r.Reasons) == 0 {
			continue
		}
		w.value = appendReasons(w.value[:0], r)
		key = appendPushDay(key[:0], spacePushReasons, r.Ref)
		if r.Targets == nil && len(r.Reasons) == r.Count {
			w.row(key)
		} else {
			w.merge(key)
		}
	}
	for i := range c.Outcomes {
		o := &c.Outcomes[i]
		w.value = appendOutcome(w.value[:0], o)
		key = append(appendPushDay(key[:0], spacePushOutcome, o.UID), o.Device...)
		if o.User != "" {
			key = append(append(key, 0), o.User...) // ids hold no zero byte
		}
		w.row(key)
	}
	for i := range c.Shown {
		x := &c.Shown[i]
		key = appendShownKey(key[:0], &x.Channel)
		if x.UID.IsZero() {
			w.delete(key)
			continue
		}
		w.value = append(w.value[:0], x.UID[:]...)
		w.row(key)
	}
	for i := range c.Passes {
		p := &c.Passes[i]
		key = appendPassKey(key[:0], p.UID)
		if p.Done {
			w.delete(key)
			continue
		}
		w.value = appendText(appendUint(w.value[:0], passApp, uint64(p.App)), passBehind, p.Behind)
		w.row(key)
	}
	if !c.Met.IsZero() {
		w.value = protowire.AppendBytes(protowire.AppendTag(w.value[:0], passMet, protowire.BytesType), c.Met[:])
		w.row(appendPassKey(key[:0], chat.UID{}))
	}
}

func (w *pushWriter) row(key []byte) {
	if w.err != nil {
		return
	}
	op := w.set(len(key))
	copy(op.Key, key)
	_ = op.Finish()
	w.cut()
}

// merge appends w.value to what the row has, which Pebble does where it reads or
// compacts: its merge is to put one behind the other, as with fields of a message.
func (w *pushWriter) merge(key []byte) {
	if w.err != nil {
		return
	}
	op := w.batch.MergeDeferred(len(key), len(w.value))
	copy(op.Key, key)
	copy(op.Value, w.value)
	_ = op.Finish()
	w.cut()
}

// PushLanes implements store.PushQueue.
func (s *Store) PushLanes(ctx context.Context) (list []store.PushLane, err error) {
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: []byte{spacePushJob}, UpperBound: []byte{spacePushJob + 1}})
	if err != nil {
		return nil, fmt.Errorf("push lanes: %w", err)
	}
	defer it.Close()
	for ok := it.First(); ok; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		key := it.Key()
		if len(key) < 8 || len(key) < 8+int(key[7]) {
			s.passOver("push job", key)
			ok = it.Next()
			continue
		}
		list = append(list, store.PushLane{
			App: chat.AppID(binary.BigEndian.Uint32(key[1:])), Provider: chat.PushProvider(key[5]),
			Environment: chat.PushEnvironment(key[6]), Package: string(key[8 : 8+int(key[7])]),
		})
		ok = it.SeekGE(after(key[:8+int(key[7])]))
	}
	return list, closeIter(it)
}

// PushJobs implements store.PushQueue.
func (s *Store) PushJobs(ctx context.Context, lane *store.PushLane, priority uint8, behind store.PushPlace, until int64, limit int) (list []store.PushJob, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if limit <= 0 {
		return nil, chat.Invalid("limit", "must be positive")
	}
	if n := max(len(behind.User), len(behind.Device)); n > maxIDLength {
		return nil, chat.Invalidf("behind", "user and device are at most %d bytes, got %d", maxIDLength, n)
	}
	for _, err := range [...]error{checkPushLane(lane), checkPushPriority(priority)} {
		if err != nil {
			return nil, err
		}
	}
	if behind.Due < 0 { // just before what is due at 0
		behind = store.PushPlace{}
	}
	if until < behind.Due {
		return nil, nil
	}
	prefix := append(appendLanePrefix(make([]byte, 0, 64), lane), priority)
	it, err := s.db.NewIter(&pdb.IterOptions{
		// The zero byte makes it the smallest key behind that place.
		LowerBound: append(appendPlace(bytes.Clone(prefix), &behind), 0),
		UpperBound: binary.BigEndian.AppendUint64(bytes.Clone(prefix), uint64(until)+1),
	})
	if err != nil {
		return nil, fmt.Errorf("push jobs: %w", err)
	}
	defer it.Close()
	for ok := it.First(); ok && len(list) < limit; ok = it.Next() {
		// Who asks for a thousand is mostly given a few, and after a standstill all.
		switch len(list) {
		case 0:
			list = make([]store.PushJob, 0, min(limit, 32))
		case 32:
			list = slices.Grow(list, min(limit, 1000)-32)
		}
		list = append(list, store.PushJob{Lane: *lane, Priority: priority})
		j := &list[len(list)-1]
		if err := decodeJob(it.Key()[len(prefix):], it.Value(), j); err != nil {
			s.passOver("push job", it.Key())
			if j.Device == "" { // neither is its key
				list = list[:len(list)-1]
				continue
			}
			// Its key is good, so it can be dropped: as one that has expired.
			*j = store.PushJob{Lane: *lane, Priority: priority, PushPlace: j.PushPlace, Ref: j.UID, Code: "row"}
		}
	}
	return list, closeIter(it)
}

// CountPushJobs implements store.PushQueue.
func (s *Store) CountPushJobs(ctx context.Context, lane *store.PushLane) (counts [store.PushPriorities]int, err error) {
	if err := checkPushLane(lane); err != nil {
		return counts, err
	}
	prefix := appendLanePrefix(nil, lane)
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return counts, fmt.Errorf("push jobs: %w", err)
	}
	defer it.Close()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return counts, ctx.Err()
		}
		key := it.Key()
		if len(key) <= len(prefix) || key[len(prefix)] >= store.PushPriorities {
			s.passOver("push job", key)
			continue
		}
		counts[key[len(prefix)]]++
	}
	return counts, closeIter(it)
}

// PushLooks implements store.PushQueue.
func (s *Store) PushLooks(ctx context.Context, until int64, limit int) (list []store.PushLook, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if limit <= 0 {
		return nil, chat.Invalid("limit", "must be positive")
	}
	if until < 0 {
		return nil, nil
	}
	it, err := s.db.NewIter(&pdb.IterOptions{
		LowerBound: []byte{spacePushLook},
		UpperBound: binary.BigEndian.AppendUint64([]byte{spacePushLook}, uint64(until)+1),
	})
	if err != nil {
		return nil, fmt.Errorf("push looks: %w", err)
	}
	defer it.Close()
	for ok := it.First(); ok && len(list) < limit; ok = it.Next() {
		key := it.Key()
		if len(key) != 1+8+uidLen {
			s.passOver("push look", key)
			continue
		}
		l := store.PushLook{Due: int64(beUint64(key[1:])), Ref: chat.UID(key[9:])}
		if err := decodeLook(it.Value(), &l); err != nil {
			// Its key is good, so it can be dropped: as one at nobody.
			s.passOver("push look", key)
			l.App, l.Targets = 0, nil
		}
		list = append(list, l)
	}
	return list, closeIter(it)
}

// PushHalts implements store.PushQueue.
func (s *Store) PushHalts(ctx context.Context) (list []store.PushHalt, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = s.eachRow([]byte{spacePushHalt}, func(key, value []byte) error {
		if len(key) < 7 {
			s.passOver("push halt", key)
			return nil
		}
		h := store.PushHalt{Lane: store.PushLane{
			App: chat.AppID(binary.BigEndian.Uint32(key[1:])), Provider: chat.PushProvider(key[5]),
			Environment: chat.PushEnvironment(key[6]), Package: string(key[7:]),
		}}
		err := eachField(value, func(f protowire.Number, n uint64, text []byte) {
			switch f {
			case haltSince:
				h.Since = int64(n)
			case haltUntil:
				h.Until = int64(n)
			case haltCode:
				h.Code = string(text)
			}
		})
		if err != nil {
			s.passOver("push halt", key)
			return nil
		}
		list = append(list, h)
		return nil
	})
	return list, err
}

// The fields of a pass's row.
const (
	passApp    protowire.Number = 1
	passBehind protowire.Number = 2
	passMet    protowire.Number = 3 // of no broadcast
)

func appendPassKey(dst []byte, uid chat.UID) []byte {
	return append(append(dst, spacePushPass), uid[:]...)
}

// PushPasses implements store.PushQueue.
func (s *Store) PushPasses(ctx context.Context) (passes []store.PushPass, met chat.UID, err error) {
	if err := ctx.Err(); err != nil {
		return nil, met, err
	}
	err = s.eachRow([]byte{spacePushPass}, func(key, value []byte) error {
		if len(key) != 1+uidLen {
			s.passOver("push pass", key)
			return nil
		}
		p := store.PushPass{UID: chat.UID(key[1:])}
		err := eachField(value, func(f protowire.Number, n uint64, text []byte) {
			switch f {
			case passApp:
				p.App = chat.AppID(n)
			case passBehind:
				p.Behind = string(text)
			case passMet:
				copy(met[:], text)
			}
		})
		if err != nil {
			s.passOver("push pass", key)
		}
		if !p.UID.IsZero() { // what it has of its way is right, or empty
			passes = append(passes, p)
		}
		return nil
	})
	return passes, met, err
}

// PushReasons implements store.PushQueue.
func (s *Store) PushReasons(ctx context.Context, ref chat.UID) ([]uint8, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	row, closer, err := s.db.Get(appendPushDay(nil, spacePushReasons, ref))
	if errors.Is(err, pdb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("push reasons: %w", err)
	}
	list, err := decodeReasons(row)
	if err != nil {
		s.passOver("push reasons", appendPushDay(nil, spacePushReasons, ref))
		list = nil
	}
	return list, closer.Close()
}

// PushOutcomes implements store.PushQueue.
func (s *Store) PushOutcomes(ctx context.Context, uid chat.UID) (list []store.PushOutcome, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	prefix := appendPushDay(nil, spacePushOutcome, uid)
	err = s.eachRow(prefix, func(key, value []byte) error {
		o := store.PushOutcome{UID: uid}
		o.Device, o.User, _ = strings.Cut(string(key[len(prefix):]), "\x00")
		if err := decodeOutcome(value, &o); err != nil {
			s.passOver("push outcome", key)
			return nil
		}
		list = append(list, o)
		return nil
	})
	return list, err
}

// PushShown implements store.PushQueue.
func (s *Store) PushShown(ctx context.Context, ch store.ChannelRef) (uid chat.UID, err error) {
	if err := ctx.Err(); err != nil {
		return uid, err
	}
	if err := checkChannelRef(&ch); err != nil {
		return uid, err
	}
	row, closer, err := s.db.Get(appendShownKey(nil, &ch))
	if errors.Is(err, pdb.ErrNotFound) {
		return uid, nil
	}
	if err != nil {
		return uid, fmt.Errorf("push shown: %w", err)
	}
	if len(row) < uidLen {
		s.passOver("push shown", appendShownKey(nil, &ch))
		return uid, closer.Close()
	}
	return chat.UID(row[:uidLen]), closer.Close()
}

// expiredPush are the rows of what became of notifications that nobody is told any
// more.
func expiredPush(today uint16) []span {
	oldest := dayBefore(today, store.KeepPushOutcomes)
	var spans []span
	for _, space := range [...]byte{spacePushOutcome, spacePushReasons} {
		spans = append(spans, span{[]byte{space}, binary.BigEndian.AppendUint16([]byte{space}, oldest)})
	}
	return spans
}

// What is in a change is checked as a whole before anything of it is written.

func checkPushID(field, id string) error {
	if id == "" || len(id) > maxIDLength {
		return chat.Invalidf(field, "1 to %d bytes, got %d", maxIDLength, len(id))
	}
	return nil
}

func checkPushLane(lane *store.PushLane) error {
	if n := len(lane.Package); n > maxIDLength {
		return chat.Invalidf("package", "at most %d bytes, got %d", maxIDLength, n)
	}
	return nil
}

func checkPushPriority(priority uint8) error {
	if priority >= store.PushPriorities {
		return chat.Invalidf("priority", "0 to %d, got %d", store.PushPriorities-1, priority)
	}
	return nil
}

func checkDue(due int64) error {
	if due < 0 {
		return chat.Invalid("due", "must not be negative")
	}
	return nil
}

func checkJob(j *store.PushJob) error {
	// One look at all of it: there are thousands.
	if uint(len(j.User)-1) < maxIDLength && uint(len(j.Device)-1) < maxIDLength &&
		len(j.Lane.Package) <= maxIDLength && j.Priority < store.PushPriorities && j.Due >= 0 {
		return nil
	}
	for _, err := range [...]error{
		checkPushID("userId", j.User), checkPushID("deviceId", j.Device),
		checkPushLane(&j.Lane), checkPushPriority(j.Priority), checkDue(j.Due),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkTargets takes growing places below count.
func checkTargets(targets []int, count int) error {
	before := -1
	for _, t := range targets {
		if t <= before || t >= count {
			return chat.Invalidf("targets", "must be growing places below %d", count)
		}
		before = t
	}
	return nil
}

// checkPush checks a change, and tells about how long its rows are in a batch.
func checkPush(c *store.PushChange) (size int, err error) {
	for _, list := range [...][]store.PushJob{c.Put, c.Drop} {
		for i := range list {
			j := &list[i]
			if err := checkJob(j); err != nil {
				return 0, err
			}
			size += 64 + len(j.Lane.Package) + len(j.User) + len(j.Device) + len(j.Code)
		}
	}
	for i, list := range [...][]store.PushLook{c.Look, c.Looked} {
		for j := range list {
			l := &list[j]
			if err := checkDue(l.Due); err != nil {
				return 0, err
			}
			size += 40
			if i > 0 {
				continue // named by its place
			}
			if err := checkTargets(l.Targets, chat.MaxUIDBlock); err != nil {
				return 0, err
			}
			size += 2 * len(l.Targets)
		}
	}
	for i := range c.Halt {
		h := &c.Halt[i]
		if err := checkPushLane(&h.Lane); err != nil {
			return 0, err
		}
		size += 48 + len(h.Lane.Package) + len(h.Code)
	}
	for i := range c.Reasons {
		r := &c.Reasons[i]
		switch {
		case r.Count > chat.MaxUIDBlock:
			return 0, chat.Invalidf("targets", "at most %d, got %d", chat.MaxUIDBlock, r.Count)
		case r.Targets == nil && len(r.Reasons) > r.Count:
			return 0, chat.Invalidf("reasons", "at most %d, got %d", r.Count, len(r.Reasons))
		case r.Targets != nil && len(r.Targets) != len(r.Reasons):
			return 0, chat.Invalid("reasons", "must be one for each target")
		}
		if err := checkTargets(r.Targets, r.Count); err != nil {
			return 0, err
		}
		size += 32 + len(r.Reasons)
	}
	for i := range c.Outcomes {
		o := &c.Outcomes[i]
		if err := checkPushID("deviceId", o.Device); err != nil {
			return 0, err
		}
		if n := len(o.User); n > maxIDLength {
			return 0, chat.TooLong("userId", maxIDLength, n, "bytes")
		}
		size += 64 + len(o.Device) + len(o.User) + len(o.Class) + len(o.Code) + len(o.ID) + len(o.Token)
	}
	for i := range c.Shown {
		ch := &c.Shown[i].Channel
		if err := checkPushID("userId", ch.Owner); err != nil {
			return 0, err
		}
		if err := checkChannelRef(ch); err != nil {
			return 0, err
		}
		size += 32 + len(ch.Owner) + len(ch.Channel)
	}
	for i := range c.Passes {
		p := &c.Passes[i]
		if p.UID.IsZero() {
			return 0, chat.Invalid("broadcast", "is required")
		}
		if n := len(p.Behind); n > maxIDLength {
			return 0, chat.TooLong("behind", maxIDLength, n, "bytes")
		}
		size += 32 + len(p.Behind)
	}
	return size, nil
}
