package serverapi

import (
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/fields"
	"github.com/parleychat/parley/internal/push"
)

// broadcastAllFields are those of the page system/send-message-broadcast-to-all,
// broadcastOnlineFields those of system/send-message-broadcast-online.
var (
	broadcastAllFields = fields.NewTable(
		fromUserID, messageType, content, pushContent, pushData, contentAvailable, pushExt, disableUpdateLastMsg,
	)
	broadcastOnlineFields = fields.NewTable(fromUserID, messageType, content, disableUpdateLastMsg)
)

func broadcastAll(c *call) error { return broadcastTo(c, chat.BroadcastAll, broadcastAllFields) }
func broadcastOnline(c *call) error {
	return broadcastTo(c, chat.BroadcastOnline, broadcastOnlineFields)
}

func broadcastTo(c *call, k chat.BroadcastKind, t *fields.Table[sendRequest]) error {
	q := sendRequest{m: c.newBroadcast()}
	if err := decode(c, t, &q); err != nil {
		return err
	}
	return c.broadcast(&courier.BroadcastRequest{Kind: k, Message: q.m})
}

func (c *call) newBroadcast() *chat.Message {
	return &chat.Message{App: c.app.ID, ChannelType: chat.System, Origin: chat.FromServer, RequestID: c.id}
}

func (c *call) broadcast(q *courier.BroadcastRequest) error {
	q.Claim = c.claim
	sent, err := c.api.courier.Broadcast(c.r.Context(), c.app, q)
	if err != nil {
		return err
	}
	if sent.Repeated {
		c.w.Header()["Idempotency-Replayed"] = replayed
	}
	b := append(c.out, `{"code":0,"result":{`...)
	uid := sent.Placed[0].UID
	if q.Kind == chat.BroadcastTag || q.Kind == chat.BroadcastPackage {
		b = append(uid.Append(append(b, `"id":"`...)), `",`...)
	}
	b = append(uid.Append(append(b, `"messageUID":"`...)), `",`...)
	b = append(uid.Append(append(b, `"messageId":"`...)), '"')
	if len(q.Users) > 0 {
		b = append(b, `,"messageUIDs":[`...)
		b = appendPlaced(b, sent.Placed, `{"userId":`, `,"messageUID":"`)
		b = append(b, `],"messageIds":[`...)
		b = appendPlaced(b, sent.Placed, `{"userId":`, `,"messageId":"`)
		b = append(b, ']')
	}
	c.out = append(b, `}}`...)
	return nil
}

// recallBroadcastFields are those of the page
// system/recall-message-broadcast-to-all.
var recallBroadcastFields = fields.NewTable(
	fields.Text("fromUserId", func(q *recallRequest) *string { return &q.From }),
	fields.Text("messageUID", func(q *recallRequest) *string { return &q.uid }),
	fields.Text("messageId", func(q *recallRequest) *string { return &q.uid }),
	wholeNumber("sentAt", func(q *recallRequest) *int64 { return &q.sentAt }),
	fields.Switch("isAdmin", func(q *recallRequest) *bool { return &q.admin }),
	fields.Text("extra", func(q *recallRequest) *string { return &q.extra }),
	fields.Switch("disableUpdateLastMsg", func(q *recallRequest) *bool { return &q.disableUpdate }),
)

func recallBroadcast(c *call) error {
	var q recallRequest
	if err := decode(c, recallBroadcastFields, &q); err != nil {
		return err
	}
	if err := chat.CheckID("fromUserId", q.From); err != nil {
		return err
	}
	s, err := q.read(c.id)
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.courier.RecallBroadcast(c.r.Context(), c.app, &courier.BroadcastRecallRequest{
		UID: s.UID, From: s.From, RequestID: c.id, Admin: q.admin, Extra: q.extra, DisableUpdateLast: q.disableUpdate,
	}); err != nil {
		return err
	}
	c.done()
	return nil
}

// A pushRequest is a send by tags or by app package.
type pushRequest struct {
	from      string
	platforms []string
	audience  audienceRequest
	message   pushedMessage
	notice    notification

	// Which of the objects were there.
	hasAudience, hasMessage, hasNotice bool
}

type audienceRequest struct {
	users, all, any []string
	pack            string
	toAll           bool
}

type pushedMessage struct {
	kind, content string
	disableUpdate bool
}

type notification struct {
	title, alert            string
	forceShow               bool
	ios, android, harmonyOS jsontext.Value
}

const (
	maxPlatforms    = 20
	maxPlatformName = 32       // characters
	maxNotification = 32 << 10 // bytes of the providers' objects together, as of pushExt
	maxPackageName  = 128      // bytes, as connections may give
)

// pushFields are those of the pages system/send-push-by-tag and
// send-push-by-package.
var (
	audienceFields = fields.NewTable(
		fields.Texts("userId", courier.MaxAudienceUsers, func(a *audienceRequest) *[]string { return &a.users }),
		fields.Texts("tag", courier.MaxAudienceTags, func(a *audienceRequest) *[]string { return &a.all }),
		fields.Texts("tagOr", courier.MaxAudienceTags, func(a *audienceRequest) *[]string { return &a.any }),
		fields.Text("packageName", func(a *audienceRequest) *string { return &a.pack }),
		fields.Switch("isToAll", func(a *audienceRequest) *bool { return &a.toAll }),
	)
	pushedFields = fields.NewTable(
		fields.Text("messageType", func(m *pushedMessage) *string { return &m.kind }),
		fields.Text("content", func(m *pushedMessage) *string { return &m.content }),
		fields.Switch("disableUpdateLastMsg", func(m *pushedMessage) *bool { return &m.disableUpdate }),
	)
	noticeFields = fields.NewTable(
		fields.Text("title", func(n *notification) *string { return &n.title }),
		fields.Switch("forceShowPushContent", func(n *notification) *bool { return &n.forceShow }),
		fields.Text("alert", func(n *notification) *string { return &n.alert }),
		fields.Raw("ios", func(n *notification) *jsontext.Value { return &n.ios }),
		fields.Raw("android", func(n *notification) *jsontext.Value { return &n.android }),
		fields.Raw("harmonyOS", func(n *notification) *jsontext.Value { return &n.harmonyOS }),
	)
	pushFields = fields.NewTable(
		fields.Texts("platform", maxPlatforms, func(q *pushRequest) *[]string { return &q.platforms }),
		fields.Text("fromUserId", func(q *pushRequest) *string { return &q.from }),
		within("audience", audienceFields, func(q *pushRequest) (*audienceRequest, *bool) { return &q.audience, &q.hasAudience }),
		within("message", pushedFields, func(q *pushRequest) (*pushedMessage, *bool) { return &q.message, &q.hasMessage }),
		within("notification", noticeFields, func(q *pushRequest) (*notification, *bool) { return &q.notice, &q.hasNotice }),
	)
)

// within is a field that holds an object, and notes that it is there.
func within[T, U any](name string, t *fields.Table[U], at func(*T) (*U, *bool)) fields.Field[T] {
	f := fields.Object(name, t, func(v *T) *U { u, _ := at(v); return u })
	read := f.Read
	f.Read = func(r *fields.Reader, v *T) error {
		_, has := at(v)
		*has = true
		return read(r, v)
	}
	return f
}

func sendByTag(c *call) error     { return sendPush(c, chat.BroadcastTag) }
func sendByPackage(c *call) error { return sendPush(c, chat.BroadcastPackage) }

func sendPush(c *call, k chat.BroadcastKind) error {
	var q pushRequest
	if err := decode(c, pushFields, &q); err != nil {
		return err
	}
	out := &courier.BroadcastRequest{Kind: k, Message: c.newBroadcast()}
	if err := q.settle(out); err != nil {
		return err
	}
	err := c.broadcast(out)
	// The message's own rules are one for all doors and know no nesting.
	if e, ok := err.(*chat.Error); ok && (e.Field == "messageType" || e.Field == "content") {
		return fields.Within("message", err)
	}
	return err
}

// settle checks what is there and puts it where it belongs.
func (q *pushRequest) settle(out *courier.BroadcastRequest) error {
	for _, f := range [...]struct {
		name string
		has  bool
	}{
		{"platform", len(q.platforms) > 0}, {"fromUserId", q.from != ""}, {"audience", q.hasAudience},
		{"message", q.hasMessage}, {"notification", q.hasNotice},
	} {
		if !f.has {
			return chat.Invalid(f.name, "is required")
		}
	}
	for _, p := range q.platforms {
		if n := utf8.RuneCountInString(p); n == 0 || n > maxPlatformName {
			return chat.Invalidf("platform", "names of 1 to %d characters, got one of %d", maxPlatformName, n)
		}
	}
	if err := q.audience.settle(out); err != nil {
		return fields.Within("audience", err)
	}
	if out.Audience.Package != "" {
		out.Audience.Platforms = q.platforms
	}
	m := out.Message
	m.From, m.Type, m.Content, m.DisableUpdateLast = q.from, q.message.kind, q.message.content, q.message.disableUpdate
	platforms := q.platforms
	if len(out.Users) > 0 {
		platforms = nil // whoever is named is told wherever they are
	}
	if err := q.notice.settle(&m.Push, platforms); err != nil {
		return fields.Within("notification", err)
	}
	return nil
}

// settle says whom the audience is.
func (a *audienceRequest) settle(out *courier.BroadcastRequest) error {
	for _, l := range [...]struct {
		name string
		tags []string
	}{{"tag", a.all}, {"tagOr", a.any}} {
		for _, tag := range l.tags {
			if err := directory.CheckTag(l.name, tag); err != nil {
				return err
			}
		}
	}
	if n := len(a.pack); n > maxPackageName {
		return chat.TooLong("packageName", maxPackageName, n, "bytes")
	}
	if out.Kind == chat.BroadcastPackage {
		switch {
		case a.pack == "":
			return chat.Invalid("packageName", "is required")
		case len(a.users) > 0:
			return chat.Invalid("userId", "cannot be given beside packageName")
		}
	}
	switch {
	case len(a.users) > 0:
		out.Users = a.users
	case a.pack == "" && a.toAll:
	case a.pack == "" && len(a.all)+len(a.any) == 0:
		return chat.Invalid("", "one of userId, tag, tagOr, packageName and isToAll is required")
	default:
		out.Audience = chat.Audience{AllTags: a.all, AnyTag: a.any, Package: a.pack}
	}
	return nil
}

// settle turns the notification into what sends say of theirs. What has no place
// there is kept beside it, as it came.
func (n *notification) settle(p *chat.PushOptions, platforms []string) error {
	if got := utf8.RuneCountInString(n.title); got > courier.MaxPushTitle {
		return chat.TooLong("title", courier.MaxPushTitle, got, "characters")
	}
	if got := len(n.alert); got > chat.MaxPushText {
		return chat.TooLong("alert", chat.MaxPushText, got, "bytes")
	}
	p.Content = n.alert
	if n.title != "" || n.forceShow {
		b := []byte(`{`)
		if n.title != "" {
			b = appendQuoted(append(b, `"title":`...), n.title)
			b = append(b, ',')
		}
		force := `"forceShowPushContent":0}`
		if n.forceShow {
			force = `"forceShowPushContent":1}`
		}
		p.Ext = string(append(b, force...))
	}
	more := []byte(`{"platform":[`)
	for i, name := range platforms {
		if i > 0 {
			more = append(more, ',')
		}
		more = appendQuoted(more, strings.ToValidUTF8(name, "\uFFFD"))
	}
	more = append(more, ']')
	size := 0
	for _, o := range [...]struct {
		name string
		text jsontext.Value
	}{{"ios", n.ios}, {"android", n.android}, {"harmonyOS", n.harmonyOS}} {
		if len(o.text) == 0 {
			continue
		}
		if size += len(o.text); size > maxNotification {
			return chat.TooLong(o.name, maxNotification, size, "bytes together with the other platforms' objects")
		}
		more = appendQuoted(append(more, ','), o.name)
		more = append(append(more, ':'), o.text...)
	}
	p.More = string(append(more, '}'))
	ext, err := new(push.Ext).WithPlatforms(p.More)
	if err != nil {
		return err
	}
	p.ContentAvailable = ext.IOS.ContentAvailable
	return nil
}
