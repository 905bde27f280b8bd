package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

type pushPreviewCmd struct {
	messageFlags
	pushFlags
	System          bool `help:"Of a system message, in place of a direct one."`
	Count           *int `placeholder:"N" help:"Badge on iOS, -1 to 9999."`
	VerifyBlocklist bool `help:"Leave out recipients whose blocklist has the sender."`
}

// A previewed is the answer's part that is printed.
type previewed struct {
	ChannelType string
	Recipients  []struct {
		UserID         string `json:"userId"`
		Connected      bool
		Effect, Reason string
		Devices        []previewedDevice
	}
	LeftOut []struct {
		UserID string `json:"userId"`
		Reason string
	}
}

type previewedDevice struct {
	DeviceID       string `json:"deviceId"`
	Provider       string
	Token          string
	Language       string
	Effect, Reason string
	Credential     struct{ Provider, Package, Environment string }
	Title, Body    string
	Cut            []string
	Error          string
	Request        *struct {
		Method, Path string
		Headers      map[string]string
		Form         map[string]string
		Body         json.RawMessage
	}
}

// Run has the node preview a message and prints what it says.
func (c *pushPreviewCmd) Run(ctx context.Context, s *streams) error {
	f := c.fields()
	c.add(f)
	setFlag(f, "verifyBlocklist", c.VerifyBlocklist)
	if c.Count != nil {
		f["count"] = *c.Count
	}
	if c.System {
		f["channelType"] = 6
	}
	body, err := c.body(s, f)
	if err != nil {
		return err
	}
	srv, o, err := find(ctx, c.Data, c.appFlags, c.serverFlags)
	if err != nil {
		return err
	}
	if o != nil {
		defer o.Close()
	}
	a, err := srv.call(ctx, "/v4x/push/preview", body, nil)
	if err != nil {
		return coded{fmt.Errorf("push preview: %w", err), exitNoNode}
	}
	if a.code != 0 {
		fmt.Fprintln(s.out, string(a.body))
		return coded{silent{fmt.Errorf("refused with code %d", a.code)}, exitRefused}
	}
	var v struct{ Result json.RawMessage }
	if err := json.Unmarshal(a.body, &v); err != nil {
		return fmt.Errorf("push preview: the answer is not one: %w", err)
	}
	if c.JSON {
		return s.json(v.Result)
	}
	var p previewed
	if err := json.Unmarshal(v.Result, &p); err != nil {
		return fmt.Errorf("push preview: the answer is not one: %w", err)
	}
	return p.print(s.out)
}

// print writes a preview for people.
func (p *previewed) print(w io.Writer) error {
	var b bytes.Buffer
	for _, r := range p.Recipients {
		fmt.Fprintf(&b, "%s: %s\n", r.UserID, decided(r.Effect, r.Reason))
		if r.Connected && r.Effect != "none" {
			b.WriteString("  connected: only if none of their devices takes the message in time\n")
		}
		for i := range r.Devices {
			r.Devices[i].print(&b)
		}
	}
	for _, l := range p.LeftOut {
		fmt.Fprintf(&b, "%s: left out (%s)\n", l.UserID, l.Reason)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func decided(effect, reason string) string {
	if effect == "none" {
		return "would not be notified: " + inWords(reason)
	}
	return "would be notified (" + effect + "): " + reason
}

func (d *previewedDevice) print(b *bytes.Buffer) {
	fmt.Fprintf(b, "  device %s (%s): %s\n", d.DeviceID, strings.TrimSpace(d.Provider+" "+d.Token), decided(d.Effect, d.Reason))
	if d.Effect == "none" {
		return
	}
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "    %-9s %s\n", name, strings.ReplaceAll(value, "\n", "\n              "))
		}
	}
	line("title", d.Title)
	line("body", d.Body)
	line("language", d.Language)
	k := d.Credential
	line("by", strings.Join(strings.Fields(k.Provider+" "+k.Package+" "+k.Environment), " "))
	line("left out", strings.Join(d.Cut, ", "))
	if d.Error != "" {
		fmt.Fprintf(b, "    no request: %s\n", d.Error)
	}
	if r := d.Request; r != nil {
		fmt.Fprintf(b, "    %s %s\n", r.Method, r.Path)
		for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
			fmt.Fprintf(b, "    %s: %s\n", name, r.Headers[name])
		}
		for _, name := range slices.Sorted(maps.Keys(r.Form)) {
			fmt.Fprintf(b, "    %s=%s\n", name, r.Form[name])
		}
		if len(r.Body) > 0 {
			b.WriteString("    ")
			if json.Indent(b, r.Body, "    ", "  ") != nil {
				b.Write(r.Body)
			}
			b.WriteByte('\n')
		}
	}
}
