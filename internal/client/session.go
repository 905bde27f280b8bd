package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/parleychat/parley/internal/websocket"
)

// A session is the protocol on one connection. Its methods run on the
// goroutine that reads.
type session struct {
	*Client
	conn      *websocket.Conn
	connected bool
	ping      time.Duration // 0: none are to be expected
	pong      bool
	ended     *end          // set by a handler that ends the session
	over      chan struct{} // closed when the connection has ended
}

var errEnded = errors.New("session ended")

// serve talks until the connection ends; the error says how, unless s.ended or
// Client.cut does.
func (s *session) serve() error {
	if err := s.write(s.conn, s.hello()); err != nil {
		return err
	}
	for {
		wait := s.opts.Timeout
		if s.connected {
			wait = s.ping + s.opts.pingDelay
		}
		var deadline time.Time
		if !s.connected || s.ping > 0 {
			deadline = time.Now().Add(wait)
		}
		if err := s.conn.SetReadDeadline(deadline); err != nil {
			return err
		}
		_, frame, err := s.conn.ReadMessage()
		if err != nil {
			return err
		}
		for line := range bytes.SplitSeq(frame, []byte("\n")) {
			if len(line) == 0 {
				continue
			}
			var r reply
			if err := json.Unmarshal(line, &r); err != nil {
				s.ended = &end{code: CodeBadProtocol, reason: "bad protocol", cause: fmt.Errorf("decode reply: %w", err)}
				return errEnded
			}
			if s.take(&r); s.ended != nil {
				return errEnded
			}
		}
	}
}

// hello is the first frame: connect, and a subscribe for each subscription that
// waits.
func (s *session) hello() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	req := &connectRequest{Token: s.token, Data: s.opts.Data, Name: s.opts.Name}
	for ch, sub := range s.server {
		if sub.recoverable {
			if req.Subs == nil {
				req.Subs = map[string]subscribeRequest{}
			}
			req.Subs[ch] = subscribeRequest{Recover: true, Epoch: sub.position.Epoch, Offset: sub.position.Offset}
		}
	}
	frame := s.registerLocked(command{Connect: req}, s.onConnect)
	for _, sub := range s.subs {
		frame = append(append(frame, '\n'), s.subscribeLocked(sub)...)
	}
	return frame
}

// send writes a frame. Where that fails the connection is broken, and whoever
// reads from it settles what is pending.
func (s *session) send(frame []byte) {
	if s.write(s.conn, frame) != nil {
		s.conn.Abort()
	}
}

// breakOff ends the connection for a reason of our own.
func (s *session) breakOff(code uint32, reason string) {
	s.mu.Lock()
	s.cut = &end{code: code, reason: reason, reconnect: true}
	s.mu.Unlock()
	s.conn.Abort()
}

func (s *session) take(r *reply) {
	switch {
	case r.ID > 0:
		s.mu.Lock()
		answered := s.pending[r.ID]
		delete(s.pending, r.ID)
		s.mu.Unlock()
		if answered != nil {
			answered(r, nil)
		}
	case r.Push != nil:
		s.push(r.Push)
	default:
		if s.pong {
			_ = s.write(s.conn, []byte("{}"))
		}
	}
}

// onConnect takes the answer to connect, page B3.
func (s *session) onConnect(r *reply, err error) {
	if err != nil {
		return
	}
	if e := r.Error; e != nil {
		s.ended = &end{code: e.Code, reason: e.Message, cause: e}
		switch {
		case e.Code == codeTokenExpired && s.opts.GetToken == nil:
			s.ended = &end{code: CodeUnauthorized, reason: "unauthorized", cause: e}
		case e.Code == codeTokenExpired:
			s.ended.reconnect = true
			s.mu.Lock()
			s.token = "" // the next attempt asks for one
			s.mu.Unlock()
		case e.retry():
			s.ended.reconnect = true
		}
		return
	}
	res := r.Connect
	if res == nil {
		s.ended = &end{code: CodeBadProtocol, reason: "bad protocol"}
		return
	}
	s.connected = true
	s.ping, s.pong = time.Duration(res.Ping)*time.Second, res.Pong
	if res.Expires && s.opts.GetToken != nil {
		s.refreshIn(time.Duration(res.TTL) * time.Second)
	}

	s.mu.Lock()
	var gone []string
	for ch := range s.server {
		if res.Subs[ch] == nil {
			gone = append(gone, ch)
			delete(s.server, ch)
		}
	}
	c := Connected{Client: res.Client, Version: res.Version, Data: res.Data, Subs: map[string]Subscribed{}}
	for ch, sub := range res.Subs {
		s.server[ch] = &serverSide{sub.Recoverable, Position{sub.Offset, sub.Epoch}}
		c.Subs[ch] = sub.event(ch)
	}
	s.session = s
	close(s.ready)
	s.mu.Unlock()

	s.emit(c)
	for ch, sub := range res.Subs {
		if sub.Recovered {
			for _, p := range sub.Publications {
				s.publication(ch, p)
			}
		}
	}
	for _, ch := range gone {
		s.emit(Unsubscribed{Channel: ch, Reason: "server unsubscribed"})
	}
}

// after calls f when the connection has stood for another d.
func (s *session) after(d time.Duration, f func()) {
	s.tasks.Go(func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			f()
		case <-s.over:
		}
	})
}

// refreshIn sends a new token before the old one ends the connection, page B8.
func (s *session) refreshIn(d time.Duration) {
	s.after(d, func() {
		if s.newToken() != nil {
			s.conn.Abort() // connecting again asks again, with backoff
			return
		}
		s.mu.Lock()
		frame := s.registerLocked(command{Refresh: &refreshRequest{s.token}}, s.onRefresh)
		s.mu.Unlock()
		s.send(frame)
	})
}

func (s *session) onRefresh(r *reply, err error) {
	switch {
	case err != nil:
	case r.Error != nil && (r.Error.Temporary || r.Error.Code < 100):
		s.refreshIn(5*time.Second + rand.N(5*time.Second))
	case r.Error != nil:
		s.ended = &end{code: r.Error.Code, reason: r.Error.Message, cause: r.Error}
	case r.Refresh != nil && r.Refresh.Expires:
		s.refreshIn(time.Duration(r.Refresh.TTL) * time.Second)
	}
}

func (s *session) push(p *push) {
	switch {
	case p.Pub != nil:
		s.publication(p.Channel, *p.Pub)
	case p.Message != nil:
		s.emit(Message{p.Message.Data})
	case p.Unsubscribe != nil:
		s.unsubscribed(p.Channel, p.Unsubscribe)
	case p.Subscribe != nil:
		s.mu.Lock()
		s.server[p.Channel] = &serverSide{p.Subscribe.Recoverable, Position{p.Subscribe.Offset, p.Subscribe.Epoch}}
		s.mu.Unlock()
		s.emit(p.Subscribe.event(p.Channel))
	case p.Disconnect != nil:
		s.ended = &end{code: p.Disconnect.Code, reason: p.Disconnect.Reason, reconnect: reconnectCode(p.Disconnect.Code)}
	}
}

// publication moves the channel's position and hands p on. What belongs to no
// subscription that stands is dropped, as the npm client does.
func (s *session) publication(channel string, p Publication) {
	s.mu.Lock()
	var position *Position
	if sub := s.subs[channel]; sub != nil {
		if sub.subscribed {
			position = &sub.position
		}
	} else if sub := s.server[channel]; sub != nil {
		position = &sub.position
	}
	if position != nil && p.Offset > 0 {
		position.Offset = p.Offset
		if position.Epoch == "" {
			position.Epoch = p.Epoch
		}
	}
	s.mu.Unlock()
	if position != nil {
		p.Channel = channel
		s.emit(p)
	}
}

// firstResubscribe is the lowest code of an unsubscribe push that asks the
// client to subscribe again; invalidated is the one that makes it forget its
// position.
const (
	firstResubscribe = 2500
	invalidated      = 2502
)

func (s *session) unsubscribed(channel string, u *unsubscribePush) {
	s.mu.Lock()
	sub := s.subs[channel]
	if sub == nil {
		_, ok := s.server[channel]
		delete(s.server, channel)
		s.mu.Unlock()
		if ok {
			s.emit(Unsubscribed{channel, u.Code, u.Reason})
		}
		return
	}
	if !sub.subscribed {
		s.mu.Unlock()
		return
	}
	sub.subscribed = false
	if u.Code >= firstResubscribe {
		if u.Code == invalidated {
			sub.position = nowhere
		}
		frame := s.subscribeLocked(sub)
		s.mu.Unlock()
		s.send(frame)
		return
	}
	delete(s.subs, channel)
	s.mu.Unlock()
	s.emit(Unsubscribed{channel, u.Code, u.Reason})
}

// subscribeLocked prepares the command that makes sub stand.
func (s *session) subscribeLocked(sub *clientSide) []byte {
	req := &subscribeRequest{Channel: sub.channel, Data: sub.data}
	if sub.recoverable {
		req.Recover, req.Epoch, req.Offset = true, sub.position.Epoch, sub.position.Offset
	}
	late := time.AfterFunc(s.opts.Timeout, func() { s.breakOff(CodeTimeout, "subscribe timeout") })
	return s.registerLocked(command{Subscribe: req}, func(r *reply, err error) {
		late.Stop()
		if err == nil { // after a loss the next connection subscribes again
			s.onSubscribe(sub, r)
		}
	})
}

// onSubscribe takes the answer to subscribe, page B5.
func (s *session) onSubscribe(sub *clientSide, r *reply) {
	s.mu.Lock()
	if s.subs[sub.channel] != sub {
		s.mu.Unlock()
		return // unsubscribed in the meantime
	}
	if r.Error == nil && r.Subscribe == nil {
		s.mu.Unlock()
		s.ended = &end{code: CodeBadProtocol, reason: "bad protocol"}
		return
	}
	if e := r.Error; e != nil && e.Code != codeTokenExpired && e.retry() {
		wait := s.backoff(sub.attempts)
		sub.attempts++
		s.mu.Unlock()
		s.after(wait, func() { s.subscribeAgain(sub) })
		return
	}
	waiting := sub.waiting
	sub.waiting = nil
	if e := r.Error; e != nil {
		delete(s.subs, sub.channel)
		s.mu.Unlock()
		if waiting != nil {
			waiting(Subscribed{}, e)
		} else {
			s.emit(Unsubscribed{sub.channel, e.Code, e.Message})
		}
		return
	}
	res := r.Subscribe
	sub.subscribed, sub.attempts = true, 0
	sub.recoverable, sub.position = res.Recoverable, Position{res.Offset, res.Epoch}
	s.mu.Unlock()
	if waiting != nil {
		waiting(res.event(sub.channel), nil)
	}
	s.emit(res.event(sub.channel))
	for _, p := range res.Publications {
		s.publication(sub.channel, p)
	}
}

func (s *session) subscribeAgain(sub *clientSide) {
	s.mu.Lock()
	if s.session != s || s.subs[sub.channel] != sub {
		s.mu.Unlock()
		return
	}
	frame := s.subscribeLocked(sub)
	s.mu.Unlock()
	s.send(frame)
}
