package serverapi

import (
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/fields"
)

// accountRequest holds the fields of every operation about users and tokens.
type accountRequest struct {
	UserID       string
	Name         string
	AvatarURL    string
	UserIDs      []string
	ExpiresAt    int64
	HasExpiresAt bool
}

// The pages user/register, user/expire, user/get and
// user/check-online-status-by-user.
var (
	issueFields = fields.NewTable(
		fields.Text("userId", func(r *accountRequest) *string { return &r.UserID }),
		fields.Text("name", func(r *accountRequest) *string { return &r.Name }),
		fields.Text("avatarUrl", func(r *accountRequest) *string { return &r.AvatarURL }),
	)
	expireFields = fields.NewTable(
		fields.Texts("userIds", directory.MaxExpire, func(r *accountRequest) *[]string { return &r.UserIDs }),
		fields.Field[accountRequest]{Name: "expiresAt", Read: func(r *fields.Reader, v *accountRequest) (err error) {
			v.ExpiresAt, err = r.Int()
			v.HasExpiresAt = true
			return err
		}},
	)
	userFields = fields.NewTable(
		fields.Text("userId", func(r *accountRequest) *string { return &r.UserID }),
	)
)

// updateRequest is a change of a user. What is not given stays as it is.
type updateRequest struct {
	UserID    string
	Name      *string
	AvatarURL *string
}

// The page user/modify.
var updateFields = fields.NewTable(
	fields.Text("userId", func(r *updateRequest) *string { return &r.UserID }),
	fields.Field[updateRequest]{Name: "name", Read: func(r *fields.Reader, v *updateRequest) error {
		text, err := r.Text()
		v.Name = &text
		return err
	}},
	fields.Field[updateRequest]{Name: "avatarUrl", Read: func(r *fields.Reader, v *updateRequest) error {
		text, err := r.Text()
		v.AvatarURL = &text
		return err
	}},
)

func updateUser(c *call) error {
	var q updateRequest
	if err := decode(c, updateFields, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.UpdateUser(c.r.Context(), c.app, q.UserID, q.Name, q.AvatarURL); err != nil {
		return err
	}
	c.done()
	return nil
}

func issueAccessToken(c *call) error {
	q := &c.account
	if err := decode(c, issueFields, q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	token, err := c.api.directory.IssueToken(c.r.Context(), c.app, q.UserID, q.Name, q.AvatarURL)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"userId":`...)
	b = appendQuoted(b, q.UserID)
	b = append(b, `,"accessToken":`...)
	b = appendQuoted(b, token)
	c.out = append(b, `}}`...)
	return nil
}

func expireAccessToken(c *call) error {
	q := &c.account
	if err := decode(c, expireFields, q); err != nil {
		return err
	}
	if !q.HasExpiresAt {
		return chat.Invalid("expiresAt", "is required")
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.ExpireTokens(c.r.Context(), c.app, q.UserIDs, q.ExpiresAt); err != nil {
		return err
	}
	c.api.presence.Expire(c.app.ID, q.UserIDs, q.ExpiresAt)
	c.done()
	return nil
}

func getUser(c *call) error {
	q := &c.account
	if err := decode(c, userFields, q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	u, err := c.api.directory.User(c.r.Context(), c.app, q.UserID)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"name":`...)
	b = appendQuoted(b, u.Name)
	b = append(b, `,"avatarUrl":`...)
	b = appendQuoted(b, u.AvatarURL)
	b = append(b, `,"createdAt":"`...)
	b = u.CreatedAt.UTC().AppendFormat(b, time.DateTime)
	c.out = append(b, `"}}`...)
	return nil
}

func getUserConnectionStatus(c *call) error {
	q := &c.account
	if err := decode(c, userFields, q); err != nil {
		return err
	}
	if err := chat.CheckID("userId", q.UserID); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	status := `"0"`
	if c.api.presence.Online(c.app.ID, q.UserID) {
		status = `"1"`
	}
	b := append(c.out, `{"code":0,"result":{"status":`...)
	b = append(b, status...)
	c.out = append(b, `}}`...)
	return nil
}

// done leaves the answer that has nothing to tell.
func (c *call) done() { c.out = append(c.out, `{"code":0}`...) }

// decode reads the call's body.
func decode[T any](c *call, t *fields.Table[T], v *T) error {
	err := t.Decode(c.body, v)
	if e, ok := err.(*chat.Error); ok && e.Field == "" {
		return fields.Within("body", err)
	}
	return err
}
