package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/parleychat/parley/internal/client"
)

type tailCmd struct {
	common
	appFlags
	serverFlags

	User   string        `arg:"" help:"Id of the user to connect as. Anybody who runs this on the server's data folder may."`
	From   string        `enum:",now,device,oldest" default:"" placeholder:"now|device|oldest" help:"Where to begin: with what comes from now on, where this device left off, or with the oldest message that waits. Without it: device with --device, otherwise now."`
	Device string        `placeholder:"ID" help:"Connect as this device, whose place the server remembers."`
	Open   []string      `placeholder:"CHANNEL" help:"Enter this open channel, too. Repeat it, or separate ids by commas."`
	Token  string        `env:"PARLEY_TOKEN" placeholder:"TOKEN" help:"Access token to connect with. Needed with --url only."`
	Count  int           `placeholder:"N" help:"End after so many events."`
	For    time.Duration `placeholder:"DURATION" help:"End after this time."`
}

// Run prints events until it is interrupted, or has had as many as asked for.
func (c *tailCmd) Run(ctx context.Context, s *streams) error {
	if c.URL != "" && c.Token == "" {
		return usage(errors.New("--url needs --token: only the server's owner can issue one"))
	}
	srv, o, err := find(ctx, c.Data, c.appFlags, c.serverFlags)
	if err != nil {
		return err
	}
	options, err := c.options(srv)
	if err != nil {
		return err
	}
	if o != nil {
		defer o.Close()
		if c.Token == "" {
			// Asked for anew whenever one has run out.
			options.GetToken = func(ctx context.Context) (string, error) {
				t, err := o.IssueToken(ctx, srv.key, c.User, "")
				return t.Token, err
			}
		}
	}
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	cl, err := client.Dial(ctx, options)
	if err != nil {
		return ended(ctx, err)
	}
	defer cl.Close()
	entering := make(chan error, len(c.Open))
	for _, channel := range c.Open {
		go func() {
			_, err := cl.Subscribe(ctx, "open:"+channel, nil)
			entering <- err
		}()
	}
	return c.print(ctx, s, cl, entering)
}

func (c *tailCmd) options(srv *server) (client.Options, error) {
	data := map[string]string{}
	if c.From != "" {
		data["from"] = c.From
	}
	if c.Device != "" {
		data["deviceId"] = c.Device
	}
	b, err := json.Marshal(data)
	return client.Options{
		URL: srv.websocketURL(), TLS: srv.tls, Token: c.Token, Data: b, Name: "parley tail", Reconnect: true,
	}, err
}

func (c *tailCmd) print(ctx context.Context, s *streams, cl *client.Client, entering <-chan error) error {
	for seen := 0; c.Count == 0 || seen < c.Count; {
		select {
		case <-ctx.Done():
			return nil
		case err := <-entering:
			if err != nil {
				return ended(ctx, err)
			}
		case e, ok := <-cl.Events():
			if !ok {
				return nil
			}
			if d, last := e.(client.Disconnected); last {
				return ended(ctx, d)
			}
			if _, counts := e.(client.Publication); counts {
				seen++
			}
			if err := c.show(s, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// ended is the error of a connection that ended by itself. Being interrupted is
// how tail normally ends.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	_, refused := errors.AsType[*client.Error](err)
	if d, ok := errors.AsType[client.Disconnected](err); ok && d.Cause == nil {
		refused = true // closed by the server, with a code
	}
	if refused {
		return coded{err, exitRefused}
	}
	return coded{err, exitNoNode}
}

func (c *tailCmd) show(s *streams, e client.Event) error {
	if p, ok := e.(client.Publication); ok && c.JSON {
		return s.json(struct {
			Channel string          `json:"channel"`
			Offset  uint64          `json:"offset,omitempty"`
			Data    json.RawMessage `json:"data"`
		}{p.Channel, p.Offset, p.Data})
	}
	var line string
	switch e := e.(type) {
	case client.Publication:
		line = describeEvent(e)
	case client.Connected:
		line = "connected"
		if me, ok := e.Subs[client.Me]; ok && !me.Recovered && me.WasRecovering {
			line += "; what was missed is not all there any more"
		}
	case client.Connecting:
		line = "connection lost: " + e.Reason + "; trying again"
	case client.Subscribed:
		if e.Channel == client.Me {
			return nil
		}
		line = "entered " + e.Channel
	case client.Unsubscribed:
		line = fmt.Sprintf("left %s: %s (code %d)", e.Channel, e.Reason, e.Code)
	default:
		return nil
	}
	w := s.out
	if c.JSON {
		w = s.err // standard output has events only
	}
	_, err := fmt.Fprintf(w, "%s  %s\n", time.Now().Format(time.TimeOnly), line)
	return err
}
