package pebble

import (
	"encoding/binary"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// The key spaces: the first byte of every key. They are stored; never reuse one.
const (
	spaceMeta     = 0x01 // name
	spaceApp      = 0x02 // app(4)
	spaceUser     = 0x03 // app(4) user
	spaceDevice   = 0x04 // app(4) len(1) user, device
	spaceHead     = 0x05 // app(4) user
	spaceTimeline = 0x06 // day(2) app(4) len(1) user, offset(8)
	spaceBody     = 0x07 // life(1) uid(10)
	spaceTargets  = 0x08 // life(1) uid(10)
	spaceLog      = 0x09 // seq(8)
	spaceOnce     = 0x0a // day(2) key(16)
	spaceHistory  = 0x0b // life(1) month(2) app(4) len(1) owner, type(1) len(1) channel, uid(10)
	spaceChannel  = 0x0c // app(4) len(1) user, type(1) channel
	spaceMark     = 0x0d // consumer
	spaceState    = 0x0e // app(4) state(1) order(8) user
	spaceBlock    = 0x0f // app(4) len(1) user, other
	spacePlace    = 0x10 // app(4) len(1) user, place(8)
	spaceBlocker  = 0x11 // app(4) len(1) other, user

	spaceOverlay = 0x18 // life(1) uid(10) part(1), of a pair its key
	spaceDue     = 0x19 // due(8) app(4) uid(10)

	spaceView   = 0x30 // app(4) len(1) owner, type(1) channel; of type 0 and no channel the owner's preferences
	spaceMarked = 0x31 // life(1) month(2) app(4) len(1) owner, type(1) len(1) channel, uid(10) mark(1)

	spaceFact    = 0x38 // app(4) kind(1) len(1) channel, key
	spaceOpenDue = 0x39 // due(8) app(4) channel

	spacePushDevice     = 0x40 // app(4) len(1) user, device
	spacePushToken      = 0x41 // app(4) provider(1) hash of the token(32)
	spacePushCredential = 0x42 // app(4) provider(1) environment(1) package
	spacePushTemplate   = 0x43 // app(4) id

	spacePushJob     = 0x48 // app(4) provider(1) environment(1) len(1) package, priority(1) due(8) uid(10) len(1) user, device
	spacePushHalt    = 0x49 // app(4) provider(1) environment(1) package
	spacePushOutcome = 0x4a // day(2) uid(10) device
	spacePushReasons = 0x4b // day(2) ref(10)
	spacePushLook    = 0x4c // due(8) ref(10)
	spacePushShown   = 0x4d // app(4) len(1) user, type(1) channel
	spacePushPass    = 0x4e // uid of the broadcast(10); of no broadcast, which is the newest that has had a pass
)

// A life says how long a body must live. It stands before the UID in the key,
// so that each life is dropped by time with one range delete.
type life byte

const (
	lifeMissed  life = 1 // as long as missed messages wait
	lifeHistory life = 2 // as long as history of direct and system channels
	lifeOpen    life = 3 // as long as history of open channels
)

var lives = [...]life{lifeHistory, lifeMissed, lifeOpen}

func lifeOf(ct chat.ChannelType, history bool) life {
	switch {
	case !history:
		return lifeMissed
	case ct == chat.Open:
		return lifeOpen
	}
	return lifeHistory
}

// livesOf are the lives a body of channel type ct can have, likeliest first.
func livesOf(ct chat.ChannelType) [2]life {
	if ct == chat.Open {
		return [2]life{lifeOpen, lifeMissed}
	}
	return [2]life{lifeHistory, lifeMissed}
}

const (
	uidLen      = len(chat.UID{})
	bodyKeyLen  = 1 + 1 + uidLen
	onceKeyLen  = 1 + 2 + 16
	logKeyLen   = 1 + 8
	dayMillis   = 24 * 60 * 60 * 1000
	maxIDLength = 255 // ids stand in keys behind one length byte
)

// dayOf is the UTC day number of a time in Unix milliseconds.
func dayOf(ms int64) uint16 { return uint16(max(ms, 0) / dayMillis) }

// monthOf is the UTC month number of a time in Unix milliseconds.
func monthOf(ms int64) uint16 {
	t := time.UnixMilli(ms).UTC()
	return uint16(t.Year()*12 + int(t.Month()) - 1)
}

// dayBefore is the day n days before day, not below the first.
func dayBefore(day uint16, n int) uint16 {
	return uint16(max(int(day)-n, 0))
}

func metaKey(name string) []byte { return append([]byte{spaceMeta}, name...) }
func markKey(name string) []byte { return append([]byte{spaceMark}, name...) }

func appKey(id chat.AppID) []byte {
	return binary.BigEndian.AppendUint32([]byte{spaceApp}, uint32(id))
}

func appendUserKey(dst []byte, space byte, app chat.AppID, user string) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, space), uint32(app))
	return append(dst, user...)
}

// appendLong writes an id behind its length, so that no id is the beginning of
// another one.
func appendLong(dst []byte, id string) []byte {
	return append(append(dst, byte(len(id))), id...)
}

// appendOwnPrefix begins the keys of rows that a user has any number of.
func appendOwnPrefix(dst []byte, space byte, app chat.AppID, user string) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, space), uint32(app))
	return appendLong(dst, user)
}

func appendStatePrefix(dst []byte, app chat.AppID, state store.UserState) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, spaceState), uint32(app))
	return append(dst, byte(state))
}

func appendStateKey(dst []byte, app chat.AppID, state store.UserState, order uint64, user string) []byte {
	return append(binary.BigEndian.AppendUint64(appendStatePrefix(dst, app, state), order), user...)
}

func appendDevicePrefix(dst []byte, app chat.AppID, user string) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, spaceDevice), uint32(app))
	return appendLong(dst, user)
}

func timelineKeyLen(user string) int { return 1 + 2 + 4 + 1 + len(user) + 8 }

func appendTimelinePrefix(dst []byte, day uint16, app chat.AppID, user string) []byte {
	dst = binary.BigEndian.AppendUint16(append(dst, spaceTimeline), day)
	dst = binary.BigEndian.AppendUint32(dst, uint32(app))
	return appendLong(dst, user)
}

func appendTimelineKey(dst []byte, day uint16, app chat.AppID, user string, offset uint64) []byte {
	return binary.BigEndian.AppendUint64(appendTimelinePrefix(dst, day, app, user), offset)
}

func timelineDay(day uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{spaceTimeline}, day)
}

// appendBodyKey is the key of a body, or with spaceTargets of its targets.
func appendBodyKey(dst []byte, space byte, l life, uid chat.UID) []byte {
	return append(append(dst, space, byte(l)), uid[:]...)
}

func appendLogKey(dst []byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, spaceLog), seq)
}

func appendOnceKey(dst []byte, day uint16, key [16]byte) []byte {
	dst = binary.BigEndian.AppendUint16(append(dst, spaceOnce), day)
	return append(dst, key[:]...)
}

func appendHistoryPrefix(dst []byte, month uint16, ch *store.ChannelRef) []byte {
	return appendLifePrefix(dst, lifeOf(ch.Type, true), month, ch)
}

// appendLifePrefix is appendHistoryPrefix for any life: under lifeMissed are
// messages that count as unread, or want a receipt, and are not in history.
func appendLifePrefix(dst []byte, l life, month uint16, ch *store.ChannelRef) []byte {
	dst = append(dst, spaceHistory, byte(l))
	dst = binary.BigEndian.AppendUint16(dst, month)
	dst = binary.BigEndian.AppendUint32(dst, uint32(ch.App))
	dst = appendLong(dst, ch.Owner)
	return appendLong(append(dst, byte(ch.Type)), ch.Channel)
}

func appendChannelPrefix(dst []byte, app chat.AppID, user string) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, spaceChannel), uint32(app))
	return appendLong(dst, user)
}

// quietType stands in the key in place of a channel's type: the row is that of
// its newest message that counts as unread and did not become the last one.
const quietType = 0x80

func appendChannelKey(dst []byte, app chat.AppID, user string, ct chat.ChannelType, channel string) []byte {
	return append(append(appendChannelPrefix(dst, app, user), byte(ct)), channel...)
}

// after is the smallest key that is greater than every key with this prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
