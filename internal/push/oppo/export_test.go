package oppo

import (
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
)

// NewAt is New, with other addresses in place of OPPO's own.
func NewAt(c *chat.PushCredential, o line.Options, now func() time.Time, cn, global, feedback string) (push.Adapter, error) {
	a, err := newAdapter(c, o, now)
	if err != nil {
		return nil, err
	}
	a.reach(cn, global, feedback)
	return a, nil
}

// Made are how many access tokens each side has made.
func Made(a push.Adapter) (cn, global int) {
	_, cn = a.(*adapter).cn.token.Age()
	_, global = a.(*adapter).global.token.Age()
	return cn, global
}
