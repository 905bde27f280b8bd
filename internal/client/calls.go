package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Subscribe enters a channel and stays subscribed over reconnects, recovering
// where the server offers it. It waits for the first answer; an *Error is the
// server's refusal. data may be nil.
func (c *Client) Subscribe(ctx context.Context, channel string, data json.RawMessage) (Subscribed, error) {
	if err := checkJSON(data); err != nil {
		return Subscribed{}, fmt.Errorf("subscribe to %s: %w", channel, err)
	}
	type outcome struct {
		s   Subscribed
		err error
	}
	answer := make(chan outcome, 1)
	sub := &clientSide{channel: channel, data: data, waiting: func(s Subscribed, err error) { answer <- outcome{s, err} }}

	c.mu.Lock()
	if c.subs[channel] != nil {
		c.mu.Unlock()
		return Subscribed{}, fmt.Errorf("subscribe to %s: subscribed already", channel)
	}
	c.subs[channel] = sub
	s := c.session
	var frame []byte
	if s != nil { // otherwise the next connection's first frame has it
		frame = s.subscribeLocked(sub)
	}
	c.mu.Unlock()
	if s != nil {
		s.send(frame)
	}

	var err error
	select {
	case o := <-answer:
		if o.err == nil {
			return o.s, nil
		}
		return Subscribed{}, fmt.Errorf("subscribe to %s: %w", channel, o.err)
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.done:
		err = c.final
	}
	c.mu.Lock()
	if c.subs[channel] == sub {
		delete(c.subs, channel)
	}
	c.mu.Unlock()
	return Subscribed{}, fmt.Errorf("subscribe to %s: %w", channel, err)
}

// Unsubscribe leaves a channel that Subscribe entered.
func (c *Client) Unsubscribe(ctx context.Context, channel string) error {
	c.mu.Lock()
	_, ok := c.subs[channel]
	delete(c.subs, channel)
	s := c.session
	c.mu.Unlock()
	if !ok || s == nil {
		return nil // the next connection just does not subscribe
	}
	_, err := c.call(ctx, command{Unsubscribe: &unsubscribeRequest{channel}})
	if err == nil || errors.Is(err, ErrLost) || errors.Is(err, ErrNotConnected) {
		return nil // it ended with the connection
	}
	s.breakOff(CodeUnsubscribe, "unsubscribe error")
	return fmt.Errorf("unsubscribe from %s: %w", channel, err)
}

// ErrNotConnected is the outcome of a call for which no connection came in
// time. Nothing was sent.
var ErrNotConnected = errors.New("not connected")

// RPC calls a method and gives its result. An *Error is the server's refusal;
// after ErrLost or a timeout the call may have been carried out.
func (c *Client) RPC(ctx context.Context, method string, data json.RawMessage) (json.RawMessage, error) {
	err := checkJSON(data)
	if err == nil {
		var r *reply
		r, err = c.call(ctx, command{RPC: &rpcRequest{method, data}})
		if err == nil && r.RPC == nil {
			err = errNoResult
		}
		if err == nil {
			return r.RPC.Data, nil
		}
	}
	return nil, fmt.Errorf("rpc %s: %w", method, err)
}

var errNoResult = errors.New("the answer has no result")

// Ack says that everything up to p, in the timeline, was taken care of.
func (c *Client) Ack(ctx context.Context, p Position) error {
	data, err := json.Marshal(sincePosition(p))
	if err != nil {
		return fmt.Errorf("ack: %w", err)
	}
	_, err = c.RPC(ctx, "ack", data)
	return err
}

// HistoryOptions say which part of a channel's stream to read.
type HistoryOptions struct {
	Since   *Position // exclusive; nil for the oldest, or with Reverse the newest
	Limit   int       // 0 for none: only the top; -1 for as many as the server gives
	Reverse bool
}

// A History is a part of a stream and where the stream's top is.
type History struct {
	Publications []Publication
	Top          Position
}

// History reads from a channel's stream.
func (c *Client) History(ctx context.Context, channel string, opts HistoryOptions) (History, error) {
	req := &historyRequest{Channel: channel, Limit: opts.Limit, Reverse: opts.Reverse}
	if opts.Since != nil {
		req.Since = &sincePosition{opts.Since.Offset, opts.Since.Epoch}
	}
	r, err := c.call(ctx, command{History: req})
	if err == nil && r.History == nil {
		err = errNoResult
	}
	if err != nil {
		return History{}, fmt.Errorf("history of %s: %w", channel, err)
	}
	for i := range r.History.Publications {
		r.History.Publications[i].Channel = channel
	}
	return History{r.History.Publications, Position{r.History.Offset, r.History.Epoch}}, nil
}

// call waits for a connection, sends cmd and waits for the answer.
func (c *Client) call(ctx context.Context, cmd command) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	type outcome struct {
		r   *reply
		err error
	}
	answer := make(chan outcome, 1)
	var s *session
	var frame []byte
	for s == nil {
		c.mu.Lock()
		ready := c.ready
		if s = c.session; s != nil {
			frame = c.registerLocked(cmd, func(r *reply, err error) { answer <- outcome{r, err} })
		}
		c.mu.Unlock()
		if s == nil {
			select {
			case <-ready:
			case <-c.done:
				return nil, fmt.Errorf("%w: %w", ErrNotConnected, c.final)
			case <-ctx.Done():
				return nil, fmt.Errorf("%w: %w", ErrNotConnected, ctx.Err())
			}
		}
	}
	s.send(frame)
	select {
	case o := <-answer:
		if o.err != nil {
			return nil, o.err
		}
		if o.r.Error != nil {
			return nil, o.r.Error
		}
		return o.r, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("no answer: %w", ctx.Err())
	}
}
