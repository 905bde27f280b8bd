package push

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/fields"
)

// Limits of pushExt. The page "Send a direct message" gives only that of the
// title; providers refuse payloads far below the others.
const (
	MaxTitle    = 50       // characters
	MaxImageURL = 2000     // bytes
	MaxTag      = 64       // characters
	MaxExt      = 32 << 10 // bytes of the whole pushExt
)

// An Ext is what pushExt asks for. An empty text is a setting that was not
// given.
type Ext struct {
	Title      string
	TemplateID string // of the app's own localised templates, not a provider's
	ForceShow  bool   // show the content whatever the recipient's privacy setting says

	// What is for the devices of one platform alone; of sends by tags or app package.
	IOS, Android, HarmonyOS Notice

	APNs  APNs
	FCM   FCM
	HW    HW
	HONOR HONOR
	OHOS  OHOS
	MI    MI
	OPPO  OPPO
	VIVO  VIVO
	MEIZU MEIZU
	WEB   WEB
}

// APNs are the settings for Apple's devices.
type APNs struct {
	ThreadID          string
	CollapseID        string
	RichMediaURI      string
	InterruptionLevel string // passive, active, time-sensitive or critical
	Category          string // of sends by tags or app package
}

// FCM are the settings for Google's service.
type FCM struct {
	ChannelID   string
	CollapseKey string
	ImageURL    string
}

// HW are the settings for Huawei's Android devices.
type HW struct {
	ChannelID  string
	Importance string // NORMAL or LOW
	Image      string
	Category   string
}

// HONOR are the settings for Honor's devices.
type HONOR struct {
	Importance string // NORMAL or LOW
	Image      string
}

// OHOS are the settings for HarmonyOS.
type OHOS struct {
	Category string
	Image    string
}

// MI are the settings for Xiaomi's devices.
type MI struct {
	ChannelID    string
	LargeIconURI string
}

// OPPO are the settings for OPPO's devices.
type OPPO struct {
	ChannelID   string
	Category    string
	NotifyLevel int // 1, 2 or 16; 0 when not given
}

// VIVO are the settings for vivo's devices.
type VIVO struct {
	Classification    int // 0 operational, 1 system
	HasClassification bool
	Category          string
}

// MEIZU are the settings for Meizu's devices.
type MEIZU struct {
	NoticeMsgType int // 1 private, 2 public; 0 when not given
}

// WEB are the settings for browsers.
type WEB struct {
	Icon, Image string
	Link        string // opened by a click
	// Tag: of the notifications with one, browsers show the last, and push services keep
	// the last for a browser that is away.
	Tag                string
	Urgency            string // very-low, low, normal or high
	RequireInteraction bool   // it stays until somebody does something about it
}

// ParseExt reads and checks pushExt. Errors name the path below field. Providers
// and settings that are not known are ignored, so that callers can be ahead of
// this server.
func ParseExt(field, s string) (*Ext, error) {
	if len(s) > MaxExt {
		return nil, chat.TooLong(field, MaxExt, len(s), "bytes")
	}
	e := new(Ext)
	if err := extTable.DecodeString(s, e); err != nil {
		return nil, fields.Within(field, err)
	}
	return e, nil
}

// The names are those of the page "Send a direct message", pushExt parameters.
var extTable = fields.NewTable(
	text("title", MaxTitle, func(e *Ext) *string { return &e.Title }),
	fields.Text("templateId", func(e *Ext) *string { return &e.TemplateID }),
	fields.Switch("forceShowPushContent", func(e *Ext) *bool { return &e.ForceShow }),
	fields.Objects("pushConfigs", providerTable),
)

// Each item of pushConfigs is meant to hold one provider. One with several is
// read just so, and a provider that comes again overrides what it said before.
var providerTable = fields.NewTable(
	fields.Object("APNs", fields.NewTable(apnsFields...), func(e *Ext) *APNs { return &e.APNs }),
	fields.Object("FCM", fcmTable, func(e *Ext) *FCM { return &e.FCM }),
	fields.Object("HW", hwTable, func(e *Ext) *HW { return &e.HW }),
	fields.Object("HONOR", honorTable, func(e *Ext) *HONOR { return &e.HONOR }),
	fields.Object("OHOS", ohosTable, func(e *Ext) *OHOS { return &e.OHOS }),
	fields.Object("MI", miTable, func(e *Ext) *MI { return &e.MI }),
	fields.Object("OPPO", oppoTable, func(e *Ext) *OPPO { return &e.OPPO }),
	fields.Object("VIVO", vivoTable, func(e *Ext) *VIVO { return &e.VIVO }),
	fields.Object("MEIZU", fields.NewTable(
		number("noticeMsgType", func(p *MEIZU) *int { return &p.NoticeMsgType }, 1, 2),
	), func(e *Ext) *MEIZU { return &e.MEIZU }),
	// Ours: browsers are on no page of the API.
	fields.Object("WEB", fields.NewTable(
		link("icon", func(p *WEB) *string { return &p.Icon }),
		link("image", func(p *WEB) *string { return &p.Image }),
		link("link", func(p *WEB) *string { return &p.Link }),
		text("tag", MaxTag, func(p *WEB) *string { return &p.Tag }),
		word("urgency", func(p *WEB) *string { return &p.Urgency }, "very-low", "low", "normal", "high"),
		fields.Switch("requireInteraction", func(p *WEB) *bool { return &p.RequireInteraction }),
	), func(e *Ext) *WEB { return &e.WEB }),
)

// The settings of each provider, by whatever name it goes.
var (
	apnsFields = []fields.Field[APNs]{
		fields.Text("thread-id", func(p *APNs) *string { return &p.ThreadID }),
		fields.Text("apns-collapse-id", func(p *APNs) *string { return &p.CollapseID }),
		link("richMediaUri", func(p *APNs) *string { return &p.RichMediaURI }),
		word("interruption-level", func(p *APNs) *string { return &p.InterruptionLevel }, "passive", "active", "time-sensitive", "critical"),
	}
	fcmTable = fields.NewTable(
		fields.Text("channelId", func(p *FCM) *string { return &p.ChannelID }),
		fields.Text("collapse_key", func(p *FCM) *string { return &p.CollapseKey }),
		link("imageUrl", func(p *FCM) *string { return &p.ImageURL }),
	)
	hwTable = fields.NewTable(
		fields.Text("channelId", func(p *HW) *string { return &p.ChannelID }),
		word("importance", func(p *HW) *string { return &p.Importance }, "NORMAL", "LOW"),
		link("image", func(p *HW) *string { return &p.Image }),
		fields.Text("category", func(p *HW) *string { return &p.Category }),
	)
	honorTable = fields.NewTable(
		word("importance", func(p *HONOR) *string { return &p.Importance }, "NORMAL", "LOW"),
		link("image", func(p *HONOR) *string { return &p.Image }),
	)
	ohosTable = fields.NewTable(
		fields.Text("category", func(p *OHOS) *string { return &p.Category }),
		link("image", func(p *OHOS) *string { return &p.Image }),
	)
	miTable = fields.NewTable(
		fields.Text("channelId", func(p *MI) *string { return &p.ChannelID }),
		link("large_icon_uri", func(p *MI) *string { return &p.LargeIconURI }),
	)
	oppoTable = fields.NewTable(
		fields.Text("channelId", func(p *OPPO) *string { return &p.ChannelID }),
		fields.Text("category", func(p *OPPO) *string { return &p.Category }),
		number("notify_level", func(p *OPPO) *int { return &p.NotifyLevel }, 1, 2, 16),
	)
	vivoTable = fields.NewTable(
		fields.Field[VIVO]{Name: "classification", Read: func(r *fields.Reader, p *VIVO) (err error) {
			// Declared a number; the page's own sample sends a string.
			p.Classification, err = r.IntOf(0, 1)
			p.HasClassification = err == nil
			return err
		}},
		fields.Text("category", func(p *VIVO) *string { return &p.Category }),
	)
)

// text is a field with at most limit characters.
func text[T any](name string, limit int, at func(*T) *string) fields.Field[T] {
	return fields.Field[T]{Name: name, Read: func(r *fields.Reader, v *T) error {
		s, err := r.Text()
		if err != nil {
			return err
		}
		if n := utf8.RuneCountInString(s); n > limit {
			return chat.TooLong("", limit, n, "characters")
		}
		*at(v) = s
		return nil
	}}
}

// word is a field that holds one of a few words. An empty one is not given.
func word[T any](name string, at func(*T) *string, words ...string) fields.Field[T] {
	return fields.Field[T]{Name: name, Read: func(r *fields.Reader, v *T) error {
		s, err := r.Text()
		if err != nil {
			return err
		}
		if s != "" && !slices.Contains(words, s) {
			return chat.Invalid("", "one of "+strings.Join(words, ", ")+", got "+fields.Quote(s))
		}
		*at(v) = s
		return nil
	}}
}

// number is a field that holds one of a few numbers.
func number[T any](name string, at func(*T) *int, values ...int64) fields.Field[T] {
	return fields.Field[T]{Name: name, Read: func(r *fields.Reader, v *T) (err error) {
		*at(v), err = r.IntOf(values...)
		return err
	}}
}

// link is a field that holds a URL, of an image most often. Only https is taken: most
// providers refuse anything else.
func link[T any](name string, at func(*T) *string) fields.Field[T] {
	return fields.Field[T]{Name: name, Read: func(r *fields.Reader, v *T) error {
		s, err := r.Text()
		if err != nil {
			return err
		}
		if len(s) > MaxImageURL {
			return chat.TooLong("", MaxImageURL, len(s), "bytes")
		}
		if u, err := url.Parse(s); s != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
			return chat.Invalid("", "must be an https URL")
		}
		*at(v) = s
		return nil
	}}
}
