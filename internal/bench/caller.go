package bench

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// A caller makes signed calls of the server API, one at a time, over one
// connection that is kept. net/http's client would take more of the machine
// than the server that is measured.
type caller struct {
	srv   *server
	conn  net.Conn
	stop  func() bool // releases the watch on the context
	id    int
	calls int

	out    []byte
	in     []byte
	signed []byte
}

func newCaller(ctx context.Context, srv *server, id int) (*caller, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", srv.addr)
	if err != nil {
		return nil, fmt.Errorf("connect to the server API: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return &caller{srv: srv, conn: conn, stop: stop, id: id}, nil
}

func (c *caller) close() {
	c.stop()
	c.conn.Close()
}

// call posts body to path. The answer is valid until the next call.
func (c *caller) call(path string, body []byte) (status int, answer []byte, err error) {
	c.calls++
	// At most 18 characters, and not used before: callers have ids of their
	// own for as long as a server runs.
	nonce := strconv.AppendInt(nil, int64(c.id), 36)
	nonce = append(nonce, '.')
	nonce = strconv.AppendInt(nonce, int64(c.calls), 36)
	timestamp := strconv.AppendInt(nil, time.Now().UnixMilli(), 10)
	c.signed = append(append(append(c.signed[:0], c.srv.secret...), nonce...), timestamp...)
	signature := sha1.Sum(c.signed)

	b := append(c.out[:0], "POST "...)
	b = append(append(b, path...), " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nApp-Key: "...)
	b = append(append(b, c.srv.key...), "\r\nNonce: "...)
	b = append(append(b, nonce...), "\r\nTimestamp: "...)
	b = append(append(b, timestamp...), "\r\nSignature: "...)
	b = append(hex.AppendEncode(b, signature[:]), "\r\nContent-Length: "...)
	b = append(strconv.AppendInt(b, int64(len(body)), 10), "\r\n\r\n"...)
	b = append(b, body...)
	c.out = b
	if _, err := c.conn.Write(b); err != nil {
		return 0, nil, err
	}
	return c.answer()
}

var errAnswer = errors.New("the answer is not the HTTP this generator understands")

// answer reads one response. Only Content-Length is understood: the server
// knows the length of every answer.
func (c *caller) answer() (status int, body []byte, err error) {
	b := c.in[:0]
	head, length := -1, 0
	for head < 0 || len(b) < head+length {
		if len(b) == cap(b) {
			b = append(b, make([]byte, max(4096, cap(b)))...)[:len(b)]
		}
		n, err := c.conn.Read(b[len(b):cap(b)])
		if n == 0 && err != nil {
			return 0, nil, err
		}
		b = b[:len(b)+n]
		if head < 0 {
			if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
				head = i + 4
				if status, length, err = readHead(b[:head]); err != nil {
					return 0, nil, err
				}
			}
		}
	}
	c.in = b
	return status, b[head : head+length], nil
}

func readHead(b []byte) (status, length int, err error) {
	line, rest, _ := bytes.Cut(b, []byte("\r\n"))
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) || len(line) < 12 {
		return 0, 0, errAnswer
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, errAnswer
	}
	for line := range bytes.SplitSeq(rest, []byte("\r\n")) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && len(name) == 14 && bytes.EqualFold(name, []byte("Content-Length")) {
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil || length < 0 {
				return 0, 0, errAnswer
			}
			return status, length, nil
		}
	}
	return 0, 0, errAnswer
}

// send posts a message and gives the UIDs of the answer, which are consecutive:
// the first of n.
func (c *caller) send(path string, body []byte, n int) (first chat.UID, err error) {
	status, answer, err := c.call(path, body)
	if err != nil {
		return chat.UID{}, err
	}
	if status != 200 || !bytes.HasPrefix(answer, []byte(`{"code":0,`)) {
		return chat.UID{}, fmt.Errorf("refused with HTTP %d: %.300s", status, answer)
	}
	found := 0
	for uid := range uidsIn(answer) {
		if found == 0 {
			first = uid
		}
		if uid.IndexIn(first, n) != found {
			return chat.UID{}, fmt.Errorf("the UID at place %d of the answer is not the first one's successor", found)
		}
		found++
	}
	if found != n {
		return chat.UID{}, fmt.Errorf("the answer has %d UIDs, want %d", found, n)
	}
	return first, nil
}

// token issues an access token.
func (c *caller) token(user string) (string, error) {
	body := fmt.Appendf(nil, `{"userId":%q,"name":%q}`, user, user)
	status, answer, err := c.call("/v4/auth/access-token/issue", body)
	if err != nil {
		return "", err
	}
	_, rest, ok := bytes.Cut(answer, []byte(`"accessToken":"`))
	token, _, _ := bytes.Cut(rest, []byte(`"`))
	if status != 200 || !ok {
		return "", fmt.Errorf("no token for %s: HTTP %d: %.300s", user, status, answer)
	}
	return string(token), nil
}
