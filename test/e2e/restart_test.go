package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/client"
)

// What must survive a restart does so both when the server is asked to stop and
// when it is killed.
func overRestarts(t *testing.T, test func(t *testing.T, s *server, restart func())) {
	for name, down := range map[string]func(*server){"stopped": (*server).stop, "killed": (*server).kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			test(t, s, func() {
				down(s)
				s.up()
			})
		})
	}
}

func (s *server) dial(o client.Options) *client.Client {
	s.t.Helper()
	o.URL = "ws://" + s.address + "/connection/websocket"
	c, err := client.Dial(s.t.Context(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// publications reads n publications, and shows that no more follow at once.
func publications(t *testing.T, c *client.Client, n int) (got []client.Publication) {
	t.Helper()
	quiet := 10 * time.Second
	for {
		select {
		case e, ok := <-c.Events():
			if !ok {
				t.Fatal("the connection ended")
			}
			if p, ok := e.(client.Publication); ok {
				if got = append(got, p); len(got) == n {
					quiet = 200 * time.Millisecond
				}
			}
		case <-time.After(quiet):
			if len(got) != n {
				t.Fatalf("got %d publications, want %d", len(got), n)
			}
			return got
		}
	}
}

func offsets(ps []client.Publication) (o []uint64) {
	for _, p := range ps {
		o = append(o, p.Offset)
	}
	return o
}

// Metadata of open channels is there, as it was.
func TestOpenPairsOverRestart(t *testing.T) {
	t.Parallel()
	overRestarts(t, func(t *testing.T, s *server, restart func()) {
		const path = "/v4/open-channel/metadata/batch/"
		get := func() string { return string(s.call(path+"get", []byte(`{"channelId":"c"}`)).body) }
		s.call(path+"set", []byte(`{"channelId":"c","metadataOwnerId":"ann","metadata":{"a":"1","b":"2"}}`))
		s.call(path+"set", []byte(`{"channelId":"c","metadataOwnerId":"bob","metadata":{"b":"3","c":"4"},"shouldAutoDelete":1}`))
		s.call(path+"remove", []byte(`{"channelId":"c","metadataOwnerId":"ann","metadataKeys":["a"]}`))
		was := get()
		restart()
		if is := get(); is != was || !strings.Contains(is, `"value":"3"`) || strings.Contains(is, `"a"`) {
			t.Errorf("it is %s, was %s", is, was)
		}
	})
}

func TestIdempotencyOverRestart(t *testing.T) {
	t.Parallel()
	overRestarts(t, func(t *testing.T, s *server, restart func()) {
		const path = "/v4/direct-channel/message/send"
		body := textMessage("ann", []string{"bob", "cho", "bob"}, "once")
		first := s.call(path, body, "Idempotency-Key", "k1")
		restart()
		again := s.call(path, body, "Idempotency-Key", "k1")
		if string(first.body) != string(again.body) {
			t.Errorf("first answer %s, answer to the repeat %s", first.body, again.body)
		}
		if again.header.Get("Idempotency-Replayed") != "true" || first.header.Get("Idempotency-Replayed") != "" {
			t.Error("the repeat is not marked as one, or the first call is")
		}
		b, err := json.Marshal(textMessage("ann", []string{"bob"}, "something else"))
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.try(path, b, "Idempotency-Key", "k1")
		if err != nil || a.status != 409 || a.Code != 1002 {
			t.Errorf("the key with another body: %+v, %v", a, err)
		}
		c := s.dial(client.Options{Token: s.token("bob"), Data: json.RawMessage(`{"from":"oldest"}`)})
		publications(t, c, 1)
	})
}

func TestDeviceCursorOverRestart(t *testing.T) {
	t.Parallel()
	overRestarts(t, func(t *testing.T, s *server, restart func()) {
		send := func(texts ...string) {
			t.Helper()
			for _, text := range texts {
				s.call("/v4/direct-channel/message/send", textMessage("ann", []string{"bob"}, text))
			}
		}
		send("1", "2", "3", "4")
		token := s.token("bob")
		phone := client.Options{Token: token, Data: json.RawMessage(`{"deviceId":"phone"}`)}
		c := s.dial(phone)
		got := publications(t, c, 4)
		epoch, _ := c.Position(client.Me)
		go drain(c)
		if err := c.Ack(t.Context(), client.Position{Offset: got[2].Offset, Epoch: epoch.Epoch}); err != nil {
			t.Fatal(err)
		}
		c.Close()
		// A cursor is stored within a second or two; a crash before that costs
		// repeats, which is allowed.
		time.Sleep(2500 * time.Millisecond)
		restart()
		send("5")
		if got := offsets(publications(t, s.dial(phone), 2)); !slices.Equal(got, []uint64{4, 5}) {
			t.Errorf("the device that acknowledged 3 is given %v", got)
		}
		other := client.Options{Token: token, Data: json.RawMessage(`{"deviceId":"tablet"}`)}
		if got := offsets(publications(t, s.dial(other), 5)); !slices.Equal(got, []uint64{1, 2, 3, 4, 5}) {
			t.Errorf("a device that was never seen is given %v", got)
		}
	})
}

func TestTokenCutoffOverRestart(t *testing.T) {
	t.Parallel()
	overRestarts(t, func(t *testing.T, s *server, restart func()) {
		old, other := s.token("bob"), s.token("cho")
		time.Sleep(5 * time.Millisecond)
		s.call("/v4/auth/access-token/expire", object{"userIds": []string{"bob"}, "expiresAt": time.Now().UnixMilli()})
		time.Sleep(5 * time.Millisecond)
		fresh := s.token("bob")
		restart()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := client.Dial(ctx, client.Options{URL: "ws://" + s.address + "/connection/websocket", Token: old})
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != 109 {
			t.Errorf("a voided token: %v, want error 109", err)
		}
		go drain(s.dial(client.Options{Token: fresh}))
		go drain(s.dial(client.Options{Token: other}))
	})
}

func TestAppSettingsOverRestart(t *testing.T) {
	t.Parallel()
	overRestarts(t, func(t *testing.T, s *server, restart func()) {
		if out, errOut, code := s.parley("app", "set", appKey, "limits.direct=3/d", "types.custom=app:ping=status"); code != 0 {
			t.Fatal(out, errOut)
		}
		restart()
		b, err := json.Marshal(textMessage("ann", []string{"a", "b", "c", "d"}, "four at once"))
		if err != nil {
			t.Fatal(err)
		}
		if a, err := s.try("/v4/direct-channel/message/send", b); err != nil || a.status != 400 || a.Code != 1002 {
			t.Errorf("four recipients under a limit of three: %+v, %v", a, err)
		}
		out, _, code := s.parley("app", "list", "--json")
		var apps []struct {
			Key     string
			Changed map[string]string
		}
		if err := json.Unmarshal([]byte(out), &apps); err != nil || code != 0 || len(apps) != 1 {
			t.Fatalf("app list: %s, %v, code %d", out, err, code)
		}
		if c := apps[0].Changed; len(c) != 2 || c["limits.direct"] != "3/d" || c["types.custom"] != "app:ping=status" {
			t.Errorf("changed settings: %v", c)
		}
	})
}

// With little free space the server starts, refuses to write, says so, and goes
// on giving people what waits for them.
func TestLittleSpace(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.call("/v4/direct-channel/message/send", textMessage("ann", []string{"bob"}, "before"))
	token := s.token("bob")
	s.stop()
	s.args = append(s.args, "--min-free", "1000TiB")
	s.launch()
	s.await("/healthz")

	body, err := json.Marshal(textMessage("ann", []string{"bob"}, "while there is no room"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.try("/v4/direct-channel/message/send", body)
	if err != nil || a.status != http.StatusServiceUnavailable || a.Code != 1050 || a.header.Get("Retry-After") == "" {
		t.Errorf("a send: %+v, %v", a, err)
	}
	resp, err := http.Get("http://" + s.address + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d", resp.StatusCode)
	}
	c := s.dial(client.Options{Token: token, Data: json.RawMessage(`{"from":"oldest"}`)})
	publications(t, c, 1)
	s.stop()
}
