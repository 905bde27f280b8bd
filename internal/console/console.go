// Package console is the live page at /demo/: two users and an open channel
// side by side, each with a connection of its own, for whoever wants to see
// what Parley does before writing a line.
//
// The page's files are open to all. What it can do is behind a link that works
// once: its ticket is in the URL's fragment, which browsers send to nobody. The
// page exchanges it for a session cookie, and with that it gets access tokens
// for its two users and may ask for messages as an app's backend would.
package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// Path is where the page is served.
const Path = "/demo/"

// Who is on the page. The names are those that the documentation speaks of.
const (
	ann    = "ann"
	bob    = "bob"
	news   = "news" // sends what comes from no user
	lobby  = "lobby"
	apiDir = Path + "api/"
)

// maxBody is far above what the page sends: a text of a few lines.
const maxBody = 8 << 10

// Options are what the page works with. All but Now and Logger must be set.
type Options struct {
	// App is the app whose users are shown, nil when there is none.
	App func() *chat.App
	// Token issues an access token.
	Token func(ctx context.Context, app *chat.App, user string) (string, error)
	// Calls is the server API. The page's messages go through it signed, as
	// those of any backend do.
	Calls http.Handler

	Version string
	Now     func() time.Time // time.Now when nil
	Logger  *slog.Logger     // slog.Default() when nil
}

// A Console serves the page.
type Console struct {
	Options
	doorman *doorman
	origin  *http.CrossOriginProtection
	files   map[string]*file
	sending chan struct{} // a place for each send under way

	answering chan struct{} // a place for each answer that the bot writes
	pace      time.Duration
	close     sync.Once
	closed    chan struct{}
}

// New makes the page. Nobody can use it before a Ticket is given out.
func New(o Options) *Console {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Console{
		Options: o, doorman: newDoorman(o.Now),
		// SameSite does not tell the ports of one machine apart: without this, a
		// page that another local server serves could press the buttons.
		origin:  http.NewCrossOriginProtection(),
		files:   pageFiles(),
		sending: make(chan struct{}, maxSending),

		answering: make(chan struct{}, maxAnswers), pace: botPace, closed: make(chan struct{}),
	}
}

// Close has what is under way come to its end soon, because the server stops. It
// waits for nothing: what is under way are requests.
func (c *Console) Close() { c.close.Do(func() { close(c.closed) }) }

// Ticket gives out the part of a link that lets one browser in, once, and says
// until when.
func (c *Console) Ticket() (ticket string, until time.Time) { return c.doorman.ticket() }

// Link is the URL that brings a ticket to the server at base, which has no
// slash at its end.
func Link(base, ticket string) string { return base + Path + "#" + ticket }

// ServeHTTP answers everything below Path, and Path without its slash.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	path := "/" + strings.TrimLeft(r.URL.Path, "/")
	switch {
	case strings.HasPrefix(path, apiDir):
		c.serveAPI(w, r, strings.TrimPrefix(path, apiDir))
	case path+"/" == Path:
		http.Redirect(w, r, Path, http.StatusPermanentRedirect)
	default:
		c.serveFile(w, r, strings.TrimPrefix(path, Path))
	}
}

// policy lets the page load its own files, talk to its own server, and nothing
// else: no inline code, no other host, no frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

func protect(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// A refusal is an answer that the page shows to people.
type refusal struct {
	status int
	Code   string `json:"code"` // for the page's script
	Text   string `json:"text"`
}

func (r *refusal) Error() string { return r.Text }

var (
	errLink    = &refusal{http.StatusUnauthorized, "link", "This link has been used already, or its time is over. A link opens the page once."}
	errSession = &refusal{http.StatusUnauthorized, "session", "This page is opened by a link that works once, and stays open for two hours."}
	errBusy    = &refusal{http.StatusTooManyRequests, "busy", "That was too much at once. Wait a moment and try again."}
	errOrigin  = &refusal{http.StatusForbidden, "origin", "The request comes from another page."}
	errNoApp   = &refusal{http.StatusConflict, "app", "There is no app yet: parley app create makes one."}
)

func invalid(text string) error { return &refusal{http.StatusBadRequest, "invalid", text} }

// serveAPI is what the page's script asks for.
func (c *Console) serveAPI(w http.ResponseWriter, r *http.Request, name string) {
	w.Header().Set("Cache-Control", "no-store")
	v, err := c.answer(w, r, name)
	status := http.StatusOK
	if err != nil {
		f, ok := errors.AsType[*refusal](err)
		if !ok {
			c.Logger.Error("demo page", "request", name, "error", err)
			f = &refusal{http.StatusInternalServerError, "internal", "The server failed; its log says why."}
		}
		if f.status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "1")
		}
		v, status = f, f.status
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		c.Logger.Debug("the demo page did not take its answer", "error", err)
	}
}

// answer carries out one request. Everything but the exchange of a ticket asks
// for a session.
func (c *Console) answer(w http.ResponseWriter, r *http.Request, name string) (any, error) {
	var do func(*http.Request, *session, []byte) (any, error)
	switch name {
	case "session":
	case "page":
		do = c.page
	case "token":
		do = c.token
	case "send":
		do = c.send
	case "answer":
		do = c.answers
	default:
		return nil, &refusal{http.StatusNotFound, "path", "There is nothing here."}
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, &refusal{http.StatusMethodNotAllowed, "method", "The method must be POST."}
	}
	if c.origin.Check(r) != nil {
		return nil, errOrigin
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, &refusal{http.StatusUnsupportedMediaType, "type", "The body must be application/json."}
	}
	var s *session
	if do != nil {
		// Before the body: who may not ask need not be read.
		k, err := r.Cookie(cookieName(r))
		if err != nil {
			return nil, errSession
		}
		if s, err = c.doorman.enter(k.Value); err != nil {
			return nil, err
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, &refusal{http.StatusRequestEntityTooLarge, "size", "The request is too large, or was broken off."}
	}
	if do == nil {
		return c.exchange(w, r, body)
	}
	return do(r, s, body)
}

// decode reads a request, all of it and nothing beside it.
func decode(body []byte, q any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(q); err != nil || d.More() {
		return invalid("The request is not the JSON that was expected.")
	}
	return nil
}

// exchange takes a ticket and gives a session.
func (c *Console) exchange(w http.ResponseWriter, r *http.Request, body []byte) (any, error) {
	var q struct {
		Ticket string `json:"ticket"`
	}
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	key, s, err := c.doorman.exchange(q.Ticket)
	if err != nil {
		return nil, err
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(r), Value: key, Path: apiDir, MaxAge: int(sessionTime / time.Second),
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
	return map[string]any{"until": s.until.UnixMilli()}, nil
}

// cookieName has the port in it: browsers keep one set of cookies for all ports
// of a machine, and two servers on it must not take each other's place.
func cookieName(r *http.Request) string {
	if _, port, err := net.SplitHostPort(r.Host); err == nil {
		return "parley-demo-" + port
	}
	return "parley-demo"
}

// page says what there is to show.
func (c *Console) page(_ *http.Request, s *session, body []byte) (any, error) {
	if err := decode(body, &struct{}{}); err != nil {
		return nil, err
	}
	app := c.App()
	if app == nil {
		return nil, errNoApp
	}
	return map[string]any{
		"version": c.Version, "app": app.Key, "users": []string{ann, bob}, "channel": lobby,
		"until": s.until.UnixMilli(),
	}, nil
}

// token issues an access token, for the page's two users only.
func (c *Console) token(r *http.Request, _ *session, body []byte) (any, error) {
	var q struct {
		User string `json:"user"`
	}
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	if q.User != ann && q.User != bob {
		return nil, invalid("Tokens are for ann and bob.")
	}
	app := c.App()
	if app == nil {
		return nil, errNoApp
	}
	t, err := c.Token(r.Context(), app, q.User)
	if err != nil {
		return nil, err
	}
	return map[string]string{"token": t}, nil
}
