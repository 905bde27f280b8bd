package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
)

const (
	checkTime     = 15 * time.Second // for one credential
	checkAllTime  = 45 * time.Second // for all of an app's
	checkTogether = 16               // credentials at a time
)

// Check asks the provider whether it takes the credential, which need not be one
// that is set. It makes an adapter for that, with connections and an access token of
// its own, so that what is asked is the credential and not what is remembered of it.
func (d *Dispatcher) Check(ctx context.Context, c *chat.PushCredential) push.Verdict {
	a, err := d.Adapter(c)
	if err != nil {
		return push.Verdict{Result: push.Result{Class: push.ConfigHalt, Code: "credential"}, Err: err}
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	r := a.Check(ctx)
	r.Code = keptCode(r.Code, "")
	return push.Verdict{Result: r}
}

// CheckAll asks their providers about those of the app's credentials that it is to
// be asked about, several at a time. Lanes that are halted, and need not be, find
// that out at once.
func (d *Dispatcher) CheckAll(ctx context.Context, app *chat.App, about func(*chat.PushCredential) bool) ([]push.Checked, error) {
	s, err := d.setupOf(ctx, app)
	if err != nil {
		return nil, err
	}
	var list []push.Checked
	for i := range s.credentials {
		if about(&s.credentials[i]) {
			list = append(list, push.Checked{Credential: s.credentials[i]})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, checkAllTime)
	defer cancel()
	var wg sync.WaitGroup
	next := make(chan *push.Checked)
	for range min(len(list), checkTogether) {
		wg.Go(func() {
			for c := range next {
				c.Verdict = d.Check(ctx, &c.Credential)
				if c.Class == push.Accepted {
					d.lanes.tryNow(app.ID, &c.Credential)
				}
			}
		})
	}
	for i := range list {
		next <- &list[i]
	}
	close(next)
	wg.Wait()
	return list, nil
}
