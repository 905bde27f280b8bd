package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/client"
)

// A story is what becomes of one message, between dan and the two devices of
// eve. Each beat is told once the server has shown it, and only then.
type story struct {
	*demo
	dan, phone, laptop *device

	uid string
	at  uint64 // its offset in eve's timeline
}

// A beat is one line of the story.
type beat struct {
	Beat   string `json:"beat"`
	At     int64  `json:"at"`               // Unix ms, by the server's clock
	Offset uint64 `json:"offset,omitempty"` // in the timeline of whom it is about
	Text   string `json:"text"`
}

const (
	storyText = "shall we meet at six?"
	storyTime = 10 * time.Second // for each thing that must show
)

// tellStory sends a message and follows it to its end.
func (d *demo) tellStory(ctx context.Context) (err error) {
	s := &story{demo: d}
	defer s.leave()
	d.step("The story of one message, from dan to eve, who has a phone and a laptop. Times are UTC, #n is an offset.")
	for _, b := range []struct {
		name string
		tell func(context.Context) error
	}{
		{"connected", s.begin}, {"sent", s.sent}, {"missed", s.missed}, {"recovered", s.recovered}, {"read", s.read},
		{"extended", s.extended}, {"recalled", s.recalled}, {"traced", s.traced},
	} {
		if err := b.tell(ctx); err != nil {
			return fmt.Errorf("the story broke off at the beat %s: %w", b.name, err)
		}
	}
	return nil
}

func (s *story) leave() {
	for _, d := range []*device{s.dan, s.phone, s.laptop} {
		if d != nil {
			d.leave()
		}
	}
}

// tell prints a beat.
func (s *story) tell(name string, at int64, offset uint64, format string, args ...any) {
	b := beat{name, at, offset, fmt.Sprintf(format, args...)}
	s.beats = append(s.beats, b)
	place := ""
	if offset > 0 {
		place = fmt.Sprintf("#%d", offset)
	}
	s.say("   %s  %-9s  %-3s  %s", time.UnixMilli(at).UTC().Format("15:04:05.000"), name, place, b.Text)
}

// begin connects all three, and has the phone go away again: the server then
// knows how far it had come.
func (s *story) begin(ctx context.Context) (err error) {
	if s.dan, err = s.connect(ctx, "dan", "desk"); err != nil {
		return err
	}
	if s.laptop, err = s.connect(ctx, "eve", "laptop"); err != nil {
		return err
	}
	if s.phone, err = s.connect(ctx, "eve", "phone"); err != nil {
		return err
	}
	s.phone.leave()
	return nil
}

func (s *story) connect(ctx context.Context, user, name string) (*device, error) {
	t, err := s.owner.IssueToken(ctx, s.srv.key, user, "")
	if err != nil {
		return nil, err
	}
	return connectDevice(ctx, s.srv, user, name, t.Token)
}

func (s *story) sent(ctx context.Context) error {
	var sent struct {
		UID    string `json:"messageUID"`
		SentAt int64  `json:"sentAt"`
	}
	if err := s.dan.call(ctx, "message.send", map[string]any{
		"channelType": "direct", "channelId": "eve", "messageType": "RC:TxtMsg", "content": textContent(storyText),
		"clientMsgId": "story-1", "needReadReceipt": true, "hasMetadata": true,
	}, &sent); err != nil {
		return err
	}
	s.uid = sent.UID
	own, err := s.dan.await(ctx, "dan's own copy of the message", s.isMessage)
	if err != nil {
		return err
	}
	s.tell("sent", sent.SentAt, own.Offset, "%q: dan's call is answered, so it is on disk, as %s.", storyText, s.uid)
	got, err := s.laptop.await(ctx, "the message", s.isMessage)
	if err != nil {
		return err
	}
	s.at = got.Offset
	s.tell("arrived", got.at, got.Offset, "eve's laptop has it, %d ms after it was accepted.", max(got.at-sent.SentAt, 0))
	return nil
}

func (s *story) isMessage(n *news) bool { return n.Event == "message" && n.Message.UID == s.uid }

// missed is what the server itself says of the phone.
func (s *story) missed(ctx context.Context) error {
	var where string
	t, err := s.trace(ctx, func(t *traced) bool {
		if len(t.Recipients) != 1 {
			return false
		}
		for _, d := range t.Recipients[0].Devices {
			if d.DeviceID == "phone" {
				where = fmt.Sprintf("last seen %s", time.UnixMilli(d.SeenAt).UTC().Format("15:04:05.000"))
				return !d.Passed
			}
		}
		return false
	}, "that the phone has not come to the message yet")
	if err != nil {
		return err
	}
	s.tell("missed", time.Now().UnixMilli(), t.Recipients[0].Offset, "eve's phone, %s, has not come to it: it waits.", where)
	return nil
}

func (s *story) recovered(ctx context.Context) (err error) {
	begun := time.Now()
	if s.phone, err = s.connect(ctx, "eve", "phone"); err != nil {
		return err
	}
	got, err := s.phone.await(ctx, "the message that was missed", s.isMessage)
	if err != nil {
		return err
	}
	if got.Offset != s.at {
		return fmt.Errorf("the phone got the message at #%d, the laptop at #%d", got.Offset, s.at)
	}
	s.tell("recovered", got.at, got.Offset, "The phone connects and has it %d ms later, at the same place as the laptop.", time.Since(begun).Milliseconds())
	return nil
}

func (s *story) read(ctx context.Context) error {
	var read struct {
		ReadAt int64 `json:"readAt"`
		Unread struct{ Total *int }
	}
	if err := s.phone.call(ctx, "message.read", map[string]any{"channelType": "direct", "channelId": "dan", "upTo": s.uid}, &read); err != nil {
		return err
	}
	if read.Unread.Total == nil || *read.Unread.Total != 0 {
		return fmt.Errorf("after reading everything the server counts %v unread messages", read.Unread.Total)
	}
	// What one device reads, its own copy of the event says at its offset.
	first, err := s.phone.await(ctx, "what was read", s.isRead)
	if err != nil {
		return err
	}
	s.tell("read", read.ReadAt, first.Offset, "eve reads it on the phone. Nothing is left unread.")
	second, err := s.laptop.await(ctx, "what was read on the phone", s.isRead)
	if err != nil {
		return err
	}
	if second.Offset != first.Offset {
		return fmt.Errorf("the phone was told at #%d what was read, the laptop at #%d", first.Offset, second.Offset)
	}
	s.tell("synced", second.at, second.Offset, "The laptop knows that it is read.")
	receipt, err := s.dan.await(ctx, "the receipt", func(n *news) bool {
		return n.Event == "receipt" && n.UID == s.uid && n.ReadCount == 1
	})
	if err != nil {
		return err
	}
	s.tell("receipt", receipt.at, receipt.Offset, "dan is told that eve has read it.")
	return nil
}

func (s *story) isRead(n *news) bool {
	return n.Event == "read" && n.ChannelID == "dan" && n.UpTo >= s.uid
}

func (s *story) extended(ctx context.Context) error {
	var set struct{ UpdatedAt int64 }
	if err := s.laptop.call(ctx, "message.metadata.set", map[string]any{
		"messageUID": s.uid, "metadata": map[string]string{"answer": "yes"},
	}, &set); err != nil {
		return err
	}
	places, err := s.everybody(ctx, "the metadata", func(n *news) bool {
		return n.Event == "metadata" && n.UID == s.uid && n.Set["answer"] == "yes"
	})
	if err != nil {
		return err
	}
	s.tell("metadata", set.UpdatedAt, places.eve, "eve sets answer=yes on it, on the laptop. Her phone is told, and dan at #%d.", places.dan)
	return nil
}

func (s *story) recalled(ctx context.Context) error {
	var done struct{ RecalledAt int64 }
	if err := s.dan.call(ctx, "message.recall", map[string]any{"messageUID": s.uid}, &done); err != nil {
		return err
	}
	places, err := s.everybody(ctx, "the recall", func(n *news) bool { return n.Event == "recall" && n.UID == s.uid })
	if err != nil {
		return err
	}
	var history struct {
		Messages []struct {
			UID  string `json:"messageUID"`
			Type string `json:"messageType"`
		}
	}
	if err := s.phone.call(ctx, "message.history", map[string]any{"channelType": "direct", "channelId": "dan"}, &history); err != nil {
		return err
	}
	if len(history.Messages) != 1 || history.Messages[0].UID != s.uid || history.Messages[0].Type != "RC:RcNtf" {
		return fmt.Errorf("history has %+v where a notice of the recall was to be", history.Messages)
	}
	s.tell("recalled", done.RecalledAt, places.eve, "dan takes it back: on both of eve's devices, and in history, where a notice is left.")

	a, b := s.phone.timeline(), s.laptop.timeline()
	whole := slices.IsSortedFunc(a, func(x, y *news) int { return int(x.Offset) - int(y.Offset) }) &&
		len(a) > 0 && a[0].Offset == 1 && a[len(a)-1].Offset == uint64(len(a))
	s.check("eve's phone, which was away, and her laptop have the same timeline", whole && slices.EqualFunc(a, b, func(x, y *news) bool {
		return x.Offset == y.Offset && bytes.Equal(x.raw, y.raw)
	}), fmt.Sprintf("%d and %d entries", len(a), len(b)))
	return nil
}

// places are where a change stands in the timelines of both sides.
type places struct{ dan, eve uint64 }

// everybody waits until both sides, and both devices of one, were told of a
// change.
func (s *story) everybody(ctx context.Context, what string, match func(*news) bool) (places, error) {
	var at [3]uint64
	for i, d := range []*device{s.dan, s.laptop, s.phone} {
		n, err := d.await(ctx, what, match)
		if err != nil {
			return places{}, err
		}
		at[i] = n.Offset
	}
	if at[1] != at[2] {
		return places{}, fmt.Errorf("the laptop was told of %s at #%d, the phone at #%d", what, at[1], at[2])
	}
	return places{at[0], at[1]}, nil
}

func (s *story) traced(ctx context.Context) error {
	for _, d := range []*device{s.dan, s.laptop, s.phone} {
		// A pong would say so, too, within half a minute.
		place, _ := d.client.Position(client.Me)
		if err := d.client.Ack(ctx, place); err != nil {
			return fmt.Errorf("%s's %s: %w", d.user, d.name, err)
		}
	}
	t, err := s.trace(ctx, func(t *traced) bool {
		if len(t.Recipients) != 1 {
			return false
		}
		r := &t.Recipients[0]
		passed := 0
		for _, d := range r.Devices {
			if d.Passed {
				passed++
			}
		}
		return r.Recall != nil && r.Recall.OperatorID == "dan" && passed == 2
	}, "where the message went and that it was recalled")
	if err != nil {
		return err
	}
	s.tell("traced", time.Now().UnixMilli(), 0, "What parley trace says of it now:")
	var b bytes.Buffer
	if err := t.print(&b, true); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		s.say("        %s", strings.TrimRight(line, "\n"))
	}
	s.say("")
	return nil
}

// trace asks for the message's trace until it says what is waited for: what
// devices have taken is written down in bulk.
func (s *story) trace(ctx context.Context, match func(*traced) bool, what string) (*traced, error) {
	body, err := json.Marshal(map[string]any{"messageUID": s.uid, "all": true})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, storyTime)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last []byte
	for {
		a, err := s.srv.call(ctx, "/v4x/message/trace", body, nil)
		switch {
		case err != nil && ctx.Err() == nil:
			return nil, err
		case err == nil && a.code != 0:
			return nil, fmt.Errorf("the trace was refused: %s", a.body)
		case err == nil:
			last = a.body
			var v struct{ Result traced }
			if err := json.Unmarshal(a.body, &v); err != nil {
				return nil, err
			}
			if match(&v.Result) {
				return &v.Result, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("the trace does not say %s; it says %s", what, last)
		}
	}
}

// A device is one connection, and what it was told so far.
type device struct {
	user, name string
	client     *client.Client
	done       chan struct{} // closed when nothing more is written down

	mu   sync.Mutex
	told []*news
	more chan struct{} // closed and made anew with each entry
}

// news is an entry as a device got it.
type news struct {
	Offset uint64
	at     int64
	raw    json.RawMessage

	Event     string
	Message   message
	UID       string `json:"messageUID"`
	ChannelID string `json:"channelId"`
	UpTo      string
	ReadCount int
	Set       map[string]string
}

func connectDevice(ctx context.Context, srv *server, user, name, token string) (*device, error) {
	return connectWith(ctx, srv, user, name, token, map[string]string{"deviceId": name})
}

// connectWith connects a device that says this of itself.
func connectWith(ctx context.Context, srv *server, user, name, token string, says map[string]string) (*device, error) {
	data, err := json.Marshal(says)
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, client.Options{URL: srv.websocketURL(), Token: token, Name: "parley demo", Data: data})
	if err != nil {
		return nil, fmt.Errorf("%s's %s cannot connect: %w", user, name, err)
	}
	d := &device{user: user, name: name, client: c, done: make(chan struct{}), more: make(chan struct{})}
	go d.note()
	return d, nil
}

func (d *device) note() {
	defer close(d.done)
	for e := range d.client.Events() {
		p, ok := e.(client.Publication)
		if !ok || p.Channel != client.Me || p.Offset == 0 {
			continue
		}
		n := &news{at: time.Now().UnixMilli(), raw: p.Data}
		if err := json.Unmarshal(p.Data, n); err != nil {
			n.Event = "not understood: " + err.Error()
		}
		n.Offset = p.Offset
		d.mu.Lock()
		d.told = append(d.told, n)
		close(d.more)
		d.more = make(chan struct{})
		d.mu.Unlock()
	}
}

func (d *device) leave() {
	d.client.Close()
	<-d.done
}

func (d *device) timeline() []*news {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.told)
}

// await is the first entry that matches, which must come in time.
func (d *device) await(ctx context.Context, what string, match func(*news) bool) (*news, error) {
	ctx, cancel := context.WithTimeout(ctx, storyTime)
	defer cancel()
	for {
		d.mu.Lock()
		told, more := d.told, d.more
		d.mu.Unlock()
		if i := slices.IndexFunc(told, match); i >= 0 {
			return told[i], nil
		}
		select {
		case <-more:
		case <-d.done:
			return nil, fmt.Errorf("%s's %s has lost its connection before it was told of %s", d.user, d.name, what)
		case <-ctx.Done():
			var so []string
			for _, n := range told {
				so = append(so, fmt.Sprintf("#%d %s", n.Offset, n.Event))
			}
			return nil, fmt.Errorf("%s's %s was not told of %s within %s; it was told: [%s]", d.user, d.name, what, storyTime, strings.Join(so, ", "))
		}
	}
}

// call makes a call and reads its result.
func (d *device) call(ctx context.Context, method string, data, result any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	answer, err := d.client.RPC(ctx, method, b)
	if err != nil {
		return fmt.Errorf("%s's %s: %w", d.user, d.name, err)
	}
	return json.Unmarshal(answer, result)
}
