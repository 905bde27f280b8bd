package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// TestExchanges runs testdata/exchanges.json, whose format is described in it,
// against the gateway.
func TestExchanges(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/exchanges.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Exchanges []struct {
			Name  string
			Steps []step
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, func(o *Options) { o.PingInterval = 2 * time.Second })
	h.traces()
	for i, x := range file.Exchanges {
		t.Run(x.Name, func(t *testing.T) {
			t.Parallel()
			// Users and channels of one's own stand for an empty server.
			s := &script{t: t, h: h, suffix: fmt.Sprintf("~%d", i), peers: map[string]*peer{}, values: map[string]any{}}
			for n, st := range x.Steps {
				s.where = fmt.Sprintf("step %d", n+1)
				s.run(&st)
			}
		})
	}
}

// Every call is in the exchanges, done and refused, so that whoever writes a
// client sees both.
func TestExchangesHaveEveryCall(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/exchanges.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Exchanges []struct{ Steps []step }
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	done, refused := map[string]bool{}, map[string]bool{}
	for _, x := range file.Exchanges {
		asked, on := map[string]string{}, "" // by connection and id
		for _, st := range x.Steps {
			on = cmp.Or(st.Open, st.On, on)
			for _, raw := range st.In {
				var c struct {
					ID  int
					RPC struct{ Method string }
				}
				if err := json.Unmarshal(raw, &c); err != nil {
					t.Fatal(err)
				}
				asked[fmt.Sprint(on, c.ID)] = c.RPC.Method
			}
			for _, out := range st.Out {
				method := asked[fmt.Sprint(on, out["id"])]
				done[method] = done[method] || out["rpc"] != nil
				refused[method] = refused[method] || out["error"] != nil
			}
		}
	}
	for method := range rpcMethods {
		if !done[method] || !refused[method] {
			t.Errorf("%s: an exchange where it is done: %t, where it is refused: %t; add both to testdata/exchanges.json", method, done[method], refused[method])
		}
	}
}

type step struct {
	Open, On string
	In       []json.RawMessage
	Raw      *string
	Out      []map[string]any
	Close    uint16
	Drop     bool
	Backend  *struct {
		Send *struct{ Type, From, To, Content, MessageType string }
		Void *struct{ User string }
		// What else the backend says of a user.
		Ban, Unban, Delete, Restore *struct{ User string }
		Mute                        *struct{ User, Type string }
		Chunk                       *struct {
			From, To, Text string
			Seq            int64
			Complete, Echo bool
		}
	}
}

type script struct {
	t      *testing.T
	h      *house
	where  string
	suffix string
	peers  map[string]*peer
	p      *peer
	values map[string]any // what $names stand for
}

// The names in the file are made this exchange's own on the way in, and plain
// again on the way out.
func (s *script) own(name string) string { return name + s.suffix }

func (s *script) run(st *step) {
	h := s.h
	switch {
	case st.Open != "":
		s.p = h.dial()
		s.p.t = s.t
		s.peers[st.Open] = s.p
	case st.On != "":
		s.p = s.peers[st.On]
	case st.In != nil:
		var lines []string
		for _, raw := range st.In {
			lines = append(lines, s.outgoing(raw))
		}
		s.p.send(lines...)
	case st.Raw != nil:
		s.p.send(strings.ReplaceAll(*st.Raw, "$big", strings.Repeat("x", chat.MaxContent+1)))
	case st.Out != nil:
		s.expect(st.Out)
	case st.Close != 0:
		if code := s.p.closed(); code != st.Close {
			s.t.Fatalf("%s: closed with %d, want %d", s.where, code, st.Close)
		}
	case st.Drop:
		s.p.ws.Abort()
		// The loss must be known before what happens next.
		s.h.settled(s.t)
	case st.Backend.Send != nil:
		b := st.Backend.Send
		ct, _ := chat.ParseChannelType(b.Type)
		m := &chat.Message{ChannelType: ct, From: s.own(b.From), Type: b.MessageType, Content: b.Content, Persist: true}
		if m.Type == "" {
			m.Type = "app:text"
		}
		h.post(m, s.own(b.To))
	case st.Backend.Chunk != nil:
		b := st.Backend.Chunk
		c := chat.Chunk{Seq: b.Seq, Text: b.Text, Complete: b.Complete}
		var uid chat.UID
		if c.Seq > 1 {
			var err error
			uid, err = chat.ParseUID(s.values["$stream"].(string))
			must(s.t, err)
		}
		s.values["$stream"] = h.chunk(uid, s.own(b.From), s.own(b.To), c, b.Echo).String()
	case st.Backend.Ban != nil:
		s.shut(st.Backend.Ban.User, chat.KindBanned, func(ctx context.Context, app *chat.App, users []string) error {
			return h.dir.Ban(ctx, app, users, 5)
		})
	case st.Backend.Unban != nil:
		must(s.t, h.dir.Unban(s.t.Context(), h.app, []string{s.own(st.Backend.Unban.User)}))
	case st.Backend.Delete != nil:
		s.shut(st.Backend.Delete.User, chat.KindDeleted, h.dir.Delete)
	case st.Backend.Restore != nil:
		must(s.t, h.dir.Restore(s.t.Context(), h.app, []string{s.own(st.Backend.Restore.User)}))
	case st.Backend.Mute != nil:
		ct, _ := chat.ParseChannelType(st.Backend.Mute.Type)
		must(s.t, h.dir.Mute(s.t.Context(), h.app, []string{s.own(st.Backend.Mute.User)}, []chat.ChannelType{ct}, true))
	case st.Backend.Void != nil:
		u := s.own(st.Backend.Void.User)
		cut := time.Now().UnixMilli() + 1
		time.Sleep(2 * time.Millisecond)
		if err := h.dir.ExpireTokens(context.Background(), h.app, []string{u}, cut); err != nil {
			s.t.Fatal(err)
		}
		h.Expire(h.app.ID, []string{u}, cut)
	}
}

// shut does what ends the user's connections.
func (s *script) shut(user string, why chat.Kind, do func(context.Context, *chat.App, []string) error) {
	users := []string{s.own(user)}
	must(s.t, do(s.t.Context(), s.h.app, users))
	s.h.Shut(s.h.app.ID, users, why)
}

// settled waits a moment in which the server notices what was cut.
func (h *house) settled(testing.TB) { time.Sleep(20 * time.Millisecond) }

var nameFields = []string{"channel", "channelId", "userId", "fromUserId", "name", "userIds"}

// outgoing puts values in and makes names this exchange's own.
func (s *script) outgoing(raw []byte) string {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		s.t.Fatal(err)
	}
	var walk func(key string, v any) any
	walk = func(key string, v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k, inner := range v {
				v[k] = walk(k, inner)
			}
		case []any:
			for i, inner := range v {
				v[i] = walk(key, inner)
			}
		case string:
			if user, ok := strings.CutPrefix(v, "$token:"); ok {
				// The same token again, so that one can be voided.
				if s.values[v] == nil {
					s.values[v] = s.h.token(s.own(user))
				}
				return s.values[v]
			}
			if v == "$big" {
				return strings.Repeat("x", chat.MaxContent+1)
			}
			if strings.HasPrefix(v, "$") {
				return s.values[v]
			}
			if slices.Contains(nameFields, key) && v != channelMe && v != "open:" && v != "js" && v != "" && v != "b ob" {
				return s.own(v)
			}
		}
		return v
	}
	b, err := json.Marshal(walk("", v))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func (s *script) expect(want []map[string]any) {
	anyOrder := want[0]["$any order"] == true
	wantsPing := len(want) == 1 && want[0]["push"] == "$absent"
	for len(want) > 0 {
		line, err := s.p.next(10 * time.Second)
		if err != nil {
			s.t.Fatalf("%s: %v while waiting for %v", s.where, err, want[0])
		}
		if line == "{}" {
			if wantsPing {
				return
			}
			s.p.send("{}")
			continue
		}
		if strings.Contains(line, `"event":"participants"`) {
			continue
		}
		if wantsPing {
			s.t.Fatalf("%s: want a ping, got %s", s.where, line)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(strings.ReplaceAll(line, s.suffix, "")), &got); err != nil {
			s.t.Fatalf("%s: %v in %s", s.where, err, line)
		}
		i := 0
		if anyOrder && want[0]["id"] == nil != (got["id"] == nil) {
			i = 1
		}
		delete(want[i], "$any order")
		if problem := s.match("", want[i], got); problem != "" {
			s.t.Fatalf("%s: %s\nwant %v\ngot  %.1000s", s.where, problem, want[i], line)
		}
		want = slices.Delete(want, i, i+1)
	}
}

// match says how got differs from want; empty when it does not.
func (s *script) match(path string, want, got any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s: want an object, got %v", path, got)
		}
		for k, inner := range w {
			v, there := g[k]
			if inner == "$absent" {
				if there {
					return fmt.Sprintf("%s.%s is there: %v", path, k, v)
				}
				continue
			}
			if !there {
				return fmt.Sprintf("%s.%s is missing", path, k)
			}
			if p := s.match(path+"."+k, inner, v); p != "" {
				return p
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s: want %d items, got %v", path, len(w), got)
		}
		for i := range w {
			if p := s.match(fmt.Sprintf("%s[%d]", path, i), w[i], g[i]); p != "" {
				return p
			}
		}
		return ""
	case string:
		if w == "$*" {
			return ""
		}
		if strings.HasPrefix(w, "$") {
			known, ok := s.values[w]
			if !ok {
				s.values[w] = got
				return ""
			}
			want = known
		}
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Sprintf("%s: want %v, got %v", path, want, got)
	}
	return ""
}
