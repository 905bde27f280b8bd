package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/admin"
)

// A server is where a command's calls and connections go, and as which app.
type server struct {
	base        string // URL without a trailing slash
	key, secret string
	tls         *tls.Config
	http        *http.Client
}

// sign makes the four headers that prove a call to be the app's.
func (s *server) sign(h http.Header) {
	nonce, now := rand.Text()[:18], strconv.FormatInt(time.Now().UnixMilli(), 10)
	sum := sha1.Sum([]byte(s.secret + nonce + now))
	h.Set("App-Key", s.key)
	h.Set("Nonce", nonce)
	h.Set("Timestamp", now)
	h.Set("Signature", hex.EncodeToString(sum[:]))
}

// An answer is what a call came to.
type answer struct {
	status int
	header http.Header
	body   []byte
	code   int // the business code; -1 when the body has none
}

// call signs and sends one call of the server API.
func (s *server) call(ctx context.Context, path string, body []byte, header http.Header) (*answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, v := range header {
		r.Header[name] = v
	}
	r.Header.Set("Content-Type", "application/json")
	s.sign(r.Header)
	resp, err := s.http.Do(r)
	if err != nil {
		return nil, err
	}
	a := &answer{status: resp.StatusCode, header: resp.Header, code: -1}
	a.body, err = io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	var parsed struct {
		Code *int `json:"code"`
	}
	if json.Unmarshal(a.body, &parsed) == nil && parsed.Code != nil {
		a.code = *parsed.Code
	}
	return a, nil
}

// websocketURL is where clients connect.
func (s *server) websocketURL() string {
	return "ws" + strings.TrimPrefix(s.base, "http") + "/connection/websocket"
}

// newServer is the server at a base URL.
func newServer(base, key, secret string, insecure bool) (*server, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usage(fmt.Errorf("--url: want http://HOST:PORT or https://HOST, got %q", base))
	}
	s := &server{base: strings.TrimRight(base, "/"), key: key, secret: secret}
	if insecure {
		s.tls = &tls.Config{InsecureSkipVerify: true}
	}
	s.http = &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			TLSClientConfig: s.tls, MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second,
		},
	}
	return s, nil
}

// localServer is the node that an owner's API belongs to. It is reached over
// an address of this machine, which its certificate does not name; that it is
// the right one was said by the socket that only its owner can serve.
func localServer(ctx context.Context, api admin.API, appKey string) (*server, error) {
	n, err := api.Node(ctx)
	if err != nil {
		return nil, err
	}
	if !n.Running {
		return nil, admin.ErrNotRunning
	}
	app, err := pickApp(ctx, api, appKey)
	if err != nil {
		return nil, err
	}
	return newServer(n.URL(), app.Key, app.Secret, n.TLS)
}

// find is the server the flags name, or the node that runs on the data folder.
// owner is nil for a server named by URL.
func find(ctx context.Context, dir string, app appFlags, f serverFlags) (s *server, o *admin.Client, err error) {
	if f.URL != "" {
		s, err := newServer(f.URL, app.AppKey, f.AppSecret, f.Insecure)
		return s, nil, err
	}
	o, err = admin.Connect(ctx, dir)
	if err != nil {
		if errors.Is(err, admin.ErrNotRunning) {
			err = fmt.Errorf("%w (%s); start it with parley serve, or name a server with --url", err, dir)
		}
		return nil, nil, err
	}
	if s, err = localServer(ctx, o, app.AppKey); err != nil {
		o.Close()
		return nil, nil, err
	}
	return s, o, nil
}
