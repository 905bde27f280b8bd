package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/websocket"
)

// scripted is a server that plays one script per connection and fails the test
// when the client says something else. A script's lines:
//
//	> {…}⏎{…}     the client's next frame, compared as JSON
//	< {…}⏎{…}     a frame to the client
//	! 3001 why    a close frame
//	~ 20ms        a pause
//	x             the connection breaks
//
// At the end of a script the server waits for the client to go.
func scripted(t *testing.T, scripts ...string) (url string) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	played := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, leftover, err := websocket.Upgrade(w, r, websocket.UpgradeOptions{})
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if played == len(scripts) {
			t.Errorf("connection %d is one too many", played+1)
			conn.Close()
			return
		}
		n := played
		played++
		wg.Go(func() {
			if err := play(conn, leftover, scripts[n]); err != nil {
				t.Errorf("connection %d: %v", n+1, err)
			}
		})
	}))
	t.Cleanup(func() {
		s.Close()
		wg.Wait()
		if played != len(scripts) {
			t.Errorf("%d connections came, want %d", played, len(scripts))
		}
	})
	return "ws" + strings.TrimPrefix(s.URL, "http")
}

type player struct {
	conn   net.Conn
	parser websocket.Parser
	frames []string
	closed bool
}

func (p *player) Message(op websocket.Opcode, payload []byte) error {
	switch op {
	case websocket.Text:
		p.frames = append(p.frames, string(payload))
	case websocket.Close:
		p.closed = true
		_, _ = p.conn.Write(websocket.AppendFrame(nil, websocket.Close, payload))
	}
	return nil
}

var errGone = errors.New("the client went")

// next is the client's next text frame.
func (p *player) next() (string, error) {
	buf := make([]byte, 1000)
	for len(p.frames) == 0 {
		if p.closed {
			return "", errGone
		}
		n, err := p.conn.Read(buf)
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
			return "", errGone
		}
		if err == nil {
			err = p.parser.Feed(buf[:n], p)
		}
		if err != nil {
			return "", err
		}
	}
	f := p.frames[0]
	p.frames = p.frames[1:]
	return f, nil
}

func play(conn net.Conn, leftover []byte, script string) error {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	p := &player{conn: conn, parser: websocket.NewParser(websocket.Server, 1<<20)}
	defer p.parser.Release()
	if err := p.parser.Feed(leftover, p); err != nil {
		return err
	}
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		rest = strings.ReplaceAll(rest, "⏎", "\n")
		switch verb {
		case ">":
			got, err := p.next()
			if err != nil {
				return fmt.Errorf("waiting for %s: %w", rest, err)
			}
			if err := sameJSON(got, rest); err != nil {
				return err
			}
		case "<":
			if _, err := conn.Write(websocket.AppendText(nil, []byte(rest))); err != nil {
				return err
			}
		case "!":
			code, reason, _ := strings.Cut(rest, " ")
			n, err := strconv.Atoi(code)
			if err != nil {
				return err
			}
			if _, err := conn.Write(websocket.AppendClose(nil, uint16(n), reason)); err != nil {
				return err
			}
		case "~":
			d, err := time.ParseDuration(rest)
			if err != nil {
				return err
			}
			time.Sleep(d)
		case "x":
			return nil
		default:
			return fmt.Errorf("script says %q", line)
		}
	}
	if got, err := p.next(); err == nil {
		return fmt.Errorf("the client says more: %s", got)
	}
	return nil
}

func sameJSON(got, want string) error {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	same := len(g) == len(w)
	for i := 0; same && i < len(g); i++ {
		var gv, wv any
		if err := json.Unmarshal([]byte(w[i]), &wv); err != nil {
			return fmt.Errorf("script: %w in %s", err, w[i])
		}
		same = json.Unmarshal([]byte(g[i]), &gv) == nil && reflect.DeepEqual(gv, wv)
	}
	if !same {
		return fmt.Errorf("the client said %s\nwant %s", got, want)
	}
	return nil
}
