package gateway

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// rpcMethods are the calls that clients can make. Each gives the JSON of its
// result.
var rpcMethods = map[string]func(c *conn, ctx context.Context, data []byte) ([]byte, error){
	"message.send": (*conn).sendMessage,
	"ack":          (*conn).ack,

	"message.trace": (*conn).traceMessage,

	"blocklist.add":    (*conn).addBlocks,
	"blocklist.remove": (*conn).removeBlocks,
	"blocklist.list":   (*conn).listBlocks,

	"message.history": (*conn).messageHistory,
	"message.recall":  (*conn).recallMessage,
	"message.update":  (*conn).updateMessage,

	"message.stream":  (*conn).streamText,
	"message.read":    (*conn).readMessages,
	"message.readers": (*conn).messageReaders,
	"message.delete":  (*conn).deleteMessages,

	"channel.list":   (*conn).listChannels,
	"channel.get":    (*conn).getChannel,
	"channel.remove": (*conn).removeChannel,

	"message.metadata.set":    (*conn).setMetadata,
	"message.metadata.remove": (*conn).removeMetadata,

	"channel.pin":          (*conn).pinChannel,
	"channel.notification": (*conn).channelNotification,
	"channel.tag.set":      (*conn).setTag,
	"channel.tag.delete":   (*conn).deleteTag,
	"channel.tag.list":     (*conn).listTags,
	"channel.tag.add":      (*conn).tagChannels,
	"channel.tag.remove":   (*conn).untagChannels,
	"channel.tagged":       (*conn).taggedChannels,

	"typing": (*conn).typing,

	"open.metadata.set":    (*conn).setOpenPairs,
	"open.metadata.remove": (*conn).removeOpenPairs,
	"open.metadata.get":    (*conn).getOpenPairs,
	"open.participants":    (*conn).participants,

	"device.push":  (*conn).devicePush,
	"device.state": (*conn).deviceState,
}

func (c *conn) rpc(cmd command) error {
	method := ""
	var data jsontext.Value
	s := scan(cmd.params)
	for s.more() {
		switch name := s.name(); string(name) {
		case "method":
			method = s.text()
		case "data":
			data = s.value()
		default:
			s.value()
		}
	}
	if err := s.done(); err != nil {
		return closeBadRequest
	}
	call := rpcMethods[method]
	if call == nil {
		return refuse(codeMethodNotFound, "no rpc method "+fields.Quote(method))
	}
	if data == nil {
		data = jsontext.Value("{}")
	}
	ctx, cancel := context.WithTimeout(c.g.life, callTimeout)
	defer cancel()
	result, err := call(c, ctx, data)
	if err != nil {
		return err
	}
	b := appendID(make([]byte, 0, 32+len(result)), cmd.id)
	b = append(b, `,"rpc":{"data":`...)
	b = append(b, result...)
	c.reply(append(b, "}}"...))
	return nil
}

type ackData struct {
	offset int64
	epoch  string
}

var ackFields = fields.NewTable(
	fields.Field[ackData]{Name: "offset", Read: func(r *fields.Reader, d *ackData) (err error) {
		d.offset, err = r.Int()
		return err
	}},
	fields.Text("epoch", func(d *ackData) *string { return &d.epoch }),
)

// ack is the precise acknowledgement; a pong is the coarse one. Its answer says
// how far the session has acknowledged.
func (c *conn) ack(_ context.Context, data []byte) ([]byte, error) {
	var d ackData
	if err := ackFields.Decode(data, &d); err != nil {
		return nil, err
	}
	if d.offset < 0 {
		return nil, chat.Invalid("offset", "must not be negative")
	}
	if d.epoch != "" && d.epoch != c.g.opts.Store.Epoch() {
		return nil, refuse(codeUnrecoverable, "")
	}
	c.mu.Lock()
	c.ackLocked(uint64(d.offset))
	acked := c.acked
	c.mu.Unlock()
	b := append(make([]byte, 0, 40), `{"offset":`...)
	return append(strconv.AppendUint(b, acked, 10), '}'), nil
}

// sendData is a message as clients ask for it to be sent.
type sendData struct {
	channelType string
	channelID   string
	messageType string
	content     string
	clientMsgID string

	pushContent   string
	pushData      string
	pushExt       string
	disablePush   bool
	shouldPersist bool
	hasMetadata   bool
	metadata      map[string]string
	disableUpdate bool
	needReceipt   bool
	priority      int
	echo          bool
}

var sendFields = fields.NewTable(
	fields.Text("channelType", func(d *sendData) *string { return &d.channelType }),
	fields.Text("channelId", func(d *sendData) *string { return &d.channelID }),
	fields.Text("messageType", func(d *sendData) *string { return &d.messageType }),
	fields.Text("content", func(d *sendData) *string { return &d.content }),
	fields.Text("clientMsgId", func(d *sendData) *string { return &d.clientMsgID }),
	fields.Text("pushContent", func(d *sendData) *string { return &d.pushContent }),
	fields.Text("pushData", func(d *sendData) *string { return &d.pushData }),
	fields.Text("pushExt", func(d *sendData) *string { return &d.pushExt }),
	fields.Switch("disablePush", func(d *sendData) *bool { return &d.disablePush }),
	fields.Switch("shouldPersist", func(d *sendData) *bool { return &d.shouldPersist }),
	fields.Switch("hasMetadata", func(d *sendData) *bool { return &d.hasMetadata }),
	fields.Field[sendData]{Name: "metadata", Read: func(r *fields.Reader, d *sendData) error {
		d.metadata = map[string]string{}
		return r.Map(func(name, value string) { d.metadata[name] = value })
	}},
	fields.Switch("disableUpdateLastMsg", func(d *sendData) *bool { return &d.disableUpdate }),
	fields.Switch("needReadReceipt", func(d *sendData) *bool { return &d.needReceipt }),
	fields.Field[sendData]{Name: "priority", Read: func(r *fields.Reader, d *sendData) (err error) {
		d.priority, err = r.IntOf(0, 1, 2, 3)
		return err
	}},
	fields.Switch("echo", func(d *sendData) *bool { return &d.echo }),
)

// appNow is the session's app with the settings of this moment.
func (c *conn) appNow() (*chat.App, error) {
	app := c.g.opts.Directory.AppByID(c.app)
	if app == nil {
		return nil, chat.Fail(chat.KindInternal, "app is gone")
	}
	return app, nil
}

// sendMessage is the call message.send.
func (c *conn) sendMessage(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	d := sendData{shouldPersist: true} // as in the server API
	if err := sendFields.Decode(data, &d); err != nil {
		return nil, err
	}
	m, err := c.message(&d)
	if err != nil {
		return nil, err
	}

	// A repeat of what was done is answered whatever the limit says.
	var claim *courier.Claim
	if d.clientMsgID != "" {
		claim, err = c.g.courier.Begin(ctx, app, "client:"+c.user, "clientMsgId", d.clientMsgID, d.canonical())
		if err != nil {
			return nil, err
		}
	}
	if !claim.Repeats() {
		if err := c.spendSend(app); err != nil {
			claim.Release()
			return nil, err
		}
	}
	sent, err := c.g.courier.Send(ctx, app, &courier.Send{Message: m, Targets: []string{d.channelID}, Claim: claim})
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, 80)
	b = append(b, '{')
	if len(sent.Placed) > 0 { // otherwise the open channel shed it
		b = append(b, `"messageUID":"`...)
		b = sent.Placed[0].UID.Append(b)
		b = append(b, `",`...)
	}
	b = append(b, `"sentAt":`...)
	b = strconv.AppendInt(b, sent.SentAt, 10)
	if len(sent.Shed) > 0 {
		b = append(b, `,"shed":`...)
		b = appendString(b, sent.Shed[0].Reason)
	}
	return append(b, '}'), nil
}

// spendSend takes one from what the connection may send.
func (c *conn) spendSend(app *chat.App) error {
	rate := app.Settings.LimitClient
	if rate.N > 0 && !c.sends.take(limitOf(rate), time.Since(c.g.start)) {
		return chat.Failf(chat.KindTooFast, "at most %s messages on one connection", rate)
	}
	return nil
}

func limitOf(rate chat.Rate) limit {
	return limit{burst: float32(rate.N), perMs: float32(rate.N) / float32(rate.Per/time.Millisecond)}
}

// message makes the message that a client asks to send, checked as far as the
// courier does not.
func (c *conn) message(d *sendData) (*chat.Message, error) {
	if d.channelType == "" {
		return nil, chat.Invalid("channelType", "is required")
	}
	ct, ok := chat.ParseChannelType(d.channelType)
	if !ok {
		return nil, chat.Invalid("channelType", "one of direct, open, got "+fields.Quote(d.channelType))
	}
	switch ct {
	case chat.System:
		return nil, chat.Fail(chat.KindSystemReadOnly, "clients cannot send to the system channel")
	case chat.Group, chat.Community:
		return nil, refuse(codeNotAvailable, "messages cannot be sent to channels of type "+d.channelType)
	}
	if err := chat.CheckID("channelId", d.channelID); err != nil {
		return nil, err
	}
	if n := len(d.content); n > chat.MaxContent {
		return nil, &chat.Error{Kind: chat.KindContentTooLarge, Field: "content", Rule: "at most " + strconv.Itoa(chat.MaxContent) + " bytes, got " + strconv.Itoa(n)}
	}
	metadata := d.metadata
	if !d.hasMetadata {
		metadata = nil // ignored, as at the server's door
	}
	return &chat.Message{
		App: c.app, ChannelType: ct, Origin: chat.FromClient,
		From: c.user, Type: d.messageType, Content: d.content,
		Persist:           d.shouldPersist,
		DisableUpdateLast: d.disableUpdate,
		NeedReadReceipt:   d.needReceipt,
		HasMetadata:       d.hasMetadata,
		Metadata:          metadata,
		// The sender's other devices learn of what was sent; in an open channel
		// they do so only when asked.
		Echo:     ct == chat.Direct || d.echo,
		Priority: chat.Priority(d.priority),
		Push: chat.PushOptions{
			Content: d.pushContent, Data: d.pushData, Ext: d.pushExt, Disabled: d.disablePush,
		},
	}, nil
}

// canonical is the request as the memory of a clientMsgId compares it: however
// it was spelled, equal requests have equal bytes.
func (d *sendData) canonical() []byte {
	b := make([]byte, 0, 128+len(d.content))
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	text(d.channelType)
	text(d.channelID)
	text(d.messageType)
	text(d.content)
	text(d.pushContent)
	text(d.pushData)
	text(d.pushExt)
	for _, v := range [...]bool{d.disablePush, d.shouldPersist, d.hasMetadata, d.disableUpdate, d.needReceipt, d.echo} {
		if v {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	b = append(b, byte(d.priority))
	for _, k := range slices.Sorted(maps.Keys(d.metadata)) {
		text(k)
		text(d.metadata[k])
	}
	return b
}
