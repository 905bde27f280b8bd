package websocket

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// UpgradeOptions are a server's choices in the opening handshake.
type UpgradeOptions struct {
	// Subprotocols that the server speaks. The first one that the client offers
	// and that is listed here is chosen; with none in common the connection is
	// opened without a subprotocol.
	Subprotocols []string

	// CheckOrigin decides about requests that carry an Origin header, which is
	// what browsers send. Nil admits all: right where connections authenticate
	// with a token rather than a cookie.
	CheckOrigin func(r *http.Request) bool
}

// handshakeTimeout bounds the writing of the one small answer.
const handshakeTimeout = 10 * time.Second

// Upgrade answers the opening handshake and takes the connection over. leftover
// is what the client sent right behind its handshake; it must be fed to the
// Parser first.
//
// When the request is no valid handshake, Upgrade answers it with an HTTP error
// and returns what was wrong.
//
// The connection has no deadlines, and nothing of net/http's buffers is kept.
// The handler should return soon after and leave the connection to a goroutine
// of its own: while it runs, net/http's goroutine with its stack, buffers and
// the request stay in memory.
func Upgrade(w http.ResponseWriter, r *http.Request, opts UpgradeOptions) (conn net.Conn, leftover []byte, err error) {
	if status, problem := checkHandshake(r); problem != "" {
		return nil, nil, refuse(w, status, problem)
	}
	if opts.CheckOrigin != nil && r.Header.Get("Origin") != "" && !opts.CheckOrigin(r) {
		return nil, nil, refuse(w, http.StatusForbidden, "origin not allowed")
	}

	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, refuse(w, http.StatusInternalServerError, "connection cannot be taken over")
	}
	// A client that does not wait for the answer: its first frames are in the
	// buffer that is given up here.
	if n := rw.Reader.Buffered(); n > 0 {
		peeked, _ := rw.Reader.Peek(n)
		leftover = slices.Clone(peeked)
	}

	answer := make([]byte, 0, 256)
	answer = append(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	answer = append(answer, acceptKey(r.Header.Get("Sec-WebSocket-Key"))...)
	if p := chooseSubprotocol(r.Header, opts.Subprotocols); p != "" {
		answer = append(append(answer, "\r\nSec-WebSocket-Protocol: "...), p...)
	}
	answer = append(answer, "\r\n\r\n"...)

	// The server's read and write timeouts may still stand on the connection.
	err = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	if err == nil {
		_, err = conn.Write(answer)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("answer websocket handshake: %w", err)
	}
	return conn, leftover, nil
}

// checkHandshake holds a request against RFC 6455 section 4.2.1.
func checkHandshake(r *http.Request) (status int, problem string) {
	if !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket") {
		return http.StatusUpgradeRequired, "this address speaks WebSocket: Connection: Upgrade and Upgrade: websocket are missing"
	}
	if r.Method != http.MethodGet {
		return http.StatusMethodNotAllowed, "a WebSocket handshake is a GET request"
	}
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 {
		return http.StatusBadRequest, "a WebSocket handshake needs HTTP/1.1"
	}
	if r.Header.Get("Sec-WebSocket-Version") != "13" {
		return http.StatusUpgradeRequired, "Sec-WebSocket-Version must be 13"
	}
	keys := r.Header.Values("Sec-WebSocket-Key")
	if len(keys) != 1 {
		return http.StatusBadRequest, "exactly one Sec-WebSocket-Key is needed"
	}
	if key, err := base64.StdEncoding.DecodeString(keys[0]); err != nil || len(key) != 16 {
		return http.StatusBadRequest, "Sec-WebSocket-Key must be 16 bytes in base64"
	}
	return 0, ""
}

func refuse(w http.ResponseWriter, status int, problem string) error {
	switch status {
	case http.StatusUpgradeRequired:
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Sec-WebSocket-Version", "13")
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodGet)
	}
	http.Error(w, problem, status)
	return errors.New("websocket: " + problem)
}

// hasToken looks for a token in a comma-separated header, in any case.
func hasToken(h http.Header, name, token string) bool {
	for _, v := range h.Values(name) {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

func chooseSubprotocol(h http.Header, spoken []string) string {
	for _, v := range h.Values("Sec-WebSocket-Protocol") {
		for t := range strings.SplitSeq(v, ",") {
			if t = strings.TrimSpace(t); slices.Contains(spoken, t) {
				return t
			}
		}
	}
	return ""
}

// acceptKey proves that the server understood the handshake (section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
