package push

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// What does not fit goes in one order: image, data, body, title.
func TestFit(t *testing.T) {
	t.Parallel()
	render := func(p Parts) []byte {
		image := ""
		if p.Image {
			image = "iiiiiiiiii"
		}
		return []byte(image + strings.Join([]string{p.Data, p.Body, p.Title}, "|"))
	}
	full := Parts{Image: true, Data: "dddddddddd", Body: "bbbbbbbbbb", Title: "tttttttttt"}
	for _, c := range []struct {
		limit int
		want  string
		cut   Cut
	}{
		{42, "iiiiiiiiiidddddddddd|bbbbbbbbbb|tttttttttt", 0},
		{41, "dddddddddd|bbbbbbbbbb|tttttttttt", CutImage},
		{32, "dddddddddd|bbbbbbbbbb|tttttttttt", CutImage},
		{31, "|bbbbbbbbbb|tttttttttt", CutImage | CutData},
		{21, "|bbbbbb…|tttttttttt", CutImage | CutData | CutBody},
		{15, "|…|tttttttttt", CutImage | CutData | CutBody},
		{14, "||tttttttttt", CutImage | CutData | CutBody},
		{11, "||tttttt…", CutImage | CutData | CutBody | CutTitle},
		{2, "||", CutImage | CutData | CutBody | CutTitle},
	} {
		got, cut, err := Fit(full, c.limit, render, nil)
		if err != nil || len(got) > c.limit || cut != c.cut {
			t.Errorf("%d: %q (%d bytes), %b, %v; want cut %b", c.limit, got, len(got), cut, err, c.cut)
		}
		if string(got) != c.want {
			t.Errorf("%d: %q, want %q", c.limit, got, c.want)
		}
	}
	if _, _, err := Fit(full, 1, render, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("routing alone too large: %v", err)
	}
	// What is not there is not said to be cut.
	if _, cut, _ := Fit(Parts{Body: "bbbbbbbbbb"}, 9, render, nil); cut != CutBody {
		t.Errorf("cut %b", cut)
	}
	// Only what counts is counted.
	if got, cut, err := Fit(full, 32, render, func(b []byte) int { return len(b) - 10 }); err != nil || cut != 0 || len(got) != 42 {
		t.Errorf("%q, %b, %v", got, cut, err)
	}
}

// Characters that take six bytes in JSON are cut by what they take there.
func TestFitEscaped(t *testing.T) {
	t.Parallel()
	p := Parts{Body: strings.Repeat("\x01", 1000)}
	got, cut, err := Fit(p, 500, func(p Parts) []byte { return JSON(p.Body) }, nil)
	if err != nil || cut != CutBody || len(got) > 500 || len(got) < 490 {
		t.Errorf("%d bytes, %b, %v", len(got), cut, err)
	}
}

func TestJSONIsNotEscapedForHTML(t *testing.T) {
	t.Parallel()
	if got := string(JSON(map[string]string{"b": "<&>", "a": "\u2028"})); got != "{\"a\":\"\u2028\",\"b\":\"<&>\"}" {
		t.Errorf("%s", got)
	}
}

func TestTTL(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		expires time.Time
		want    time.Duration
		err     error
	}{
		{time.Time{}, DefaultTTL, nil},
		{now.Add(time.Hour), time.Hour, nil},
		{now.Add(time.Second), time.Minute, nil},
		{now.AddDate(1, 0, 0), 48 * time.Hour, nil},
		{now, 0, ErrExpired},
		{now.Add(-time.Second), 0, ErrExpired},
	} {
		n := Notification{Expires: c.expires}
		if got, err := n.TTL(now, time.Minute, 48*time.Hour); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %s, %v", c.expires, got, err)
		}
	}
}

// A repeated attempt overwrites what it repeats, and a recall what it recalls.
func TestNames(t *testing.T) {
	t.Parallel()
	a := chat.NewUID(1_800_000_000_000, chat.Direct, 1, 1)
	b := chat.NewUID(1_800_000_000_000, chat.Direct, 2, 1)
	n := Notification{App: 1, UID: a, To: chat.PushDevice{Token: "t"}}
	again := n
	again.Badge = 3
	if n.RequestID() != again.RequestID() || n.NotifyID() != again.NotifyID() {
		t.Error("another attempt has other names")
	}
	recall := Notification{App: 1, UID: b, Removes: a, To: chat.PushDevice{Token: "t"}}
	if recall.NotifyID() != n.NotifyID() || recall.RequestID() == n.RequestID() {
		t.Error("a recall does not take the place of what it recalls")
	}
	for _, other := range []Notification{
		{App: 2, UID: a, To: chat.PushDevice{Token: "t"}}, {App: 1, UID: b, To: chat.PushDevice{Token: "t"}}, {App: 1, UID: a, To: chat.PushDevice{Token: "u"}},
	} {
		if other.RequestID() == n.RequestID() {
			t.Errorf("%+v has the same request id", other)
		}
	}
	if id := n.RequestID(); len(id) != 36 || id[14] != '8' || strings.ToLower(id) != id {
		t.Errorf("no UUID: %s", id)
	}
	if n.NotifyID() < 0 {
		t.Error("a negative number")
	}
}
