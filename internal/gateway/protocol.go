package gateway

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
)

// A method is a kind of command, in the order in which the protocol looks for
// them (B2): a command that has several is taken for the first.
type method uint8

const (
	methodNone method = iota
	methodConnect
	methodPing
	methodSubscribe
	methodUnsubscribe
	methodPublish
	methodPresence
	methodPresenceStats
	methodHistory
	methodRPC
	methodSend
	methodRefresh
	methodSubRefresh
)

var methodNames = [...]string{
	methodConnect:       "connect",
	methodPing:          "ping",
	methodSubscribe:     "subscribe",
	methodUnsubscribe:   "unsubscribe",
	methodPublish:       "publish",
	methodPresence:      "presence",
	methodPresenceStats: "presence_stats",
	methodHistory:       "history",
	methodRPC:           "rpc",
	methodSend:          "send",
	methodRefresh:       "refresh",
	methodSubRefresh:    "sub_refresh",
}

func parseMethod(name []byte) method {
	for m := methodConnect; int(m) < len(methodNames); m++ {
		if string(name) == methodNames[m] {
			return m
		}
	}
	return methodNone
}

// A command is one object that a client sent.
type command struct {
	id     uint32
	method method
	params jsontext.Value // aliases the frame
}

// A scanner walks over the members of one JSON object. It checks all of the
// object, doubled names included, and copies nothing.
type scanner struct {
	dec jsontext.Decoder
	src bytes.Buffer
	tmp []byte
	err error
}

var scanners = sync.Pool{New: func() any { return new(scanner) }}

// scan starts on text, which must be an object and nothing else. The caller
// calls done in the end.
func scan(text []byte) *scanner {
	s := scanners.Get().(*scanner)
	s.src = *bytes.NewBuffer(text)
	s.dec.Reset(&s.src)
	s.err = nil
	if s.dec.PeekKind() != jsontext.KindBeginObject {
		s.err = errNotObject
		return s
	}
	_, s.err = s.dec.ReadToken()
	return s
}

var errNotObject = errors.New("not a JSON object")

// more reports whether there is another member.
func (s *scanner) more() bool {
	return s.err == nil && s.dec.PeekKind() != jsontext.KindEndObject
}

// name is the member's name, good until the next call.
func (s *scanner) name() []byte {
	raw, err := s.dec.ReadValue()
	if err != nil {
		s.err = err
		return nil
	}
	return s.unquote(raw)
}

func (s *scanner) unquote(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	s.tmp, s.err = jsontext.AppendUnquote(s.tmp[:0], raw)
	return s.tmp
}

// value is the member's value as it stands in the text; null is nil.
func (s *scanner) value() jsontext.Value {
	if s.err != nil {
		return nil
	}
	raw, err := s.dec.ReadValue()
	if err != nil {
		s.err = err
		return nil
	}
	if raw.Kind() == jsontext.KindNull {
		return nil
	}
	return raw
}

// text is the member's value where that must be a string; null is empty.
func (s *scanner) text() string {
	raw := s.value()
	if raw == nil {
		return ""
	}
	if raw.Kind() != jsontext.KindString {
		s.err = errWrongType
		return ""
	}
	return string(s.unquote(raw))
}

// number is the member's value where that must be a whole number.
func (s *scanner) number() uint64 {
	raw := s.value()
	if raw == nil {
		return 0
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil {
		s.err = errWrongType
	}
	return n
}

// signed is number for numbers that may be negative.
func (s *scanner) signed() int64 {
	raw := s.value()
	if raw == nil {
		return 0
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		s.err = errWrongType
	}
	return n
}

func (s *scanner) truth() bool {
	switch raw := s.value(); string(raw) {
	case "", "false":
		return false
	case "true":
		return true
	}
	s.err = errWrongType
	return false
}

var errWrongType = errors.New("a value of the wrong type")

// done ends the scan and says whether the text was what it must be.
func (s *scanner) done() error {
	err := s.err
	if err == nil {
		if _, err = s.dec.ReadToken(); err == nil {
			if _, err = s.dec.ReadToken(); err == io.EOF {
				err = nil
			} else if err == nil {
				err = errNotObject
			}
		}
	}
	s.src = bytes.Buffer{}
	s.dec.Reset(&s.src) // lets go of the frame
	if cap(s.tmp) > 64<<10 {
		s.tmp = nil
	}
	scanners.Put(s)
	return err
}

// parseCommand reads one line of a frame.
func parseCommand(line []byte) (cmd command, err error) {
	s := scan(line)
	for s.more() {
		name := s.name()
		if string(name) == "id" {
			n := s.number()
			if cmd.id = uint32(n); uint64(cmd.id) != n {
				s.err = errWrongType
			}
			continue
		}
		m := parseMethod(name)
		v := s.value()
		if v != nil && m != methodNone && (cmd.method == methodNone || m < cmd.method) {
			cmd.method, cmd.params = m, v
		}
	}
	return cmd, s.done()
}

var newline = []byte{'\n'}

// commands takes a text frame: one or more commands, one a line.
func (c *conn) commands(frame []byte) error {
	// B1 allows one newline at the very end and no empty line anywhere else.
	frame = bytes.TrimSuffix(frame, newline)
	for more := true; more; {
		var line []byte
		line, frame, more = bytes.Cut(frame, newline)
		if len(line) == 2 && line[0] == '{' && line[1] == '}' {
			if err := c.pong(); err != nil {
				return err
			}
			continue
		}
		cmd, err := parseCommand(line)
		if err != nil {
			return closeBadRequest
		}
		if err := c.command(cmd); err != nil {
			if err == errFailedConnect {
				return nil
			}
			return err
		}
		c.waitForRoom()
	}
	return nil
}

// errFailedConnect ends the handling of a frame: what follows a connect command
// that failed is not looked at (B3).
var errFailedConnect = errors.New("connect failed")

// command carries out one command. An error that it returns closes the
// connection; others are answered.
func (c *conn) command(cmd command) error {
	if cmd.method == methodNone && cmd.id == 0 {
		return c.pong()
	}
	if cmd.id == 0 && cmd.method != methodSend || cmd.method == methodNone || cmd.method == methodPing {
		return closeBadRequest
	}
	if c.isClosing() {
		return nil
	}
	if c.registered == (cmd.method == methodConnect) {
		return closeBadRequest // a second connect, or something else before the first
	}
	if !c.calls.take(c.g.opts.commands, time.Since(c.g.start)) {
		if c.calls.empty(c.g.opts.commands) {
			return closeTooMany
		}
		if cmd.id != 0 {
			c.refuse(cmd.id, refuse(codeTooManyRequests, ""))
		}
		return nil
	}
	var err error
	switch cmd.method {
	case methodConnect:
		return c.connect(cmd)
	case methodSubscribe:
		err = c.subscribe(cmd)
	case methodUnsubscribe:
		err = c.unsubscribe(cmd)
	case methodHistory:
		err = c.history(cmd)
	case methodRPC:
		err = c.rpc(cmd)
	case methodRefresh:
		err = c.refresh(cmd)
	case methodSend:
		// There is no answer that could say that it is not available, and
		// closing the connection for it would be out of proportion.
		return nil
	case methodPublish:
		err = refuse(codeNotAvailable, "clients do not publish; send with rpc message.send")
	default:
		err = refuse(codeNotAvailable, "")
	}
	if err == nil {
		return nil
	}
	if d, ok := err.(*DisconnectRow); ok {
		return d
	}
	if d := closesByKind[chat.KindOf(err)]; d != nil {
		return d
	}
	c.fail(cmd, err)
	return nil
}

// fail answers a command that failed.
func (c *conn) fail(cmd command, err error) {
	e := answerFor(err)
	if e.row.Code == codeInternal {
		c.g.opts.Logger.Error("a client's command failed", "method", methodNames[cmd.method], "app", c.app, "user", c.user, "error", err)
	}
	c.refuse(cmd.id, e)
}

func (c *conn) refuse(id uint32, e *replyError) {
	c.g.metrics.refused(e.row.Code)
	b := make([]byte, 0, 64+len(e.text))
	b = appendID(b, id)
	b = append(b, `,"error":{"code":`...)
	b = strconv.AppendUint(b, uint64(e.row.Code), 10)
	b = append(b, `,"message":`...)
	b = appendString(b, e.text)
	if e.row.Temporary {
		b = append(b, `,"temporary":true`...)
	}
	b = append(b, "}}"...)
	c.reply(b)
}

// appendID begins an answer; the caller goes on with a comma and closes it.
func appendID(b []byte, id uint32) []byte {
	b = append(b, `{"id":`...)
	return strconv.AppendUint(b, uint64(id), 10)
}

// appendString appends s as a JSON string. Most strings are plain and are
// copied as they are.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			// An error would say that invalid UTF-8 was replaced, which is the
			// best that can be done with it.
			b, _ = jsontext.AppendQuote(b, s)
			return b
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendText appends a member whose value is a string, unless that is empty.
func appendText(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	b = append(b, name...)
	return appendString(b, s)
}

// appendTrue appends a member that is true, or nothing.
func appendTrue(b []byte, name string, v bool) []byte {
	if !v {
		return b
	}
	b = append(b, name...)
	return append(b, "true"...)
}
