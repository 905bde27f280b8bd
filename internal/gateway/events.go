package gateway

import (
	"maps"
	"slices"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
)

// renderEvent makes the body of a message that carries an event. Where the event
// names the channel, it goes between the two parts of the text, as each sees it.
func renderEvent(m *chat.Message, channel string) *body {
	e := m.Event
	switch e.Kind {
	case chat.EventReceipt, chat.EventRead, chat.EventDelete:
		return renderReading(m)
	}
	b := append(make([]byte, 0, 256+len(e.Content)), `{"data":{"event":"`...)
	b = append(b, e.Kind.String()...)
	if e.Room != nil {
		return &body{event: true, common: -1, text: append(appendRoomNews(append(b, '"'), e), '}')}
	}
	if e.Kind == chat.EventChannel {
		return &body{event: true, common: -1, text: append(appendOwn(append(b, '"'), e), '}')}
	}
	if e.Kind == chat.EventTyping {
		return renderTyping(b, m, channel)
	}
	b = append(b, `","messageUID":"`...)
	b = e.UID.Append(b)
	b = append(b, '"')
	out := &body{event: true, channel: channel, common: -1}
	switch e.Kind {
	case chat.EventRecall:
		b = append(b, `,"channelType":"`...)
		b = append(b, m.ChannelType.String()...)
		b = append(b, `","channelId":`...)
		out.common = len(b)
		b = append(b, `,"operatorId":`...)
		b = appendString(b, e.Operator)
		b = appendTrue(b, `,"isAdmin":`, e.Admin)
		b = appendTrue(b, `,"isDelete":`, e.Delete)
		b = appendText(b, `,"extra":`, e.Extra)
		b = append(b, `,"recalledAt":`...)
	case chat.EventUpdate:
		b = append(b, `,"content":`...)
		b = appendString(b, e.Content)
		b = append(b, `,"updatedAt":`...)
	case chat.EventStream:
		b = append(b, `,"seq":`...)
		b = strconv.AppendUint(b, e.Seq, 10)
		b = append(b, `,"content":`...)
		b = appendString(b, e.Content)
		// The last chunk comes as the finished message, in the timeline.
		out.text = append(b, `,"complete":false}`...)
		return out
	case chat.EventMetadata:
		if len(e.Set) > 0 {
			b = append(b, `,"set":`...)
			b = appendPairs(b, e.Set)
		}
		for i, k := range e.Removed {
			if i == 0 {
				b = append(b, `,"removed":[`...)
			} else {
				b = append(b, ',')
			}
			b = appendString(b, k)
		}
		if len(e.Removed) > 0 {
			b = append(b, ']')
		}
		b = append(b, `,"operatorId":`...)
		b = appendString(b, e.Operator)
		b = append(b, `,"updatedAt":`...)
	default: // of a later version
		out.text = append(b, '}')
		return out
	}
	b = strconv.AppendInt(b, e.At, 10)
	out.text = append(b, '}')
	return out
}

// appendEventTo appends the publication's data of an event for one recipient.
func (b *body) appendEventTo(dst []byte, out bool, peer string) []byte {
	if b.common < 0 {
		return append(dst, b.text...)
	}
	dst = append(dst, b.text[:b.common]...)
	if !out {
		peer = b.channel
	}
	dst = appendString(dst, peer)
	return append(dst, b.text[b.common:]...)
}

func appendPairs(b []byte, pairs map[string]string) []byte {
	b = append(b, '{')
	for i, k := range slices.Sorted(maps.Keys(pairs)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, k)
		b = append(b, ':')
		b = appendString(b, pairs[k])
	}
	return append(b, '}')
}
