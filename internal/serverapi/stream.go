package serverapi

import (
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// streamRequest is one chunk of a stream while it is read.
type streamRequest struct {
	sendRequest
	toUser string
	chunk  chunkRequest
	given  bool // the content is there
}

type chunkRequest struct {
	chat.Chunk
	uid                 string
	hasSeq, hasComplete bool
}

// chunkFields are what a stream's content holds.
var chunkFields = fields.NewTable(
	fields.Text("content", func(q *chunkRequest) *string { return &q.Text }),
	fields.Field[chunkRequest]{Name: "seq", Read: func(r *fields.Reader, q *chunkRequest) (err error) {
		q.Seq, err = r.Int()
		q.hasSeq = true
		return err
	}},
	fields.Field[chunkRequest]{Name: "complete", Read: func(r *fields.Reader, q *chunkRequest) (err error) {
		q.Complete, err = r.Switch()
		q.hasComplete = true
		return err
	}},
	fields.Field[chunkRequest]{Name: "completeReason", Read: func(r *fields.Reader, q *chunkRequest) (err error) {
		q.Reason, err = r.Int()
		q.HasReason = true
		return err
	}},
	fields.Text("type", func(q *chunkRequest) *string { return &q.Type }),
	fields.Text("messageId", func(q *chunkRequest) *string { return &q.uid }),
	fields.Text("messageUID", func(q *chunkRequest) *string { return &q.uid }),
	rawJSON("user", true, func(q *chunkRequest) *string { return &q.User }),
	rawJSON("mentionedInfo", true, func(q *chunkRequest) *string { return &q.MentionedInfo }),
	// Other types of message have a text in this place.
	rawJSON("extra", false, func(q *chunkRequest) *string { return &q.Extra }),
)

func rawJSON(name string, object bool, at func(*chunkRequest) *string) fields.Field[chunkRequest] {
	return fields.Field[chunkRequest]{Name: name, Read: func(r *fields.Reader, q *chunkRequest) (err error) {
		*at(q), err = r.JSON(object)
		return err
	}}
}

// streamFields are those of the page "Send a direct stream message".
var streamFields = fields.NewTable(
	fields.Text("fromUserId", func(q *streamRequest) *string { return &q.m.From }),
	fields.Text("toUserId", func(q *streamRequest) *string { return &q.toUser }),
	fields.Text("messageType", func(q *streamRequest) *string { return &q.m.Type }),
	// Where sends have a text, this has an object; who sends a text all the same
	// is understood.
	fields.ObjectOrText("content", chunkFields, func(q *streamRequest) *chunkRequest {
		q.given = true
		return &q.chunk
	}),
	fields.Switch("isEchoToSender", func(q *streamRequest) *bool { return &q.m.Echo }),
	fields.Switch("isSyncSender", func(q *streamRequest) *bool { return &q.m.Echo }),
	fields.Switch("shouldPersist", func(q *streamRequest) *bool { return &q.m.Persist }),
	fields.Field[streamRequest]{Name: "metadata", Read: func(r *fields.Reader, q *streamRequest) error {
		// There is no switch for it: giving some turns it on.
		q.m.HasMetadata, q.m.Metadata = true, make(map[string]string)
		return r.Map(func(name, value string) {
			if q.pairs++; q.pairs <= chat.MaxMetadataPerSend {
				q.m.Metadata[name] = value
			}
		})
	}},
	fields.Switch("disableUpdateLastMsg", func(q *streamRequest) *bool { return &q.m.DisableUpdateLast }),
)

// sendDirectStream takes one chunk. The first is a send like any other and spends
// its budget; those after it have one of their own.
func sendDirectStream(c *call) error {
	q := streamRequest{sendRequest: sendRequest{m: &chat.Message{
		App: c.app.ID, ChannelType: chat.Direct, Origin: chat.FromServer, RequestID: c.id, Persist: true,
	}}}
	if err := decode(c, streamFields, &q); err != nil {
		return err
	}
	chunk, err := q.read()
	if err != nil {
		return err
	}
	chunk.Claim = c.claim
	first := chunk.Seq == 1
	if !first && !c.claim.Repeats() {
		if err := c.spend(); err != nil {
			return err
		}
	}
	sent, err := c.api.courier.SendChunk(c.r.Context(), c.app, chunk)
	if err != nil {
		return err
	}
	if sent.Repeated {
		c.w.Header()["Idempotency-Replayed"] = replayed
	}
	c.out = append(c.out, `{"code":0`...)
	if first {
		// As with every send: the newer name, and the one that goes with it.
		c.out = append(c.out, `,"result":{"messageUID":"`...)
		c.out = sent.Placed[0].UID.Append(c.out)
		c.out = append(c.out, `","messageId":"`...)
		c.out = sent.Placed[0].UID.Append(c.out)
		c.out = append(c.out, `"}`...)
	}
	c.out = append(c.out, '}')
	return nil
}

// read checks what can be told without the stream.
func (q *streamRequest) read() (*courier.StreamChunk, error) {
	if err := chat.CheckID("fromUserId", q.m.From); err != nil {
		return nil, err
	}
	if err := chat.CheckID("toUserId", q.toUser); err != nil {
		return nil, err
	}
	switch {
	case q.m.Type == "":
		return nil, chat.Invalid("messageType", "is required")
	case q.m.Type != chat.StreamType:
		return nil, chat.Invalid("messageType", "must be "+chat.StreamType+", got "+fields.Quote(q.m.Type))
	case !q.given:
		return nil, chat.Invalid("content", "is required")
	case !q.chunk.hasSeq:
		return nil, chat.Invalid("content.seq", "is required")
	case !q.chunk.hasComplete:
		return nil, chat.Invalid("content.complete", "is required")
	case q.pairs > chat.MaxMetadataPerSend:
		return nil, chat.Invalidf("metadata", "at most %d pairs, got %d", chat.MaxMetadataPerSend, q.pairs)
	}
	if err := q.chunk.Check(q.chunk.uid != ""); err != nil {
		return nil, err
	}
	chunk := &courier.StreamChunk{Chunk: q.chunk.Chunk, Message: q.m, To: q.toUser}
	if q.chunk.uid != "" {
		var err error
		if chunk.UID, err = chat.ParseUID(q.chunk.uid); err != nil {
			return nil, chat.Invalid("content.messageId", err.Error())
		}
	}
	return chunk, nil
}
