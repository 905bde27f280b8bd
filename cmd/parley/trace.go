package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

type traceCmd struct {
	common
	appFlags
	serverFlags
	UID string `arg:"" help:"UID of the message, as the answer to a send gives it."`
	All bool   `help:"All recipients of the request, not only the one the UID names."`
}

// A traced is the part of an answer that is printed.
type traced struct {
	MessageUID     string
	Origin         string
	FromUserID     string `json:"fromUserId"`
	RequestID      string `json:"requestId"`
	ChannelType    string
	MessageType    string
	SentAt         int64
	ContentBytes   int
	TargetCount    int
	DeliveriesKept bool
	Recipients     []tracedRecipient
	LeftOut        []struct {
		UserID    string `json:"userId"`
		ChannelID string `json:"channelId"`
		Reason    string
	}
	PageToken string
}

type tracedRecipient struct {
	MessageUID string
	UserID     string `json:"userId"`
	ChannelID  string `json:"channelId"`
	QueuedFor  *int
	tracedReached
	tracedChanges
	Push       *tracedPush
	SenderCopy *struct {
		UserID string `json:"userId"`
		tracedReached
	}
}

type tracedReached struct {
	Offset   uint64
	Sessions []struct {
		ClientID              string `json:"clientId"`
		DeviceID              string `json:"deviceId"`
		Platform              string
		Written, Acknowledged *tracedBetween
	}
	Devices []struct {
		DeviceID string `json:"deviceId"`
		Passed   bool
		SeenAt   int64
	}
}

type tracedChanges struct {
	Recall *struct {
		OperatorID        string `json:"operatorId"`
		IsAdmin, IsDelete bool
		RecalledAt        int64
	}
	ReadAt     int64
	ReadBefore int64
	UpdatedAt  int64
	Metadata   *struct {
		Version   uint64
		UpdatedAt int64
		Told      bool
	}
}

type tracedPush struct {
	Effect, Reason string
	Devices        []struct {
		DeviceID    string `json:"deviceId"`
		Provider    string
		Token       string
		Withdrawn   bool
		Class, Code string
		ID          string
		Attempts    int
		At          int64
		Cut         []string
	}
}

type tracedBetween struct{ From, Until int64 }

// Run asks for a message's trace and prints it. With --json each page of the
// answer is a line.
func (c *traceCmd) Run(ctx context.Context, s *streams) error {
	srv, o, err := find(ctx, c.Data, c.appFlags, c.serverFlags)
	if err != nil {
		return err
	}
	if o != nil {
		defer o.Close()
	}
	for token := ""; ; {
		body, err := json.Marshal(map[string]any{"messageUID": c.UID, "all": c.All, "pageToken": token})
		if err != nil {
			return err
		}
		a, err := srv.call(ctx, "/v4x/message/trace", body, nil)
		if err != nil {
			return coded{fmt.Errorf("trace: %w", err), exitNoNode}
		}
		if a.code != 0 {
			fmt.Fprintln(s.out, string(a.body))
			return coded{silent{fmt.Errorf("refused with code %d", a.code)}, exitRefused}
		}
		var v struct{ Result traced }
		if err := json.Unmarshal(a.body, &v); err != nil {
			return fmt.Errorf("trace: the answer is not one: %w", err)
		}
		if c.JSON {
			var raw struct{ Result json.RawMessage }
			if err := json.Unmarshal(a.body, &raw); err != nil {
				return err
			}
			err = s.json(raw.Result)
		} else {
			err = v.Result.print(s.out, token == "")
		}
		if err != nil {
			return err
		}
		if token = v.Result.PageToken; token == "" {
			return nil
		}
	}
}

// print writes a page for people: first what is the same for all recipients.
func (t *traced) print(to io.Writer, first bool) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	if first {
		by := t.FromUserID + ", through the " + map[string]string{"server": "server API", "client": "client protocol"}[t.Origin]
		if t.RequestID != "" {
			by += ", request " + t.RequestID
		}
		fmt.Fprintf(w, "message\t%s\n", t.MessageUID)
		fmt.Fprintf(w, "from\t%s\n", by)
		fmt.Fprintf(w, "what\t%s, %s channel, content of %d bytes\n", t.MessageType, t.ChannelType, t.ContentBytes)
		fmt.Fprintf(w, "committed\t%s, for %d in all\n", clockTime(t.SentAt), t.TargetCount)
		if !t.DeliveriesKept {
			fmt.Fprintf(w, "\tolder than missed messages are kept: deliveries are not known any more\n")
		}
		for _, l := range t.LeftOut {
			fmt.Fprintf(w, "left out\t%s (%s)\n", cmp.Or(l.UserID, l.ChannelID), l.Reason)
		}
	}
	for i := range t.Recipients {
		r := &t.Recipients[i]
		if r.ChannelID != "" {
			queued := "queued for an unknown number of members"
			if r.QueuedFor != nil {
				queued = fmt.Sprintf("queued for %d members", *r.QueuedFor)
			}
			fmt.Fprintf(w, "channel\t%s: %s\n", r.ChannelID, queued)
			r.tracedChanges.print(w)
			continue
		}
		r.tracedReached.print(w, "to", r.UserID, t.DeliveriesKept)
		r.tracedChanges.print(w)
		r.Push.print(w)
		if r.SenderCopy != nil {
			r.SenderCopy.print(w, "copy", r.SenderCopy.UserID, t.DeliveriesKept)
		}
	}
	return w.Flush()
}

func (r *tracedReached) print(w io.Writer, label, user string, kept bool) {
	fmt.Fprintf(w, "%s\t%s, offset %d\n", label, user, r.Offset)
	if kept && len(r.Sessions) == 0 {
		fmt.Fprintf(w, "\tnot written to any session yet\n")
	}
	for _, s := range r.Sessions {
		who := "session " + s.ClientID
		if s.DeviceID != "" {
			who = "device " + s.DeviceID
		}
		if s.Platform != "" {
			who += " (" + s.Platform + ")"
		}
		var what []string
		if s.Written != nil {
			what = append(what, "written "+s.Written.String())
		}
		if s.Acknowledged != nil {
			what = append(what, "acknowledged "+s.Acknowledged.String())
		}
		fmt.Fprintf(w, "\t%s: %s\n", who, strings.Join(what, ", "))
	}
	for _, d := range r.Devices {
		state := "has not come to it"
		if d.Passed {
			state = "is past it"
		}
		fmt.Fprintf(w, "\tdevice %s %s, last seen %s\n", d.DeviceID, state, clockTime(d.SeenAt))
	}
}

func (c *tracedChanges) print(w io.Writer) {
	if r := c.Recall; r != nil {
		by := r.OperatorID
		if r.IsAdmin {
			by += " for the app"
		}
		left := "leaving a notice"
		if r.IsDelete {
			left = "leaving nothing"
		}
		fmt.Fprintf(w, "\trecalled %s by %s, %s\n", clockTime(r.RecalledAt), by, left)
	}
	if c.ReadAt != 0 {
		fmt.Fprintf(w, "\tread %s, and the sender told\n", clockTime(c.ReadAt))
	}
	if c.ReadBefore != 0 {
		fmt.Fprintf(w, "\tthe channel was read up to it or further, last %s\n", clockTime(c.ReadBefore))
	}
	if c.UpdatedAt != 0 {
		fmt.Fprintf(w, "\tcontent changed %s\n", clockTime(c.UpdatedAt))
	}
	if m := c.Metadata; m != nil {
		told := "told"
		if !m.Told {
			told = "not told of yet"
		}
		fmt.Fprintf(w, "\tmetadata changed %s, version %d, %s\n", clockTime(m.UpdatedAt), m.Version, told)
	}
}

func (p *tracedPush) print(w io.Writer) {
	switch {
	case p == nil:
		return
	case p.Effect == "none":
		fmt.Fprintf(w, "\tnot notified: %s\n", inWords(p.Reason))
		return
	}
	fmt.Fprintf(w, "\tnotified (%s): %s\n", p.Effect, p.Reason)
	if len(p.Devices) == 0 {
		fmt.Fprintf(w, "\tnotifications wait for their providers\n")
	}
	for _, d := range p.Devices {
		what := "notification"
		if d.Withdrawn {
			what = "taking back"
		}
		result := d.Class
		if d.Code != "" {
			result += ", code " + d.Code
		}
		if d.ID != "" {
			result += ", id " + d.ID
		}
		if d.Attempts > 1 {
			result += fmt.Sprintf(", %d attempts", d.Attempts)
		}
		if len(d.Cut) > 0 {
			result += ", shortened: " + strings.Join(d.Cut, ", ")
		}
		to := strings.TrimSpace(d.Provider + " " + d.Token)
		fmt.Fprintf(w, "\t%s, device %s (%s) %s: %s\n", what, d.DeviceID, to, clockTime(d.At), result)
	}
}

// String is the time, or the two times between which it was.
func (b *tracedBetween) String() string {
	if b.From == b.Until {
		return clockTime(b.Until)
	}
	return "between " + clockTime(b.From) + " and " + clockTime(b.Until)
}

func clockTime(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05.000")
}
