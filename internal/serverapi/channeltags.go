package serverapi

import (
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// tagRequest holds the fields of the operations about tags on channels.
type tagRequest struct {
	courier.TagRequest
	tags     []chat.Tag
	ids      []string
	channels []taggedChannel
}

type taggedChannel struct {
	channelType int
	id          string
}

var (
	tagOwner = fields.Text("userId", func(q *tagRequest) *string { return &q.User })
	tagID    = fields.Text("tagId", func(q *tagRequest) *string { return &q.Tag })

	// The pages channel/channel-tag/user-conversation-tag-set, -del and -get.
	setChannelTagsFields = fields.NewTable(tagOwner, fields.List("tags", chat.MaxTags, fields.NewTable(
		fields.Text("tagId", func(t *chat.Tag) *string { return &t.ID }),
		fields.Text("tagName", func(t *chat.Tag) *string { return &t.Name }),
	), func(q *tagRequest) *[]chat.Tag { return &q.tags }))
	removeChannelTagsFields = fields.NewTable(tagOwner, fields.Texts("tagIds", chat.MaxTags, func(q *tagRequest) *[]string { return &q.ids }))
	listChannelTagsFields   = fields.NewTable(tagOwner)

	// The pages channel/channel-tag/conversation-tag-set, -del and -get.
	tagFields = fields.NewTable(tagOwner, tagID, fields.List("channels", chat.MaxTagPerCall, fields.NewTable(
		fields.Text("channelId", func(t *taggedChannel) *string { return &t.id }),
		fields.Field[taggedChannel]{Name: "channelType", Read: func(r *fields.Reader, t *taggedChannel) (err error) {
			t.channelType, err = r.IntOf(int64(chat.Direct), int64(chat.Group), int64(chat.System))
			return err
		}},
	), func(q *tagRequest) *[]taggedChannel { return &q.channels }))
	taggedFields = fields.NewTable(tagOwner, tagID)
)

// readTag reads a call about tags, checks it and spends it.
func readTag(c *call, t *fields.Table[tagRequest], check func(*tagRequest) error) (*tagRequest, error) {
	q := &tagRequest{}
	if err := decode(c, t, q); err != nil {
		return nil, err
	}
	if err := chat.CheckID("userId", q.User); err != nil {
		return nil, err
	}
	if check != nil {
		if err := check(q); err != nil {
			return nil, err
		}
	}
	q.RequestID = c.id
	return q, c.spend()
}

func addUserChannelTags(c *call) error {
	q, err := readTag(c, setChannelTagsFields, func(q *tagRequest) error {
		if len(q.tags) == 0 {
			return chat.Invalid("tags", "is required")
		}
		for i, t := range q.tags {
			at := "tags[" + strconv.Itoa(i) + "]."
			if err := chat.CheckTagID(at+"tagId", t.ID); err != nil {
				return err
			}
			if err := chat.CheckTagName(at+"tagName", t.Name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.api.courier.SetTags(c.r.Context(), c.app, &q.TagRequest, q.tags); err != nil {
		return err
	}
	c.done()
	return nil
}

func removeUserChannelTags(c *call) error {
	q, err := readTag(c, removeChannelTagsFields, func(q *tagRequest) error {
		if len(q.ids) == 0 {
			return chat.Invalid("tagIds", "is required")
		}
		for i, id := range q.ids {
			if err := chat.CheckTagID("tagIds["+strconv.Itoa(i)+"]", id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.api.courier.RemoveTags(c.r.Context(), c.app, &q.TagRequest, q.ids); err != nil {
		return err
	}
	c.done()
	return nil
}

func listUserChannelTags(c *call) error {
	q, err := readTag(c, listChannelTagsFields, nil)
	if err != nil {
		return err
	}
	p, err := c.api.courier.Preferences(c.r.Context(), c.app, q.User)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"userId":`...)
	b = appendQuoted(b, q.User)
	b = append(b, `,"tags":[`...)
	b = appendTags(b, p.Tags, true, func(*chat.Tag) bool { return true })
	c.out = append(b, `]}}`...)
	return nil
}

// appendTags appends those of the tags that are wanted.
func appendTags(b []byte, tags []chat.Tag, created bool, want func(*chat.Tag) bool) []byte {
	first := true
	for i := range tags {
		t := &tags[i]
		if !want(t) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, `{"tagId":`...)
		b = appendQuoted(b, t.ID)
		b = append(b, `,"tagName":`...)
		b = appendQuoted(b, t.Name)
		if created {
			b = append(b, `,"createdAt":`...)
			b = strconv.AppendInt(b, t.At, 10)
		}
		b = append(b, '}')
	}
	return b
}

func addTagToChannels(c *call) error {
	q, err := readTag(c, tagFields, (*tagRequest).name)
	if err != nil {
		return err
	}
	if err := c.api.courier.TagChannels(c.r.Context(), c.app, &q.TagRequest); err != nil {
		return err
	}
	c.done()
	return nil
}

func removeTagFromChannels(c *call) error {
	q, err := readTag(c, tagFields, (*tagRequest).name)
	if err != nil {
		return err
	}
	if err := c.api.courier.UntagChannels(c.r.Context(), c.app, &q.TagRequest); err != nil {
		return err
	}
	c.done()
	return nil
}

// name gives the request its channels.
func (q *tagRequest) name() error {
	for i, ch := range q.channels {
		if ch.channelType == 0 {
			return chat.Invalid("channels["+strconv.Itoa(i)+"].channelType", "is required")
		}
		q.Channels = append(q.Channels, chat.Channel{Type: chat.ChannelType(ch.channelType), ID: ch.id})
	}
	return nil
}

func listChannelsByTag(c *call) error {
	q, err := readTag(c, taggedFields, nil)
	if err != nil {
		return err
	}
	list, err := c.api.courier.Tagged(c.r.Context(), c.app, &q.TagRequest)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"tagId":`...)
	b = appendQuoted(b, q.Tag)
	b = append(b, `,"channels":[`...)
	for i, ch := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"channelId":`...)
		b = appendQuoted(b, ch.ID)
		b = append(b, `,"channelType":`...)
		b = strconv.AppendInt(b, int64(ch.Type), 10)
		b = append(b, '}')
	}
	c.out = append(b, `]}}`...)
	return nil
}
