package gateway

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
	"github.com/parleychat/parley/internal/room"
)

const (
	// openPrefix begins the name of an open channel's subscription.
	openPrefix = "open:"

	maxChannelName = 255 // bytes (B1)
	maxSeats       = 128 // open channels per connection (B1)

	// maxEarly bounds what comes for a session between its entry and the answer
	// that tells it of the entry, which is moments.
	maxEarly = 1024
)

// A subscribeRequest is what is used of a subscribe command.
type subscribeRequest struct {
	channel  string
	recover  bool
	position streamPosition
	data     jsontext.Value
	delta    string
	filtered bool
	flag     int64
	kind     int64
}

// flagUnrecoverable: the client wants error 112 in place of recovered:false.
const flagUnrecoverable = 2

func parseSubscribe(params []byte) (r subscribeRequest, err error) {
	s := scan(params)
	for s.more() {
		switch name := s.name(); string(name) {
		case "channel":
			r.channel = s.text()
		case "recover":
			r.recover = s.truth()
		case "epoch":
			r.position.epoch = s.text()
		case "offset":
			r.position.offset = s.number()
		case "data":
			r.data = s.value()
		case "delta":
			r.delta = s.text()
		case "tf":
			r.filtered = s.value() != nil
		case "flag":
			r.flag = s.signed()
		case "type":
			r.kind = s.signed()
		default:
			s.value()
		}
	}
	return r, s.done()
}

// parseOpenChannel gives the id of the open channel that a subscription's name
// stands for.
func parseOpenChannel(name string) (string, error) {
	if len(name) > maxChannelName {
		return "", refuse(codeBadRequest, "channel: at most 255 bytes, got "+strconv.Itoa(len(name)))
	}
	id, ok := strings.CutPrefix(name, openPrefix)
	if !ok {
		return "", refuse(codeUnknownChannel, "")
	}
	return id, chat.CheckID("channel", id)
}

// openData is what a client says when it enters an open channel.
type openData struct {
	recent int64
	types  []string
	extra  string
}

const (
	maxExtra = 128 // characters
	maxTypes = 100
)

var openFields = fields.NewTable(
	fields.Field[openData]{Name: "recent", Read: func(r *fields.Reader, d *openData) (err error) {
		d.recent, err = r.Int()
		return err
	}},
	fields.Texts("messageTypes", maxTypes, func(d *openData) *[]string { return &d.types }),
	fields.Text("extra", func(d *openData) *string { return &d.extra }),
)

// parseOpenData reads what a client says when it enters.
func parseOpenData(raw []byte) (d openData, err error) {
	if raw == nil {
		return d, nil
	}
	if err := openFields.Decode(raw, &d); err != nil {
		return d, fields.Within("data", err)
	}
	if d.recent < 0 || d.recent > courier.MaxRecent {
		return d, chat.Invalidf("data.recent", "from 0 to %d, got %d", courier.MaxRecent, d.recent)
	}
	if n := utf8.RuneCountInString(d.extra); n > maxExtra {
		return d, chat.TooLong("data.extra", maxExtra, n, "characters")
	}
	return d, nil
}

// subscribe enters an open channel.
func (c *conn) subscribe(cmd command) error {
	req, err := parseSubscribe(cmd.params)
	if err != nil || req.channel == "" || req.delta != "" && req.delta != "fossil" {
		return closeBadRequest
	}
	switch {
	case req.channel == channelMe:
		return refuse(codeAlreadySubscribed, "")
	case req.kind != 0:
		return refuse(codeNotAvailable, "")
	case req.filtered:
		return refuse(codeBadRequest, "tf: filters are not available")
	}
	id, err := parseOpenChannel(req.channel)
	if err != nil {
		return err
	}
	data, err := parseOpenData(req.data)
	if err != nil {
		return err
	}
	c.dropSeats()
	if c.seatOf(id) >= 0 {
		return refuse(codeAlreadySubscribed, "")
	}
	if len(c.seats) >= maxSeats {
		return refuse(codeLimit, "at most 128 open channels on one connection")
	}
	app := c.g.opts.Directory.AppByID(c.app)
	if app == nil {
		return chat.Fail(chat.KindInternal, "app is gone")
	}

	var s *seat
	take := func() room.Member {
		s = &seat{c: c, channel: id}
		return s
	}
	q := courier.EnterRequest{Channel: id, User: c.user, Session: take, Extra: data.extra, Recent: int(data.recent), Types: data.types}
	if req.recover {
		q.From = &room.Position{Epoch: req.position.epoch, Offset: req.position.offset}
	}
	ctx, cancel := context.WithTimeout(c.g.life, callTimeout)
	defer cancel()
	entered, err := c.g.courier.Enter(ctx, app, &q)
	if err != nil {
		return err
	}
	if req.recover && !entered.Recovered && req.flag&flagUnrecoverable != 0 {
		s.leave()
		return refuse(codeUnrecoverable, "")
	}
	c.seats = append(c.seats, s)
	answer := c.entered(cmd.id, &req, entered)

	c.mu.Lock()
	defer c.mu.Unlock()
	// The answer comes before anything that was said meanwhile (B5).
	c.pushLocked(frame{answer, frameReply})
	s.Live = true
	if s.early != nil {
		s.queueLocked(s.early.list)
		s.early = nil
	}
	if s.Left {
		s.tellEvictedLocked()
	}
	return nil
}

// entered makes the answer to a subscribe command. The subscription is
// recoverable but not positioned: holes are normal, since a sender's own
// messages are left out, and since a channel that is too busy sheds.
func (c *conn) entered(id uint32, req *subscribeRequest, e *courier.Entered) []byte {
	offset := e.Offset
	if e.Recovered {
		offset = req.position.offset // the client moves on by the publications
	}
	b := appendID(make([]byte, 0, 256), id)
	b = append(b, `,"subscribe":{"recoverable":true,"epoch":`...)
	b = appendString(b, e.Epoch)
	if offset > 0 {
		b = append(b, `,"offset":`...)
		b = strconv.AppendUint(b, offset, 10)
	}
	b = appendTrue(b, `,"was_recovering":`, req.recover)
	b = appendTrue(b, `,"recovered":`, e.Recovered)
	sep := `,"publications":[`
	for _, p := range e.Missed {
		if !p.For(c.user) {
			continue
		}
		push := openForm(p, c.user)
		b = append(b, sep...)
		b = append(b, push[len(appendOpenPush(nil, p.Channel)):len(push)-len(pushEnd)]...)
		sep = ","
	}
	if sep == "," {
		b = append(b, ']')
	}
	b = append(b, `,"data":{"createdAt":`...)
	b = strconv.AppendInt(b, e.Channel.CreatedAt, 10)
	b = append(b, `,"enteredAt":`...)
	b = strconv.AppendInt(b, e.At, 10)
	b = append(b, `,"participantCount":`...)
	b = strconv.AppendInt(b, int64(e.Participants), 10)
	b = appendTrue(b, `,"muted":`, e.Muted)
	b = appendTrue(b, `,"allMuted":`, e.MutedInAll)
	b = appendTrue(b, `,"allowedSender":`, e.Allowed)
	b = appendTrue(b, `,"frozen":`, e.Channel.Frozen)
	sep = `,"metadata":{`
	for _, k := range slices.Sorted(maps.Keys(e.Channel.Pairs)) {
		b = append(b, sep...)
		b = appendString(b, k)
		b = append(b, ':')
		b = appendString(b, e.Channel.Pairs[k].Value)
		sep = ","
	}
	if sep == "," {
		b = append(b, '}')
	}
	if len(e.Recent) > 0 {
		b = append(b, `,"recent":`...)
		b = appendMessages(b, e.Recent, req.channel[len(openPrefix):])
	}
	return append(b, "}}}"...)
}

// unsubscribe leaves an open channel. It succeeds whatever the channel: to the
// npm client a refusal is a reason to drop the connection (B5). me cannot be
// left, so that succeeds without effect.
func (c *conn) unsubscribe(cmd command) error {
	channel := ""
	s := scan(cmd.params)
	for s.more() {
		if name := s.name(); string(name) == "channel" {
			channel = s.text()
		} else {
			s.value()
		}
	}
	if err := s.done(); err != nil || channel == "" {
		return closeBadRequest
	}
	c.dropSeats()
	if id, err := parseOpenChannel(channel); err == nil {
		if i := c.seatOf(id); i >= 0 {
			c.seats[i].leave()
			c.seats = slices.Delete(c.seats, i, i+1)
		}
	}
	b := appendID(make([]byte, 0, 40), cmd.id)
	c.reply(append(b, `,"unsubscribe":{}}`...))
	return nil
}

func (c *conn) seatOf(id string) int {
	return slices.IndexFunc(c.seats, func(s *seat) bool { return s.channel == id })
}

// dropSeats forgets the seats that were taken away.
func (c *conn) dropSeats() {
	if len(c.seats) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seats = slices.DeleteFunc(c.seats, func(s *seat) bool { return s.Left })
}

// leave gives the seat up.
func (s *seat) leave() {
	s.c.mu.Lock()
	s.Left, s.early = true, nil
	s.c.mu.Unlock()
	s.c.g.courier.Leave(s.c.app, s.channel, s, false)
}

// The reasons for which a client is told that it is in an open channel no more.
// These codes are not for coming back by itself (below 2500).
var evictions = [...]struct {
	code   int64
	reason string
}{
	room.Elsewhere: {2100, "entered another open channel"},
	room.Barred:    {2101, "banned"},
	room.Ended:     {2102, "destroyed"},
}

// Evict is part of room.Member.
func (s *seat) Evict(why room.Reason) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.Left {
		return
	}
	s.Left, s.Why = true, why
	if s.Live { // otherwise the answer that it is there comes first
		s.tellEvictedLocked()
	}
}

func (s *seat) tellEvictedLocked() {
	e := evictions[s.Why]
	b := append(make([]byte, 0, 128), `{"push":{"channel":`...)
	b = appendString(b, openPrefix+s.channel)
	b = append(b, `,"unsubscribe":{"code":`...)
	b = strconv.AppendInt(b, e.code, 10)
	b = append(b, `,"reason":`...)
	b = appendString(b, e.reason)
	s.c.pushLocked(frame{append(b, "}}}"...), frameReply})
}
