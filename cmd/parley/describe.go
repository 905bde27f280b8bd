package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/client"
)

// An event is a publication's data, as far as a line shows it.
type event struct {
	Event   string  `json:"event"`
	Message message `json:"message"`

	UID         string `json:"messageUID"`
	ChannelType string `json:"channelType"`
	ChannelID   string `json:"channelId"`
	Operator    string `json:"operatorId"`

	// recall
	IsAdmin  bool `json:"isAdmin"`
	IsDelete bool `json:"isDelete"`

	// update, stream
	Content  string `json:"content"`
	Seq      uint64 `json:"seq"`
	Complete bool   `json:"complete"`

	// metadata
	Set     map[string]string `json:"set"`
	Removed []string          `json:"removed"`

	// receipt, read, delete, clear
	Users []struct {
		ID     string `json:"userId"`
		ReadAt int64  `json:"readAt"`
	} `json:"users"`
	UpTo string   `json:"upTo"`
	UIDs []string `json:"messageUIDs"`

	// typing
	User string `json:"userId"`

	// participants
	Count   int `json:"participantCount"`
	Came    int `json:"enteredCount"`
	Went    int `json:"leftCount"`
	Entered []struct {
		ID string `json:"userId"`
	} `json:"entered"`
	Left []string `json:"left"`
}

type message struct {
	UID         string `json:"messageUID"`
	ChannelType string `json:"channelType"`
	ChannelID   string `json:"channelId"`
	From        string `json:"fromUserId"`
	Direction   string `json:"direction"`
	Type        string `json:"messageType"`
	Content     string `json:"content"`
	SentAt      int64  `json:"sentAt"`
}

// text is what a person would read: the text of a message that has one, and
// otherwise its type and size.
func (m *message) text() string {
	var txt struct {
		Content  *string `json:"content"`
		Complete bool    `json:"complete"`
	}
	if (m.Type == "RC:TxtMsg" || m.Type == "RC:StreamMsg") && json.Unmarshal([]byte(m.Content), &txt) == nil && txt.Content != nil {
		if m.Type == "RC:StreamMsg" && !txt.Complete {
			return fmt.Sprintf("%q …", *txt.Content)
		}
		return fmt.Sprintf("%q", *txt.Content)
	}
	return fmt.Sprintf("[%s, %d bytes]", m.Type, len(m.Content))
}

// describeEvent is a line about a publication. What it does not know, and what
// it knows but cannot read, it shows as it came.
func describeEvent(p client.Publication) string {
	place := "      "
	if p.Offset > 0 {
		place = fmt.Sprintf("#%-5d", p.Offset)
	}
	line := ""
	var e event
	if json.Unmarshal(p.Data, &e) == nil {
		line = e.describe(p)
	}
	if line == "" {
		line = string(p.Data)
	}
	return place + " " + line
}

// describe is what the event says in words, or nothing when there are none for
// it.
func (e *event) describe(p client.Publication) string {
	switch e.Event {
	case "message":
		return e.Message.describe(p.Channel)
	case "gone":
		return e.line("gone", e.UID+" is not kept any more")
	case "recall":
		by := cmp.Or(e.Operator, "somebody")
		if e.IsAdmin {
			by += ", for the app,"
		}
		what := by + " took back " + e.UID
		if e.IsDelete {
			what += ", leaving nothing"
		}
		return e.line("recall", what)
	case "update":
		m := message{Type: "RC:TxtMsg", Content: e.Content}
		return e.line("update", e.UID+" is now "+m.text())
	case "metadata":
		return e.line("metadata", fmt.Sprintf("%s: %s, by %s", e.UID, e.pairs(), e.Operator))
	case "stream":
		what := fmt.Sprintf("%s goes on (%d): %q", e.UID, e.Seq, e.Content)
		if e.Complete {
			what += ", and ends"
		}
		return e.line("stream", what)
	case "receipt":
		var by []string
		for _, u := range e.Users {
			by = append(by, fmt.Sprintf("%s at %s", u.ID, time.UnixMilli(u.ReadAt).Format(time.TimeOnly)))
		}
		return e.line("receipt", e.UID+" was read by "+strings.Join(by, ", "))
	case "read", "delete", "clear":
		what := "up to " + e.UpTo
		if len(e.UIDs) > 0 {
			what = strings.Join(e.UIDs, ", ")
		}
		where := strings.TrimSpace(e.ChannelType + " " + e.ChannelID)
		return e.line(e.Event, strings.TrimPrefix(where+": "+what, ": "))
	case "typing":
		return e.line("typing", e.User+" is typing")
	case "participants":
		return e.line("people", e.participants(p.Channel))
	case "channel", "shed", "destroyed", "mute", "freeze", "ban", "kv":
		return e.line(e.Event, remainder(p.Data))
	}
	return ""
}

func (e *event) line(name, what string) string {
	return strings.TrimSpace(fmt.Sprintf("%-8s  %s", name, what))
}

func (m *message) describe(channel string) string {
	who := m.From + " → me"
	switch {
	case strings.HasPrefix(channel, "open:"):
		who = m.From + " in " + m.ChannelID
	case m.Direction == "out":
		who = "me → " + m.ChannelID
	}
	return fmt.Sprintf("%-8s  %s: %s", m.ChannelType, who, m.text())
}

func (e *event) pairs() string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(e.Set)) {
		parts = append(parts, fmt.Sprintf("%s=%q", k, e.Set[k]))
	}
	for _, k := range e.Removed {
		parts = append(parts, k+" removed")
	}
	return strings.Join(parts, ", ")
}

func (e *event) participants(channel string) string {
	what := fmt.Sprintf("%d in %s", e.Count, strings.TrimPrefix(channel, "open:"))
	if e.Came > 0 {
		var ids []string
		for _, u := range e.Entered {
			ids = append(ids, u.ID)
		}
		what += fmt.Sprintf("; %d came: %s", e.Came, strings.Join(ids, ", "))
	}
	if e.Went > 0 {
		what += fmt.Sprintf("; %d left: %s", e.Went, strings.Join(e.Left, ", "))
	}
	return what
}

// remainder is what an event says beside its name.
func remainder(data json.RawMessage) string {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v map[string]any
	if d.Decode(&v) != nil {
		return string(data)
	}
	delete(v, "event")
	if len(v) == 0 {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		return string(data)
	}
	return string(b)
}
