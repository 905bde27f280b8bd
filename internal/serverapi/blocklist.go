package serverapi

import (
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/fields"
)

// blocklistRequest holds the fields of the operations about blocklists.
type blocklistRequest struct {
	UserID    string
	Others    []string
	PageToken string
	PageSize  int64
	Order     int
}

const (
	targetUserIDs  = "targetUserIds"
	blockedUserIDs = "blockedUserIds"
)

// The pages user/blacklist/add-to-blacklist, remove-from-blacklist and
// query-blacklist. The same list has two names.
var (
	blockOwner  = fields.Text("userId", func(r *blocklistRequest) *string { return &r.UserID })
	blockFields = fields.NewTable(blockOwner,
		fields.Texts(targetUserIDs, directory.MaxBlock, func(r *blocklistRequest) *[]string { return &r.Others }))
	unblockFields = fields.NewTable(blockOwner,
		fields.Texts(blockedUserIDs, directory.MaxUnblock, func(r *blocklistRequest) *[]string { return &r.Others }))
	blocklistFields = fields.NewTable(blockOwner,
		fields.Text("pageToken", func(r *blocklistRequest) *string { return &r.PageToken }),
		wholeNumber("pageSize", func(r *blocklistRequest) *int64 { return &r.PageSize }),
		fields.Field[blocklistRequest]{Name: "order", Read: func(r *fields.Reader, v *blocklistRequest) (err error) {
			v.Order, err = r.IntOf(0, 1)
			return err
		}},
	)
)

func addUserBlocklist(c *call) error {
	var q blocklistRequest
	if err := decode(c, blockFields, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.Block(c.r.Context(), c.app, q.UserID, targetUserIDs, q.Others); err != nil {
		return err
	}
	c.done()
	return nil
}

func removeUserBlocklist(c *call) error {
	var q blocklistRequest
	if err := decode(c, unblockFields, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.Unblock(c.r.Context(), c.app, q.UserID, blockedUserIDs, q.Others); err != nil {
		return err
	}
	c.done()
	return nil
}

func getUserBlocklist(c *call) error {
	q := blocklistRequest{PageSize: directory.MaxBlocklistPage}
	if err := decode(c, blocklistFields, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	ids, next, err := c.api.directory.Blocklist(c.r.Context(), c.app, q.UserID, directory.BlocklistPage{
		Token: q.PageToken, Size: q.PageSize, LastFirst: q.Order == 1,
	})
	if err != nil {
		return err
	}
	// The description calls the cursor pageToken, the page's example next.
	b := append(c.out, `{"code":0,"result":{"pageToken":`...)
	b = appendQuoted(b, next)
	b = append(b, `,"next":`...)
	b = appendQuoted(b, next)
	b = append(b, `,"blockedUserIds":[`...)
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, id)
	}
	c.out = append(b, `]}}`...)
	return nil
}
