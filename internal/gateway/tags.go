package gateway

import (
	"context"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// The calls about the user's own tags, and the channels they put them on.

// tagData is what calls about tags say, each some of it.
type tagData struct {
	id, name string
	channels []channelData
}

var (
	tagIDField = fields.Text("tagId", func(d *tagData) *string { return &d.id })

	setTagFields   = fields.NewTable(tagIDField, fields.Text("tagName", func(d *tagData) *string { return &d.name }))
	oneTagFields   = fields.NewTable(tagIDField)
	tagTheseFields = fields.NewTable(tagIDField, fields.List("channels", chat.MaxTagPerCall,
		fields.NewTable(channelTypeField, channelIDField), func(d *tagData) *[]channelData { return &d.channels }))
	noFields = fields.NewTable[tagData]()
)

// tags reads a call about tags.
func (c *conn) tags(data []byte, t *fields.Table[tagData]) (*chat.App, *tagData, *courier.TagRequest, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, nil, nil, err
	}
	d := &tagData{}
	if err := t.Decode(data, d); err != nil {
		return nil, nil, nil, err
	}
	q := &courier.TagRequest{User: c.user, Tag: d.id}
	for i := range d.channels {
		own, err := c.own(&d.channels[i])
		if err != nil {
			return nil, nil, nil, fields.Within("channels", fields.Within("["+strconv.Itoa(i)+"]", err))
		}
		q.Channels = append(q.Channels, chat.Channel{Type: own.Type, ID: own.Channel})
	}
	return app, d, q, nil
}

// setTag is the call channel.tag.set.
func (c *conn) setTag(ctx context.Context, data []byte) ([]byte, error) {
	app, d, q, err := c.tags(data, setTagFields)
	if err != nil {
		return nil, err
	}
	if err := chat.CheckTagID("tagId", d.id); err != nil {
		return nil, err
	}
	if err := chat.CheckTagName("tagName", d.name); err != nil {
		return nil, err
	}
	return []byte("{}"), c.g.courier.SetTags(ctx, app, q, []chat.Tag{{ID: d.id, Name: d.name}})
}

// deleteTag is the call channel.tag.delete.
func (c *conn) deleteTag(ctx context.Context, data []byte) ([]byte, error) {
	app, d, q, err := c.tags(data, oneTagFields)
	if err != nil {
		return nil, err
	}
	if err := chat.CheckTagID("tagId", d.id); err != nil {
		return nil, err
	}
	return []byte("{}"), c.g.courier.RemoveTags(ctx, app, q, []string{d.id})
}

// listTags is the call channel.tag.list.
func (c *conn) listTags(ctx context.Context, data []byte) ([]byte, error) {
	app, _, _, err := c.tags(data, noFields)
	if err != nil {
		return nil, err
	}
	p, err := c.g.courier.Preferences(ctx, app, c.user)
	if err != nil {
		return nil, err
	}
	return append(appendTags([]byte(`{"tags":`), p.Tags), '}'), nil
}

// tagChannels is the call channel.tag.add.
func (c *conn) tagChannels(ctx context.Context, data []byte) ([]byte, error) {
	app, _, q, err := c.tags(data, tagTheseFields)
	if err != nil {
		return nil, err
	}
	return []byte("{}"), c.g.courier.TagChannels(ctx, app, q)
}

// untagChannels is the call channel.tag.remove.
func (c *conn) untagChannels(ctx context.Context, data []byte) ([]byte, error) {
	app, _, q, err := c.tags(data, tagTheseFields)
	if err != nil {
		return nil, err
	}
	return []byte("{}"), c.g.courier.UntagChannels(ctx, app, q)
}

// taggedChannels is the call channel.tagged.
func (c *conn) taggedChannels(ctx context.Context, data []byte) ([]byte, error) {
	app, _, q, err := c.tags(data, oneTagFields)
	if err != nil {
		return nil, err
	}
	list, err := c.g.courier.Tagged(ctx, app, q)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 32+96*len(list)), `{"channels":[`...)
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendChannel(b, list[i].Channel)
		b = append(b, `,"taggedAt":`...)
		b = append(strconv.AppendInt(b, list[i].At, 10), '}')
	}
	return append(b, "]}"...), nil
}

// appendChannel begins an object that names a channel.
func appendChannel(b []byte, ch chat.Channel) []byte {
	b = append(b, `{"channelType":"`...)
	b = append(b, ch.Type.String()...)
	b = append(b, `","channelId":`...)
	return appendString(b, ch.ID)
}

func appendTags(b []byte, tags []chat.Tag) []byte {
	b = append(b, '[')
	for i := range tags {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"tagId":`...)
		b = appendString(b, tags[i].ID)
		b = append(b, `,"tagName":`...)
		b = appendString(b, tags[i].Name)
		b = append(b, `,"createdAt":`...)
		b = append(strconv.AppendInt(b, tags[i].At, 10), '}')
	}
	return append(b, ']')
}

// appendTagged appends what an event says of channels that were given a tag, or
// lost it.
func appendTagged(b []byte, own *chat.OwnChange) []byte {
	b = append(b, `,"tagId":`...)
	b = appendString(b, own.Tag)
	for _, l := range [...]struct {
		name string
		list []chat.Channel
	}{{`,"tagged":[`, own.Tagged}, {`,"untagged":[`, own.Untagged}} {
		for i, ch := range l.list {
			if i == 0 {
				b = append(b, l.name...)
			} else {
				b = append(b, ',')
			}
			b = append(appendChannel(b, ch), '}')
		}
		if len(l.list) > 0 {
			b = append(b, ']')
		}
	}
	if len(own.Tagged) > 0 {
		b = append(b, `,"taggedAt":`...)
		b = strconv.AppendInt(b, own.TaggedAt, 10)
	}
	return b
}
