package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// options are those of the npm client where the scripts can see them, and quick
// where they cannot.
func options(url string) Options {
	return Options{URL: url, Token: "T", Name: "js", Reconnect: true, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond}
}

func dial(t *testing.T, opts Options) *Client {
	t.Helper()
	c, err := Dial(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// expect reads as many events as there are lines in want and compares them.
func expect(t *testing.T, c *Client, want string) {
	t.Helper()
	for line := range strings.Lines(want) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		select {
		case e := <-c.Events():
			if got := describe(e); got != line {
				t.Fatalf("got event %q, want %q", got, line)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no event, want %q", line)
		}
	}
}

func describe(e Event) string {
	switch e := e.(type) {
	case Connected:
		s := "connected " + e.Client
		for _, sub := range e.Subs {
			s += " " + describe(sub)
		}
		return s
	case Connecting:
		return fmt.Sprintf("connecting %d %s", e.Code, e.Reason)
	case Disconnected:
		return fmt.Sprintf("disconnected %d %s", e.Code, e.Reason)
	case Subscribed:
		s := fmt.Sprintf("subscribed %s at %s:%d", e.Channel, e.Position.Epoch, e.Position.Offset)
		if e.WasRecovering {
			s += fmt.Sprintf(" recovered=%t", e.Recovered)
		}
		return s
	case Unsubscribed:
		return fmt.Sprintf("unsubscribed %s %d %s", e.Channel, e.Code, e.Reason)
	case Publication:
		return fmt.Sprintf("%s:%d %s", e.Channel, e.Offset, e.Data)
	case Message:
		return fmt.Sprintf("message %s", e.Data)
	}
	return fmt.Sprintf("%T", e)
}

// The three exchanges of page B15; the first two are one client's life.
func TestSubscribePingAndRecover(t *testing.T) {
	t.Parallel()
	url := scripted(t, `
		> {"connect":{"token":"T","name":"js"},"id":1}
		< {"id":1,"connect":{"client":"u1","version":"x","ping":25,"pong":true}}
		> {"subscribe":{"channel":"c"},"id":2}
		< {"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e1","offset":5}}
		< {"push":{"channel":"c","pub":{"data":{"n":6},"offset":6}}}
		< {}
		> {}
		x`, `
		> {"connect":{"token":"T","name":"js"},"id":3}⏎{"subscribe":{"channel":"c","recover":true,"offset":6,"epoch":"e1"},"id":4}
		< {"id":3,"connect":{"client":"u2","version":"x","ping":25,"pong":true}}
		< {"id":4,"subscribe":{"recoverable":true,"positioned":true,"recovered":true,"was_recovering":true,"epoch":"e1","offset":6,"publications":[{"data":{"n":7},"offset":7},{"data":{"n":8},"offset":8}]}}`)
	c := dial(t, options(url))
	s, err := c.Subscribe(t.Context(), "c", nil)
	if err != nil || s.Position != (Position{5, "e1"}) || !s.Recoverable {
		t.Fatalf("got %+v, %v", s, err)
	}
	expect(t, c, `
		connected u1
		subscribed c at e1:5
		c:6 {"n":6}
		connecting 1 transport closed
		connected u2
		subscribed c at e1:6 recovered=true
		c:7 {"n":7}
		c:8 {"n":8}`)
	if p, ok := c.Position("c"); !ok || p != (Position{8, "e1"}) {
		t.Errorf("position %v %t", p, ok)
	}
}

func TestTimelineIsKeptOverReconnects(t *testing.T) {
	t.Parallel()
	url := scripted(t, `
		> {"connect":{"token":"T","name":"js","data":{"from":"oldest"},"subs":{"me":{"recover":true,"epoch":"e9","offset":3}}},"id":1}
		< {"id":1,"connect":{"client":"u3","subs":{"me":{"recoverable":true,"positioned":true,"recovered":true,"was_recovering":true,"epoch":"e9","offset":3,"publications":[{"data":{"m":1},"offset":4}]}},"ping":25,"pong":true}}
		< {"push":{"channel":"me","pub":{"data":{"m":2},"offset":5}}}⏎{"push":{"channel":"me","pub":{"data":"typing"}}}⏎
		< {"push":{"message":{"data":1}}}
		! 3001 shutdown`, `
		> {"connect":{"token":"T","name":"js","data":{"from":"oldest"},"subs":{"me":{"recover":true,"epoch":"e9","offset":5}}},"id":2}
		< {"id":2,"connect":{"client":"u4","subs":{"me":{"recoverable":true,"positioned":true,"was_recovering":true,"epoch":"e10","offset":0}}}}
		< {"push":{"channel":"me","pub":{"data":{"m":1},"offset":1}}}
		! 3014 state invalidated`, `
		> {"connect":{"token":"T","name":"js","data":{"from":"oldest"}},"id":3}
		< {"id":3,"connect":{"client":"u5","subs":{"me":{"recoverable":true,"epoch":"e10","offset":7}}}}
		! 4000 again`, `
		> {"connect":{"token":"T","name":"js","data":{"from":"oldest"},"subs":{"me":{"recover":true,"epoch":"e10","offset":7}}},"id":4}
		< {"id":4,"connect":{"client":"u6"}}`)
	opts := options(url)
	opts.Data = json.RawMessage("{\n\"from\":\"oldest\"}")
	opts.Positions = map[string]Position{Me: {3, "e9"}}
	c := dial(t, opts)
	expect(t, c, `
		connected u3 subscribed me at e9:3 recovered=true
		me:4 {"m":1}
		me:5 {"m":2}
		me:0 "typing"
		message 1
		connecting 3001 shutdown
		connected u4 subscribed me at e10:0 recovered=false
		me:1 {"m":1}
		connecting 3014 state invalidated
		connected u5 subscribed me at e10:7
		connecting 4000 again
		connected u6
		unsubscribed me 0 server unsubscribed`)
	c.Close()
	c.Close() // does no harm
}

func TestCloseCodesAdvise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line  string // how the server ends
		again bool   // whether the client comes back
		want  string
	}{
		{"x", true, "connecting 1 transport closed"},
		{"! 1001 bye", true, "connecting 1 transport closed"},
		{"! 1009 too much", false, "disconnected 3 message size limit"},
		{"! 3499 why", true, "connecting 3499 why"},
		{"! 3500 invalid token", false, "disconnected 3500 invalid token"},
		{"! 3999 why", false, "disconnected 3999 why"},
		{"! 4499 why", true, "connecting 4499 why"},
		{"! 4501 banned", false, "disconnected 4501 banned"},
		{`! 4501 {"reason":"come","reconnect":true}`, true, "connecting 4501 come"},
		{`! 3000 {"reason":"go","reconnect":false}`, false, "disconnected 3000 go"},
		{`< {"push":{"disconnect":{"code":3501,"reason":"bad request"}}}`, false, "disconnected 3501 bad request"},
		{`< {"push":{"disconnect":{"code":3000,"reason":"again"}}}`, true, "connecting 3000 again"},
		{`< {"push":`, false, "disconnected 2 bad protocol"},
	} {
		t.Run(c.line, func(t *testing.T) {
			t.Parallel()
			scripts := []string{`
				> {"connect":{"token":"T","name":"js"},"id":1}
				< {"id":1,"connect":{"client":"u1"}}
				` + c.line}
			if c.again {
				scripts = append(scripts, `
				> {"connect":{"token":"T","name":"js"},"id":2}
				< {"id":2,"connect":{"client":"u2"}}`)
			}
			client := dial(t, options(scripted(t, scripts...)))
			expect(t, client, "connected u1\n"+c.want)
			if c.again {
				expect(t, client, "connected u2")
				return
			}
			if e, ok := <-client.Events(); ok {
				t.Errorf("event after the end: %s", describe(e))
			}
			if _, err := client.RPC(t.Context(), "x", nil); !errors.Is(err, ErrNotConnected) {
				t.Errorf("rpc after the end: %v", err)
			}
		})
	}
}

func TestWithoutReconnectTheFirstLossIsTheEnd(t *testing.T) {
	t.Parallel()
	opts := options(scripted(t, `
		> {"connect":{"token":"T","name":"js"},"id":1}
		< {"id":1,"connect":{"client":"u1"}}
		! 3001 shutdown`))
	opts.Reconnect = false
	c := dial(t, opts)
	expect(t, c, "connected u1\ndisconnected 3001 shutdown")
}

func TestConnectRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, script, want string }{
		{"error", `
			> {"connect":{"token":"T","name":"js"},"id":1}
			< {"id":1,"error":{"code":103,"message":"permission denied"}}`, "permission denied (code 103)"},
		{"expired, and no other token", `
			> {"connect":{"token":"T","name":"js"},"id":1}
			< {"id":1,"error":{"code":109,"message":"token expired"}}`, "token expired (code 109)"},
		{"close", `
			> {"connect":{"token":"T","name":"js"},"id":1}
			! 3500 invalid token`, "invalid token (code 3500)"},
		{"no result", `
			> {"connect":{"token":"T","name":"js"},"id":1}
			< {"id":1}`, "bad protocol (code 2)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Dial(t.Context(), options(scripted(t, c.script)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, ok := errors.AsType[Disconnected](err); !ok {
				t.Errorf("%T does not say how it ended", err)
			}
		})
	}
	if _, err := Dial(t.Context(), Options{Data: json.RawMessage("{")}); err == nil {
		t.Error("data that is not JSON was taken")
	}
}

func TestTemporaryErrorsAndNewTokens(t *testing.T) {
	t.Parallel()
	opts := options(scripted(t, `
		> {"connect":{"token":"T1","name":"js"},"id":1}
		< {"id":1,"error":{"code":100,"message":"internal","temporary":true}}`, `
		> {"connect":{"token":"T1","name":"js"},"id":2}
		< {"id":2,"error":{"code":109,"message":"token expired"}}`, `
		> {"connect":{"token":"T2","name":"js"},"id":3}
		< {"id":3,"connect":{"client":"u1","expires":true,"ttl":0}}
		> {"refresh":{"token":"T3"},"id":4}
		< {"id":4,"refresh":{"expires":true,"ttl":0}}
		> {"refresh":{"token":"T4"},"id":5}
		< {"id":5,"refresh":{}}`))
	opts.Token = ""
	asked, all := 0, make(chan struct{})
	opts.GetToken = func(context.Context) (string, error) {
		if asked++; asked == 4 {
			close(all)
		}
		return fmt.Sprintf("T%d", asked), nil
	}
	c := dial(t, opts)
	expect(t, c, "connected u1")
	<-all
	time.Sleep(20 * time.Millisecond)
}

func TestDialGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // accepts nothing
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, options("ws://"+l.Addr().String())); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestSilenceBreaksTheConnection(t *testing.T) {
	t.Parallel()
	opts := options(scripted(t, `
		> {"connect":{"token":"T","name":"js"},"id":1}`, `
		> {"connect":{"token":"T","name":"js"},"id":2}
		< {"id":2,"connect":{"client":"u1"}}
		> {"subscribe":{"channel":"c"},"id":3}`, `
		> {"connect":{"token":"T","name":"js"},"id":4}⏎{"subscribe":{"channel":"c"},"id":5}
		< {"id":4,"connect":{"client":"u2"}}⏎{"id":5,"subscribe":{}}
		> {"unsubscribe":{"channel":"c"},"id":6}`, `
		> {"connect":{"token":"T","name":"js"},"id":7}
		< {"id":7,"connect":{"client":"u3"}}`))
	opts.Timeout = 100 * time.Millisecond
	c := dial(t, opts)
	expect(t, c, "connected u1")
	if _, err := c.Subscribe(t.Context(), "c", nil); err != nil {
		t.Fatal(err)
	}
	expect(t, c, `
		connecting 3 subscribe timeout
		connected u2
		subscribed c at :0`)
	if err := c.Unsubscribe(t.Context(), "c"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	expect(t, c, "connecting 4 unsubscribe error\nconnected u3")
}

func TestMissingPingBreaksTheConnection(t *testing.T) {
	t.Parallel()
	opts := options(scripted(t, `
		> {"connect":{"token":"T","name":"js"},"id":1}
		< {"id":1,"connect":{"client":"u1","ping":1}}
		~ 700ms
		< {"push":{"message":{"data":"any data will do"}}}
		~ 700ms
		< {}`, `
		> {"connect":{"token":"T","name":"js"},"id":2}
		< {"id":2,"connect":{"client":"u2"}}`))
	opts.pingDelay = 100 * time.Millisecond
	c := dial(t, opts)
	start := time.Now()
	expect(t, c, `
		connected u1
		message "any data will do"
		connecting 2 no ping
		connected u2`)
	if d := time.Since(start); d < 2*time.Second || d > 4*time.Second {
		t.Errorf("the connection was given up after %s", d)
	}
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	c := dial(t, options(scripted(t, `
		> {"connect":{"token":"T","name":"js"},"id":1}
		< {"id":1,"connect":{"client":"u1"}}
		> {"subscribe":{"channel":"open:no"},"id":2}
		< {"id":2,"error":{"code":103,"message":"permission denied"}}
		> {"subscribe":{"channel":"open:a","data":{"recent":5}},"id":3}
		< {"push":{"channel":"open:a","pub":{"data":"too early","offset":1}}}
		< {"id":3,"error":{"code":111,"message":"too many","temporary":true}}
		> {"subscribe":{"channel":"open:a","data":{"recent":5}},"id":4}
		< {"id":4,"subscribe":{"recoverable":true,"epoch":"e","offset":1,"data":{"n":1}}}⏎{"push":{"channel":"open:a","pub":{"data":2,"offset":2}}}
		< {"push":{"channel":"open:a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}
		> {"subscribe":{"channel":"open:a","data":{"recent":5},"recover":true,"epoch":"e","offset":2},"id":5}
		< {"push":{"channel":"open:a","pub":{"data":"dropped","offset":3}}}
		< {"id":5,"subscribe":{"recoverable":true,"epoch":"e","offset":4,"was_recovering":true}}
		< {"push":{"channel":"open:a","unsubscribe":{"code":2502,"reason":"state invalidated"}}}
		> {"subscribe":{"channel":"open:a","data":{"recent":5},"recover":true,"epoch":"_"},"id":6}
		< {"id":6,"subscribe":{}}
		< {"push":{"channel":"open:a","unsubscribe":{"code":2100,"reason":"one room at a time"}}}
		< {"push":{"channel":"side","subscribe":{"recoverable":true,"epoch":"s","offset":9}}}
		< {"push":{"channel":"side","pub":{"data":10,"offset":10}}}
		< {"push":{"channel":"side","unsubscribe":{"code":2000,"reason":"server"}}}
		< {"push":{"channel":"side","pub":{"data":"nobody wants it","offset":11}}}
		> {"subscribe":{"channel":"open:b"},"id":7}
		< {"id":7,"subscribe":{}}
		> {"unsubscribe":{"channel":"open:b"},"id":8}
		< {"id":8,"unsubscribe":{}}`)))
	_, err := c.Subscribe(t.Context(), "open:no", nil)
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != 103 {
		t.Errorf("got %v", err)
	}
	s, err := c.Subscribe(t.Context(), "open:a", json.RawMessage(`{"recent":5}`))
	if err != nil || string(s.Data) != `{"n":1}` {
		t.Errorf("got %+v, %v", s, err)
	}
	expect(t, c, `
		connected u1
		subscribed open:a at e:1
		open:a:2 2
		subscribed open:a at e:4 recovered=false
		subscribed open:a at :0
		unsubscribed open:a 2100 one room at a time
		subscribed side at s:9
		side:10 10
		unsubscribed side 2000 server`)
	if _, err := c.Subscribe(t.Context(), "open:b", nil); err != nil {
		t.Error(err)
	}
	if _, err := c.Subscribe(t.Context(), "open:b", nil); err == nil {
		t.Error("subscribed twice")
	}
	for range 2 { // the second has nothing to do
		if err := c.Unsubscribe(t.Context(), "open:b"); err != nil {
			t.Error(err)
		}
	}
	expect(t, c, "subscribed open:b at :0")
}

func TestCalls(t *testing.T) {
	t.Parallel()
	c := dial(t, options(scripted(t, `
		> {"connect":{"token":"T","name":"js"},"id":1}
		< {"id":1,"connect":{"client":"u1"}}
		> {"rpc":{"method":"message.send","data":{"a":1}},"id":2}
		< {"id":2,"rpc":{"data":{"messageUID":"U"}}}
		> {"rpc":{"method":"message.send"},"id":3}
		< {"id":3,"error":{"code":20604,"message":"too fast","temporary":true}}
		> {"rpc":{"method":"ack","data":{"offset":7,"epoch":"e"}},"id":4}
		< {"id":4,"rpc":{}}
		> {"history":{"channel":"me","limit":2,"since":{"offset":3,"epoch":"e"}},"id":5}
		< {"id":5,"history":{"publications":[{"offset":4,"data":"a"},{"offset":5,"data":"b"}],"epoch":"e","offset":9}}
		> {"history":{"channel":"me","limit":-1,"reverse":true},"id":6}
		< {"id":6,"history":{"epoch":"e"}}
		> {"rpc":{"method":"lost"},"id":7}
		x`, `
		> {"connect":{"token":"T","name":"js"},"id":8}
		< {"id":8,"connect":{"client":"u2"}}
		> {"rpc":{"method":"again"},"id":9}
		< {"id":77,"rpc":{}}⏎{"id":9}`)))
	ctx := t.Context()
	if res, err := c.RPC(ctx, "message.send", json.RawMessage("{\"a\":\n1}")); err != nil || string(res) != `{"messageUID":"U"}` {
		t.Errorf("got %s, %v", res, err)
	}
	_, err := c.RPC(ctx, "message.send", nil)
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != 20604 || !e.Temporary {
		t.Errorf("got %v", err)
	}
	if err := c.Ack(ctx, Position{7, "e"}); err != nil {
		t.Error(err)
	}
	h, err := c.History(ctx, Me, HistoryOptions{Since: &Position{3, "e"}, Limit: 2})
	if err != nil || h.Top != (Position{9, "e"}) || len(h.Publications) != 2 || describe(h.Publications[1]) != `me:5 "b"` {
		t.Errorf("got %+v, %v", h, err)
	}
	if h, err = c.History(ctx, Me, HistoryOptions{Limit: -1, Reverse: true}); err != nil || len(h.Publications) != 0 {
		t.Errorf("got %+v, %v", h, err)
	}
	if _, err = c.RPC(ctx, "lost", nil); !errors.Is(err, ErrLost) {
		t.Errorf("got %v", err)
	}
	if _, err = c.RPC(ctx, "again", nil); !errors.Is(err, errNoResult) { // waits for the connection
		t.Errorf("got %v", err)
	}
	if _, err = c.RPC(ctx, "bad", json.RawMessage("{")); err == nil {
		t.Error("data that is not JSON was sent")
	}
}

// Closing while events wait unread, and while the server says nothing to the
// goodbye, leaves nothing behind.
func TestCloseInTheMiddle(t *testing.T) {
	t.Parallel()
	opts := options(scripted(t, `
		> {"connect":{"token":"T","name":"js"},"id":1}
		< {"id":1,"connect":{"client":"u1","subs":{"me":{"recoverable":true}}}}
		`+strings.Repeat(`
		< {"push":{"channel":"me","pub":{"data":1,"offset":1}}}`, 20)+`
		> {"rpc":{"method":"x"},"id":2}`))
	opts.Buffer = 2
	c := dial(t, opts)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.RPC(t.Context(), "x", nil); err == nil {
			t.Error("rpc succeeded")
		}
	})
	time.Sleep(20 * time.Millisecond)
	c.Close()
	wg.Wait()
}

func TestDropComesBack(t *testing.T) {
	t.Parallel()
	c := dial(t, options(scripted(t, `
		> {"connect":{"token":"T","name":"js"},"id":1}
		< {"id":1,"connect":{"client":"u1"}}`, `
		> {"connect":{"token":"T","name":"js"},"id":2}
		< {"id":2,"connect":{"client":"u2"}}`)))
	expect(t, c, "connected u1")
	c.Drop()
	expect(t, c, "connecting 1 transport closed\nconnected u2")
}

func TestBackoffIsFullJitter(t *testing.T) {
	t.Parallel()
	c := &Client{opts: Options{MinBackoff: 500 * time.Millisecond, MaxBackoff: 20 * time.Second}}
	for attempts := range 40 {
		low, high := 20*time.Second, time.Duration(0)
		for range 300 {
			d := c.backoff(attempts)
			low, high = min(low, d), max(high, d)
		}
		ceiling := min(20*time.Second, 500*time.Millisecond+500*time.Millisecond<<min(attempts, 6))
		if low < 500*time.Millisecond || high > ceiling || high-low < (ceiling-500*time.Millisecond)/2 {
			t.Errorf("attempt %d waits from %s to %s", attempts, low, high)
		}
	}
}
