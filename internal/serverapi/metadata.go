package serverapi

import (
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

type metadataRequest struct {
	subjectRequest
	channelType int
	set         map[string]string
	pairs       int // also those that were not kept
	keys        []string
	echo        bool
	page        int64
	hasPage     bool
}

// metadataPage is how many pairs a page has. Without a page all are listed.
const metadataPage = 100

var (
	metadataUser = fields.Text("userId", func(q *metadataRequest) *string { return &q.From })
	metadataType = fields.Field[metadataRequest]{Name: "channelType", Read: func(r *fields.Reader, q *metadataRequest) (err error) {
		q.channelType, err = r.IntOf(int64(chat.Direct))
		return err
	}}
	metadataChannel = fields.Text("channelId", func(q *metadataRequest) *string { return &q.Channel })
	metadataUID     = fields.Text("messageUID", func(q *metadataRequest) *string { return &q.uid })
	metadataID      = fields.Text("messageId", func(q *metadataRequest) *string { return &q.uid })
	// The page set-expansion names the switch one way, delete-expansion the other.
	metadataEcho = fields.Switch("isEchoToSender", func(q *metadataRequest) *bool { return &q.echo })
	metadataSync = fields.Switch("syncToSender", func(q *metadataRequest) *bool { return &q.echo })

	setMetadataFields = fields.NewTable(metadataUser, metadataType, metadataChannel, metadataUID, metadataID, metadataEcho, metadataSync,
		fields.Field[metadataRequest]{Name: "metadata", Read: func(r *fields.Reader, q *metadataRequest) error {
			q.set = make(map[string]string)
			return r.Map(func(name, value string) {
				if q.pairs++; q.pairs <= chat.MaxMetadataPerSend {
					q.set[name] = value
				}
			})
		}},
	)
	deleteMetadataFields = fields.NewTable(metadataUser, metadataType, metadataChannel, metadataUID, metadataID, metadataEcho, metadataSync,
		fields.Texts("keys", chat.MaxMetadataPerSend, func(q *metadataRequest) *[]string { return &q.keys }),
	)
	listMetadataFields = fields.NewTable(metadataUID, metadataID,
		fields.Field[metadataRequest]{Name: "page", Read: func(r *fields.Reader, q *metadataRequest) (err error) {
			q.page, err = r.Int()
			q.hasPage = true
			return err
		}},
	)
)

func setMetadata(c *call) error {
	return changeMetadata(c, setMetadataFields, func(q *metadataRequest) error {
		if q.pairs > chat.MaxMetadataPerSend {
			return chat.Invalidf("metadata", "at most %d pairs, got %d", chat.MaxMetadataPerSend, q.pairs)
		}
		if len(q.set) == 0 {
			return chat.Invalid("metadata", "is required")
		}
		return chat.CheckMetadata("metadata", q.set)
	})
}

func deleteMetadata(c *call) error {
	return changeMetadata(c, deleteMetadataFields, func(q *metadataRequest) error {
		if len(q.keys) == 0 {
			return chat.Invalid("keys", "is required")
		}
		return nil
	})
}

func changeMetadata(c *call, t *fields.Table[metadataRequest], check func(*metadataRequest) error) error {
	var q metadataRequest
	if err := decode(c, t, &q); err != nil {
		return err
	}
	subject, err := q.in(q.channelType, "userId", c.id)
	if err != nil {
		return err
	}
	if err := check(&q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if _, err := c.api.courier.ChangeMetadata(c.r.Context(), c.app, &courier.MetadataRequest{
		Subject: *subject, Set: q.set, Remove: q.keys, Echo: q.echo,
	}); err != nil {
		return err
	}
	c.out = append(c.out, `{"code":0}`...)
	return nil
}

func listMetadata(c *call) error {
	var q metadataRequest
	if err := decode(c, listMetadataFields, &q); err != nil {
		return err
	}
	subject, err := q.read(c.id)
	if err != nil {
		return err
	}
	if q.hasPage && q.page < 1 {
		return chat.Invalidf("page", "from 1, got %d", q.page)
	}
	if err := c.spend(); err != nil {
		return err
	}
	list, err := c.api.courier.Metadata(c.r.Context(), c.app, subject.UID)
	if err != nil {
		return err
	}
	if q.hasPage {
		first := min((min(q.page, chat.MaxMetadata)-1)*metadataPage, int64(len(list)))
		list = list[first:min(first+metadataPage, int64(len(list)))]
	}
	b := append(c.out, `{"code":0,"result":{"metadata":`...)
	c.out = append(appendPairs(b, list), `}}`...)
	return nil
}
