package serverapi

import (
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/dispatch"
)

// maxPreviewed is how many recipients are previewed at once. Each has devices, and
// each of these is told in some kilobytes.
const maxPreviewed = 100

// previewFields are those of a direct message, for fewer recipients, and which kind
// of send it is to be.
var previewFields = fields.NewTable(append(previewedDirect(),
	fields.Field[sendRequest]{Name: "channelType", Read: func(r *fields.Reader, q *sendRequest) error {
		t, err := r.IntOf(int64(chat.Direct), int64(chat.System))
		q.m.ChannelType = chat.ChannelType(t)
		return err
	}},
)...)

func previewedDirect() []fields.Field[sendRequest] {
	list := slices.Clone(directList)
	for i := range list {
		if list[i].Name == "toUserIds" {
			list[i] = fields.Texts("toUserIds", maxPreviewed, func(q *sendRequest) *[]string { return &q.to })
		}
	}
	return list
}

func previewPush(c *call) error {
	q := &c.sendRequest
	q.m = &chat.Message{App: c.app.ID, ChannelType: chat.Direct, Origin: chat.FromServer, RequestID: c.id, Persist: true}
	if err := decode(c, previewFields, q); err != nil {
		return err
	}
	if q.m.ChannelType == chat.System {
		q.hasBadge = false // system messages have no count
	}
	if err := q.settle(); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	to, left, err := c.api.courier.Vet(c.r.Context(), c.app, &courier.Send{Message: q.m, Targets: q.to})
	if err != nil {
		return err
	}
	list, err := c.api.pushes.Preview(c.r.Context(), c.app, q.m, to)
	if err != nil {
		return err
	}
	c.out = appendPreviews(c.out, q.m.ChannelType, list, left)
	return nil
}

func appendPreviews(b []byte, t chat.ChannelType, list []dispatch.Preview, left []string) []byte {
	b = append(b, `{"code":0,"result":{"channelType":"`...)
	b = append(b, t.String()...)
	b = append(b, `","recipients":[`...)
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		p := &list[i]
		b = append(b, `{"userId":`...)
		b = appendQuoted(b, p.User)
		b = append(b, `,"connected":`...)
		b = strconv.AppendBool(b, p.Connected)
		b = appendDecided(b, p.Effect, p.Reason)
		b = append(b, `,"devices":[`...)
		for k := range p.Devices {
			if k > 0 {
				b = append(b, ',')
			}
			b = appendDevicePreview(b, &p.Devices[k])
		}
		b = append(b, `]}`...)
	}
	b = append(b, `],"leftOut":[`...)
	for i, user := range left {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"userId":`...)
		b = appendQuoted(b, user)
		b = append(b, `,"reason":"blocklist"}`...)
	}
	return append(b, `]}}`...)
}

func appendDecided(b []byte, effect push.Effect, reason push.Reason) []byte {
	b = append(b, `,"effect":"`...)
	b = append(b, effect.String()...)
	b = append(b, `","reason":"`...)
	b = append(b, reason.String()...)
	return append(b, '"')
}

func appendDevicePreview(b []byte, p *dispatch.DevicePreview) []byte {
	text := func(name, value string) {
		if value != "" {
			b = append(b, name...)
			b = appendQuoted(b, value)
		}
	}
	d := &p.Device
	text(`{"deviceId":`, d.ID)
	text(`,"provider":`, d.Provider.String())
	text(`,"token":`, d.Token) // as much of it as may be shown
	text(`,"package":`, d.Package)
	text(`,"environment":`, d.Environment.String())
	text(`,"language":`, d.Language)
	b = appendDecided(b, p.Effect, p.Reason)
	if p.Effect == push.None {
		return append(b, '}')
	}
	b = append(b, `,"credential":{"provider":"`...)
	b = append(b, p.Lane.Provider.String()...)
	b = append(b, '"')
	text(`,"package":`, p.Lane.Package)
	if p.Lane.Provider != chat.WEB { // whose lanes are more than its credentials
		text(`,"environment":`, p.Lane.Environment.String())
	}
	b = append(b, '}')
	text(`,"title":`, p.Title)
	text(`,"body":`, p.Body)
	if r := p.Request; r != nil {
		b = appendRequest(b, r)
	}
	if p.Err != nil {
		text(`,"error":`, p.Err.Error())
	}
	return append(b, '}')
}

// appendRequest appends a request to a provider, and what was left out of it.
func appendRequest(b []byte, r *push.Request) []byte {
	b = append(b, `,"cut":[`...)
	for i, word := range r.Cut.Words() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, word)
	}
	b = append(b, `],"request":{"method":`...)
	b = appendQuoted(b, r.Method)
	b = append(b, `,"path":`...)
	b = appendQuoted(b, r.Path)
	b = append(b, `,"headers":{`...)
	for i, name := range slices.Sorted(maps.Keys(r.Header)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, name)
		b = append(b, ':')
		b = appendQuoted(b, r.Header[name])
	}
	b = append(b, '}')
	switch {
	case r.Form != nil:
		b = append(b, `,"form":{`...)
		for i, name := range slices.Sorted(maps.Keys(r.Form)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendQuoted(b, name)
			b = append(b, ':')
			b = appendQuoted(b, r.Form.Get(name))
		}
		b = append(b, '}')
	case jsontext.Value(r.Body).IsValid():
		b = append(append(b, `,"body":`...), r.Body...)
	default:
		b = append(b, `,"body":`...)
		b = appendQuoted(b, string(r.Body))
	}
	return append(b, '}')
}
