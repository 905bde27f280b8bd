package websocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"
)

// DialOptions are a client's choices.
type DialOptions struct {
	TLS          *tls.Config // for wss; nil for the usual one
	Header       http.Header // more headers for the handshake
	Subprotocols []string
	LocalAddr    net.Addr // source address; nil lets the system choose

	// Control is called with the socket before it connects, as net.Dialer's is.
	Control func(network, address string, c syscall.RawConn) error
}

const (
	clientLimit = 16 << 20 // largest message a Conn takes
	readSize    = 4 << 10
	closeWait   = time.Second
)

// A Conn is the client's end of a connection. One goroutine may read while
// others write.
type Conn struct {
	conn net.Conn

	readMu sync.Mutex
	parser Parser
	buf    []byte
	unread []byte // bytes that came with the handshake's answer
	queue  []message
	err    error

	writeMu sync.Mutex
	out     []byte

	closeOnce sync.Once
}

type message struct {
	op      Opcode
	payload []byte
}

// A CloseError is the peer's close frame.
type CloseError struct {
	Code   uint16 // CodeNoStatus when it had none
	Reason string
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("websocket: closed with %d", e.Code)
	}
	return fmt.Sprintf("websocket: closed with %d: %s", e.Code, e.Reason)
}

// A StatusError is a server's refusal to upgrade.
type StatusError struct {
	Status int
	Body   string // the beginning of it
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("websocket: handshake refused with HTTP %d: %s", e.Status, e.Body)
}

// Dial connects to a ws: or wss: URL. ctx bounds the dialling and the
// handshake, not the connection.
func Dial(ctx context.Context, rawURL string, opts DialOptions) (*Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("dial websocket: %w", err)
	}
	port := "80"
	switch u.Scheme {
	case "ws":
	case "wss":
		port = "443"
	default:
		return nil, fmt.Errorf("dial websocket: want a ws: or wss: URL, got scheme %q", u.Scheme)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	d := net.Dialer{LocalAddr: opts.LocalAddr, Control: opts.Control}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("dial websocket: %w", err)
	}
	if u.Scheme == "wss" {
		config := opts.TLS.Clone()
		if config == nil {
			config = &tls.Config{}
		}
		if config.ServerName == "" {
			config.ServerName = u.Hostname()
		}
		config.NextProtos = []string{"http/1.1"}
		conn = tls.Client(conn, config)
	}

	// The handshake reads and writes with plain calls, so ctx stops it by way
	// of the deadline.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	c, err := handshake(conn, u, opts)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("dial websocket: %w", err)
	}
	return c, nil
}

func handshake(conn net.Conn, u *url.URL, opts DialOptions) (*Conn, error) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])

	var req bytes.Buffer
	fmt.Fprintf(&req, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
		u.RequestURI(), u.Host, key)
	for _, p := range opts.Subprotocols {
		fmt.Fprintf(&req, "Sec-WebSocket-Protocol: %s\r\n", p)
	}
	if err := opts.Header.Write(&req); err != nil {
		return nil, err
	}
	req.WriteString("\r\n")
	if _, err := conn.Write(req.Bytes()); err != nil {
		return nil, err
	}

	br := bufio.NewReaderSize(conn, readSize)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodGet})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return nil, &StatusError{resp.StatusCode, string(bytes.TrimSpace(body))}
	}
	if !hasToken(resp.Header, "Upgrade", "websocket") || !hasToken(resp.Header, "Connection", "upgrade") ||
		resp.Header.Get("Sec-WebSocket-Accept") != acceptKey(key) {
		return nil, errors.New("the server's answer is no WebSocket handshake")
	}
	if p := resp.Header.Get("Sec-WebSocket-Protocol"); p != "" && !slices.Contains(opts.Subprotocols, p) {
		return nil, fmt.Errorf("the server chose subprotocol %q, which was not offered", p)
	}
	c := &Conn{conn: conn, parser: NewParser(Client, clientLimit)}
	if n := br.Buffered(); n > 0 {
		peeked, _ := br.Peek(n)
		c.unread = slices.Clone(peeked)
	}
	return c, nil
}

// ReadMessage waits for the next text or binary message. The payload is the
// caller's. Pings are answered on the way. It fails with a *CloseError when the
// server closes the connection by a close frame, which is answered.
func (c *Conn) ReadMessage() (Opcode, []byte, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for len(c.queue) == 0 {
		if c.err != nil {
			return 0, nil, c.err
		}
		c.err = c.read((*queueHandler)(c))
	}
	m := c.queue[0]
	c.queue[0] = message{}
	if c.queue = c.queue[1:]; len(c.queue) == 0 {
		c.queue = nil
	}
	return m.op, m.payload, nil
}

// Serve reads until the connection ends and gives each text and binary message
// to h, without a copy; otherwise it is like ReadMessage, in whose place it is
// called. An error of h ends it, too.
func (c *Conn) Serve(h Handler) error {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for c.err == nil {
		c.err = c.read(h)
	}
	return c.err
}

// read takes what one read brings.
func (c *Conn) read(h Handler) error {
	b := c.unread
	c.unread = nil
	if b == nil {
		if c.buf == nil {
			c.buf = make([]byte, readSize)
		}
		n, err := c.conn.Read(c.buf)
		if n == 0 && err != nil {
			c.parser.Release()
			return err
		}
		b = c.buf[:n]
	}
	err := c.parser.Feed(b, connHandler{c, h})
	if e, ok := errors.AsType[*Error](err); ok {
		_ = c.write(func(dst []byte) []byte { return AppendMaskedClose(dst, e.Code, e.Reason) })
	}
	return err
}

// queueHandler keeps messages for ReadMessage.
type queueHandler Conn

func (q *queueHandler) Message(op Opcode, payload []byte) error {
	q.queue = append(q.queue, message{op, slices.Clone(payload)})
	return nil
}

// connHandler does what every client has to, and hands messages on.
type connHandler struct {
	c    *Conn
	next Handler
}

func (h connHandler) Message(op Opcode, payload []byte) error {
	switch op {
	case Ping:
		return h.c.write(func(dst []byte) []byte { return AppendMasked(dst, Pong, payload) })
	case Pong:
		return nil
	case Close:
		code, reason := ParseClose(payload)
		// Section 5.5.1: the answer repeats the status. That the server may be
		// gone already changes nothing for the reader.
		_ = h.c.write(func(dst []byte) []byte { return AppendMasked(dst, Close, payload[:min(2, len(payload))]) })
		return &CloseError{code, reason}
	}
	return h.next.Message(op, payload)
}

// WriteText sends one text message.
func (c *Conn) WriteText(payload []byte) error {
	return c.write(func(dst []byte) []byte { return AppendMasked(dst, Text, payload) })
}

// Ping sends a ping; the pong that answers it is swallowed by ReadMessage.
func (c *Conn) Ping(payload []byte) error {
	return c.write(func(dst []byte) []byte { return AppendMasked(dst, Ping, payload) })
}

// SetWriteDeadline bounds writes, those of pongs among them.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

// SetReadDeadline bounds ReadMessage.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// LocalAddr is the connection's own address.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

func (c *Conn) write(frame func(dst []byte) []byte) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.out = frame(c.out[:0])
	_, err := c.conn.Write(c.out)
	if cap(c.out) > 64<<10 {
		c.out = nil
	}
	return err
}

// Close says goodbye with code and reason, gives the server a moment to answer
// and closes the connection. It may be called while another goroutine reads,
// and more than once.
func (c *Conn) Close(code uint16, reason string) error {
	var err error
	c.closeOnce.Do(func() {
		_ = c.conn.SetDeadline(time.Now().Add(closeWait))
		err = c.write(func(dst []byte) []byte { return AppendMaskedClose(dst, code, reason) })
		// Closing while the server still sends would make the kernel reset the
		// connection, and the close frame might be lost with it.
		for err == nil {
			if _, _, e := c.ReadMessage(); e != nil {
				break
			}
		}
		// After the goodbye nobody cares how the socket takes its end.
		_ = c.conn.Close()
	})
	return err
}

// Abort closes the connection without a word, as a network that fails would.
func (c *Conn) Abort() error { return c.conn.Close() }
