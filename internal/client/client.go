// Package client is a client of Parley's second door: the Centrifuge protocol
// in JSON over WebSocket. It does what the npm client does where the server can
// see it (when it reconnects, what it asks to recover, when it gives up), so
// that testing with it says something about the clients people use.
//
// It hands on what comes, in the order in which it comes, and hides nothing:
// gaps and doubles are for its users to find.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/parleychat/parley/internal/websocket"
)

// Me is the server-side subscription that is the user's timeline.
const Me = "me"

// Options say where to connect and how.
type Options struct {
	URL      string // ws: or wss:
	Token    string
	GetToken func(context.Context) (string, error) // for the first token when Token is empty, and when it expired

	Name string          // of this client; "go" when empty
	Data json.RawMessage // goes with every connect: platform, deviceId, from, …

	// Positions to recover from at the first connect, by server-side channel.
	Positions map[string]Position

	// Reconnect makes the client come back, as the server's close code advises.
	// Without it the first loss is the end.
	Reconnect bool
	// Between reconnects it waits a random time that grows from MinBackoff
	// (500 ms) to MaxBackoff (20 s).
	MinBackoff, MaxBackoff time.Duration
	// Timeout for the answer to a command; 5 s.
	Timeout time.Duration
	// Buffer is how many events wait to be read before the client stops
	// reading from the server; 256.
	Buffer int

	TLS       *tls.Config
	Header    http.Header
	LocalAddr net.Addr
	Control   func(network, address string, c syscall.RawConn) error // as net.Dialer's

	pingDelay time.Duration // maxPingDelay, but for tests
}

// codeInvalidated closes a connection whose token and positions are worthless.
const codeInvalidated = 3014

// nowhere is the position that makes a recovery fail for sure, so that the
// server tells where the stream is.
var nowhere = Position{Epoch: "_"}

// maxPingDelay is how late a ping may be before the connection counts as dead.
const maxPingDelay = 10 * time.Second

// A Client is one client with one connection at a time.
type Client struct {
	opts   Options
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	events chan Event
	done   chan struct{} // closed when run has returned
	tasks  sync.WaitGroup

	mu      sync.Mutex
	session *session      // nil while not connected
	ready   chan struct{} // closed while connected; a new one after each loss
	cut     *end          // why we broke the connection off ourselves
	final   error         // set when done is closed
	token   string
	lastID  uint32
	pending map[uint32]func(*reply, error)
	server  map[string]*serverSide // server-side subscriptions
	subs    map[string]*clientSide // client-side subscriptions
}

type serverSide struct {
	recoverable bool
	position    Position
}

type clientSide struct {
	channel     string
	data        json.RawMessage
	subscribed  bool
	recoverable bool
	position    Position
	attempts    int
	waiting     func(Subscribed, error) // the Subscribe call, until it is answered
}

// end is how a connection ended.
type end struct {
	code      uint32
	reason    string
	reconnect bool
	cause     error
}

// ErrLost is the outcome of a command that was under way when the connection
// was lost: it may or may not have been carried out.
var ErrLost = errors.New("connection lost before the answer")

// Dial connects. It returns when the connection stands, or when it is clear
// that it will not: with Reconnect it goes on trying until ctx ends. Later, ctx
// has no part in it; Close must be called.
//
// Events must be read. While Buffer of them wait, nothing is read from the
// server, answers to calls included; so calls belong in another goroutine than
// the one that reads events.
func Dial(ctx context.Context, opts Options) (*Client, error) {
	if err := checkJSON(opts.Data); err != nil {
		return nil, err
	}
	if opts.Name == "" {
		opts.Name = "go"
	}
	setDefault(&opts.MinBackoff, 500*time.Millisecond)
	setDefault(&opts.MaxBackoff, 20*time.Second)
	setDefault(&opts.Timeout, 5*time.Second)
	setDefault(&opts.Buffer, 256)
	setDefault(&opts.pingDelay, maxPingDelay)
	c := &Client{
		opts:    opts,
		events:  make(chan Event, opts.Buffer),
		done:    make(chan struct{}),
		ready:   make(chan struct{}),
		token:   opts.Token,
		pending: map[uint32]func(*reply, error){},
		server:  map[string]*serverSide{},
		subs:    map[string]*clientSide{},
	}
	for ch, p := range opts.Positions {
		c.server[ch] = &serverSide{true, p}
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	ready := c.ready
	go c.run()
	select {
	case <-ready:
		return c, nil
	case <-c.done:
		select {
		case <-ready: // there was a connection, if only for a moment
			return c, nil
		default:
			return nil, c.final
		}
	case <-ctx.Done():
		c.Close()
		return nil, fmt.Errorf("connect: %w", ctx.Err())
	}
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Events gives what happens. It is closed behind the last event.
func (c *Client) Events() <-chan Event { return c.events }

// Close says goodbye and waits until nothing of the client is left.
func (c *Client) Close() {
	c.cancel()
	<-c.done
}

// Drop breaks the connection without a word, as a network does.
func (c *Client) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		c.session.conn.Abort()
	}
}

// Position is how far the client has come in a recoverable channel. ok is false
// when the channel is none.
func (c *Client) Position(channel string) (p Position, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.subs[channel]; s != nil {
		return s.position, s.recoverable
	}
	if s := c.server[channel]; s != nil {
		return s.position, s.recoverable
	}
	return Position{}, false
}

// run makes one connection after the other.
func (c *Client) run() {
	var last end
	for attempts := 0; ; attempts++ {
		connected, e := c.connection()
		if last = e; c.ctx.Err() != nil {
			last = end{code: CodeClosed, reason: "disconnect called"}
			break
		}
		if !e.reconnect || !c.opts.Reconnect {
			break
		}
		if connected {
			attempts = 0
			c.emit(Connecting{e.code, e.reason})
		}
		select {
		case <-time.After(c.backoff(attempts)):
		case <-c.ctx.Done():
		}
	}

	final := Disconnected{last.code, last.reason, last.cause}
	if c.ctx.Err() != nil {
		// Nobody needs to read on after Close.
		select {
		case c.events <- final:
		default:
		}
	} else {
		c.emit(final)
	}
	c.cancel()
	c.tasks.Wait()
	c.mu.Lock()
	c.final = final
	c.mu.Unlock()
	close(c.done)
	close(c.events)
}

// backoff is full jitter, with the npm client's formula.
func (c *Client) backoff(attempts int) time.Duration {
	ceiling := min(c.opts.MaxBackoff, c.opts.MinBackoff<<min(attempts, 16))
	return min(c.opts.MaxBackoff, c.opts.MinBackoff+rand.N(ceiling))
}

func (c *Client) emit(e Event) {
	select {
	case c.events <- e:
	case <-c.ctx.Done():
	}
}

// connection makes one connection and serves it until it ends.
func (c *Client) connection() (connected bool, e end) {
	transport := func(err error) end { return end{CodeTransport, "transport closed", true, err} }
	c.mu.Lock()
	ask := c.token == "" && c.opts.GetToken != nil
	c.mu.Unlock()
	if ask {
		if err := c.newToken(); err != nil {
			return false, transport(err)
		}
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.opts.Timeout)
	conn, err := websocket.Dial(ctx, c.opts.URL, websocket.DialOptions{TLS: c.opts.TLS, Header: c.opts.Header, LocalAddr: c.opts.LocalAddr, Control: c.opts.Control})
	cancel()
	if err != nil {
		return false, transport(err)
	}
	s := &session{Client: c, conn: conn, over: make(chan struct{})}
	c.tasks.Add(1)
	stop := context.AfterFunc(c.ctx, func() {
		defer c.tasks.Done()
		// The reader sets deadlines of its own, so that of Close is not enough.
		t := time.AfterFunc(2*time.Second, func() { conn.Abort() })
		defer t.Stop()
		_ = conn.Close(websocket.CodeNormal, "")
	})
	err = s.serve()
	if stop() {
		c.tasks.Done()
	}
	conn.Abort()
	close(s.over)
	if e := c.lost(); e != nil {
		return s.connected, *e
	}
	if e := s.ended; e != nil {
		return s.connected, *e
	}
	if ce, ok := errors.AsType[*websocket.CloseError](err); ok {
		if ce.Code == codeInvalidated {
			c.forget()
		}
		return s.connected, closeAdvice(ce)
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return s.connected, end{CodeNoPing, "no ping", true, err}
	}
	return s.connected, transport(err)
}

// lost takes leave of the connection: what was under way fails, and
// subscriptions wait for the next one. It returns why, if it was our doing.
func (c *Client) lost() *end {
	c.mu.Lock()
	pending, e := c.pending, c.cut
	c.pending, c.cut = map[uint32]func(*reply, error){}, nil
	if c.session != nil {
		c.session = nil
		c.ready = make(chan struct{})
	}
	for _, s := range c.subs {
		s.subscribed = false
	}
	c.mu.Unlock()
	for _, done := range pending {
		done(nil, ErrLost)
	}
	return e
}

// forget drops what close code 3014 says is worthless: the token, if there is a
// way to another, and all positions.
func (c *Client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opts.GetToken != nil {
		c.token = ""
	}
	for _, s := range c.server {
		s.recoverable = false
	}
	for _, s := range c.subs {
		s.position = nowhere
	}
}

// closeAdvice reads a close frame as page B9 says.
func closeAdvice(ce *websocket.CloseError) end {
	e := end{code: uint32(ce.Code), reason: ce.Reason, cause: ce}
	switch code := ce.Code; {
	case code == websocket.CodeTooBig:
		return end{CodeTooBig, "message size limit", false, ce}
	case code < 3000:
		e.code, e.reason, e.reconnect = CodeTransport, "transport closed", true
	default:
		e.reconnect, e.cause = reconnectCode(uint32(code)), nil
	}
	var advice struct {
		Reason    *string `json:"reason"`
		Reconnect *bool   `json:"reconnect"`
	}
	if json.Unmarshal([]byte(ce.Reason), &advice) == nil && advice.Reconnect != nil && advice.Reason != nil {
		e.reason, e.reconnect = *advice.Reason, *advice.Reconnect
	}
	return e
}

func reconnectCode(code uint32) bool {
	return !(code >= 3500 && code < 4000 || code >= 4500 && code < 5000)
}

// newToken asks for a token and keeps it.
func (c *Client) newToken() error {
	token, err := c.opts.GetToken(c.ctx)
	if err != nil {
		return fmt.Errorf("get token: %w", err)
	}
	c.mu.Lock()
	c.token = token
	c.mu.Unlock()
	return nil
}

// registerLocked prepares a command for sending. answered is called once with
// its outcome, by the goroutine that reads or when the connection is lost; it
// must not wait for anything but Events.
func (c *Client) registerLocked(cmd command, answered func(*reply, error)) []byte {
	c.lastID++
	cmd.ID = c.lastID
	c.pending[cmd.ID] = answered
	return encode(cmd)
}

func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("client: unchecked data: %v", err)) // see checkJSON
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// checkJSON looks at raw JSON from the caller. Encoding compacts it, so that no
// newline in it can break the framing.
func checkJSON(data json.RawMessage) error {
	if len(data) > 0 && !json.Valid(data) {
		return errors.New("data is not JSON")
	}
	return nil
}

func (c *Client) write(conn *websocket.Conn, frame []byte) error {
	_ = conn.SetWriteDeadline(time.Now().Add(c.opts.Timeout))
	return conn.WriteText(frame)
}
