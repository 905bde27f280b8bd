package console

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// bot is who answers when the page asks for a message that writes itself.
const bot = "bot"

const (
	botPace    = 150 * time.Millisecond // between two chunks
	botWords   = 2                      // in a chunk
	botTime    = 30 * time.Second       // for a whole answer, pauses included
	maxAnswers = 4                      // under way, for all sessions
)

const botAnswer = "You asked, so here is an answer, a few words at a time. " +
	"Each chunk is one signed call of the page’s backend: on disk before the server says yes to it, and right after on its way to you. " +
	"Cut the network while I write, and connect again: your client asks for what it has missed, and goes on from there. " +
	"In the end it is one message like any other, and nothing in it was said twice."

// A chunk is a call's body, in the order in which the API's pages have it.
type chunk struct {
	From    string       `json:"fromUserId"`
	User    string       `json:"toUserId"`
	Type    string       `json:"messageType"`
	Content chunkContent `json:"content"`
}

type chunkContent struct {
	Content   string `json:"content"`
	Seq       int    `json:"seq"`
	Complete  bool   `json:"complete"`
	MessageID string `json:"messageId,omitempty"`
}

// answers has the bot write to one of the users, and tells what that came to
// when it has ended.
func (c *Console) answers(r *http.Request, s *session, body []byte) (any, error) {
	var q struct {
		User string `json:"user"`
	}
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	if q.User != ann && q.User != bob {
		return nil, invalid("The bot answers ann and bob.")
	}
	app := c.App()
	if app == nil {
		return nil, errNoApp
	}
	if !s.texts.AllowN(c.Now(), 1) {
		return nil, errBusy
	}
	select {
	case c.answering <- struct{}{}:
		defer func() { <-c.answering }()
	default:
		return nil, errBusy
	}
	// The answer is written to its end even when the page that asked is gone:
	// who opens it anew in the middle sees it grow on.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), botTime)
	defer cancel()
	return c.write(ctx, app, q.User)
}

// write makes one call for each chunk, with pauses as somebody who writes has.
func (c *Console) write(ctx context.Context, app *chat.App, user string) (*sendAnswer, error) {
	a := &sendAnswer{Path: "/v4/direct-channel/message/stream/send"}
	begun := c.Now()
	texts := chunks(botAnswer, botWords)
	var id string
	for i, text := range texts {
		if i > 0 {
			c.pause(ctx)
		}
		var err error
		a.Request, err = json.Marshal(chunk{bot, user, "RC:StreamMsg", chunkContent{text, i + 1, i == len(texts)-1, id}})
		if err != nil {
			return nil, err
		}
		if a.Status, a.Answer, err = c.call(ctx, app, a.Path, a.Request); err != nil {
			return nil, err
		}
		if a.Status != http.StatusOK {
			break
		}
		a.Sent++
		if i == 0 {
			var first struct {
				Result struct {
					MessageID string `json:"messageId"`
				} `json:"result"`
			}
			if err := json.Unmarshal(a.Answer, &first); err != nil {
				return nil, err
			}
			id = first.Result.MessageID
		}
	}
	a.Millis = float64(c.Now().Sub(begun).Microseconds()) / 1000
	return a, nil
}

// pause waits until it is time for the next chunk. A server that stops has no
// time to lose: then the rest is written in one go.
func (c *Console) pause(ctx context.Context) {
	t := time.NewTimer(c.pace)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.closed:
	case <-ctx.Done():
	}
}

// chunks cuts a text behind every n words.
func chunks(text string, n int) []string {
	var cut []string
	words := strings.SplitAfter(text, " ")
	for len(words) > 0 {
		k := min(n, len(words))
		cut, words = append(cut, strings.Join(words[:k], "")), words[k:]
	}
	return cut
}
