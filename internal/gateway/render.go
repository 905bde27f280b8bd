package gateway

import (
	"context"
	"errors"
	"hash/maphash"
	"strconv"
	"sync"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
)

// channelMe is the server-side subscription that is a user's timeline.
const channelMe = "me"

// The pieces of a publication of a message. What differs between recipients
// comes first, then what is rendered once per message.
const (
	pushMe    = `{"push":{"channel":"` + channelMe + `","pub":`
	pushEnd   = `}}`
	openEvent = `{"data":{"event":"message","message":`
	openM     = `{"messageUID":"`
	offsetKey = `,"offset":`

	keyChannel   = `","channelId":`
	directionIn  = `,"direction":"in"`
	directionOut = `,"direction":"out"`
)

// A body is the part of a message that all its recipients have in common, as
// it stands in their publications.
type body struct {
	// text is `","channelId":"<sender>","direction":"in",…`: all that follows
	// the UID for a recipient. A copy for the sender has its own beginning and
	// goes on at common.
	text   []byte
	common int

	// Of an event the text is the publication's data, and common where in it the
	// channel is named: -1 for nowhere.
	event   bool
	channel string

	// Of the end of a stream, whose entry stands for the message as a whole: that
	// message's UID.
	of *chat.UID
}

// render makes the body of a message that was sent at the given time. Absent
// is what is empty or false.
func render(m *chat.Message, sentAt int64, channel string) *body {
	if m.Event != nil {
		return renderEvent(m, channel)
	}
	b := make([]byte, 0, 256+len(m.Content)+len(m.Content)/8)
	b = append(b, keyChannel...)
	b = appendString(b, channel)
	b = append(b, directionIn...)
	common := len(b)
	b = append(b, `,"channelType":"`...)
	b = append(b, m.ChannelType.String()...)
	b = append(b, `","fromUserId":`...)
	b = appendString(b, m.From)
	b = append(b, `,"messageType":`...)
	b = appendString(b, m.Type)
	b = append(b, `,"content":`...)
	b = appendString(b, m.Content)
	b = append(b, `,"sentAt":`...)
	b = strconv.AppendInt(b, sentAt, 10)
	b = appendTrue(b, `,"shouldPersist":`, m.Persist)
	b = appendTrue(b, `,"hasMetadata":`, m.HasMetadata)
	if len(m.Metadata) > 0 {
		b = append(b, `,"metadata":`...)
		b = appendPairs(b, m.Metadata)
	}
	b = appendTrue(b, `,"needReadReceipt":`, m.NeedReadReceipt)
	b = appendTrue(b, `,"disableUpdateLastMsg":`, m.DisableUpdateLast)
	b = appendText(b, `,"pushContent":`, m.Push.Content)
	return &body{text: b, common: common}
}

// size bounds what appendTo appends.
func (b *body) size(peer string) int {
	return len(openEvent) + len(openM) + 19 + len(b.text) + 6*len(b.channel) + len(keyChannel) + 6*len(peer) + 2 + len(directionOut) + len("}}") + len(offsetKey) + 20 + 1
}

// appendTo appends the publication for one recipient: to the peer when the
// message is their own. Offset 0 is none.
func (b *body) appendTo(dst []byte, uid chat.UID, out bool, peer string, offset uint64) []byte {
	if b.event {
		dst = b.appendEventTo(dst, out, peer)
	} else {
		dst = append(dst, openEvent...)
		dst = b.appendMessage(dst, uid, out, peer)
		dst = append(dst, '}') // ends data
	}
	if offset > 0 {
		dst = append(dst, offsetKey...)
		dst = strconv.AppendUint(dst, offset, 10)
	}
	return append(dst, '}')
}

// appendMessage appends the message for one recipient.
func (b *body) appendMessage(dst []byte, uid chat.UID, out bool, peer string) []byte {
	dst = append(dst, openM...)
	if b.of != nil {
		uid = *b.of
	}
	dst = uid.Append(dst)
	if out {
		dst = append(dst, keyChannel...)
		dst = appendString(dst, peer)
		dst = append(dst, directionOut...)
		dst = append(dst, b.text[b.common:]...)
	} else {
		dst = append(dst, b.text...)
	}
	return append(dst, '}')
}

// appendGone stands for a message whose body is not kept any more, so that
// offsets have no hole.
func appendGone(dst []byte, uid chat.UID, offset uint64) []byte {
	dst = append(dst, `{"data":{"event":"gone","messageUID":"`...)
	dst = uid.Append(dst)
	dst = append(dst, `"},"offset":`...)
	dst = strconv.AppendUint(dst, offset, 10)
	return append(dst, '}')
}

// appendEntry appends the publication of a timeline entry. b is nil when the
// message is not kept any more.
func appendEntry(dst []byte, e *store.Entry, b *body) []byte {
	if b == nil {
		return appendGone(dst, e.UID, e.Offset)
	}
	return b.appendTo(dst, e.UID, e.Kind == store.EntryOut, e.Peer, e.Offset)
}

func entrySize(e *store.Entry, b *body) int {
	if b == nil {
		return 96
	}
	return b.size(e.Peer)
}

// body is the rendered body of a stored message, nil when that is not kept any
// more.
func (g *Gateway) body(ctx context.Context, ref chat.UID) (*body, error) {
	if b := g.bodies.get(ref); b != nil {
		return b, nil
	}
	m, err := g.opts.Store.Message(ctx, ref)
	if err != nil {
		if errors.Is(err, &chat.Error{Kind: chat.KindNotFound}) {
			return nil, nil
		}
		return nil, err
	}
	if m.Stream || m.Event != nil && m.Event.Kind == chat.EventStreamEnd {
		b, open, err := g.streamBody(ctx, ref, m)
		if b != nil && !open {
			g.bodies.put(ref, b)
		}
		return b, err
	}
	b := render(m, ref.Millis(), m.From)
	g.bodies.put(ref, b)
	return b, nil
}

// bodies keeps the rendered bodies of the messages that are being delivered: a
// message to a thousand people is rendered once. It is bounded by bytes; what
// was not asked for during two generations is gone, which needs no list to be
// kept in order.
type bodies struct {
	shards [bodyShards]bodyShard
}

const (
	bodyShards = 16
	// bodyBytes is what one generation of one shard may hold: 32 MiB in all.
	bodyBytes = 1 << 20
)

type bodyShard struct {
	mu       sync.Mutex // nothing is taken inside
	new, old map[chat.UID]*body
	bytes    int // in new
}

var bodySeed = maphash.MakeSeed()

func (bs *bodies) shard(ref chat.UID) *bodyShard {
	return &bs.shards[maphash.Comparable(bodySeed, ref)%bodyShards]
}

func (bs *bodies) get(ref chat.UID) *body {
	s := bs.shard(ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.new[ref]; b != nil {
		return b
	}
	b := s.old[ref]
	if b != nil {
		s.putLocked(ref, b)
	}
	return b
}

func (bs *bodies) put(ref chat.UID, b *body) {
	s := bs.shard(ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLocked(ref, b)
}

func (s *bodyShard) putLocked(ref chat.UID, b *body) {
	if s.new == nil || s.bytes > bodyBytes {
		s.old, s.new, s.bytes = s.new, map[chat.UID]*body{}, 0
	}
	s.new[ref] = b
	s.bytes += len(b.text) + 128
}

// The wire forms that a room's publication is kept in, made once for all who
// are in the room.
const (
	formIn  = iota // to others
	formOut        // to the sender's own sessions
)

func openForm(p *room.Publication, user string) []byte {
	if p.Message.From == user {
		return p.Form(formOut, renderOpenOut)
	}
	return p.Form(formIn, renderOpenIn)
}

func renderOpenIn(p *room.Publication) []byte  { return renderOpen(p, false) }
func renderOpenOut(p *room.Publication) []byte { return renderOpen(p, true) }

func renderOpen(p *room.Publication, out bool) []byte {
	b := render(p.Message, p.UID.Millis(), p.Channel)
	dst := make([]byte, 0, 64+6*len(p.Channel)+b.size(p.Channel))
	dst = appendOpenPush(dst, p.Channel)
	dst = b.appendTo(dst, p.UID, out, p.Channel, p.Offset)
	return append(dst, pushEnd...)
}

func appendOpenPush(dst []byte, channel string) []byte {
	dst = append(dst, `{"push":{"channel":`...)
	dst = appendString(dst, openPrefix+channel)
	return append(dst, `,"pub":`...)
}
