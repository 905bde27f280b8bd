package directory

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/parleychat/parley/internal/chat"
)

// Limits of users' tags. All are ours: the pages give none.
const (
	MaxTagged    = 1000 // users that one call is about
	MaxTags      = 100  // of one user
	MaxTagLength = 64   // characters
)

// SetTags gives the users these tags in place of those they have; none takes all
// away. They need not be registered.
func (d *Directory) SetTags(ctx context.Context, app *chat.App, users, tags []string) error {
	if err := checkIDs("userIds", MaxTagged, users); err != nil {
		return err
	}
	if n := len(tags); n > MaxTags {
		return chat.Invalidf("tags", "at most %d items, got %d", MaxTags, n)
	}
	for i, tag := range tags {
		if err := CheckTag("tags["+strconv.Itoa(i)+"]", tag); err != nil {
			return err
		}
	}
	tags = slices.Compact(slices.Sorted(slices.Values(tags)))
	return d.store.UpdateUsers(ctx, app.ID, users, func(u *chat.User) { u.Tags = tags })
}

// Tags are the tags of each of the users, none of one who is not known.
func (d *Directory) Tags(ctx context.Context, app *chat.App, users []string) ([][]string, error) {
	if err := checkIDs("userIds", MaxTagged, users); err != nil {
		return nil, err
	}
	list := make([][]string, len(users))
	for i, id := range users {
		u, err := d.store.User(ctx, app.ID, id)
		if errors.Is(err, &chat.Error{Kind: chat.KindNoUser}) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list[i] = u.Tags
	}
	return list, nil
}

// CheckTag says whether the text may be a tag.
func CheckTag(field, tag string) error {
	if tag == "" {
		return chat.Invalid(field, "must not be empty")
	}
	if !utf8.ValidString(tag) {
		return chat.Invalid(field, "must be valid UTF-8")
	}
	if n := utf8.RuneCountInString(tag); n > MaxTagLength {
		return chat.TooLong(field, MaxTagLength, n, "characters")
	}
	for _, r := range tag {
		if unicode.IsControl(r) {
			return chat.Invalid(field, "must not contain control characters")
		}
	}
	return nil
}
