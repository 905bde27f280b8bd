package serverapi

import (
	"context"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// Pairs are the metadata of open channels.
type Pairs interface {
	ChangePairs(ctx context.Context, app *chat.App, q *courier.PairsRequest) (at int64, err error)
	Pairs(ctx context.Context, app *chat.App, q *courier.PairsQuery) ([]courier.KeyedPair, error)
}

type openMetadataRequest struct {
	courier.PairsRequest
	pairs int // also those that were not kept
	keys  []string
}

var (
	openMetadataChannel = fields.Text("channelId", func(q *openMetadataRequest) *string { return &q.Channel })
	openMetadataOwner   = fields.Text("metadataOwnerId", func(q *openMetadataRequest) *string { return &q.User })

	setOpenMetadataFields = fields.NewTable(openMetadataChannel, openMetadataOwner,
		fields.Field[openMetadataRequest]{Name: "metadata", Read: func(r *fields.Reader, q *openMetadataRequest) error {
			q.Set = make(map[string]string)
			return r.Map(func(name, value string) {
				if q.pairs++; q.pairs <= chat.MaxOpenPairsPerCall {
					q.Set[name] = value
				}
			})
		}},
		fields.Switch("shouldAutoDelete", func(q *openMetadataRequest) *bool { return &q.AutoDelete }),
	)
	removeOpenMetadataFields = fields.NewTable(openMetadataChannel, openMetadataOwner,
		fields.Texts("metadataKeys", chat.MaxOpenPairsPerCall, func(q *openMetadataRequest) *[]string { return &q.Remove }))
	getOpenMetadataFields = fields.NewTable(openMetadataChannel,
		fields.Texts("metadataKeys", chat.MaxOpenPairs, func(q *openMetadataRequest) *[]string { return &q.keys }))
)

func setOpenMetadata(c *call) error {
	return changeOpenMetadata(c, setOpenMetadataFields, func(q *openMetadataRequest) (int, string, error) {
		if q.pairs > chat.MaxOpenPairsPerCall {
			return 0, "", chat.Invalidf("metadata", "at most %d pairs, got %d", chat.MaxOpenPairsPerCall, q.pairs)
		}
		if len(q.Set) == 0 {
			return 0, "", chat.Invalid("metadata", "is required")
		}
		return len(q.Set), "metadata", chat.CheckOpenPairs("metadata", chat.MaxOpenPairsPerCall, q.Set)
	})
}

func removeOpenMetadata(c *call) error {
	return changeOpenMetadata(c, removeOpenMetadataFields, func(q *openMetadataRequest) (int, string, error) {
		if len(q.Remove) == 0 {
			return 0, "", chat.Invalid("metadataKeys", "is required")
		}
		return len(q.Remove), "metadataKeys", chat.CheckOpenKeys("metadataKeys", q.Remove)
	})
}

// changeOpenMetadata does what check finds right, and costs as much as it finds
// in the field that it names.
func changeOpenMetadata(c *call, t *fields.Table[openMetadataRequest], check func(*openMetadataRequest) (n int, field string, err error)) error {
	var q openMetadataRequest
	if err := decode(c, t, &q); err != nil {
		return err
	}
	if err := chat.CheckID("channelId", q.Channel); err != nil {
		return err
	}
	if err := chat.CheckID("metadataOwnerId", q.User); err != nil {
		return err
	}
	n, field, err := check(&q)
	if err != nil {
		return err
	}
	if err := c.spendFor(n, field); err != nil {
		return err
	}
	if _, err := c.api.courier.ChangePairs(c.r.Context(), c.app, &q.PairsRequest); err != nil {
		return err
	}
	c.done()
	return nil
}

func getOpenMetadata(c *call) error {
	var q openMetadataRequest
	if err := decode(c, getOpenMetadataFields, &q); err != nil {
		return err
	}
	if err := chat.CheckID("channelId", q.Channel); err != nil {
		return err
	}
	if err := chat.CheckOpenKeys("metadataKeys", q.keys); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	list, err := c.api.courier.Pairs(c.r.Context(), c.app, &courier.PairsQuery{Channel: q.Channel, Keys: q.keys})
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"metadata":[`...)
	for i := range list {
		p := &list[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(append(b, `{"key":`...), p.Key)
		b = appendQuoted(append(b, `,"value":`...), p.Value)
		b = appendQuoted(append(b, `,"metadataOwnerId":`...), p.Owner)
		auto := `,"shouldAutoDelete":0`
		if p.AutoDelete {
			auto = `,"shouldAutoDelete":1`
		}
		b = append(append(b, auto...), `,"updatedAt":`...)
		b = append(strconv.AppendInt(b, p.UpdatedAt, 10), '}')
	}
	c.out = append(b, "]}}"...)
	return nil
}
