package pebble

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"google.golang.org/protobuf/encoding/protowire"
)

// inlineTargets is how many targets stand in the body row itself. With more
// they get a row of their own, so that reading a body for delivery never reads
// a thousand recipients.
const inlineTargets = 16

// A body is what is stored of one request.
type body struct {
	message *chat.Message
	count   int    // of targets
	echoAt  uint64 // offset of the first entry in the sender's timeline; 0 without echo
	targets []target
}

// A target is one target and, when it is a user, its entry's offset.
type target struct {
	id     string
	offset uint64
}

// The fields of a body row. The row is a protobuf message without a schema
// file: unknown fields are skipped, absent ones are zero.
const (
	bodyApp protowire.Number = iota + 1
	bodyChannelType
	bodyOrigin
	bodyFlags
	bodyFrom
	bodyType
	bodyRequestID
	bodyBools
	bodyMetaKey
	bodyMetaValue
	bodyPushContent
	bodyPushData
	bodyPushExt
	bodyBadge
	bodyPriority
	bodyCount
	bodyEchoAt
	bodyTarget
	bodyContent
	bodyEvent    // stands before the content
	bodyPushMore // so does this
)

// The bits of bodyBools.
const (
	boolPersist = 1 << iota
	boolDisableUpdateLast
	boolNeedReadReceipt
	boolEcho
	boolVerifyBlocklist
	boolHasMetadata
	boolPushDisabled
	boolContentAvailable
	boolHasBadge
	boolStream
)

func appendUint(b []byte, f protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, f, protowire.VarintType), v)
}

func appendText(b []byte, f protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, f, protowire.BytesType), s)
}

// contentLen is the length of what appendContent appends.
func contentLen(content string) int {
	return protowire.SizeTag(bodyContent) + protowire.SizeBytes(len(content))
}

// appendContent ends a body row. It is apart from the rest so that the content,
// which can be long, is copied once: straight into the batch.
func appendContent(b []byte, content string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, bodyContent, protowire.BytesType), content)
}

// appendBody appends a body row without its content. Targets are written when
// they are given.
func appendBody(b []byte, m *chat.Message, count int, echoAt uint64, targets []target) []byte {
	b = appendUint(b, bodyApp, uint64(m.App))
	b = appendUint(b, bodyChannelType, uint64(m.ChannelType))
	b = appendUint(b, bodyOrigin, uint64(m.Origin))
	b = appendUint(b, bodyFlags, uint64(m.Flags))
	b = appendText(b, bodyFrom, m.From)
	b = appendText(b, bodyType, m.Type)
	b = appendText(b, bodyRequestID, m.RequestID)
	b = appendUint(b, bodyBools, bools(m))
	if len(m.Metadata) > 0 {
		for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
			// Written even when empty: a value belongs to the key before it.
			b = protowire.AppendString(protowire.AppendTag(b, bodyMetaKey, protowire.BytesType), k)
			b = protowire.AppendString(protowire.AppendTag(b, bodyMetaValue, protowire.BytesType), m.Metadata[k])
		}
	}
	b = appendText(b, bodyPushContent, m.Push.Content)
	b = appendText(b, bodyPushData, m.Push.Data)
	b = appendText(b, bodyPushExt, m.Push.Ext)
	b = appendUint(b, bodyBadge, protowire.EncodeZigZag(int64(m.Push.Badge)))
	b = appendUint(b, bodyPriority, uint64(m.Priority))
	b = appendUint(b, bodyCount, uint64(count))
	b = appendUint(b, bodyEchoAt, echoAt)
	b = appendText(b, bodyPushMore, m.Push.More)
	if m.Event != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, bodyEvent, protowire.BytesType), appendEvent(nil, m.Event))
	}
	for _, t := range targets {
		b = protowire.AppendTag(b, bodyTarget, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(targetLen(t)))
		b = appendTarget(b, t)
	}
	return b
}

func bools(m *chat.Message) (v uint64) {
	for i, set := range [...]bool{
		m.Persist, m.DisableUpdateLast, m.NeedReadReceipt, m.Echo, m.VerifyBlocklist,
		m.HasMetadata, m.Push.Disabled, m.Push.ContentAvailable, m.Push.HasBadge, m.Stream,
	} {
		if set {
			v |= 1 << i
		}
	}
	return v
}

// decodeBody reads a body row. The result shares no memory with row.
func decodeBody(row []byte) (*body, error) {
	m := &chat.Message{}
	b := &body{message: m}
	metaKey, haveKey := "", false
	for len(row) > 0 {
		f, typ, n := protowire.ConsumeTag(row)
		if n < 0 {
			return nil, fmt.Errorf("%w: body tag", errRow)
		}
		row = row[n:]
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(row)
			if n < 0 {
				return nil, fmt.Errorf("%w: body field %d", errRow, f)
			}
			row = row[n:]
			b.setUint(f, v)
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(row)
			if n < 0 {
				return nil, fmt.Errorf("%w: body field %d", errRow, f)
			}
			row = row[n:]
			switch f {
			case bodyMetaKey:
				metaKey, haveKey = string(v), true
			case bodyMetaValue:
				if !haveKey {
					return nil, fmt.Errorf("%w: metadata value without a key", errRow)
				}
				if m.Metadata == nil {
					m.Metadata = map[string]string{}
				}
				m.Metadata[metaKey], haveKey = string(v), false
			case bodyEvent:
				var err error
				if m.Event, err = decodeEvent(v); err != nil {
					return nil, err
				}
			case bodyTarget:
				t, rest, err := consumeTarget(v)
				if err != nil || len(rest) > 0 {
					return nil, fmt.Errorf("%w: body target", errRow)
				}
				b.targets = append(b.targets, t)
			default:
				b.setText(f, v)
			}
		default:
			n := protowire.ConsumeFieldValue(f, typ, row)
			if n < 0 {
				return nil, fmt.Errorf("%w: body field %d", errRow, f)
			}
			row = row[n:]
		}
	}
	if b.count < 1 || b.count > chat.MaxUIDBlock || len(b.targets) > b.count {
		return nil, fmt.Errorf("%w: body with %d targets", errRow, b.count)
	}
	return b, nil
}

func (b *body) setUint(f protowire.Number, v uint64) {
	m := b.message
	switch f {
	case bodyApp:
		m.App = chat.AppID(v)
	case bodyChannelType:
		m.ChannelType = chat.ChannelType(v)
	case bodyOrigin:
		m.Origin = chat.Origin(v)
	case bodyFlags:
		m.Flags = chat.TypeFlags(v)
	case bodyBools:
		m.Persist = v&boolPersist != 0
		m.DisableUpdateLast = v&boolDisableUpdateLast != 0
		m.NeedReadReceipt = v&boolNeedReadReceipt != 0
		m.Echo = v&boolEcho != 0
		m.VerifyBlocklist = v&boolVerifyBlocklist != 0
		m.HasMetadata = v&boolHasMetadata != 0
		m.Push.Disabled = v&boolPushDisabled != 0
		m.Push.ContentAvailable = v&boolContentAvailable != 0
		m.Push.HasBadge = v&boolHasBadge != 0
		m.Stream = v&boolStream != 0
	case bodyBadge:
		m.Push.Badge = int(protowire.DecodeZigZag(v))
	case bodyPriority:
		m.Priority = chat.Priority(v)
	case bodyCount:
		b.count = int(min(v, chat.MaxUIDBlock+1))
	case bodyEchoAt:
		b.echoAt = v
	}
}

func (b *body) setText(f protowire.Number, v []byte) {
	m := b.message
	switch f {
	case bodyFrom:
		m.From = string(v)
	case bodyType:
		m.Type = string(v)
	case bodyRequestID:
		m.RequestID = string(v)
	case bodyPushContent:
		m.Push.Content = string(v)
	case bodyPushData:
		m.Push.Data = string(v)
	case bodyPushExt:
		m.Push.Ext = string(v)
	case bodyPushMore:
		m.Push.More = string(v)
	case bodyContent:
		m.Content = string(v)
	}
}

func targetLen(t target) int {
	return protowire.SizeBytes(len(t.id)) + protowire.SizeVarint(t.offset)
}

func appendTarget(b []byte, t target) []byte {
	return protowire.AppendVarint(protowire.AppendString(b, t.id), t.offset)
}

func consumeTarget(b []byte) (t target, rest []byte, err error) {
	id, n := protowire.ConsumeBytes(b)
	if n < 0 {
		return t, nil, fmt.Errorf("%w: target", errRow)
	}
	b = b[n:]
	offset, n := protowire.ConsumeVarint(b)
	if n < 0 {
		return t, nil, fmt.Errorf("%w: target offset", errRow)
	}
	return target{string(id), offset}, b[n:], nil
}

// decodeTargets reads a targets row: one target after the other.
func decodeTargets(row []byte, count int) ([]target, error) {
	targets := make([]target, 0, min(count, len(row)/2))
	for len(row) > 0 {
		t, rest, err := consumeTarget(row)
		if err != nil {
			return nil, err
		}
		targets, row = append(targets, t), rest
	}
	if len(targets) != count {
		return nil, fmt.Errorf("%w: %d targets, want %d", errRow, len(targets), count)
	}
	return targets, nil
}

// An entry row is kind, index in the request's block, ref, peer.

func entryLen(index int, peer string) int {
	return 1 + protowire.SizeVarint(uint64(index)) + uidLen + len(peer)
}

func appendEntry(b []byte, kind store.EntryKind, index int, ref chat.UID, peer string) []byte {
	b = protowire.AppendVarint(append(b, byte(kind)), uint64(index))
	return append(append(b, ref[:]...), peer...)
}

func decodeEntry(row []byte) (e store.Entry, err error) {
	if len(row) == 0 {
		return e, fmt.Errorf("%w: entry", errRow)
	}
	e.Kind = store.EntryKind(row[0])
	index, n := protowire.ConsumeVarint(row[1:])
	if n < 0 || index >= chat.MaxUIDBlock || len(row) < 1+n+uidLen {
		return e, fmt.Errorf("%w: entry", errRow)
	}
	row = row[1+n:]
	e.Ref = chat.UID(row[:uidLen])
	e.UID = e.Ref.Plus(int(index))
	e.Peer = string(row[uidLen:])
	return e, nil
}

// A log row is the time, then app and UID of each request.

func appendLogRow(b []byte, at int64, refs []store.Ref) []byte {
	b = protowire.AppendVarint(b, uint64(at))
	for _, r := range refs {
		b = protowire.AppendVarint(b, uint64(r.App))
		b = append(b, r.UID[:]...)
	}
	return b
}

func decodeLogRow(row []byte) (rec store.LogRecord, err error) {
	at, n := protowire.ConsumeVarint(row)
	if n < 0 {
		return rec, fmt.Errorf("%w: log record", errRow)
	}
	rec.At = int64(at)
	for row = row[n:]; len(row) > 0; {
		app, n := protowire.ConsumeVarint(row)
		if n < 0 || app > 1<<32-1 || len(row) < n+uidLen {
			return rec, fmt.Errorf("%w: log record", errRow)
		}
		rec.Refs = append(rec.Refs, store.Ref{App: chat.AppID(app), UID: chat.UID(row[n : n+uidLen])})
		row = row[n+uidLen:]
	}
	return rec, nil
}

// A once row is the first UID, the request's hash and who was left out.

func appendOnce(b []byte, o *store.Once, first chat.UID) []byte {
	b = append(append(b, first[:]...), o.Body[:]...)
	for _, id := range o.Left {
		b = protowire.AppendString(b, id)
	}
	return b
}

func decodeOnce(row []byte) (*store.Once, error) {
	if len(row) < uidLen+16 {
		return nil, fmt.Errorf("%w: once", errRow)
	}
	o := &store.Once{First: chat.UID(row[:uidLen]), Body: [16]byte(row[uidLen : uidLen+16])}
	for row = row[uidLen+16:]; len(row) > 0; {
		id, n := protowire.ConsumeBytes(row)
		if n < 0 {
			return nil, fmt.Errorf("%w: once", errRow)
		}
		o.Left, row = append(o.Left, string(id)), row[n:]
	}
	return o, nil
}

// A headState is what is stored of a user's head.
type headState struct {
	offset uint64 // newest
	day    uint16 // of the newest
	first  uint64 // first offset of that day
}

// advance takes the next entry in.
func (h *headState) advance(offset uint64, day uint16) {
	if day != h.day || h.offset == 0 {
		h.day, h.first = day, offset
	}
	h.offset = offset
}

func appendHead(b []byte, h headState) []byte {
	b = binary.AppendUvarint(b, h.offset)
	b = binary.AppendUvarint(b, uint64(h.day))
	return binary.AppendUvarint(b, h.first)
}

func decodeHead(row []byte) (h headState, err error) {
	var v [3]uint64
	for i := range v {
		x, n := binary.Uvarint(row)
		if n <= 0 {
			return h, fmt.Errorf("%w: head", errRow)
		}
		v[i], row = x, row[n:]
	}
	if v[1] > 1<<16-1 {
		return h, fmt.Errorf("%w: head", errRow)
	}
	return headState{offset: v[0], day: uint16(v[1]), first: v[2]}, nil
}

// A history row is kind and index in the request's block; its UID stands in the
// key and gives the ref. A channel list row is an entry row without a peer.

// The bits that stand beside the kind in a history row of the recipient's.
const (
	rowCounted byte = 0x80 // counts as unread
	rowReceipt byte = 0x40 // its sender wants a receipt
	rowKind         = rowReceipt - 1
)

func appendHistory(b []byte, kind store.EntryKind, bits byte, index int) []byte {
	return protowire.AppendVarint(append(b, byte(kind)|bits), uint64(index))
}

func decodeHistory(row []byte, uid chat.UID) (h store.HistoryEntry, err error) {
	if len(row) == 0 {
		return h, fmt.Errorf("%w: history", errRow)
	}
	index, n := protowire.ConsumeVarint(row[1:])
	if n < 0 || index > uint64(uid.Counter()) {
		return h, fmt.Errorf("%w: history", errRow)
	}
	return store.HistoryEntry{UID: uid, Ref: uid.Plus(-int(index)), Kind: store.EntryKind(row[0] & rowKind)}, nil
}
