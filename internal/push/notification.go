package push

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
)

// A Notification is what one device is to be told of one message, before it is
// put in a provider's words. It is made anew for each attempt and changes in none.
type Notification struct {
	App  chat.AppID
	UID  chat.UID // of the message, as the recipient knows it
	User string   // the recipient
	To   chat.PushDevice

	From        string
	Type        string
	ChannelType chat.ChannelType
	Channel     string   // as the recipient knows it
	Removes     chat.UID // the message whose notification this one takes the place of
	// RemovesBefore: besides that, all of the channel's before it are to go.
	RemovesBefore bool

	Title string
	Body  string
	Data  string // the sender's pushData

	Silent           bool // wakes the app and shows nothing
	ContentAvailable bool // wakes the app besides showing
	Badge            int
	HasBadge         bool // whether the badge is to be set to Badge

	Expires time.Time // nobody is to be told later; zero is never
	Without Option    // what the provider has refused of it
	Ext     *Ext      // what the sender wants of each provider; nil for nothing
}

// Notification is what the message tells one device of a user, if anything: uid is
// the message as they know it and channel where they have it. w holds the words.
func (s *Send) Notification(app chat.AppID, uid chat.UID, channel string, to chat.PushDevice, effect Effect, sentAt time.Time, rules *Rules, w *Words) Notification {
	m := s.Message
	n := Notification{
		App: app, UID: uid, User: w.User, To: to,
		From: m.From, Type: s.Type(), ChannelType: m.ChannelType, Channel: channel,
		Data: m.Push.Data, Silent: effect == Silent, ContentAvailable: m.Push.ContentAvailable,
		Expires: sentAt.Add(Lifetime(s.Type(), effect, rules.Lifetime)),
		Ext:     s.Ext,
	}
	if s.Type() == Recall {
		n.Removes = m.Event.UID
	}
	if m.Push.HasBadge && m.Push.Badge >= 0 {
		n.Badge, n.HasBadge = m.Push.Badge, true
	}
	if x := s.Ext.notice(to.Provider); *x != (Notice{}) {
		n.Data = cmp.Or(x.Data, n.Data)
		if x.HasBadge {
			n.Badge, n.HasBadge = x.Badge, true
		}
	}
	if effect == Alert {
		n.Title, n.Body = Compose(w)
	}
	return n
}

// Why a notification cannot be put in a provider's words. No attempt will mend it.
var (
	// ErrExpired notifications come too late.
	ErrExpired = errors.New("the notification has expired")
	// ErrSilent is of providers that can only show notifications.
	ErrSilent = errors.New("the provider has no silent notifications")
	// ErrTooLarge notifications exceed the provider's limit even without all that
	// may be left out.
	ErrTooLarge = errors.New("the notification is too large for the provider")
	// ErrToken is of tokens that cannot be the provider's.
	ErrToken = errors.New("the token cannot be one of the provider's")
	// ErrPackage is of devices of which no package is known, where the provider
	// wants to know it.
	ErrPackage = errors.New("the provider wants a package, and none is known")
)

var noExt Ext

// Settings are what the sender wants of the providers, never nil.
func (n *Notification) Settings() *Ext {
	if n.Ext == nil {
		return &noExt
	}
	return n.Ext
}

// DefaultTTL is how long notifications are good for that do not say so.
const DefaultTTL = 24 * time.Hour

// TTL is for how long the notification is good from now on, within a provider's
// bounds: one that is good for less than the provider can say is given its least.
func (n *Notification) TTL(now time.Time, least, most time.Duration) (time.Duration, error) {
	ttl := DefaultTTL
	if !n.Expires.IsZero() {
		if ttl = n.Expires.Sub(now); ttl <= 0 {
			return 0, ErrExpired
		}
	}
	return min(max(ttl, least), most), nil
}

// Shown is the message by which the device knows this notification. One that is
// sent again overwrites itself; a recall overwrites what it recalls.
func (n *Notification) Shown() chat.UID {
	if !n.Removes.IsZero() {
		return n.Removes
	}
	return n.UID
}

// NotifyID is Shown as a number, for providers who tell notifications apart by
// numbers.
func (n *Notification) NotifyID() int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.Shown().String()))
	return int32(h.Sum32() & 0x7fffffff)
}

// RequestID is the same UUID for each attempt to tell this device of this message,
// and another for every other.
func (n *Notification) RequestID() string {
	h := sha256.New()
	_ = binary.Write(h, binary.BigEndian, uint32(n.App))
	_, _ = h.Write(n.UID[:])
	_, _ = h.Write([]byte(n.To.Token))
	if n.Silent && n.Removes == n.UID {
		_, _ = h.Write([]byte{1}) // it was told of the message before
	}
	sum := h.Sum(nil)[:16]
	sum[6] = sum[6]&0x0f | 0x80 // version 8: made by a rule of our own
	sum[8] = sum[8]&0x3f | 0x80
	text := hex.EncodeToString(sum)
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

// A Card is the rc object beside appData: what a client needs in order to open the
// right channel. It is never left out.
type Card struct {
	ChannelType string `json:"cType"`
	From        string `json:"fId"`
	Type        string `json:"oName"`
	Channel     string `json:"tId"`
	User        string `json:"rId"`
	UID         string `json:"id"`
}

// Card is the notification's rc object.
func (n *Notification) Card() Card {
	return Card{channelWords[n.ChannelType], n.From, n.Type, n.Channel, n.User, n.UID.String()}
}

// channelWords are the clients' words for channel types in notifications.
var channelWords = map[chat.ChannelType]string{
	chat.Direct: "PR", chat.Group: "GRP", chat.System: "SYS", chat.Community: "UG",
}

// Extras are what the app gets beside what is shown.
type Extras struct {
	AppData string `json:"appData,omitzero"`
	Card    Card   `json:"rc"`
	Removes string `json:"rc-dlt-identifier,omitzero"`
	Before  string `json:"rc-dlt-before,omitzero"` // "1": and those before it
}

// Extras are those of the notification, without the sender's data if that is to be
// left out.
func (n *Notification) Extras(p Parts) Extras {
	x := Extras{Card: n.Card(), AppData: p.Data}
	if !n.Removes.IsZero() {
		x.Removes = n.Removes.String()
	}
	if n.RemovesBefore {
		x.Before = "1"
	}
	return x
}

// Strings are the extras for providers who take texts only.
func (x Extras) Strings() map[string]string {
	m := map[string]string{"rc": string(JSON(x.Card))}
	if x.AppData != "" {
		m["appData"] = x.AppData
	}
	if x.Removes != "" {
		m["rc-dlt-identifier"] = x.Removes
	}
	if x.Before != "" {
		m["rc-dlt-before"] = x.Before
	}
	return m
}

// JSON is v as JSON, in one form only: nothing is escaped for HTML, which would
// count against limits, and maps are sorted. v is a type of our own that has one.
func JSON(v any) []byte {
	text, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic("push: " + err.Error()) // a type without a JSON form; tests render all
	}
	return text
}

// Seconds is a duration as several providers write it: 3600s.
func Seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) + "s" }
