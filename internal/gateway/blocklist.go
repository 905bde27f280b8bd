package gateway

import (
	"context"

	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/fields"
)

// The calls about the user's own blocklist. Whom it binds finds out by sending.

type blocksData struct{ userIDs []string }

func blocksFields(limit int) *fields.Table[blocksData] {
	return fields.NewTable(fields.Texts("userIds", limit, func(d *blocksData) *[]string { return &d.userIDs }))
}

var (
	addBlocksFields    = blocksFields(directory.MaxBlock)
	removeBlocksFields = blocksFields(directory.MaxUnblock)
)

func (c *conn) addBlocks(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	var d blocksData
	if err := addBlocksFields.Decode(data, &d); err != nil {
		return nil, err
	}
	return []byte("{}"), c.g.opts.Directory.Block(ctx, app, c.user, "userIds", d.userIDs)
}

func (c *conn) removeBlocks(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	var d blocksData
	if err := removeBlocksFields.Decode(data, &d); err != nil {
		return nil, err
	}
	return []byte("{}"), c.g.opts.Directory.Unblock(ctx, app, c.user, "userIds", d.userIDs)
}

type blocklistData struct {
	pageToken string
	pageSize  int64
	order     int
}

var blocklistFields = fields.NewTable(
	fields.Text("pageToken", func(d *blocklistData) *string { return &d.pageToken }),
	fields.Field[blocklistData]{Name: "pageSize", Read: func(r *fields.Reader, d *blocklistData) (err error) {
		d.pageSize, err = r.Int()
		return err
	}},
	fields.Field[blocklistData]{Name: "order", Read: func(r *fields.Reader, d *blocklistData) (err error) {
		d.order, err = r.IntOf(0, 1)
		return err
	}},
)

const usualBlocklistPage = 100

func (c *conn) listBlocks(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	d := blocklistData{pageSize: usualBlocklistPage}
	if err := blocklistFields.Decode(data, &d); err != nil {
		return nil, err
	}
	ids, next, err := c.g.opts.Directory.Blocklist(ctx, app, c.user, directory.BlocklistPage{
		Token: d.pageToken, Size: d.pageSize, LastFirst: d.order == 1,
	})
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 32+40*len(ids)), `{"userIds":[`...)
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, id)
	}
	b = append(b, ']')
	b = appendText(b, `,"pageToken":`, next)
	return append(b, '}'), nil
}
