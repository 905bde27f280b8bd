package serverapi

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/fields"
)

// The pages user/deactivation/deactivate, reactivate and
// query-deactivated-list.
var deletionFields = fields.NewTable(
	fields.Texts("userIds", directory.MaxDelete, func(r *accountRequest) *[]string { return &r.UserIDs }),
)

func softDeleteUsers(c *call) error {
	err := changeDeletion(c, c.api.directory.Delete)
	if err == nil {
		c.api.presence.Shut(c.app.ID, c.account.UserIDs, chat.KindDeleted)
	}
	return err
}

func restoreUsers(c *call) error { return changeDeletion(c, c.api.directory.Restore) }

func changeDeletion(c *call, change func(context.Context, *chat.App, []string) error) error {
	q := &c.account
	if err := decode(c, deletionFields, q); err != nil {
		return err
	}
	if len(q.UserIDs) == 0 {
		return chat.Invalid("userIds", "is required")
	}
	if err := c.spendFor(len(q.UserIDs), "userIds"); err != nil {
		return err
	}
	if err := change(c.r.Context(), c.app, q.UserIDs); err != nil {
		return err
	}
	// The platform does this in the background and gives the work a name. Here
	// it is done; the call's own name is what the log has it under.
	b := append(c.out, `{"code":0,"result":{"operationId":`...)
	b = appendQuoted(b, c.id)
	c.out = append(b, `}}`...)
	return nil
}

func listSoftDeletedUsers(c *call) error {
	skip, limit, err := readPage(c)
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	list, err := c.api.directory.Deleted(c.r.Context(), c.app, skip, limit)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"userIds":`...)
	b = appendListed(b, list)
	c.out = append(b, `}}`...)
	return nil
}
