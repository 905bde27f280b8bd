package line

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parleychat/parley/internal/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A peer speaks as much HTTP/2 as it takes to be contrary.
type peer struct {
	t     *testing.T
	roots *x509.CertPool
	ln    net.Listener
	first uint32 // how many streams it says that it takes
	// stream is told of each request on the connection, by its number.
	stream func(c *peerConn, id uint32)

	wg    sync.WaitGroup
	mu    sync.Mutex
	conns int
	open  []net.Conn
}

type peerConn struct {
	net.Conn
	number int // of the connection, from 1
	mu     sync.Mutex
	now    int
	later  []func() // when pings are answered
}

const (
	frameData     = 0
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	framePing     = 6
	frameGoAway   = 7
)

func newPeer(t *testing.T, first uint32, stream func(*peerConn, uint32)) *peer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, roots: x509.NewCertPool(), first: first, stream: stream}
	p.roots.AddCert(cert)
	p.ln, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		NextProtos: []string{"h2"}, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.wg.Go(func() {
		for {
			c, err := p.ln.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns++
			p.open = append(p.open, c)
			pc := &peerConn{Conn: c, number: p.conns}
			p.mu.Unlock()
			p.wg.Go(func() { p.serve(pc) })
		}
	})
	t.Cleanup(func() {
		p.ln.Close()
		p.mu.Lock()
		for _, c := range p.open {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *peer) serve(c *peerConn) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	c.settings(p.first)
	var h [9]byte
	for {
		if _, err := io.ReadFull(c, h[:]); err != nil {
			return
		}
		body := make([]byte, int(h[0])<<16|int(h[1])<<8|int(h[2]))
		if _, err := io.ReadFull(c, body); err != nil {
			return
		}
		id := binary.BigEndian.Uint32(h[5:])
		switch kind, flags := h[3], h[4]; {
		case kind == frameHeaders:
			c.mu.Lock()
			c.now++
			c.mu.Unlock()
			if flags&1 != 0 {
				p.stream(c, id)
			}
		case kind == frameData && flags&1 != 0:
			p.stream(c, id)
		case kind == frameSettings && flags&1 == 0:
			c.frame(frameSettings, 1, 0, nil)
		case kind == framePing && flags&1 == 0:
			c.frame(framePing, 1, 0, body)
		case kind == framePing:
			c.mu.Lock()
			then := c.later[0]
			c.later = c.later[1:]
			c.mu.Unlock()
			then()
		}
	}
}

func (c *peerConn) frame(kind, flags byte, id uint32, body []byte) {
	b := []byte{byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body)), kind, flags}
	b = append(binary.BigEndian.AppendUint32(b, id), body...)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.Write(b)
}

// settings says how many streams it takes.
func (c *peerConn) settings(streams uint32) {
	c.frame(frameSettings, 0, 0, binary.BigEndian.AppendUint32([]byte{0, 3}, streams))
}

// after has something happen after so many round trips.
func (c *peerConn) after(trips int, then func()) {
	if trips == 0 {
		then()
		return
	}
	c.mu.Lock()
	c.later = append(c.later, func() { c.after(trips-1, then) })
	c.mu.Unlock()
	c.frame(framePing, 0, 0, make([]byte, 8))
}

func (c *peerConn) done() {
	c.mu.Lock()
	c.now--
	c.mu.Unlock()
}

// ok answers 200 with nothing.
func (c *peerConn) ok(id uint32) {
	c.done()
	c.frame(frameHeaders, 4|1, id, []byte{0x88})
}

// forbidden answers 403, written out: its name is the eighth of the static table.
func (c *peerConn) forbidden(id uint32) {
	c.done()
	c.frame(frameHeaders, 4|1, id, []byte{0x08, 3, '4', '0', '3'})
}

func (c *peerConn) refuse(id uint32) {
	c.done()
	c.frame(frameReset, 0, id, []byte{0, 0, 0, 7})
}

// goAway says that of the requests only those up to last are answered.
func (c *peerConn) goAway(last uint32) {
	c.frame(frameGoAway, 0, 0, append(binary.BigEndian.AppendUint32(nil, last), "\x00\x00\x00\x00{\"reason\":\"Shutdown\"}"...))
}

func (p *peer) line(t *testing.T, timeout time.Duration) *Line {
	t.Helper()
	l := New(Options{Roots: p.roots, HTTP2: true, Shared: true, Timeout: timeout})
	t.Cleanup(l.Close)
	return l
}

func (p *peer) do(ctx context.Context, l *Line) (int, error) {
	r := push.JSONRequest("/x", []byte(strings.Repeat("x", 100)), 0)
	a, err := l.Do(ctx, "https://"+p.ln.Addr().String(), &r, map[string]string{"authorization": "x"})
	if err != nil {
		return 0, err
	}
	return a.Status, nil
}

func (p *peer) together(l *Line, n int) {
	p.t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if status, err := p.do(context.Background(), l); status != 200 {
				p.t.Errorf("%d %v", status, err)
			}
		})
	}
	wg.Wait()
}

// TestLittleRoom has a provider take one request at a time until it has answered
// one, and more than wait afterwards.
func TestLittleRoom(t *testing.T) {
	t.Parallel()
	var p *peer
	var early sync.Once
	p = newPeer(t, 1, func(c *peerConn, id uint32) {
		early.Do(func() { c.settings(100) })
		c.ok(id)
	})
	l := p.line(t, 0)
	p.together(l, 300)
	if p.conns > maxConns {
		t.Errorf("%d connections", p.conns)
	}
	p.together(l, 300)
	if p.conns > maxConns {
		t.Errorf("%d connections", p.conns)
	}
}

// TestNoRoom has it stay at one.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	p := newPeer(t, 1, func(c *peerConn, id uint32) {
		c.mu.Lock()
		if c.now > 1 {
			t.Errorf("%d at once", c.now)
		}
		c.mu.Unlock()
		c.ok(id)
	})
	p.together(p.line(t, 0), 200)
	if p.conns > maxConns {
		t.Errorf("%d connections", p.conns)
	}
}

// TestStranger has it not let us in: as long as that is so there is one request,
// although there is room for many. Afterwards it gets all of them at once.
func TestStranger(t *testing.T) {
	t.Parallel()
	const outside, all = 20, 60
	var mu sync.Mutex
	seen := 0
	var inside []uint32
	p := newPeer(t, 100, func(c *peerConn, id uint32) {
		mu.Lock()
		defer mu.Unlock()
		seen++
		n := seen
		switch {
		case n <= outside:
			// There is time for others to come.
			c.after(5, func() {
				c.mu.Lock()
				if c.now > 1 {
					t.Errorf("%d at once, at request %d", c.now, n)
				}
				c.mu.Unlock()
				c.forbidden(id)
			})
		case n == outside+1:
			c.ok(id)
		default:
			if inside = append(inside, id); len(inside) == all-outside-1 {
				for _, id := range inside {
					c.ok(id)
				}
			}
		}
	})
	l := p.line(t, 0)
	forbidden := 0
	var wg sync.WaitGroup
	for range all {
		wg.Go(func() {
			status, err := p.do(context.Background(), l)
			mu.Lock()
			defer mu.Unlock()
			if status == 403 {
				forbidden++
			} else if status != 200 {
				t.Errorf("%d %v", status, err)
			}
		})
	}
	wg.Wait()
	if forbidden != outside || p.conns != 1 {
		t.Errorf("%d forbidden, %d connections", forbidden, p.conns)
	}
}

// TestGoodbye has each connection say goodbye after some requests: those that it
// has not begun with are made on another.
func TestGoodbye(t *testing.T) {
	t.Parallel()
	p := newPeer(t, 100, func(c *peerConn, id uint32) {
		const last = 41
		switch {
		case c.number > 3 || id < last:
			c.ok(id)
		case id == last:
			c.goAway(last)
			c.ok(id)
		default:
			c.done() // of no interest any more
		}
	})
	p.together(p.line(t, 0), 250)
	if p.conns < 4 || p.conns > 3+maxConns {
		t.Errorf("%d connections", p.conns)
	}
}

// TestRefused has streams refused: each is tried again, but not for ever.
func TestRefused(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := 0
	p := newPeer(t, 100, func(c *peerConn, id uint32) {
		mu.Lock()
		defer mu.Unlock()
		seen++
		if seen == 2 || seen == 3 || seen > 4 {
			c.refuse(id)
			return
		}
		c.ok(id)
	})
	l := p.line(t, 0)
	p.together(l, 1)
	p.together(l, 1)
	_, err := p.do(context.Background(), l)
	if r := ResultOf(err); r.Class != push.Retry || r.Code != "transport" || seen != 4+maxAgain+1 {
		t.Errorf("%+v %v after %d requests", r, err, seen)
	}
}

// TestWaiting has nobody answer: who waits for room gives up in time, and whoever
// comes afterwards is served.
func TestWaiting(t *testing.T) {
	t.Parallel()
	var p *peer
	release := make(chan struct{})
	p = newPeer(t, 1, func(c *peerConn, id uint32) {
		select {
		case <-release:
			c.ok(id)
		default:
			p.wg.Go(func() {
				<-release
				c.ok(id)
			})
		}
	})
	l := p.line(t, 100*time.Millisecond)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			_, err := p.do(context.Background(), l)
			if r := ResultOf(err); r.Class != push.Retry || r.Code != "timeout" {
				t.Errorf("%+v %v", r, err)
			}
		})
	}
	wg.Wait()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.do(gone, l); ResultOf(err).Code != "timeout" {
		t.Error(err)
	}
	close(release)
	long := p.line(t, 0)
	p.together(long, 10)
	l.timeout = DefaultTimeout
	p.together(l, 10)
}

// TestNobody has nobody there, and somebody who speaks HTTP/1 only.
func TestNobody(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	l := New(Options{HTTP2: true, Shared: true})
	defer l.Close()
	r := push.JSONRequest("/x", nil, 0)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := l.Do(context.Background(), "https://"+ln.Addr().String(), &r, nil); ResultOf(err).Code != "connect" {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := l.Do(context.Background(), "https://nobody.invalid:x", &r, nil); ResultOf(err).Code != "address" {
		t.Error(err)
	}
	if r := ResultOf(io.EOF); r.Class != push.Retry {
		t.Errorf("%+v", r)
	}
}

// Whom to call may be said by others, who can make up as many hosts as they like:
// those that nothing is connected to are forgotten.
func TestManyHosts(t *testing.T) {
	t.Parallel()
	l := New(Options{Shared: true, Timeout: 5 * time.Second})
	defer l.Close()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 3 * maxHosts {
		q := push.Request{Method: "POST", Path: "/", Header: map[string]string{}}
		if _, err := l.Do(gone, fmt.Sprintf("https://127.0.%d.%d:1", i/200, 1+i%200), &q, nil); err == nil {
			t.Fatal("somebody is there")
		}
	}
	l.conns.mu.Lock()
	defer l.conns.mu.Unlock()
	if n := len(l.conns.hosts); n > maxHosts {
		t.Errorf("%d hosts are remembered", n)
	}
	for name, h := range l.conns.hosts {
		if h.users != 0 {
			t.Errorf("%d wait for %s", h.users, name)
		}
	}
}
