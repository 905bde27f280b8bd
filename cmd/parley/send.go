package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
)

type sendCmd struct {
	Direct sendDirectCmd `cmd:"" help:"Send a direct message to one or more users."`
	System sendSystemCmd `cmd:"" help:"Send a system message to one or more users."`
	Open   sendOpenCmd   `cmd:"" help:"Send a message to one or more open channels."`
}

// messageFlags say what a message is. Names of the API's fields are in the help
// where they differ.
type messageFlags struct {
	common
	appFlags
	serverFlags

	From    string `placeholder:"USER" help:"Id of the sender (fromUserId)."`
	Type    string `default:"RC:TxtMsg" placeholder:"TYPE" help:"Message type (messageType)."`
	Content string `placeholder:"CONTENT" help:"Content as the API takes it, in place of TEXT."`
	Body    string `placeholder:"FILE" help:"Send this file as the request body, byte for byte, in place of all fields; - is standard input."`
	Text    string `arg:"" optional:"" help:"Text to send; becomes the content of an RC:TxtMsg."`
}

// sendFlags are those of every kind of send.
type sendFlags struct {
	messageFlags

	Persist        bool   `default:"true" negatable:"" help:"Store in history (shouldPersist)."`
	IdempotencyKey string `placeholder:"KEY" help:"Make a repeat of this call safe."`
	RequestID      string `name:"request-id" placeholder:"ID" help:"X-Request-ID of the call."`
}

// pushFlags are those of sends that can be pushed.
type pushFlags struct {
	To                   []string `placeholder:"USER" help:"Id of a recipient (toUserIds). Repeat it, or separate ids by commas."`
	PushContent          string   `placeholder:"TEXT" help:"Text of the push notification."`
	PushData             string   `placeholder:"TEXT" help:"Data that goes with the push notification."`
	PushExt              string   `placeholder:"JSON" help:"Settings of the push notification."`
	DisablePush          bool     `help:"Send no push notification."`
	ContentAvailable     bool     `help:"Make it a silent push on iOS."`
	DisableUpdateLastMsg bool     `help:"Leave the channel list as it is."`
}

type sendDirectCmd struct {
	sendFlags
	pushFlags
	Echo            bool              `help:"Give the sender's devices a copy (isEchoToSender)."`
	Count           *int              `placeholder:"N" help:"Badge on iOS, -1 to 9999."`
	VerifyBlocklist bool              `help:"Leave out recipients whose blocklist has the sender."`
	Metadata        map[string]string `placeholder:"NAME=VALUE" help:"Metadata of the message; sets hasMetadata, too."`
	HasMetadata     bool              `help:"Let clients set metadata later."`
	NeedReadReceipt bool              `help:"Ask for a read receipt."`
}

type sendSystemCmd struct {
	sendFlags
	pushFlags
}

type sendOpenCmd struct {
	sendFlags
	To       []string `placeholder:"CHANNEL" help:"Id of an open channel (toChannelIds). Repeat it, or separate ids by commas."`
	Echo     bool     `help:"Give the sender's devices a copy (isEchoToSender)."`
	Priority int      `default:"0" placeholder:"N" help:"0 standard, 1 allowlisted, 2 high, 3 low."`
}

// Run sends a direct message.
func (c *sendDirectCmd) Run(ctx context.Context, s *streams) error {
	f := c.sendFlags.fields()
	c.pushFlags.add(f)
	setFlag(f, "isEchoToSender", c.Echo)
	setFlag(f, "verifyBlocklist", c.VerifyBlocklist)
	setFlag(f, "needReadReceipt", c.NeedReadReceipt)
	if c.Count != nil {
		f["count"] = *c.Count
	}
	if c.HasMetadata || len(c.Metadata) > 0 {
		f["hasMetadata"] = true
	}
	if len(c.Metadata) > 0 {
		f["metadata"] = c.Metadata
	}
	return c.send(ctx, s, "/v4/direct-channel/message/send", f)
}

// Run sends a system message.
func (c *sendSystemCmd) Run(ctx context.Context, s *streams) error {
	f := c.sendFlags.fields()
	c.pushFlags.add(f)
	return c.send(ctx, s, "/v4/system-channel/message/send", f)
}

// Run sends an open channel message.
func (c *sendOpenCmd) Run(ctx context.Context, s *streams) error {
	f := c.sendFlags.fields()
	f["toChannelIds"] = c.To
	setFlag(f, "isEchoToSender", c.Echo)
	if c.Priority != 0 {
		f["priority"] = c.Priority
	}
	return c.send(ctx, s, "/v4/open-channel/message/send", f)
}

// fields makes the request's fields from the flags. What is not given is left
// out, so that the server's defaults and its complaints show.
func (c *messageFlags) fields() map[string]any {
	f := map[string]any{}
	setText(f, "fromUserId", c.From)
	setText(f, "messageType", c.Type)
	setText(f, "content", c.Content)
	if c.Text != "" {
		f["content"] = textContent(c.Text)
	}
	return f
}

func (c *sendFlags) fields() map[string]any {
	f := c.messageFlags.fields()
	if !c.Persist {
		f["shouldPersist"] = 0
	}
	return f
}

func (c *pushFlags) add(f map[string]any) {
	f["toUserIds"] = c.To
	setText(f, "pushContent", c.PushContent)
	setText(f, "pushData", c.PushData)
	setText(f, "pushExt", c.PushExt)
	setFlag(f, "contentAvailable", c.ContentAvailable)
	if c.DisablePush {
		f["disablePush"] = true
	}
	if c.DisableUpdateLastMsg {
		f["disableUpdateLastMsg"] = true
	}
}

func setText(f map[string]any, name, v string) {
	if v != "" {
		f[name] = v
	}
}

func setFlag(f map[string]any, name string, v bool) {
	if v {
		f[name] = 1
	}
}

// textContent is the content of an RC:TxtMsg.
func textContent(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(map[string]string{"content": text}); err != nil {
		panic(err) // a map of strings encodes
	}
	return string(bytes.TrimSpace(b.Bytes()))
}

func (c *sendFlags) send(ctx context.Context, s *streams, path string, fields map[string]any) error {
	body, err := c.body(s, fields)
	if err != nil {
		return err
	}
	srv, o, err := find(ctx, c.Data, c.appFlags, c.serverFlags)
	if err != nil {
		return err
	}
	if o != nil {
		defer o.Close()
	}
	h := http.Header{}
	if c.IdempotencyKey != "" {
		h.Set("Idempotency-Key", c.IdempotencyKey)
	}
	if c.RequestID != "" {
		h.Set("X-Request-ID", c.RequestID)
	}
	a, err := srv.call(ctx, path, body, h)
	if err != nil {
		return coded{fmt.Errorf("send: %w", err), exitNoNode}
	}
	if c.JSON {
		err = s.json(map[string]any{"status": a.status, "requestId": a.header.Get("X-Request-ID"), "answer": rawOrText(a.body)})
	} else {
		_, err = fmt.Fprintln(s.out, string(a.body))
	}
	if err == nil && a.code != 0 {
		return coded{silent{fmt.Errorf("refused with code %d", a.code)}, exitRefused}
	}
	return err
}

// body is the request's.
func (c *messageFlags) body(s *streams, fields map[string]any) ([]byte, error) {
	if c.Content != "" && c.Text != "" {
		return nil, usage(errors.New("TEXT and --content say the same thing: give one of them"))
	}
	switch c.Body {
	case "":
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		err := e.Encode(fields)
		return b.Bytes(), err
	case "-":
		return io.ReadAll(s.in)
	}
	return os.ReadFile(c.Body)
}

// rawOrText is a body as JSON when it is, and else as text.
func rawOrText(b []byte) any {
	if json.Valid(b) {
		return json.RawMessage(b)
	}
	return string(b)
}
