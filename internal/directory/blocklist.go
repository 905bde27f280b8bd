package directory

import (
	"context"
	"slices"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

const (
	// MaxBlock is how many users one call may block (user/blacklist/add).
	MaxBlock = 20
	// MaxUnblock is how many users one call may unblock. It is ours: the pages
	// give no limit.
	MaxUnblock = 1000
	// MaxBlocklistPage is the largest page of a blocklist, and the usual one of
	// the server API.
	MaxBlocklistPage = 1000
)

// Block puts others on the user's blocklist: from then on their clients cannot
// write to the user. field names the others in the request. Nobody needs to be
// registered.
func (d *Directory) Block(ctx context.Context, app *chat.App, user, field string, others []string) error {
	if err := chat.CheckID("userId", user); err != nil {
		return err
	}
	if err := checkIDs(field, MaxBlock, others); err != nil {
		return err
	}
	if i := slices.Index(others, user); i >= 0 {
		return chat.Invalid(field+"["+strconv.Itoa(i)+"]", "must be somebody else than the list's owner")
	}
	return d.store.Block(ctx, app.ID, user, others)
}

// Unblock takes others off the user's blocklist, those of them who are on it.
func (d *Directory) Unblock(ctx context.Context, app *chat.App, user, field string, others []string) error {
	if err := chat.CheckID("userId", user); err != nil {
		return err
	}
	if err := checkIDs(field, MaxUnblock, others); err != nil {
		return err
	}
	return d.store.Unblock(ctx, app.ID, user, others)
}

// A BlocklistPage asks for a part of a blocklist.
type BlocklistPage struct {
	Token     string // where the page before ended; empty for the first page
	Size      int64
	LastFirst bool // in the opposite order of being added
}

// Blocklist is a page of a user's blocklist, and the token of the page after
// it, empty when there is none.
func (d *Directory) Blocklist(ctx context.Context, app *chat.App, user string, p BlocklistPage) (ids []string, next string, err error) {
	if err := chat.CheckID("userId", user); err != nil {
		return nil, "", err
	}
	if p.Size < 1 || p.Size > MaxBlocklistPage {
		return nil, "", chat.Invalidf("pageSize", "from 1 to %d, got %d", MaxBlocklistPage, p.Size)
	}
	r := store.BlockRange{Limit: int(p.Size) + 1, Reverse: p.LastFirst}
	if p.Token != "" {
		if r.After, err = strconv.ParseUint(p.Token, tokenBase, 64); err != nil || r.After == 0 {
			return nil, "", chat.Invalid("pageToken", "must be one that an answer gave")
		}
	}
	list, err := d.store.Blocklist(ctx, app.ID, user, r)
	if err != nil {
		return nil, "", err
	}
	if size := int(p.Size); len(list) > size {
		list = list[:size]
		next = strconv.FormatUint(list[size-1].Place, tokenBase)
	}
	for _, b := range list {
		ids = append(ids, b.User)
	}
	return ids, next, nil
}

const tokenBase = 36
