package gateway

import (
	"strconv"

	"github.com/parleychat/parley/internal/chat"
)

// appendRoomNews appends what those in an open channel are told of it.
func appendRoomNews(b []byte, e *chat.Event) []byte {
	n := e.Room
	number := func(key string, v int64) {
		b = strconv.AppendInt(append(b, key...), v, 10)
	}
	texts := func(key string, list []string) {
		for i, s := range list {
			b = append(b, ',')
			if i == 0 {
				b = append(b[:len(b)-1], key...)
			}
			b = appendString(b, s)
		}
		if len(list) > 0 {
			b = append(b, ']')
		}
	}
	switch e.Kind {
	case chat.EventParticipants:
		number(`,"participantCount":`, int64(n.Count))
		number(`,"enteredCount":`, int64(n.EnteredCount))
		number(`,"leftCount":`, int64(n.LeftCount))
		sep := `,"entered":[`
		for _, c := range n.Entered {
			b = appendString(append(append(b, sep...), `{"userId":`...), c.User)
			b = append(appendText(b, `,"extra":`, c.Extra), '}')
			sep = ","
		}
		if sep == "," {
			b = append(b, ']')
		}
		texts(`,"left":[`, n.Left)
	case chat.EventShed:
		for class, count := range n.Shed {
			if count > 0 {
				number(`,"`+chat.Priority(class).String()+`":`, int64(count))
			}
		}
	case chat.EventPairs:
		if len(e.Set) > 0 {
			b = appendPairs(append(b, `,"set":`...), e.Set)
		}
		texts(`,"removed":[`, e.Removed)
		b = appendString(append(b, `,"userId":`...), e.Operator)
		b = appendText(b, `,"extra":`, n.Extra)
	case chat.EventMute, chat.EventFreeze, chat.EventBan, chat.EventAllow:
		b = strconv.AppendBool(append(b, `,"on":`...), n.On)
		texts(`,"userIds":[`, n.Users)
		if n.Until != 0 {
			number(`,"until":`, n.Until)
		}
		b = appendTrue(b, `,"all":`, n.All)
		b = appendText(b, `,"extra":`, n.Extra)
	}
	number(`,"at":`, e.At)
	return b
}
