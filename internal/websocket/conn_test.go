package websocket

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is the smallest server: it sends messages back, pings before each, and
// answers a close with the same.
type echo struct{ out []byte }

func (e *echo) Message(op Opcode, payload []byte) error {
	switch op {
	case Text, Binary:
		e.out = AppendFrame(e.out, Ping, []byte("are you there"))
		e.out = AppendFrame(e.out, op, payload)
	case Pong:
		if string(payload) != "are you there" {
			return fmt.Errorf("pong with %q", payload)
		}
	case Close:
		e.out = AppendFrame(e.out, Close, payload)
		return io.EOF
	}
	return nil
}

func serveEcho(conn net.Conn, leftover []byte) error {
	defer conn.Close()
	p := NewParser(Server, 1<<20)
	defer p.Release()
	e := &echo{}
	b := leftover
	buf := make([]byte, 1000)
	for {
		err := p.Feed(b, e)
		if _, werr := conn.Write(e.out); werr != nil {
			return werr
		}
		e.out = e.out[:0]
		if err != nil {
			return err
		}
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		b = buf[:n]
	}
}

// server runs upgrades over serve, which may be nil, and waits for all of them
// at the end of the test.
func server(t *testing.T, opts UpgradeOptions, serve func(net.Conn, []byte) error) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	var wg sync.WaitGroup
	s.Config.ReadTimeout = 50 * time.Millisecond // must not be left on the connection
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, leftover, err := Upgrade(w, r, opts)
		if err != nil {
			return
		}
		wg.Go(func() {
			if err := serve(conn, leftover); err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("serve: %v", err)
			}
		})
	})
	t.Cleanup(func() {
		s.Close()
		wg.Wait()
	})
	return s
}

func TestDialAndTalk(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			s := server(t, UpgradeOptions{Subprotocols: []string{"centrifuge-json"}}, serveEcho)
			opts := DialOptions{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3)}, Subprotocols: []string{"centrifuge-json"}}
			if scheme == "ws" {
				s.Start()
			} else {
				s.StartTLS()
				roots := x509.NewCertPool()
				roots.AddCert(s.Certificate())
				opts.TLS = &tls.Config{RootCAs: roots}
			}
			c, err := Dial(t.Context(), scheme+s.URL[strings.Index(s.URL, ":"):]+"/path?q=1", opts)
			if err != nil {
				t.Fatal(err)
			}
			if ip := c.LocalAddr().(*net.TCPAddr).IP; ip.String() != "127.0.0.3" {
				t.Errorf("dialled from %s", ip)
			}
			time.Sleep(100 * time.Millisecond) // past the server's ReadTimeout
			for _, text := range []string{"hello", "", strings.Repeat("long ", 20_000)} {
				if err := c.WriteText([]byte(text)); err != nil {
					t.Fatal(err)
				}
				op, got, err := c.ReadMessage()
				if err != nil || op != Text || string(got) != text {
					t.Fatalf("got %d %.100q, %v", op, got, err)
				}
			}
			if err := c.Close(CodeNormal, "done"); err != nil {
				t.Error(err)
			}
			_, _, err = c.ReadMessage()
			if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != CodeNormal || e.Reason != "done" {
				t.Errorf("read after close: %v", err)
			}
		})
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	s := server(t, UpgradeOptions{}, serveEcho)
	s.Start()
	c, err := Dial(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http"), DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Abort()
	for _, text := range []string{"a", "b", "stop"} {
		if err := c.WriteText([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	h := &stopper{}
	for range 2 { // it stays ended
		if err := c.Serve(h); err != errStop || strings.Join(h.messages, " ") != "1:a 1:b 1:stop" {
			t.Errorf("got %q, %v", h.messages, err)
		}
	}
	if _, _, err := c.ReadMessage(); err != errStop {
		t.Errorf("read after the end: %v", err)
	}
	if err := c.Close(CodeNormal, ""); err != nil {
		t.Error(err)
	}
}

var errStop = errors.New("stop")

type stopper struct{ seen }

func (s *stopper) Message(op Opcode, payload []byte) error {
	stop := string(payload) == "stop"
	_ = s.seen.Message(op, payload)
	if stop {
		return errStop
	}
	return nil
}

func TestServerCloses(t *testing.T) {
	t.Parallel()
	answer := make(chan string, 1)
	s := server(t, UpgradeOptions{}, func(conn net.Conn, leftover []byte) error {
		defer conn.Close()
		// Two messages and the close in one write.
		_, _ = conn.Write(AppendClose(AppendText(AppendText(nil, []byte("a")), []byte("b")), 3001, "shutdown"))
		got := &seen{}
		p := NewParser(Server, 100)
		b, _ := io.ReadAll(conn)
		_ = p.Feed(append(leftover, b...), got)
		answer <- strings.Join(got.messages, " ")
		return nil
	})
	s.Start()
	c, err := Dial(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http"), DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a", "b"} {
		if _, got, err := c.ReadMessage(); err != nil || string(got) != want {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	for range 2 {
		_, _, err := c.ReadMessage()
		if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != 3001 || e.Reason != "shutdown" {
			t.Fatalf("got %v", err)
		}
	}
	c.Abort()
	if got := <-answer; got != "8:\x0b\xb9" {
		t.Errorf("close was answered with %q", got)
	}
}

func TestUpgradeRefuses(t *testing.T) {
	t.Parallel()
	s := server(t, UpgradeOptions{CheckOrigin: func(r *http.Request) bool { return r.Header.Get("Origin") == "https://good.example" }},
		func(conn net.Conn, _ []byte) error { return conn.Close() })
	s.Start()
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	for _, c := range []struct {
		name   string
		method string
		change map[string]string // "" removes
		status int
		header string // name=value
	}{
		{name: "valid", status: 101, header: "Sec-Websocket-Accept=s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
		{name: "tokens in lists and any case", change: map[string]string{"Connection": "keep-alive, UPGRADE", "Upgrade": "WebSocket"}, status: 101},
		{name: "unknown subprotocol is left out", change: map[string]string{"Sec-WebSocket-Protocol": "centrifuge-protobuf"}, status: 101, header: "Sec-Websocket-Protocol="},
		{name: "good origin", change: map[string]string{"Origin": "https://good.example"}, status: 101},
		{name: "bad origin", change: map[string]string{"Origin": "https://bad.example"}, status: 403},
		{name: "plain request", change: map[string]string{"Connection": "", "Upgrade": ""}, status: 426, header: "Upgrade=websocket"},
		{name: "no upgrade", change: map[string]string{"Upgrade": "h2c"}, status: 426},
		{name: "post", method: "POST", status: 405, header: "Allow=GET"},
		{name: "version 8", change: map[string]string{"Sec-WebSocket-Version": "8"}, status: 426, header: "Sec-Websocket-Version=13"},
		{name: "no key", change: map[string]string{"Sec-WebSocket-Key": ""}, status: 400},
		{name: "short key", change: map[string]string{"Sec-WebSocket-Key": "c2hvcnQ="}, status: 400},
		{name: "key not base64", change: map[string]string{"Sec-WebSocket-Key": strings.Repeat("!", 24)}, status: 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
			for k, v := range c.change {
				h[k] = v
			}
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			method := c.method
			if method == "" {
				method = "GET"
			}
			fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: x\r\n", method)
			for k, v := range h {
				if v != "" {
					fmt.Fprintf(conn, "%s: %s\r\n", k, v)
				}
			}
			fmt.Fprint(conn, "\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
			if name, value, ok := strings.Cut(c.header, "="); ok && resp.Header.Get(name) != value {
				t.Errorf("%s: %q, want %q", name, resp.Header.Get(name), value)
			}
		})
	}
}

// A client need not wait for the answer before its first frame.
func TestFramesBehindTheHandshake(t *testing.T) {
	t.Parallel()
	s := server(t, UpgradeOptions{}, serveEcho)
	s.Start()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req := "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	if _, err := conn.Write(append([]byte(req), concat(masked(Text, "eager"), masked(Close, ""))...)); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(conn)
	if _, err := http.ReadResponse(br, nil); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(br)
	if err != nil {
		t.Fatal(err)
	}
	if got := feed(Client, 100, b); len(got.messages) != 3 || got.messages[1] != "1:eager" {
		t.Errorf("got %q", got.messages)
	}
}

func TestDialFails(t *testing.T) {
	t.Parallel()
	answers := func(answer string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(conn, answer)
			_, _ = conn.Read(make([]byte, 1)) // until the client gives up
		})
		t.Cleanup(func() { l.Close(); wg.Wait() })
		return "ws://" + l.Addr().String()
	}
	for _, c := range []struct{ name, url, want string }{
		{"scheme", "http://127.0.0.1", `got scheme "http"`},
		{"url", "ws://%", "invalid URL"},
		{"refused", answers("HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!"), "refused with HTTP 403: no!"},
		{"accept", answers("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"), "no WebSocket handshake"},
		{"garbage", answers("hello\r\n\r\n"), "malformed HTTP"},
		{"silence", answers(""), "deadline exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if _, err := Dial(ctx, c.url, DialOptions{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A server that breaks the protocol is told so.
func TestConnRefusesBrokenFrames(t *testing.T) {
	t.Parallel()
	answer := make(chan string, 1)
	s := server(t, UpgradeOptions{}, func(conn net.Conn, leftover []byte) error {
		defer conn.Close()
		_, _ = conn.Write([]byte{0xff, 0x00})
		got := &seen{}
		p := NewParser(Server, 100)
		b, _ := io.ReadAll(conn)
		_ = p.Feed(append(leftover, b...), got)
		answer <- strings.Join(got.messages, " ")
		return nil
	})
	s.Start()
	c, err := Dial(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http"), DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ReadMessage(); !errors.Is(err, errReservedBits) {
		t.Errorf("got %v", err)
	}
	c.Abort()
	if got := <-answer; got != "8:\x03\xea"+errReservedBits.Reason {
		t.Errorf("the server was told %q", got)
	}
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := server(t, UpgradeOptions{}, func(conn net.Conn, _ []byte) error {
		<-release // never answers
		return conn.Close()
	})
	s.Start()
	c, err := Dial(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http"), DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := c.Close(CodeNormal, ""); err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d < closeWait/2 || d > 5*closeWait {
		t.Errorf("Close took %s", d)
	}
	close(release)
}
