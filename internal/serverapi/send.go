package serverapi

import (
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// sendRequest is a send while it is read.
type sendRequest struct {
	m  *chat.Message
	to []string

	badge    int64
	hasBadge bool
	pairs    int // of metadata, also those that were not kept
}

// Fields that every kind of send has.
var (
	fromUserID    = fields.Text("fromUserId", func(q *sendRequest) *string { return &q.m.From })
	messageType   = fields.Text("messageType", func(q *sendRequest) *string { return &q.m.Type })
	content       = fields.Text("content", func(q *sendRequest) *string { return &q.m.Content })
	shouldPersist = fields.Switch("shouldPersist", func(q *sendRequest) *bool { return &q.m.Persist })

	pushContent          = fields.Text("pushContent", func(q *sendRequest) *string { return &q.m.Push.Content })
	pushData             = fields.Text("pushData", func(q *sendRequest) *string { return &q.m.Push.Data })
	pushExt              = fields.Text("pushExt", func(q *sendRequest) *string { return &q.m.Push.Ext })
	disablePush          = fields.Switch("disablePush", func(q *sendRequest) *bool { return &q.m.Push.Disabled })
	contentAvailable     = fields.Switch("contentAvailable", func(q *sendRequest) *bool { return &q.m.Push.ContentAvailable })
	disableUpdateLastMsg = fields.Switch("disableUpdateLastMsg", func(q *sendRequest) *bool { return &q.m.DisableUpdateLast })

	isEchoToSender = fields.Switch("isEchoToSender", func(q *sendRequest) *bool { return &q.m.Echo })
	// Some pages have the older name of the same switch.
	isSyncSender = fields.Switch("isSyncSender", func(q *sendRequest) *bool { return &q.m.Echo })
)

// directFields are those of the page "Send a direct message".
var directFields = fields.NewTable(directList...)

var directList = []fields.Field[sendRequest]{
	fromUserID,
	fields.Texts("toUserIds", chat.MaxDirectRecipients, func(q *sendRequest) *[]string { return &q.to }),
	messageType, content, pushContent, pushData, isEchoToSender, isSyncSender,
	fields.Field[sendRequest]{Name: "count", Read: func(r *fields.Reader, q *sendRequest) (err error) {
		q.badge, err = r.Int()
		q.hasBadge = true
		if err == nil && (q.badge < chat.MinBadge || q.badge > chat.MaxBadge) {
			err = chat.Invalidf("", "from %d to %d, got %d", chat.MinBadge, chat.MaxBadge, q.badge)
		}
		return err
	}},
	fields.Switch("verifyBlocklist", func(q *sendRequest) *bool { return &q.m.VerifyBlocklist }),
	shouldPersist, contentAvailable,
	fields.Switch("hasMetadata", func(q *sendRequest) *bool { return &q.m.HasMetadata }),
	fields.Field[sendRequest]{Name: "metadata", Read: func(r *fields.Reader, q *sendRequest) error {
		q.m.Metadata = make(map[string]string)
		return r.Map(func(name, value string) {
			// Pairs past the limit are counted, for the error, but not kept.
			if q.pairs++; q.pairs <= chat.MaxMetadataPerSend {
				q.m.Metadata[name] = value
			}
		})
	}},
	disablePush, pushExt, disableUpdateLastMsg,
	fields.Switch("needReadReceipt", func(q *sendRequest) *bool { return &q.m.NeedReadReceipt }),
}

// systemFields are those of the page "Send a system channel message".
var systemFields = fields.NewTable(
	fromUserID,
	fields.Texts("toUserIds", chat.MaxSystemRecipients, func(q *sendRequest) *[]string { return &q.to }),
	messageType, content, pushContent, pushData, shouldPersist, contentAvailable,
	disablePush, pushExt, disableUpdateLastMsg,
)

// openFields are those of the page "Send an open channel message".
var openFields = fields.NewTable(
	fromUserID,
	fields.Texts("toChannelIds", chat.MaxOpenChannels, func(q *sendRequest) *[]string { return &q.to }),
	messageType, content, shouldPersist, isEchoToSender, isSyncSender,
	fields.Field[sendRequest]{Name: "priority", Read: func(r *fields.Reader, q *sendRequest) error {
		p, err := r.IntOf(int64(chat.PriorityStandard), int64(chat.PriorityAllowlisted), int64(chat.PriorityHigh), int64(chat.PriorityLow))
		q.m.Priority = chat.Priority(p)
		return err
	}},
)

func sendDirect(c *call) error { return send(c, chat.Direct, directFields, `{"userId":`) }
func sendSystem(c *call) error { return send(c, chat.System, systemFields, `{"userId":`) }
func sendOpen(c *call) error   { return send(c, chat.Open, openFields, `{"channelId":`) }

func send(c *call, ct chat.ChannelType, t *fields.Table[sendRequest], target string) error {
	q := &c.sendRequest
	// The message outlives the call, so it is not of the pool.
	q.m = &chat.Message{App: c.app.ID, ChannelType: ct, Origin: chat.FromServer, RequestID: c.id, Persist: true}
	if err := decode(c, t, q); err != nil {
		return err
	}
	if err := q.settle(); err != nil {
		return err
	}
	sent, err := c.api.courier.Send(c.r.Context(), c.app, &courier.Send{Message: q.m, Targets: q.to, Claim: c.claim})
	if err != nil {
		return err
	}
	if sent.Repeated {
		c.w.Header()["Idempotency-Replayed"] = replayed
	}
	c.out = appendSent(c.out, sent, target)
	return nil
}

// settle applies what depends on several fields.
func (q *sendRequest) settle() error {
	if !q.m.HasMetadata {
		q.m.Metadata = nil
	} else if q.pairs > chat.MaxMetadataPerSend {
		return chat.Invalidf("metadata", "at most %d pairs, got %d", chat.MaxMetadataPerSend, q.pairs)
	}
	// count is effective only with a single recipient, however often named.
	if q.hasBadge && len(q.to) > 0 {
		q.m.Push.HasBadge = true
		for _, id := range q.to[1:] {
			q.m.Push.HasBadge = q.m.Push.HasBadge && id == q.to[0]
		}
		if q.m.Push.HasBadge {
			q.m.Push.Badge = int(q.badge)
		}
	}
	return nil
}

// appendSent appends the answer to a send: the ids under the name the pages
// print, and again under the one official SDKs read.
func appendSent(b []byte, sent *courier.Sent, target string) []byte {
	b = append(b, `{"code":0,"result":{"messageUIDs":[`...)
	b = appendPlaced(b, sent.Placed, target, `,"messageUID":"`)
	b = append(b, `],"messageIds":[`...)
	b = appendPlaced(b, sent.Placed, target, `,"messageId":"`)
	b = append(b, ']')
	if len(sent.Shed) > 0 {
		b = append(b, `,"shed":[`...)
		for i, s := range sent.Shed {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"channelId":`...)
			b = appendQuoted(b, s.Channel)
			b = append(b, `,"reason":`...)
			b = appendQuoted(b, s.Reason)
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	return append(b, `}}`...)
}

func appendPlaced(b []byte, placed []courier.Placement, target, id string) []byte {
	for i := range placed {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, target...)
		b = appendQuoted(b, placed[i].Target)
		b = append(b, id...)
		b = placed[i].UID.Append(b)
		b = append(b, `"}`...)
	}
	return b
}
