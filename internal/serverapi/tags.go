package serverapi

import (
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/fields"
)

// tagsRequest holds the fields of the operations about users' tags.
type tagsRequest struct {
	users, tags []string
	hasTags     bool
}

var (
	tagUsers = fields.Texts("userIds", directory.MaxTagged, func(q *tagsRequest) *[]string { return &q.users })

	// The page user/tag/batch-set-user-tag.
	setTagsFields = fields.NewTable(
		tagUsers,
		fields.Field[tagsRequest]{Name: "tags", Read: func(r *fields.Reader, q *tagsRequest) (err error) {
			q.tags, err = r.Texts(directory.MaxTags)
			q.hasTags = true
			return err
		}},
	)
	// The page user/tag/get-user-tag.
	getTagsFields = fields.NewTable(tagUsers)
)

func setUserTags(c *call) error {
	var q tagsRequest
	if err := decode(c, setTagsFields, &q); err != nil {
		return err
	}
	if !q.hasTags {
		return chat.Invalid("tags", "is required; an empty list takes all tags away")
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.SetTags(c.r.Context(), c.app, q.users, q.tags); err != nil {
		return err
	}
	c.done()
	return nil
}

func getUserTags(c *call) error {
	var q tagsRequest
	if err := decode(c, getTagsFields, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	list, err := c.api.directory.Tags(c.r.Context(), c.app, q.users)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"users":[`...)
	for i, tags := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"userId":`...)
		b = appendQuoted(b, q.users[i])
		b = append(b, `,"tags":[`...)
		for j, tag := range tags {
			if j > 0 {
				b = append(b, ',')
			}
			b = appendQuoted(b, tag)
		}
		b = append(b, `]}`...)
	}
	c.out = append(b, `]}}`...)
	return nil
}
