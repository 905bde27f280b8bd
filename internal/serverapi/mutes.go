package serverapi

import (
	"slices"
	"strconv"
	"strings"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/fields"
)

// muteWords are the names of channel types in the operations about mutes.
var muteWords = []struct {
	word string
	t    chat.ChannelType
}{{"PERSON", chat.Direct}, {"GROUP", chat.Group}, {"CHATROOM", chat.Open}}

func muteType(field, word string) (chat.ChannelType, error) {
	if word == "" {
		return 0, chat.Invalid(field, "is required")
	}
	words := make([]string, len(muteWords))
	for i, w := range muteWords {
		if w.word == word {
			return w.t, nil
		}
		words[i] = w.word
	}
	return 0, chat.Invalid(field, "one of "+strings.Join(words, ", ")+", got "+fields.Quote(word))
}

// maxMuteTypes is how many words a call may hold. Some of them may be equal.
const maxMuteTypes = 10

type muteRequest struct {
	UserIDs  []string
	Mute     bool
	HasState bool
	Types    []string
	Type     string
}

type mutedRequest struct {
	Type   string
	Offset int64
	Size   int64
}

const (
	usualMutePage = 100
	maxOffset     = 1 << 30
)

// The pages direct-channel/ban and direct-channel/query-banned-list.
var (
	muteFields = fields.NewTable(
		fields.Texts("userIds", directory.MaxMute, func(r *muteRequest) *[]string { return &r.UserIDs }),
		fields.Field[muteRequest]{Name: "muteState", Read: func(r *fields.Reader, v *muteRequest) (err error) {
			v.Mute, err = r.Switch()
			v.HasState = true
			return err
		}},
		fields.Texts("channelTypes", maxMuteTypes, func(r *muteRequest) *[]string { return &r.Types }),
		// The page's example has a single one under this name.
		fields.Text("channelType", func(r *muteRequest) *string { return &r.Type }),
	)
	mutedFields = fields.NewTable(
		fields.Text("channelType", func(r *mutedRequest) *string { return &r.Type }),
		wholeNumber("offset", func(r *mutedRequest) *int64 { return &r.Offset }),
		wholeNumber("pageSize", func(r *mutedRequest) *int64 { return &r.Size }),
	)
)

// types are the channel types of the request, under either name.
func (q *muteRequest) types() ([]chat.ChannelType, error) {
	if len(q.Types) == 0 && q.Type == "" {
		return nil, chat.Invalid("channelTypes", "is required")
	}
	var types []chat.ChannelType
	for i, word := range q.Types {
		t, err := muteType("channelTypes["+strconv.Itoa(i)+"]", word)
		if err != nil {
			return nil, err
		}
		types = append(types, t)
	}
	if q.Type != "" {
		t, err := muteType("channelType", q.Type)
		if err != nil {
			return nil, err
		}
		types = append(types, t)
	}
	slices.Sort(types)
	return slices.Compact(types), nil
}

func setChannelTypeMute(c *call) error {
	var q muteRequest
	if err := decode(c, muteFields, &q); err != nil {
		return err
	}
	if !q.HasState {
		return chat.Invalid("muteState", "is required")
	}
	types, err := q.types()
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.Mute(c.r.Context(), c.app, q.UserIDs, types, q.Mute); err != nil {
		return err
	}
	c.done()
	return nil
}

func listChannelTypeMute(c *call) error {
	q := mutedRequest{Size: usualMutePage}
	if err := decode(c, mutedFields, &q); err != nil {
		return err
	}
	t, err := muteType("channelType", q.Type)
	if err != nil {
		return err
	}
	if q.Offset < 0 || q.Offset > maxOffset {
		return chat.Invalidf("offset", "from 0 to %d, got %d", maxOffset, q.Offset)
	}
	if err := checkPageSize(q.Size); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	list, total, err := c.api.directory.Muted(c.r.Context(), c.app, t, int(q.Offset), int(q.Size))
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"totalCount":`...)
	b = strconv.AppendInt(b, int64(total), 10)
	b = append(b, `,"mutedUserIds":`...)
	b = appendListed(b, list)
	c.out = append(b, `}}`...)
	return nil
}

// appendListed appends a list of user ids.
func appendListed(b []byte, list []directory.Listed) []byte {
	b = append(b, '[')
	for i, u := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, u.User)
	}
	return append(b, ']')
}
