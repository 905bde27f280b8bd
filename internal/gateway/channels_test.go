package gateway

import (
	"strings"
	"testing"
)

// told is the data of the next event about the user's own channels.
func (p *peer) told() string {
	p.t.Helper()
	line := p.until(`{"event":"channel"`)
	_, data, _ := strings.Cut(line, `"data":`)
	return data[:strings.LastIndex(data, `,"offset":`)]
}

func (p *peer) wantTold(want string) {
	p.t.Helper()
	if got := p.told(); got != want {
		p.t.Errorf("got  %s\nwant %s", got, want)
	}
}

// recovered is what somebody who was away is told, each as its data.
func (h *house) recovered(user string) string {
	h.t.Helper()
	p := h.dial()
	p.send(`{"connect":{"token":"` + h.token(user) + `","data":{"from":"oldest"}},"id":1}`)
	return p.line()
}

func TestClientsPin(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	bob, _ := h.connect("bob", "")
	tablet, _ := h.connect("bob", "")
	alice, _ := h.connect("alice", "")

	bob.refused("channel.pin", `{"channelType":"direct","channelId":"alice"}`, 107, "pinned: is required")
	bob.refused("channel.pin", `{"channelId":"alice","pinned":true}`, 107, "channelType: is required")
	bob.refused("channel.pin", `{"channelType":"open","channelId":"hall","pinned":true}`, 107, `channelType: one of direct, group, system, got "open"`)
	bob.refused("channel.pin", `{"channelType":"direct","pinned":true}`, 107, "channelId: is required")

	if got := bob.done("channel.pin", `{"channelType":"direct","channelId":"alice","pinned":false}`); got != "{}" {
		t.Errorf("%s", got)
	}
	at := bob.done("channel.pin", `{"channelType":"direct","channelId":"alice","pinned":true}`)
	if again := tablet.done("channel.pin", `{"channelType":"direct","channelId":"alice","pinned":1}`); again != at || !strings.HasPrefix(at, `{"pinnedAt":1`) {
		t.Errorf("%s, and again %s", at, again)
	}
	pinned := `{"event":"channel","channelType":"direct","channelId":"alice","pinned":true,` + at[1:]
	unpinned := `{"event":"channel","channelType":"direct","channelId":"alice","pinned":false}`
	bob.done("channel.pin", `{"channelType":"direct","channelId":"alice","pinned":false}`)
	for _, p := range []*peer{bob, tablet} {
		p.wantTold(pinned)
		p.wantTold(unpinned)
	}
	line := h.recovered("bob")
	if strings.Count(line, `"event":`) != 2 || !strings.Contains(line, pinned) || !strings.Contains(line, unpinned) {
		t.Errorf("who was away gets %s", line)
	}
	// Nobody else hears of it.
	bob.say("alice", "hi", "")
	if line := alice.line(); !strings.Contains(line, `"content":"hi"`) {
		t.Errorf("alice is told %s", line)
	}
}

func TestClientsNotification(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	bob, _ := h.connect("bob", "")
	tablet, _ := h.connect("bob", "")
	const call = "channel.notification"
	answer := func(data, want string) {
		t.Helper()
		if got := bob.done(call, data); got != want {
			t.Errorf("%s: got %s, want %s", data, got, want)
		}
	}
	answer(`{}`, `{"levels":{},"quietHours":{}}`)
	answer(`{"channelType":"direct","channelId":"alice"}`, `{"level":0}`)
	answer(`{"channelType":"direct","channelId":"alice","level":5}`, `{"level":5}`)
	answer(`{"channelType":"direct","channelId":"alice","level":5}`, `{"level":5}`)
	answer(`{"channelType":"direct","channelId":"alice"}`, `{"level":5}`)
	answer(`{"channelType":"group","level":"1"}`, `{"level":1}`)
	answer(`{"channelType":"direct","level":-1}`, `{"level":-1}`)
	answer(`{"channelType":"group"}`, `{"level":1}`)
	answer(`{"channelType":"community","channelId":"c","subchannelId":"s","level":2}`, `{"level":2}`)
	quiet := `{"from":"22:00","to":"07:00","timezone":"Europe/Berlin","level":5}`
	answer(`{"quietHours":{"from":"22:00","to":"07:00","timezone":"Europe/Berlin"}}`, `{"levels":{"direct":-1,"group":1},"quietHours":`+quiet+`}`)
	answer(`{"quietHours":`+quiet+`}`, `{"levels":{"direct":-1,"group":1},"quietHours":`+quiet+`}`)
	answer(`{"quietHours":{}}`, `{"levels":{"direct":-1,"group":1},"quietHours":{}}`)
	answer(`{"channelType":"direct","channelId":"alice","level":0}`, `{"level":0}`)
	events := []string{
		`{"event":"channel","channelType":"direct","channelId":"alice","level":5}`,
		`{"event":"channel","channelType":"group","level":1}`,
		`{"event":"channel","channelType":"direct","level":-1}`,
		`{"event":"channel","channelType":"community","channelId":"c","subchannelId":"s","level":2}`,
		`{"event":"channel","quietHours":` + quiet + `}`,
		`{"event":"channel","quietHours":{}}`,
		`{"event":"channel","channelType":"direct","channelId":"alice","level":0}`,
	}
	for _, want := range events {
		bob.wantTold(want)
		tablet.wantTold(want)
	}
	line := h.recovered("bob")
	for _, want := range events {
		if !strings.Contains(line, want) {
			t.Errorf("who was away is not told %s", want)
		}
	}
	for data, want := range map[string]string{
		`{"channelType":"direct","channelId":"alice","level":3}`:                       "level: one of -1, 0, 1, 2, 4, 5, got 3",
		`{"channelType":"open","channelId":"hall","level":1}`:                          `channelType: one of direct, group, system, community, got "open"`,
		`{"channelId":"alice","level":1}`:                                              "channelType: is required",
		`{"level":1}`:                                                                  "channelType: is required",
		`{"channelType":"direct","channelId":"a","subchannelId":"s","level":1}`:        "subchannelId: only communities have subchannels",
		`{"channelType":"community","subchannelId":"s","level":1}`:                     "channelId: is required",
		`{"channelType":"direct","quietHours":{}}`:                                     "quietHours: are of all channels: not together with a channel or a level",
		`{"quietHours":{"from":"22:00"}}`:                                              "quietHours.to: is required",
		`{"quietHours":{"from":"22:00","to":"25:00"}}`:                                 "quietHours.to: must be a time of the day such as 22:00",
		`{"quietHours":{"from":"22:00","to":"07:00","timezone":"Mars/Base"}}`:          "quietHours.timezone: must be the name of a time zone, such as Europe/Berlin",
		`{"quietHours":{"from":"22:00","to":"07:00","timezone":"Europe/X","level":0}}`: "quietHours.level: one of 1, 2, 4, 5, got 0",
	} {
		bob.refused(call, data, 107, want)
	}
}

func TestClientsTag(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	bob, _ := h.connect("bob", "")
	tablet, _ := h.connect("bob", "")
	done := func(method, data string) {
		t.Helper()
		if got := bob.done(method, data); got != "{}" {
			t.Errorf("%s: %s", method, got)
		}
	}
	if got := bob.done("channel.tag.list", `{}`); got != `{"tags":[]}` {
		t.Errorf("%s", got)
	}
	done("channel.tag.set", `{"tagId":"w","tagName":"Work"}`)
	done("channel.tag.set", `{"tagId":"w","tagName":"Office"}`)
	tags := bob.done("channel.tag.list", `{}`)
	if !strings.HasPrefix(tags, `{"tags":[{"tagId":"w","tagName":"Office","createdAt":1`) {
		t.Errorf("%s", tags)
	}
	done("channel.tag.add", `{"tagId":"w","channels":[{"channelType":"direct","channelId":"alice"},{"channelType":"group","channelId":"g"}]}`)
	list := tablet.done("channel.tagged", `{"tagId":"w"}`)
	at := list[strings.LastIndex(list, `,"taggedAt":`):strings.LastIndex(list, "}]}")]
	if want := `{"channels":[{"channelType":"direct","channelId":"alice"` + at + `},{"channelType":"group","channelId":"g"` + at + `}]}`; list != want {
		t.Errorf("got  %s\nwant %s", list, want)
	}
	done("channel.tag.remove", `{"tagId":"w","channels":[{"channelType":"group","channelId":"g"}]}`)
	done("channel.tag.delete", `{"tagId":"w"}`)
	done("channel.tag.delete", `{"tagId":"w"}`)
	events := []string{
		strings.Replace(`{"event":"channel","channelTags":`+strings.TrimPrefix(tags, `{"tags":`), "Office", "Work", 1),
		`{"event":"channel","channelTags":` + strings.TrimPrefix(tags, `{"tags":`),
		`{"event":"channel","tagId":"w","tagged":[{"channelType":"direct","channelId":"alice"},{"channelType":"group","channelId":"g"}]` + at + `}`,
		`{"event":"channel","tagId":"w","untagged":[{"channelType":"group","channelId":"g"}]}`,
		`{"event":"channel","channelTags":[]}`,
	}
	for _, want := range events {
		bob.wantTold(want)
		tablet.wantTold(want)
	}
	line := h.recovered("bob")
	for _, want := range events {
		if !strings.Contains(line, want) {
			t.Errorf("who was away is not told %s", want)
		}
	}
	for _, c := range [][3]string{
		{"channel.tag.set", `{"tagName":"Work"}`, "tagId: is required"},
		{"channel.tag.set", `{"tagId":"w"}`, "tagName: is required"},
		{"channel.tag.set", `{"tagId":"12345678901","tagName":"x"}`, "tagId: at most 10 characters, got 11"},
		{"channel.tag.delete", `{}`, "tagId: is required"},
		{"channel.tag.add", `{"tagId":"w","channels":[{"channelType":"direct","channelId":"alice"}]}`, "tagId: the user has no such tag"},
		{"channel.tag.add", `{"tagId":"w","channels":[{"channelType":"open","channelId":"x"}]}`, `channels[0].channelType: one of direct, group, system, got "open"`},
		{"channel.tag.add", `{"tagId":"w"}`, "channels: is required"},
		{"channel.tag.remove", `{"tagId":"w","channels":[{"channelType":"direct"}]}`, "channels[0].channelId: is required"},
		{"channel.tagged", `{"tagId":"w"}`, "tagId: the user has no such tag"},
	} {
		bob.refused(c[0], c[1], 107, c[2])
	}
}
