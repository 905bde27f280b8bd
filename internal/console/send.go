package console

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/parleychat/parley/internal/chat"
)

// Bounds on the messages that the page has sent for it.
const (
	maxText      = 500 // characters
	maxCount     = 50  // messages of one request
	maxSending   = 4   // requests under way, of all sessions
	sessionTexts = 25  // messages a second
	textsBurst   = 150
)

// A sendRequest asks for messages as an app's backend would send them.
type sendRequest struct {
	Kind  string `json:"kind"`           // direct, system or open
	From  string `json:"from,omitempty"` // of direct messages; the other user gets them
	Text  string `json:"text"`
	Count int    `json:"count,omitempty"` // 1 when absent; numbered from 2 on
}

// A message is a call's body, in the order in which the API's pages have it.
type message struct {
	From     string   `json:"fromUserId"`
	Users    []string `json:"toUserIds,omitempty"`
	Channels []string `json:"toChannelIds,omitempty"`
	Type     string   `json:"messageType"`
	Content  string   `json:"content"`
	Echo     int      `json:"isEchoToSender,omitempty"`
	Receipt  int      `json:"needReadReceipt,omitempty"`
	Metadata int      `json:"hasMetadata,omitempty"`
}

// A sendAnswer is what the call came to, in the server API's own words.
type sendAnswer struct {
	Path    string          `json:"path"`
	Request json.RawMessage `json:"request"` // of the last call
	Status  int             `json:"status"`
	Answer  json.RawMessage `json:"answer"`
	Sent    int             `json:"sent"` // how many calls were answered with code 0
	Millis  float64         `json:"millis"`
}

// send makes signed calls of the server API.
func (c *Console) send(r *http.Request, s *session, body []byte) (any, error) {
	var q sendRequest
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	if q.Count == 0 {
		q.Count = 1
	}
	q.Text = strings.TrimSpace(q.Text)
	if q.Text == "" || utf8.RuneCountInString(q.Text) > maxText {
		return nil, invalid(fmt.Sprintf("A text has 1 to %d characters.", maxText))
	}
	if q.Count < 1 || q.Count > maxCount {
		return nil, invalid(fmt.Sprintf("From 1 to %d messages at once.", maxCount))
	}
	path, m, err := q.message()
	if err != nil {
		return nil, err
	}
	app := c.App()
	if app == nil {
		return nil, errNoApp
	}
	if !s.texts.AllowN(c.Now(), q.Count) {
		return nil, errBusy
	}
	select {
	case c.sending <- struct{}{}:
		defer func() { <-c.sending }()
	default:
		return nil, errBusy
	}

	a := &sendAnswer{Path: path}
	begun := c.Now()
	// One after the other, so that they are in order.
	for i := range q.Count {
		text := q.Text
		if q.Count > 1 {
			text = fmt.Sprintf("%s (%d of %d)", q.Text, i+1, q.Count)
		}
		content, err := json.Marshal(map[string]string{"content": text})
		if err != nil {
			return nil, err
		}
		m.Content = string(content)
		if a.Request, err = json.Marshal(m); err != nil {
			return nil, err
		}
		if a.Status, a.Answer, err = c.call(r.Context(), app, path, a.Request); err != nil {
			return nil, err
		}
		if a.Status != http.StatusOK {
			break
		}
		a.Sent++
	}
	a.Millis = float64(c.Now().Sub(begun).Microseconds()) / 1000
	return a, nil
}

// message is the operation and its fields, but for the content. Who writes to
// whom is decided here: the page can reach its own users and channel only.
func (q *sendRequest) message() (path string, m *message, err error) {
	m = &message{From: news, Type: "RC:TxtMsg"}
	switch q.Kind {
	case "direct":
		to := map[string]string{ann: bob, bob: ann}[q.From]
		if to == "" {
			return "", nil, invalid("A direct message is from ann or bob.")
		}
		m.From, m.Users = q.From, []string{to}
		m.Echo = 1 // the sender's side shows it, too
		// As what the users write themselves: with ticks, and open to reactions.
		m.Receipt, m.Metadata = 1, 1
	case "system":
		m.Users = []string{ann, bob}
	case "open":
		m.Channels = []string{lobby}
	default:
		return "", nil, invalid("The kind is direct, system or open.")
	}
	if q.Kind != "direct" && q.From != "" {
		return "", nil, invalid("Only direct messages are from a user.")
	}
	return "/v4/" + q.Kind + "-channel/message/send", m, nil
}

// call signs one call and hands it to the server API, which checks and counts
// it like one from outside.
func (c *Console) call(ctx context.Context, app *chat.App, path string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	nonce, now := rand.Text()[:18], strconv.FormatInt(c.Now().UnixMilli(), 10)
	sum := sha1.Sum([]byte(app.Secret + nonce + now))
	r.Header.Set("App-Key", app.Key)
	r.Header.Set("Nonce", nonce)
	r.Header.Set("Timestamp", now)
	r.Header.Set("Signature", hex.EncodeToString(sum[:]))
	r.Header.Set("Content-Type", "application/json")
	w := &recorder{header: http.Header{}}
	c.Calls.ServeHTTP(w, r)
	if !json.Valid(w.body.Bytes()) {
		return 0, nil, fmt.Errorf("the server API answered %d without JSON", w.status)
	}
	return w.status, w.body.Bytes(), nil
}

// A recorder keeps an answer that does not leave the process.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}
