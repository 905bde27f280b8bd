package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"google.golang.org/protobuf/encoding/protowire"
)

// pushPart is how long a batch of a change of push may get, in bytes. It is well
// below what Pebble treats in a way of its own.
const pushPart = 4 << 20

func appendLanePrefix(dst []byte, lane *store.PushLane) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, spacePushJob), uint32(lane.App))
	return appendLong(append(dst, byte(lane.Provider), byte(lane.Environment)), lane.Package)
}

func appendPlace(dst []byte, p *store.PushPlace) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Due))
	return append(appendLong(append(dst, p.UID[:]...), p.User), p.Device...)
}

func appendJobKey(dst []byte, j *store.PushJob) []byte {
	return appendPlace(append(appendLanePrefix(dst, &j.Lane), j.Priority), &j.PushPlace)
}

func jobKeyLen(j *store.PushJob) int {
	return 1 + 4 + 1 + 1 + 1 + len(j.Lane.Package) + 1 + 8 + uidLen + 1 + len(j.User) + len(j.Device)
}

func appendHaltKey(dst []byte, lane *store.PushLane) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, spacePushHalt), uint32(lane.App))
	return append(append(dst, byte(lane.Provider), byte(lane.Environment)), lane.Package...)
}

// appendPushDay begins the key of an outcome, or of reasons. Their day is that of
// the UID's own time, so that reading needs no search.
func appendPushDay(dst []byte, space byte, uid chat.UID) []byte {
	dst = binary.BigEndian.AppendUint16(append(dst, space), dayOf(uid.Millis()))
	return append(dst, uid[:]...)
}

func appendLookKey(dst []byte, due int64, ref chat.UID) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, spacePushLook), uint64(due))
	return append(dst, ref[:]...)
}

func appendShownKey(dst []byte, ch *store.ChannelRef) []byte {
	return append(append(appendOwnPrefix(dst, spacePushShown, ch.App, ch.Owner), byte(ch.Type)), ch.Channel...)
}

// The fields of a job's row, tagged as in bodies. Its times are written as what
// lies between them and the time before.
const (
	jobKind    protowire.Number = iota + 1 // and whether it is silent, as the lowest bit
	jobIndex                               // the UID's place in the request's block
	jobRef                                 // the request, when the UID is not of its block
	jobMadeAt                              // after the UID's time
	jobExpires                             // after it was made
	jobAttempts
	jobWithout
	jobHeld
	jobCollapse
	jobCode
	jobOffset
)

func appendJob(b []byte, j *store.PushJob) []byte {
	b = appendUint(b, jobKind, uint64(j.Kind)<<1|protowire.EncodeBool(j.Silent))
	if i := j.UID.IndexIn(j.Ref, chat.MaxUIDBlock); i >= 0 {
		b = appendUint(b, jobIndex, uint64(i))
	} else {
		b = protowire.AppendBytes(protowire.AppendTag(b, jobRef, protowire.BytesType), j.Ref[:])
	}
	b = appendUint(b, jobMadeAt, protowire.EncodeZigZag(j.MadeAt-j.UID.Millis()))
	b = appendUint(b, jobExpires, protowire.EncodeZigZag(j.Expires-j.MadeAt))
	b = appendUint(b, jobAttempts, uint64(j.Attempts))
	b = appendUint(b, jobWithout, uint64(j.Without))
	b = appendUint(b, jobHeld, uint64(j.Held))
	b = appendUint(b, jobCollapse, j.Collapse)
	b = appendText(b, jobCode, j.Code)
	return appendUint(b, jobOffset, j.Offset)
}

// decodeJob reads a row behind the prefix of its lane and priority.
func decodeJob(rest, row []byte, j *store.PushJob) error {
	const at = 8 + uidLen
	if len(rest) <= at || len(rest) <= at+int(rest[at]) {
		return fmt.Errorf("%w: push job key", errRow)
	}
	j.Due = int64(beUint64(rest))
	j.UID = chat.UID(rest[8:at])
	ids := string(rest[at+1:])
	j.User, j.Device = ids[:rest[at]], ids[rest[at]:]
	j.Ref = j.UID
	var madeAt, expires int64
	index := uint64(0)
	err := eachField(row, func(f protowire.Number, n uint64, text []byte) {
		switch f {
		case jobKind:
			j.Kind, j.Silent = store.PushKind(n>>1), n&1 != 0
		case jobIndex:
			index = n
		case jobRef:
			copy(j.Ref[:], text)
		case jobMadeAt:
			madeAt = protowire.DecodeZigZag(n)
		case jobExpires:
			expires = protowire.DecodeZigZag(n)
		case jobAttempts:
			j.Attempts = uint8(n)
		case jobWithout:
			j.Without = uint8(n)
		case jobHeld:
			j.Held = uint16(n)
		case jobCollapse:
			j.Collapse = n
		case jobCode:
			j.Code = string(text)
		case jobOffset:
			j.Offset = n
		}
	})
	if err != nil {
		return fmt.Errorf("push job: %w", err)
	}
	if index > uint64(j.UID.Counter()) {
		return fmt.Errorf("%w: push job of place %d", errRow, index)
	}
	if index > 0 {
		j.Ref = j.UID.Plus(-int(index))
	}
	j.MadeAt = j.UID.Millis() + madeAt
	j.Expires = j.MadeAt + expires
	return nil
}

// The fields of a look's row. Looks at one request at one time are appended to one
// row, without reading it.
const (
	lookApp     protowire.Number = 1
	lookTargets protowire.Number = 2 // each as what lies between it and the one before
)

func appendLook(b []byte, l *store.PushLook) []byte {
	b = appendUint(b, lookApp, uint64(l.App))
	size, before := 0, 0
	for _, t := range l.Targets {
		size += protowire.SizeVarint(uint64(t - before))
		before = t
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, lookTargets, protowire.BytesType), uint64(size))
	before = 0
	for _, t := range l.Targets {
		b = protowire.AppendVarint(b, uint64(t-before))
		before = t
	}
	return b
}

func decodeLook(row []byte, l *store.PushLook) error {
	lists, bad := 0, false
	err := eachField(row, func(f protowire.Number, n uint64, text []byte) {
		switch f {
		case lookApp:
			l.App = chat.AppID(n)
		case lookTargets:
			lists++
			for at := uint64(0); len(text) > 0; {
				v, n := protowire.ConsumeVarint(text)
				if n < 0 || v >= chat.MaxUIDBlock || at+v >= chat.MaxUIDBlock {
					bad = true
					return
				}
				at, text = at+v, text[n:]
				l.Targets = append(l.Targets, int(at))
			}
		}
	})
	if err != nil || bad {
		return fmt.Errorf("%w: push look", errRow)
	}
	if lists > 1 {
		slices.Sort(l.Targets)
		l.Targets = slices.Compact(l.Targets)
	}
	return nil
}

// The fields of a row of reasons. Those for some of the targets are appended to the
// row without reading it; what comes later holds.
const reasonsRuns protowire.Number = 1

// appendReasons writes runs of the same reason: how many targets come before it, how
// many it is of, and the reason.
func appendReasons(b []byte, r *store.PushReasonsOf) []byte {
	place := func(i int) int {
		if r.Targets == nil {
			return i
		}
		return r.Targets[i]
	}
	runs := make([]byte, 0, 64)
	end := 0
	for i := 0; i < len(r.Reasons); {
		n := 1
		for i+n < len(r.Reasons) && r.Reasons[i+n] == r.Reasons[i] && place(i+n) == place(i)+n {
			n++
		}
		runs = protowire.AppendVarint(runs, uint64(place(i)-end))
		runs = append(protowire.AppendVarint(runs, uint64(n)), r.Reasons[i])
		end = place(i) + n
		i += n
	}
	return protowire.AppendBytes(protowire.AppendTag(b, reasonsRuns, protowire.BytesType), runs)
}

func decodeReasons(row []byte) (list []uint8, err error) {
	bad := false
	err = eachField(row, func(f protowire.Number, _ uint64, runs []byte) {
		if f != reasonsRuns {
			return
		}
		for at := uint64(0); len(runs) > 0; {
			skip, n := protowire.ConsumeVarint(runs)
			if n < 0 {
				bad = true
				return
			}
			count, m := protowire.ConsumeVarint(runs[n:])
			if m < 0 || len(runs) <= n+m || skip > chat.MaxUIDBlock || count > chat.MaxUIDBlock || at+skip+count > chat.MaxUIDBlock {
				bad = true
				return
			}
			reason := runs[n+m]
			runs = runs[n+m+1:]
			at += skip
			for uint64(len(list)) < at+count {
				list = append(list, store.PushUndecided)
			}
			for range count {
				list[at] = reason
				at++
			}
		}
	})
	if err != nil || bad {
		return nil, fmt.Errorf("%w: push reasons", errRow)
	}
	return list, nil
}

// The fields of a halt's row.
const (
	haltSince protowire.Number = iota + 1
	haltUntil
	haltCode
)

func appendHalt(b []byte, h *store.PushHalt) []byte {
	b = appendUint(b, haltSince, uint64(h.Since))
	b = appendUint(b, haltUntil, uint64(h.Until))
	return appendText(b, haltCode, h.Code)
}

// The fields of an outcome's row.
const (
	outcomeProvider protowire.Number = iota + 1
	outcomeKind
	outcomeClass
	outcomeCode
	outcomeID
	outcomeToken
	outcomeAttempts
	outcomeAt // after the UID's time
	outcomeCut
)

func appendOutcome(b []byte, o *store.PushOutcome) []byte {
	b = appendUint(b, outcomeProvider, uint64(o.Provider))
	b = appendUint(b, outcomeKind, uint64(o.Kind))
	b = appendText(b, outcomeClass, o.Class)
	b = appendText(b, outcomeCode, o.Code)
	b = appendText(b, outcomeID, o.ID)
	b = appendText(b, outcomeToken, o.Token)
	b = appendUint(b, outcomeAttempts, uint64(o.Attempts))
	b = appendUint(b, outcomeAt, protowire.EncodeZigZag(o.At-o.UID.Millis()))
	return appendUint(b, outcomeCut, uint64(o.Cut))
}

func decodeOutcome(row []byte, o *store.PushOutcome) error {
	o.At = o.UID.Millis()
	err := eachField(row, func(f protowire.Number, n uint64, text []byte) {
		switch f {
		case outcomeProvider:
			o.Provider = chat.PushProvider(n)
		case outcomeKind:
			o.Kind = store.PushKind(n)
		case outcomeClass:
			o.Class = string(text)
		case outcomeCode:
			o.Code = string(text)
		case outcomeID:
			o.ID = string(text)
		case outcomeToken:
			o.Token = string(text)
		case outcomeAttempts:
			o.Attempts = uint8(n)
		case outcomeAt:
			o.At = o.UID.Millis() + protowire.DecodeZigZag(n)
		case outcomeCut:
			o.Cut = uint8(n)
		}
	})
	if err != nil {
		return fmt.Errorf("push outcome: %w", err)
	}
	return nil
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
		size += 64 + len(o.Device) + len(o.Class) + len(o.Code) + len(o.ID) + len(o.Token)
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
	return size, nil
}

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
	w := &pushWriter{store: s, batch: s.db.NewBatchWithSize(min(size, pushPart) + 256)}
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
	store *Store
	batch *pdb.Batch
	value []byte
	err   error // the first; nothing is written after it

	// gone are the keys to delete last, when the change is written in parts.
	gone map[string]struct{}
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
	if w.gone == nil || w.batch.Len() < pushPart || w.err != nil {
		return
	}
	w.err = w.store.apply(w.batch, pdb.NoSync)
	w.batch = w.store.db.NewBatchWithSize(pushPart)
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
			return nil, fmt.Errorf("%w: push job key", errRow)
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
	for _, err := range [...]error{checkPushLane(lane), checkPushPriority(priority), checkDue(behind.Due)} {
		if err != nil {
			return nil, err
		}
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
		if list == nil {
			list = make([]store.PushJob, 0, min(limit, 64))
		}
		list = append(list, store.PushJob{Lane: *lane, Priority: priority})
		if err := decodeJob(it.Key()[len(prefix):], it.Value(), &list[len(list)-1]); err != nil {
			return nil, err
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
			return counts, fmt.Errorf("%w: push job key", errRow)
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
			return nil, fmt.Errorf("%w: push look key", errRow)
		}
		l := store.PushLook{Due: int64(beUint64(key[1:])), Ref: chat.UID(key[9:])}
		if err := decodeLook(it.Value(), &l); err != nil {
			return nil, err
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
			return fmt.Errorf("%w: push halt key", errRow)
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
		list = append(list, h)
		return err
	})
	return list, err
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
	return list, errors.Join(err, closer.Close())
}

// PushOutcomes implements store.PushQueue.
func (s *Store) PushOutcomes(ctx context.Context, uid chat.UID) (list []store.PushOutcome, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	prefix := appendPushDay(nil, spacePushOutcome, uid)
	err = s.eachRow(prefix, func(key, value []byte) error {
		list = append(list, store.PushOutcome{UID: uid, Device: string(key[len(prefix):])})
		return decodeOutcome(value, &list[len(list)-1])
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
		return uid, errors.Join(fmt.Errorf("%w: push shown", errRow), closer.Close())
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
