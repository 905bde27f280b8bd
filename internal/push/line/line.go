// Package line is what the adapters of all providers share: the connections, and
// the tokens that let them in.
package line

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/push"
)

// Options say how to reach a provider.
type Options struct {
	Roots  *x509.CertPool // who vouches for it, besides those whom the machine trusts; nil for nobody
	HTTP2  bool           // nothing else is spoken
	Shared bool           // requests share few connections, as HTTP/2 has it, and wait for room on them
	// Literal has HTTP/2 send header fields as they are. Where most of them differ from
	// request to request, keeping them for reuse costs more than it saves.
	Literal bool
	Timeout time.Duration // of one request; 10 s when 0
	Answer  int           // as much of an answer as is read, in bytes; MaxAnswer when 0
}

// DefaultTimeout is how long a provider may take for an answer.
const DefaultTimeout = 10 * time.Second

// MaxAnswer is as much of an answer as is read, in bytes, unless Options say
// otherwise. What goes beyond it cannot be read as what it is.
const MaxAnswer = 64 << 10

// A Line is the connections to one provider.
type Line struct {
	transport *http.Transport
	conns     *conns // nil where the transport has its own
	timeout   time.Duration
	answer    int64

	mu     sync.Mutex
	open   map[*opened]struct{}
	closed bool
}

// New makes a line. Nothing is connected before the first request.
func New(o Options) *Line {
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
		TLSHandshakeTimeout:    5 * time.Second,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        time.Hour, // providers take many short connections for an attack
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		HTTP2: &http.HTTP2Config{
			// A line that is dead is found out by pings: nothing else would, as
			// requests of others keep coming.
			SendPingTimeout: 15 * time.Second,
			PingTimeout:     10 * time.Second,
		},
		Protocols: new(http.Protocols),
	}
	if o.Literal {
		t.HTTP2.MaxEncoderHeaderTableSize = 1 // 0 would be the default; nothing fits into 1
	}
	t.Protocols.SetHTTP2(true)
	t.Protocols.SetHTTP1(!o.HTTP2)
	timeout := o.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	l := &Line{transport: t, timeout: timeout, answer: int64(cmp.Or(o.Answer, MaxAnswer)), open: map[*opened]struct{}{}}
	t.DialContext = l.dial
	if o.Shared {
		l.conns = &conns{transport: t, hosts: map[string]*host{}}
	}
	return l
}

var dialer = net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}

// An opened connection is known to its line until it is closed.
type opened struct {
	net.Conn
	line *Line
}

func (l *Line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	o := &opened{c, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed { // the transport may dial for who has been served by another meanwhile
		_ = c.Close()
		return nil, net.ErrClosed
	}
	l.open[o] = struct{}{}
	return o, nil
}

// Close implements net.Conn.
func (o *opened) Close() error {
	o.line.mu.Lock()
	delete(o.line.open, o)
	o.line.mu.Unlock()
	return o.Conn.Close()
}

// Close lets the connections go.
func (l *Line) Close() {
	if l.conns != nil {
		l.conns.close()
	}
	l.transport.CloseIdleConnections()
	// One on which a request was given up a moment ago is not idle yet to the
	// transport, which would keep it for as long as any.
	l.mu.Lock()
	l.closed = true
	left := slices.Collect(maps.Keys(l.open))
	l.mu.Unlock()
	for _, o := range left {
		_ = o.Close()
	}
}

// An Answer of a provider.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends the request to the address, with these header fields besides its own,
// and gives the answer. Errors are [Failure]s.
//
// It ends when ctx does, or after the line's own time; who has many requests can
// save a timer for each by a ctx that ends before that.
func (l *Line) Do(ctx context.Context, address string, r *push.Request, header map[string]string) (*Answer, error) {
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > l.timeout {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.timeout)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, address+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return nil, &Failure{push.Result{Class: push.ConfigHalt, Code: "address"}, err}
	}
	n := len(r.Header) + len(header)
	req.Header = make(http.Header, n)
	values := make([]string, 0, n) // one allocation for all
	for _, fields := range [...]map[string]string{r.Header, header} {
		for name, value := range fields {
			values = append(values, value)
			// Names go out as providers write them; HTTP/2 has small letters only.
			req.Header[name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	// Without http.Client: it would follow redirects, which carry off what proves
	// who we are, and its ways with cookies and timeouts cost a tenth of a request.
	var res *http.Response
	if l.conns != nil {
		res, err = l.conns.roundTrip(req)
	} else {
		res, err = l.transport.RoundTrip(req)
	}
	if err != nil {
		return nil, failed(ctx, err)
	}
	defer res.Body.Close()
	a := &Answer{Status: res.StatusCode, Header: res.Header}
	if size := res.ContentLength; size >= 0 && size <= l.answer {
		a.Body = make([]byte, size)
		_, err = io.ReadFull(res.Body, a.Body)
	} else {
		a.Body, err = io.ReadAll(io.LimitReader(res.Body, l.answer))
		if err == nil {
			err = ctx.Err() // who sees us leave may end an answer as if that were all of it
		}
	}
	if err != nil {
		return nil, failed(ctx, err)
	}
	return a, nil
}

// A Failure is why there is no answer, or no access token, and what follows for
// the notification.
type Failure struct {
	push.Result
	err error
}

// Fail is a failure with this result.
func Fail(r push.Result, err error) *Failure { return &Failure{r, err} }

func (f *Failure) Error() string {
	if f.err == nil {
		return f.Class.String() + " " + f.Code
	}
	return f.Class.String() + " " + f.Code + ": " + f.err.Error()
}

func (f *Failure) Unwrap() error { return f.err }

// ResultOf is what follows from an error of this package.
func ResultOf(err error) push.Result {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Result
	}
	return push.Result{Class: push.Retry, Code: "transport"}
}

// failed says what kept a request from being answered. The error's text has the
// address in it, which for some providers has the token in it: it is left out.
func failed(ctx context.Context, err error) *Failure {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	f := &Failure{push.Result{Class: push.Retry, Code: "transport"}, err}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || ctx.Err() != nil {
		f.Code = "timeout"
		return f
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		f.Code = "certificate"
		return f
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		f.Code = "connect"
	}
	return f
}
