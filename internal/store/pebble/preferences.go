package pebble

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of the row of preferences, tagged as in bodies, behind viewStamp.
const (
	preferredType  protowire.Number = iota + 2
	preferredLevel                  // zigzag, of the type before it
	preferredQuiet
	preferredTag
)

// The fields of quiet hours.
const (
	quietFrom protowire.Number = iota + 1
	quietTo
	quietZone
	quietLevel // zigzag
)

// The fields of a tag.
const (
	tagID protowire.Number = iota + 1
	tagName
	tagAt
)

// About what a tag, and preferences as a whole, add to a batch.
const (
	tagSize         = 4*(chat.MaxTagID+chat.MaxTagName) + 16
	preferencesSize = 512 + chat.MaxTags*tagSize
)

// appendPreferencesKey is in the space of views: a user's preferences are the view
// of no channel in particular.
func appendPreferencesKey(dst []byte, app chat.AppID, user string) []byte {
	return append(appendViewPrefix(dst, app, user), 0)
}

func appendPreferences(b []byte, p *chat.Preferences) []byte {
	for _, t := range slices.Sorted(maps.Keys(p.Levels)) {
		b = appendUint(b, preferredType, uint64(t))
		b = appendUint(b, preferredLevel, protowire.EncodeZigZag(int64(p.Levels[t])))
	}
	if p.Quiet != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, preferredQuiet, protowire.BytesType), appendQuiet(nil, p.Quiet))
	}
	for i := range p.Tags {
		b = protowire.AppendBytes(protowire.AppendTag(b, preferredTag, protowire.BytesType), appendTag(nil, &p.Tags[i]))
	}
	return b
}

func appendQuiet(b []byte, q *chat.QuietHours) []byte {
	b = appendUint(b, quietFrom, uint64(max(q.From, 0)))
	b = appendUint(b, quietTo, uint64(max(q.To, 0)))
	b = appendText(b, quietZone, q.Zone)
	return appendUint(b, quietLevel, protowire.EncodeZigZag(int64(q.Level)))
}

func decodeQuiet(row []byte) (*chat.QuietHours, error) {
	q := &chat.QuietHours{}
	return q, eachField(row, func(f protowire.Number, n uint64, text []byte) {
		switch f {
		case quietFrom:
			q.From = max(int(n), 0)
		case quietTo:
			q.To = max(int(n), 0)
		case quietZone:
			q.Zone = string(text)
		case quietLevel:
			q.Level = chat.NotifyLevel(protowire.DecodeZigZag(n))
		}
	})
}

func appendTag(b []byte, t *chat.Tag) []byte {
	b = appendText(b, tagID, t.ID)
	b = appendText(b, tagName, t.Name)
	return appendUint(b, tagAt, uint64(max(t.At, 0)))
}

func decodeTag(row []byte) (t chat.Tag, err error) {
	err = eachField(row, func(f protowire.Number, n uint64, text []byte) {
		switch f {
		case tagID:
			t.ID = string(text)
		case tagName:
			t.Name = string(text)
		case tagAt:
			t.At = max(int64(n), 0)
		}
	})
	return t, err
}

// Preferences implements store.Views.
func (s *Store) Preferences(ctx context.Context, app chat.AppID, user string) (*chat.Preferences, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(user) > maxIDLength {
		return nil, chat.TooLong("userId", maxIDLength, len(user), "bytes")
	}
	row, closer, err := s.db.Get(appendPreferencesKey(nil, app, user))
	if errors.Is(err, pdb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("preferences: %w", err)
	}
	p, stamp, err := decodePreferences(row)
	_ = closer.Close()
	if err != nil {
		return nil, fmt.Errorf("preferences: %w", err)
	}
	return p, s.waitDurable(ctx, stamp)
}

// decodePreferences are those that a row holds, nil when they were forgotten.
func decodePreferences(row []byte) (p *chat.Preferences, stamp chat.UID, err error) {
	p = &chat.Preferences{}
	var t chat.ChannelType
	var inner error
	err = eachField(row, func(f protowire.Number, n uint64, text []byte) {
		if inner != nil {
			return
		}
		switch f {
		case viewStamp:
			copy(stamp[:], text)
		case preferredType:
			t = chat.ChannelType(n)
		case preferredLevel:
			l := chat.NotifyLevel(protowire.DecodeZigZag(n))
			if t == 0 || l == chat.NotifyUnset {
				return
			}
			if p.Levels == nil {
				p.Levels = map[chat.ChannelType]chat.NotifyLevel{}
			}
			p.Levels[t] = l
		case preferredQuiet:
			p.Quiet, inner = decodeQuiet(text)
		case preferredTag:
			var tag chat.Tag
			tag, inner = decodeTag(text)
			p.Tags = append(p.Tags, tag)
		}
	})
	if p.IsZero() {
		p = nil
	}
	return p, stamp, errors.Join(err, inner)
}
