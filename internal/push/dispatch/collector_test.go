package dispatch

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// gathered are the metrics of lanes by name, provider and what else there is, of
// those that are not 0.
func (w *world) gathered() map[string]float64 {
	w.t.Helper()
	r := prometheus.NewRegistry()
	if err := r.Register(newCollector(w.d)); err != nil {
		w.t.Fatal(err)
	}
	list, err := r.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range list {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "parley_push_")
			for _, label := range m.GetLabel() {
				if label.GetName() != "app" {
					name += " " + label.GetValue()
				} else if label.GetValue() != fmt.Sprint(w.app.ID) {
					w.t.Errorf("%s of app %s", name, label.GetValue())
				}
			}
			if v := m.GetGauge().GetValue(); v != 0 {
				found[name] = v
			}
		}
	}
	return found
}

func (w *world) gathers(what string, want map[string]float64) {
	w.t.Helper()
	var got map[string]float64
	defer func() {
		if w.t.Failed() {
			w.t.Logf("%s: got %v, want %v", what, got, want)
		}
	}()
	w.until(what, func() bool {
		got = w.gathered()
		return maps.Equal(got, want)
	})
}

// The metrics of lanes tell what waits, for how long, and why.
func TestLaneMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, user := range []string{"bob", "carol"} {
		w.phone(user, chat.VIVO)
		w.phone(user, chat.MEIZU)
	}
	hang := make(chan struct{})
	w.mu.Lock()
	w.hang = hang
	w.mu.Unlock()
	w.run()
	w.one("bob", chat.VIVO)
	w.one("bob", chat.VIVO, func(j *store.PushJob) { j.Priority = priorityCall })
	w.one("carol", chat.VIVO, func(j *store.PushJob) { j.Due += 60_000 })
	w.gathers("a request under way", map[string]float64{
		"jobs call VIVO": 1, "jobs usual VIVO": 2, "in_flight VIVO": 1, "access_token_age_seconds VIVO": 90,
	})
	w.pass(30 * time.Second)
	w.gathers("it is late", map[string]float64{
		"jobs call VIVO": 1, "jobs usual VIVO": 2, "in_flight VIVO": 1, "access_token_age_seconds VIVO": 90,
		"oldest_seconds call VIVO": 30, "oldest_seconds usual VIVO": 30,
	})
	w.mu.Lock()
	w.hang = nil
	w.mu.Unlock()
	close(hang)
	w.gathers("one waits for its time", map[string]float64{"jobs usual VIVO": 1, "access_token_age_seconds VIVO": 90})

	w.result(push.Result{Class: push.RetryAfter, Code: "429", After: time.Minute})
	w.one("bob", chat.MEIZU)
	w.gathers("a pause", map[string]float64{
		"jobs usual VIVO": 1, "jobs usual MEIZU": 1, "lane_state MEIZU": lanePaused,
		"access_token_age_seconds VIVO": 90, "access_token_age_seconds MEIZU": 90,
	})
	w.result(push.Result{Class: push.ConfigHalt, Code: "10200"})
	w.one("bob", chat.VIVO)
	w.gathers("a halt", map[string]float64{
		"jobs usual VIVO": 2, "lane_state VIVO": laneStopped, "jobs usual MEIZU": 1, "lane_state MEIZU": lanePaused,
		"access_token_age_seconds VIVO": 90, "access_token_age_seconds MEIZU": 90,
	})
	w.until("the lane stands", func() bool {
		l := w.lane(chat.MEIZU)
		l.mu.Lock()
		defer l.mu.Unlock()
		return !l.standSince.IsZero()
	})
	w.result(accepted)
	w.pass(2 * time.Minute)
	w.credential(chat.VIVO) // which ends the halt
	w.pass(time.Second)
	w.until("all are told, after a standstill", func() bool {
		g := w.gathered()
		return g["jobs usual VIVO"] == 0 && g["jobs usual MEIZU"] == 0 && g["lane_state VIVO"] == laneOpen && g["lane_state MEIZU"] == laneOpen
	})
	w.pass(time.Minute)
	w.result(push.Result{Class: push.Retry, Code: "connect"})
	for range breakAfter {
		user := fmt.Sprint("u", len(w.sentTo("")))
		w.phone(user, chat.MEIZU)
		sent := len(w.sentTo(""))
		w.one(user, chat.MEIZU)
		w.until("it was asked", func() bool { return len(w.sentTo("")) > sent })
	}
	w.until("the breaker is open", func() bool { return w.gathered()["lane_state MEIZU"] == laneBroken })
}

// What lanes log holds neither tokens nor what is said, whatever a provider answers.
func TestLogsTellNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var logs lockedLog
	w.d.Logger = slog.New(slog.NewJSONHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.run()
	for _, r := range []push.Result{
		{Class: push.ConfigHalt, Code: "no such token: bob@VIVO"},
		{Class: push.AuthRefresh, Code: strings.Repeat("bob@VIVO ", 1000), Unknown: true},
		{Class: push.TokenDead, Code: "bob@VIVO"},
		{Class: push.TokenStrike, Code: "bob@VIVO"},
		{Class: push.QuotaDay, Code: "bob@VIVO"},
		{Class: push.PayloadBad, Code: "bob@VIVO", Unknown: true},
		{Class: push.Accepted, Code: "200"},
	} {
		w.phone("bob", chat.VIVO)
		w.result(r)
		sent := len(w.sentTo(""))
		w.one("bob", chat.VIVO)
		w.until("it was asked", func() bool {
			w.pass(time.Minute)
			w.phone("bob", chat.VIVO)
			return len(w.sentTo("")) > sent
		})
		w.until("the answer has followed", func() bool { return idleHand(w.lane(chat.VIVO)) })
		w.result(accepted)
		w.pass(time.Second)
		w.credential(chat.VIVO) // which ends a halt
		w.pass(time.Second)
		w.until("it has ended", func() bool { return w.halted(chat.VIVO) == "" })
	}
	w.phone("carol", chat.VIVO)
	w.result(push.Result{Class: push.TokenDead, Code: "carol@VIVO"})
	w.ends(w.one("carol", chat.VIVO), "token_dead")
	w.result(accepted)
	w.ends(w.one("bob", chat.VIVO), "accepted")
	w.until("a token is gone", func() bool { return strings.Contains(logs.String(), "a token is gone") })
	w.halt()
	text := logs.String()
	if strings.Count(text, "halted") < 3 {
		t.Errorf("logged %s", text)
	}
	for _, word := range []string{"bob@VIVO", "carol@VIVO", "hello", "alice", "secret"} {
		if strings.Contains(text, word) {
			t.Errorf("%q is in the log: %s", word, text)
		}
	}
	for line := range strings.Lines(text) {
		if len(line) > 400 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
