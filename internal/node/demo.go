package node

import (
	"context"
	"net"
	"net/http"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/console"
	"github.com/parleychat/parley/internal/directory"
)

// What the setting demo-page says.
const (
	demoAuto = "auto"
	demoOn   = "on"
	demoOff  = "off"
)

// openDemoPage makes the live page, when the settings ask for it, and lets the
// owner give out links.
func (n *Node) openDemoPage(d *directory.Directory, calls http.Handler) {
	if !n.servesDemo() {
		return
	}
	n.demo = console.New(console.Options{
		App: func() *chat.App { return n.demoApp(d) },
		Token: func(ctx context.Context, app *chat.App, user string) (string, error) {
			// The owner's way of issuing: users who are known keep their names.
			t, err := n.service.IssueToken(ctx, app.Key, user, "")
			return t.Token, err
		},
		Calls: calls, Version: Version, Now: n.now, Logger: n.logger,
	})
	base := n.describe().URL()
	n.service.OfferDemo(func() admin.DemoLink {
		ticket, until := n.demo.Ticket()
		return admin.DemoLink{URL: console.Link(base, ticket), Until: until.UTC()}
	})
}

func (n *Node) servesDemo() bool {
	if n.config.DemoPage != demoAuto {
		return n.config.DemoPage == demoOn
	}
	a, ok := n.Addr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

// demoApp is the app that the settings name, else the first one.
func (n *Node) demoApp(d *directory.Directory) *chat.App {
	if n.config.AppKey != "" {
		return d.App(n.config.AppKey)
	}
	if apps := d.Apps(); len(apps) > 0 {
		return apps[0]
	}
	return nil
}
