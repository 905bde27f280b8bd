package pebble

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"google.golang.org/protobuf/encoding/protowire"
)

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
	user, device := ids[:rest[at]], ids[rest[at]:]
	if checkPushID("", user) != nil || checkPushID("", device) != nil {
		return fmt.Errorf("%w: push job key", errRow)
	}
	j.User, j.Device = user, device
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
