package line

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

const (
	// maxConns is how many connections requests share. One has room for as many as
	// are under way; there are more while that is not so, as before one that says
	// goodbye is done.
	maxConns = 4
	// maxConns1 is how many there may be when something on the way speaks HTTP/1 only,
	// which takes a connection for each request.
	maxConns1 = 256
	// maxAgain is how often a request is made again that no provider has begun with.
	maxAgain = 5
	// maxHosts is how many hosts are remembered. Those that nothing is connected to are
	// forgotten beyond that: where it is said elsewhere whom to call, there may be many.
	maxHosts = 64
)

// conns are few connections that many requests share.
//
// The transport's own pool gives a connection to each request that finds no room
// on the others, so that all who wait dial at once where a provider begins with
// little room, or goes away. Its strict mode, which does not, never wakes those who
// wait when they are more than there is room for.
type conns struct {
	transport *http.Transport

	mu    sync.Mutex
	hosts map[string]*host // by scheme and host
}

type host struct {
	list []*conn
	most int
	// users are those who wait for a connection, or for the host's first.
	users int // conns.mu
	// trying says that a connection is being dialled, or has its first request.
	trying bool
	// wake has something in it when there may be room again.
	wake chan struct{}
}

// A conn is a connection. It has one request at a time until one was answered: that
// is all that providers give to whom they do not know yet.
type conn struct {
	*http.ClientConn
	host   *host
	proven bool // conns.mu
}

func (p *conns) roundTrip(req *http.Request) (*http.Response, error) {
	for again := 0; ; again++ {
		c, err := p.get(req.Context(), req.URL)
		if err != nil {
			return nil, err
		}
		res, err := c.RoundTrip(req)
		p.answered(c, res)
		if err == nil {
			return res, nil
		}
		if again == maxAgain || !untouched(err) {
			return nil, err
		}
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
}

// untouched reports whether the provider says that it has not begun with the
// request: it said goodbye before, or has no room.
func untouched(err error) bool {
	text := err.Error() // there is nothing else to know them by
	return strings.Contains(text, "REFUSED_STREAM") || strings.Contains(text, "graceful shutdown GOAWAY") ||
		strings.Contains(text, "client conn not usable")
}

// get gives a connection that has room for the request, and keeps it.
func (p *conns) get(ctx context.Context, u *url.URL) (*conn, error) {
	p.mu.Lock()
	h := p.hosts[u.Scheme+u.Host]
	if h == nil {
		p.forget()
		h = &host{most: maxConns, wake: make(chan struct{}, 1)}
		p.hosts[u.Scheme+u.Host] = h
	}
	for {
		c, may := h.free()
		if c == nil {
			h.users++
		}
		if may {
			h.trying = true
		}
		p.mu.Unlock()
		if c != nil {
			h.signal() // there may be room for more
			return c, nil
		}
		if may {
			return p.dial(ctx, u, h)
		}
		select {
		case <-h.wake:
		case <-ctx.Done():
			p.mu.Lock()
			h.users--
			p.mu.Unlock()
			return nil, ctx.Err()
		}
		p.mu.Lock()
		h.users--
	}
}

// forget makes room for one more host. The caller holds mu.
func (p *conns) forget() {
	if len(p.hosts) < maxHosts {
		return
	}
	for name, h := range p.hosts {
		if len(h.list) == 0 && h.users == 0 {
			delete(p.hosts, name)
		}
	}
}

// free is a connection with room for one more, which is kept. If there is none, may
// says whether to dial.
func (h *host) free() (c *conn, may bool) {
	h.list = slices.DeleteFunc(h.list, func(c *conn) bool {
		if c.InFlight() == 0 && c.Available() == 0 && c.Err() == nil {
			_ = c.Close() // it has said goodbye, and nobody waits for an answer
		}
		return c.Err() != nil
	})
	for _, c := range h.list {
		if !c.proven && h.trying || c.Reserve() != nil {
			continue
		}
		h.trying = h.trying || !c.proven
		return c, false
	}
	return nil, !h.trying && len(h.list) < h.most
}

func (h *host) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (p *conns) dial(ctx context.Context, u *url.URL, h *host) (*conn, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	cc, err := p.transport.NewClientConn(ctx, u.Scheme, net.JoinHostPort(u.Hostname(), port))
	if err == nil {
		if err = cc.Reserve(); err != nil {
			_ = cc.Close()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h.users--
	if err != nil {
		h.trying = false
		h.signal()
		return nil, err
	}
	c := &conn{ClientConn: cc, host: h}
	h.list = append(h.list, c)
	cc.SetStateHook(func(*http.ClientConn) { h.signal() })
	return c, nil
}

// answered says what came of a request on the connection, nil for no answer.
func (p *conns) answered(c *conn, res *http.Response) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.proven {
		return
	}
	h := c.host
	h.trying = false
	if res != nil {
		if res.ProtoMajor == 1 {
			h.most = maxConns1
		}
		switch s := res.StatusCode; {
		case s == http.StatusUnauthorized, s == http.StatusForbidden, s >= 500:
			// It does not know us yet.
		default:
			c.proven = true
		}
	}
	h.signal()
}

// close breaks all connections off.
func (p *conns) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.hosts {
		for _, c := range h.list {
			_ = c.Close()
		}
		h.list = nil
	}
}
