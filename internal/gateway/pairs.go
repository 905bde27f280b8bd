package gateway

import (
	"context"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
	"github.com/parleychat/parley/internal/room"
)

// Pairs are the metadata of open channels.
type Pairs interface {
	ChangePairs(ctx context.Context, app *chat.App, q *courier.PairsRequest) (at int64, err error)
	Pairs(ctx context.Context, app *chat.App, q *courier.PairsQuery) ([]courier.KeyedPair, error)
}

// pairsData is what the calls about an open channel's metadata say.
type pairsData struct {
	courier.PairsRequest
	pairs int // also those that were not kept
	limit int64
}

var (
	pairsChannel   = fields.Text("channelId", func(d *pairsData) *string { return &d.Channel })
	pairsOverwrite = fields.Switch("overwrite", func(d *pairsData) *bool { return &d.Overwrite })
	pairsExtra     = fields.Text("extra", func(d *pairsData) *string { return &d.Extra })

	setPairsFields = fields.NewTable(pairsChannel, pairsOverwrite, pairsExtra,
		fields.Switch("shouldAutoDelete", func(d *pairsData) *bool { return &d.AutoDelete }),
		fields.Field[pairsData]{Name: "metadata", Read: func(r *fields.Reader, d *pairsData) error {
			d.Set = map[string]string{}
			return r.Map(func(name, value string) {
				if d.pairs++; d.pairs <= chat.MaxOpenPairsPerCall {
					d.Set[name] = value
				}
			})
		}},
	)
	removePairsFields = fields.NewTable(pairsChannel, pairsOverwrite, pairsExtra,
		fields.Texts("keys", chat.MaxOpenPairsPerCall, func(d *pairsData) *[]string { return &d.Remove }))
	getPairsFields = fields.NewTable(pairsChannel,
		fields.Texts("keys", chat.MaxOpenPairs, func(d *pairsData) *[]string { return &d.Remove }))
	participantsFields = fields.NewTable(pairsChannel,
		fields.Field[pairsData]{Name: "limit", Read: func(r *fields.Reader, d *pairsData) (err error) {
			d.limit, err = r.Int()
			return err
		}})
)

// setOpenPairs is the call open.metadata.set.
func (c *conn) setOpenPairs(ctx context.Context, data []byte) ([]byte, error) {
	at, err := c.changeOpenPairs(ctx, data, setPairsFields, func(d *pairsData) error {
		if d.pairs > chat.MaxOpenPairsPerCall {
			return chat.Invalidf("metadata", "at most %d pairs, got %d", chat.MaxOpenPairsPerCall, d.pairs)
		}
		if len(d.Set) == 0 {
			return chat.Invalid("metadata", "is required")
		}
		return chat.CheckOpenPairs("metadata", chat.MaxOpenPairsPerCall, d.Set)
	})
	if err != nil {
		return nil, err
	}
	return append(strconv.AppendInt([]byte(`{"updatedAt":`), at, 10), '}'), nil
}

// removeOpenPairs is the call open.metadata.remove.
func (c *conn) removeOpenPairs(ctx context.Context, data []byte) ([]byte, error) {
	_, err := c.changeOpenPairs(ctx, data, removePairsFields, func(d *pairsData) error {
		if len(d.Remove) == 0 {
			return chat.Invalid("keys", "is required")
		}
		return chat.CheckOpenKeys("keys", d.Remove)
	})
	if err != nil {
		return nil, err
	}
	return []byte(`{}`), nil
}

func (c *conn) changeOpenPairs(ctx context.Context, data []byte, t *fields.Table[pairsData], check func(*pairsData) error) (int64, error) {
	var d pairsData
	app, err := c.openPairs(data, t, &d)
	if err != nil {
		return 0, err
	}
	if err := check(&d); err != nil {
		return 0, err
	}
	if n := utf8.RuneCountInString(d.Extra); n > maxExtra {
		return 0, chat.TooLong("extra", maxExtra, n, "characters")
	}
	if err := c.spendSend(app); err != nil {
		return 0, err
	}
	d.User, d.Origin = c.user, chat.FromClient
	return c.g.courier.ChangePairs(ctx, app, &d.PairsRequest)
}

// openPairs reads what a call says of an open channel.
func (c *conn) openPairs(data []byte, t *fields.Table[pairsData], d *pairsData) (*chat.App, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	if err := t.Decode(data, d); err != nil {
		return nil, err
	}
	return app, chat.CheckID("channelId", d.Channel)
}

// getOpenPairs is the call open.metadata.get.
func (c *conn) getOpenPairs(ctx context.Context, data []byte) ([]byte, error) {
	var d pairsData
	app, err := c.openPairs(data, getPairsFields, &d)
	if err != nil {
		return nil, err
	}
	if err := chat.CheckOpenKeys("keys", d.Remove); err != nil {
		return nil, err
	}
	list, err := c.g.courier.Pairs(ctx, app, &courier.PairsQuery{Channel: d.Channel, User: c.user, Origin: chat.FromClient, Keys: d.Remove})
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 64+128*len(list)), `{"metadata":[`...)
	for i := range list {
		p := &list[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"key":`...), p.Key)
		b = appendString(append(b, `,"value":`...), p.Value)
		b = appendString(append(b, `,"userId":`...), p.Owner)
		b = appendTrue(b, `,"shouldAutoDelete":`, p.AutoDelete)
		b = strconv.AppendInt(append(b, `,"updatedAt":`...), p.UpdatedAt, 10)
		b = append(b, '}')
	}
	return append(b, "]}"...), nil
}

// maxParticipants is how many participants a client is told of at once.
const maxParticipants = 20

// An askKey is whose questions who is in an open channel are counted together:
// those of a device, or of all devices of a user that have no name.
type askKey struct {
	app          chat.AppID
	user, device string
}

// askSpacing keeps what may be asked in a minute from being asked at once.
var askSpacing = chat.Rate{N: 1, Per: time.Second}

// participants is the call open.participants.
func (c *conn) participants(_ context.Context, data []byte) ([]byte, error) {
	d := pairsData{limit: maxParticipants}
	app, err := c.openPairs(data, participantsFields, &d)
	if err != nil {
		return nil, err
	}
	if d.limit < 1 || d.limit > maxParticipants {
		return nil, chat.Invalidf("limit", "from 1 to %d, got %d", maxParticipants, d.limit)
	}
	key := room.Key{App: c.app, Channel: d.Channel}
	if c.g.opts.Rooms.Since(key, c.user) == 0 {
		return nil, &chat.Error{Kind: chat.KindNotInOpen, Field: "channelId", Rule: "you are not in this open channel"}
	}
	if rate := app.Settings.LimitParticipants; rate.N > 0 {
		who := askKey{c.app, c.user, c.device}
		if c.g.asked.Take(who, askSpacing, 1, "") != nil || c.g.asks.Take(who, rate, 1, "") != nil {
			return nil, chat.Failf(chat.KindTooFast, "at most once a second, and %s", rate)
		}
	}
	list, total := c.g.opts.Rooms.Some(key, int(d.limit))
	b := append(make([]byte, 0, 64+64*len(list)), `{"participants":[`...)
	for i, p := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"userId":`...), p.User)
		b = strconv.AppendInt(append(b, `,"enteredAt":`...), p.At, 10)
		b = append(b, '}')
	}
	b = strconv.AppendInt(append(b, `],"total":`...), int64(total), 10)
	return append(b, '}'), nil
}
