package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	mathrand "math/rand/v2"
	"strconv"
	"time"
	"unique"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/fields"
	"github.com/parleychat/parley/internal/store"
)

const (
	// callTimeout bounds what a command may take. A commit that takes longer is
	// answered as unknown and goes on.
	callTimeout = 30 * time.Second

	limitBefore = 64 << 10 // largest message before a successful connect
	limitAfter  = 1 << 20  // and after it

	// expireGrace is how long a token may be past its lifetime before the
	// connection on it is closed (B8).
	expireGrace = 25 * time.Second
)

// A connectRequest is what is used of a connect command.
type connectRequest struct {
	token string
	data  jsontext.Value
	me    streamPosition
	knows bool // me was given, to be recovered
}

// A streamPosition is a position as clients give it.
type streamPosition struct {
	epoch  string
	offset uint64
}

func parseConnect(params []byte) (r connectRequest, err error) {
	s := scan(params)
	for s.more() {
		switch name := s.name(); string(name) {
		case "token":
			r.token = s.text()
		case "data":
			r.data = s.value()
		case "subs":
			// What else a client asks for grants nothing (B6).
			if subs := s.value(); subs != nil && s.err == nil {
				r.me, r.knows, s.err = parseSubs(subs)
			}
		default:
			s.value()
		}
	}
	return r, s.done()
}

func parseSubs(subs []byte) (me streamPosition, knows bool, err error) {
	s := scan(subs)
	for s.more() {
		name := s.name()
		if string(name) != channelMe {
			s.value()
			continue
		}
		if sub := s.value(); sub != nil && s.err == nil {
			var r subscribeRequest
			r, s.err = parseSubscribe(sub)
			me, knows = r.position, r.recover
		}
	}
	return me, knows, s.done()
}

// connectData is what our own clients add to a connect command.
type connectData struct {
	platform   string
	pack       string // of the app that connects
	deviceID   string
	from       string
	background bool
}

var connectFields = fields.NewTable(
	fields.Text("platform", func(d *connectData) *string { return &d.platform }),
	fields.Text("package", func(d *connectData) *string { return &d.pack }),
	fields.Text("deviceId", func(d *connectData) *string { return &d.deviceID }),
	fields.Text("from", func(d *connectData) *string { return &d.from }),
	fields.Switch("background", func(d *connectData) *bool { return &d.background }),
)

const (
	maxPlatform = 32  // bytes
	maxPackage  = 128 // bytes
)

func parseConnectData(raw []byte) (d connectData, err error) {
	if raw == nil {
		return d, nil
	}
	if err := connectFields.Decode(raw, &d); err != nil {
		return d, fields.Within("data", err)
	}
	if len(d.platform) > maxPlatform {
		return d, chat.TooLong("data.platform", maxPlatform, len(d.platform), "bytes")
	}
	if len(d.pack) > maxPackage {
		return d, chat.TooLong("data.package", maxPackage, len(d.pack), "bytes")
	}
	if d.deviceID != "" {
		if err := chat.CheckID("data.deviceId", d.deviceID); err != nil {
			return d, err
		}
	}
	switch d.from {
	case "", "now", "device", "oldest":
	default:
		return d, chat.Invalid("data.from", "one of now, device, oldest, got "+fields.Quote(d.from))
	}
	return d, nil
}

// connect makes the connection a session.
func (c *conn) connect(cmd command) error {
	req, err := parseConnect(cmd.params)
	if err != nil {
		return closeBadRequest
	}
	if req.token == "" {
		return closeInvalidToken
	}
	ctx, cancel := context.WithTimeout(c.g.life, callTimeout)
	defer cancel()
	turn := c.g.sessions.turn()
	grant, err := c.g.opts.Directory.Verify(ctx, req.token)
	switch row := closesByKind[chat.KindOf(err)]; {
	case err == nil:
	case row != nil:
		return row
	case chat.KindOf(err) == chat.KindToken:
		return closeInvalidToken
	}
	var data connectData
	if err == nil {
		data, err = parseConnectData(req.data)
	}
	if err != nil {
		c.fail(cmd, err)
		return errFailedConnect
	}

	c.app, c.user, c.device = grant.App.ID, grant.User.ID, data.deviceID
	c.issuedAt = grant.IssuedAt
	c.setBackground(data.background)
	client := chat.Client{Platform: data.platform, Package: data.pack}
	c.trail.client = unique.Make(client)
	rand.Read(c.client[:])
	c.client[6] = c.client[6]&0x0f | 0x40 // a version 4 UUID
	c.client[8] = c.client[8]&0x3f | 0x80
	// Before anybody can find the session to give its user a broadcast: what is
	// given because of this connect all comes after this.
	before, err := c.g.opts.Store.Head(ctx, c.app, c.user)
	// From here on the session is woken, so nothing that happens while the
	// first page is read is missed.
	if err := c.g.sessions.add(c, grant.App.Settings.Sessions, turn); err != nil {
		if row, ok := err.(*DisconnectRow); ok {
			return row
		}
		c.fail(cmd, err)
		return errFailedConnect
	}
	c.registered = true
	// Before it is decided where the session starts: what the user has not had of
	// broadcasts is of the backlog.
	if err == nil {
		_, err = c.g.courier.Touch(ctx, grant.App, grant.User, client)
	}
	if err != nil && c.g.life.Err() == nil {
		c.g.opts.Logger.Warn("a user could not be given broadcasts; it is tried again at the next connect", "app", c.app, "user", c.user, "error", err)
	}
	answer, pos, err := c.welcome(ctx, cmd.id, grant, req, data, before)
	if err != nil {
		c.g.sessions.remove(c)
		c.registered = false
		c.fail(cmd, err)
		return errFailedConnect
	}
	if c.device != "" {
		c.g.cursors.note(c.deviceKey(), c.trail.client, pos.start)
	}

	c.parser.SetLimit(limitAfter)
	c.behind.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != nil {
		return nil
	}
	c.state = stateLive
	c.pos, c.acked, c.catching = pos.given, pos.start, true
	c.trail.wrote = pos.start
	c.beat = beatPing
	// B4: the first ping after half to the whole of the interval, so that
	// connections that came together are not pinged together.
	half := c.g.opts.PingInterval / 2
	c.beatAt = c.g.wheel.after(half + mathrand.N(half+1))
	c.expireAt = c.expiryTick(grant.ExpiresAt)
	c.armLocked()
	c.pushLocked(frame{answer, frameReply})
	c.g.metrics.sessionsOpened.Inc()
	return nil
}

// expiryTick is when a connection on a token that ends at the given time is
// closed.
func (c *conn) expiryTick(at time.Time) uint32 {
	if at.IsZero() {
		return 0
	}
	return c.g.wheel.after(max(at.Sub(c.g.opts.Now()), 0) + expireGrace)
}

// A beginning is where a session's timeline starts.
type beginning struct {
	start     uint64 // the client has everything up to here
	given     uint64 // and with the answer up to here
	recovered bool
	asked     bool // the client asked to recover
}

// place decides where the session starts: a position that the client brings
// wins, since it repeats what it wishes otherwise on every reconnect. What came
// since the head was before is news to every client: what this connect brought is
// among it.
func (c *conn) place(ctx context.Context, days int, req *connectRequest, data *connectData, before uint64) (b beginning, err error) {
	s := c.g.opts.Store
	head, err := s.Head(ctx, c.app, c.user)
	if err != nil {
		return b, err
	}
	oldest, err := s.Oldest(ctx, c.app, c.user, days)
	if err != nil {
		return b, err
	}
	b.start = oldest - 1
	if req.knows {
		b.asked = true
		p := req.me
		if (p.epoch == "" || p.epoch == s.Epoch()) && p.offset <= head && p.offset >= oldest-1 {
			b.start, b.recovered = p.offset, true
		}
		return b, nil
	}
	from := data.from
	if from == "" {
		if from = "now"; c.device != "" {
			from = "device"
		}
	}
	switch from {
	case "now":
		b.start = max(min(before, head), oldest-1)
	case "oldest":
		b.recovered = true
	case "device":
		b.recovered = true
		if c.device == "" {
			break
		}
		cursor, known, err := c.g.cursors.read(ctx, c.deviceKey())
		if err != nil {
			return b, err
		}
		if known {
			b.start = max(min(cursor, head), oldest-1)
		}
	}
	return b, nil
}

const (
	// The part of a backlog that the connect answer holds. The rest follows as
	// ordinary publications.
	firstPage      = 300
	firstPageBytes = 512 << 10
)

// welcome makes the answer to the connect command.
func (c *conn) welcome(ctx context.Context, id uint32, grant *directory.Grant, req connectRequest, data connectData, before uint64) ([]byte, beginning, error) {
	app, now := grant.App, c.g.opts.Now()
	begin, err := c.place(ctx, app.Settings.MissedDays, &req, &data, before)
	if err != nil {
		return nil, begin, err
	}
	begin.given = begin.start

	b := make([]byte, 0, 768)
	b = appendID(b, id)
	b = append(b, `,"connect":{"client":"`...)
	b = appendUUID(b, c.client)
	b = append(b, `","version":`...)
	b = appendString(b, c.g.opts.Version)
	b = appendExpiry(b, grant.ExpiresAt, now)

	b = append(b, `,"data":{"userId":`...)
	b = appendString(b, grant.User.ID)
	b = appendText(b, `,"name":`, grant.User.Name)
	b = appendText(b, `,"avatarUrl":`, grant.User.AvatarURL)
	b = append(b, `,"serverTime":`...)
	b = strconv.AppendInt(b, now.UnixMilli(), 10)
	b = append(b, `,"settings":{"maxContent":`...)
	b = strconv.AppendInt(b, chat.MaxContent, 10)
	b = append(b, `,"sendLimit":`...)
	b = appendString(b, app.Settings.LimitClient.String())
	b = append(b, `,"missedDays":`...)
	b = strconv.AppendInt(b, int64(app.Settings.MissedDays), 10)
	b = append(b, `,"history":`...)
	b = strconv.AppendBool(b, app.Settings.History)
	b = append(b, '}')
	b = c.appendUnread(ctx, b, app)
	b = append(b, `},"subs":{"`+channelMe+`":{"recoverable":true,"positioned":true,"epoch":`...)
	b = appendString(b, c.g.opts.Store.Epoch())
	if begin.start > 0 {
		b = append(b, `,"offset":`...)
		b = strconv.AppendUint(b, begin.start, 10)
	}
	b = appendTrue(b, `,"was_recovering":`, begin.asked)
	// Clients hand publications of this answer to the application only where
	// it says recovered (B6).
	if begin.recovered {
		b = append(b, `,"recovered":true`...)
		b, begin.given, err = c.appendPage(ctx, b, store.Range{After: begin.start, Limit: firstPage}, firstPageBytes)
		if err != nil {
			return nil, begin, err
		}
		c.g.metrics.recovered.Add(float64(begin.given - begin.start))
	}
	b = append(b, `}},"ping":`...)
	b = strconv.AppendInt(b, int64(max(c.g.opts.PingInterval/time.Second, 1)), 10)
	b = append(b, `,"pong":true}}`...)
	return b, begin, nil
}

// appendExpiry appends when the client must refresh, where it must.
func appendExpiry(b []byte, at, now time.Time) []byte {
	if at.IsZero() {
		return b
	}
	const most = 365 * 24 * time.Hour // B8
	ttl := min(at.Sub(now), most)
	b = append(b, `,"expires":true,"ttl":`...)
	return strconv.AppendInt(b, max(int64(ttl/time.Second), 1), 10)
}

func appendUUID(b []byte, u [16]byte) []byte {
	for i, part := range [...][]byte{u[:4], u[4:6], u[6:8], u[8:10], u[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}

// refresh takes a new token for the connection.
func (c *conn) refresh(cmd command) error {
	token := ""
	s := scan(cmd.params)
	for s.more() {
		if name := s.name(); string(name) == "token" {
			token = s.text()
		} else {
			s.value()
		}
	}
	if err := s.done(); err != nil || token == "" {
		return closeBadRequest
	}
	ctx, cancel := context.WithTimeout(c.g.life, callTimeout)
	defer cancel()
	grant, err := c.g.opts.Directory.Verify(ctx, token)
	if chat.KindOf(err) == chat.KindToken || err == nil && (grant.App.ID != c.app || grant.User.ID != c.user) {
		return closeInvalidToken
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.issuedAt = grant.IssuedAt
	c.expireAt = c.expiryTick(grant.ExpiresAt)
	c.armLocked()
	c.mu.Unlock()
	if c.g.sessions.voided(c.key(), grant.IssuedAt) {
		return closeExpired
	}
	b := appendID(make([]byte, 0, 160), cmd.id)
	b = append(b, `,"refresh":{"client":"`...)
	b = appendUUID(b, c.client)
	b = append(b, `","version":`...)
	b = appendString(b, c.g.opts.Version)
	b = appendExpiry(b, grant.ExpiresAt, c.g.opts.Now())
	b = append(b, "}}"...)
	c.reply(b)
	return nil
}
