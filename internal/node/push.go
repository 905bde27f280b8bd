package node

import (
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/apns"
	"github.com/parleychat/parley/internal/push/dispatch"
	"github.com/parleychat/parley/internal/push/fcm"
	"github.com/parleychat/parley/internal/push/honor"
	"github.com/parleychat/parley/internal/push/hw"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/meizu"
	"github.com/parleychat/parley/internal/push/mi"
	"github.com/parleychat/parley/internal/push/ohos"
	"github.com/parleychat/parley/internal/push/oppo"
	"github.com/parleychat/parley/internal/push/vivo"
	"github.com/parleychat/parley/internal/push/web"
	"github.com/parleychat/parley/internal/store"
)

// openPush puts together what notifies those who are away.
func (n *Node) openPush(d *directory.Directory) error {
	roots, err := loadRoots(n.config.PushCA)
	if err != nil {
		return err
	}
	n.pushes = dispatch.New(dispatch.Options{
		Store: n.store, Directory: d, Sessions: n.gateway,
		Adapter: func(c *chat.PushCredential) (push.Adapter, error) {
			o := line.Options{Roots: roots}
			if c.Provider == chat.WEB {
				return web.New(c, o, n.now, n.config.PushWebHosts...)
			}
			return adapters[c.Provider](c, o, n.now)
		},
		Now: n.now, Logger: n.logger, Metrics: n.registry,
		Grace: n.config.PushGrace, Patience: n.config.PushPatience,
		InFlight: n.config.PushInFlight, Queue: n.config.PushQueue,
	})
	return nil
}

// loadRoots are the authorities that the machine trusts, and those in the file. nil,
// without a file, is the machine's own.
func loadRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("push-ca: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("push-ca: the machine's own certificates: %w", err)
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("push-ca: %s has no certificate (PEM)", file)
	}
	return roots, nil
}

// adapters make what takes notifications to a provider. That for browsers is made
// above, as it has to know more.
var adapters = map[chat.PushProvider]func(*chat.PushCredential, line.Options, func() time.Time) (push.Adapter, error){
	chat.APNs: apns.New, chat.FCM: fcm.New, chat.HW: hw.New, chat.HONOR: honor.New, chat.MI: mi.New, chat.OPPO: oppo.New,
	chat.VIVO: vivo.New, chat.OHOS: ohos.New, chat.MEIZU: meizu.New,
}

// consumers are those who follow the log besides the engine's own index.
var consumers = []string{store.PushConsumer}
