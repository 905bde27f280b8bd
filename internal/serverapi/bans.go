package serverapi

import (
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/fields"
)

// banRequest holds the fields of the operations about bans.
type banRequest struct {
	UserIDs     []string
	Minutes     int64
	HasDuration bool
}

// The pages user/block, user/unblock and user/query-blocked-list.
var (
	banFields = fields.NewTable(
		fields.Texts("userIds", directory.MaxBan, func(r *banRequest) *[]string { return &r.UserIDs }),
		fields.Field[banRequest]{Name: "durationMinutes", Read: func(r *fields.Reader, v *banRequest) (err error) {
			v.Minutes, err = r.Int()
			v.HasDuration = true
			return err
		}},
	)
	unbanFields = fields.NewTable(
		fields.Texts("userIds", directory.MaxBan, func(r *banRequest) *[]string { return &r.UserIDs }),
	)
	pageFields = fields.NewTable(
		wholeNumber("page", func(r *pageRequest) *int64 { return &r.Page }),
		wholeNumber("pageSize", func(r *pageRequest) *int64 { return &r.Size }),
	)
)

// A pageRequest asks for a part of a list by its number.
type pageRequest struct{ Page, Size int64 }

const (
	usualPage = 50
	// maxPage is the most that one answer lists, and maxPages how many pages can
	// be asked for. Both are ours: the pages give no limit.
	maxPage  = 1000
	maxPages = 1 << 20
)

// readPage reads a page request and gives how much of the list comes before.
func readPage(c *call) (skip, limit int, err error) {
	q := pageRequest{Page: 1, Size: usualPage}
	if err := decode(c, pageFields, &q); err != nil {
		return 0, 0, err
	}
	if q.Page < 1 || q.Page > maxPages {
		return 0, 0, chat.Invalidf("page", "from 1 to %d, got %d", maxPages, q.Page)
	}
	if err := checkPageSize(q.Size); err != nil {
		return 0, 0, err
	}
	return int((q.Page - 1) * q.Size), int(q.Size), nil
}

func checkPageSize(n int64) error {
	if n < 1 || n > maxPage {
		return chat.Invalidf("pageSize", "from 1 to %d, got %d", maxPage, n)
	}
	return nil
}

// wholeNumber is a field that holds a whole number.
func wholeNumber[T any](name string, at func(*T) *int64) fields.Field[T] {
	return fields.Field[T]{Name: name, Read: func(r *fields.Reader, v *T) (err error) {
		*at(v), err = r.Int()
		return err
	}}
}

func banUsers(c *call) error {
	var q banRequest
	if err := decode(c, banFields, &q); err != nil {
		return err
	}
	if !q.HasDuration {
		return chat.Invalid("durationMinutes", "is required")
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.Ban(c.r.Context(), c.app, q.UserIDs, q.Minutes); err != nil {
		return err
	}
	c.api.presence.Shut(c.app.ID, q.UserIDs, chat.KindBanned)
	c.done()
	return nil
}

func unbanUsers(c *call) error {
	var q banRequest
	if err := decode(c, unbanFields, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.Unban(c.r.Context(), c.app, q.UserIDs); err != nil {
		return err
	}
	c.done()
	return nil
}

func listBannedUsers(c *call) error {
	skip, limit, err := readPage(c)
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	list, err := c.api.directory.Banned(c.r.Context(), c.app, skip, limit)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"bannedUsers":[`...)
	for i, u := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"userId":`...)
		b = appendQuoted(b, u.User)
		b = append(b, `,"banExpiresAt":"`...)
		b = time.UnixMilli(u.At).UTC().AppendFormat(b, time.DateTime)
		b = append(b, `"}`...)
	}
	c.out = append(b, `]}}`...)
	return nil
}
