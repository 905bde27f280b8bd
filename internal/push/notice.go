package push

import (
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/fields"
)

// A Notice is what a send by tags or app package says for the devices of one
// platform, in place of what it says for all.
type Notice struct {
	Title string // of Apple's devices
	Alert string
	Data  string // for the app

	// Of Apple's devices.

	Badge            int
	HasBadge         bool
	ContentAvailable bool
}

// WithPlatforms is e with what the objects ios, android and harmonyOS in s say.
// Errors name the path in s. What is not known is ignored, as in pushExt.
func (e *Ext) WithPlatforms(s string) (*Ext, error) {
	all := *e
	if err := platformsTable.DecodeString(s, &all); err != nil {
		return nil, err
	}
	return &all, nil
}

// notice is what the sender says for the devices of a provider alone.
func (e *Ext) notice(p chat.PushProvider) *Notice {
	switch platformsOf(p)[0] {
	case "ios":
		return &e.IOS
	case "harmonyos":
		return &e.HarmonyOS
	case "android":
		return &e.Android
	}
	return &noExt.IOS
}

// alerts reports whether there is a text for the devices of any one platform.
func (e *Ext) alerts() bool {
	return e.IOS.Alert != "" || e.Android.Alert != "" || e.HarmonyOS.Alert != ""
}

// The pages say of these objects that they may hold anything. The names are those
// that the same objects have in the older /push.json.
var platformsTable = fields.NewTable(
	fields.Object("ios", fields.NewTable(append([]fields.Field[Ext]{
		text("title", MaxTitle, func(e *Ext) *string { return &e.IOS.Title }),
		alert(func(e *Ext) *string { return &e.IOS.Alert }),
		extras(func(e *Ext) *string { return &e.IOS.Data }),
		fields.Switch("contentAvailable", func(e *Ext) *bool { return &e.IOS.ContentAvailable }),
		{Name: "badge", Read: func(r *fields.Reader, e *Ext) error {
			n, err := r.Int()
			if err == nil && n > chat.MaxBadge {
				err = chat.Invalidf("", "at most %d, got %d", chat.MaxBadge, n)
			}
			// Below 0 is another way to say that there is to be none.
			e.IOS.Badge, e.IOS.HasBadge = int(max(n, 0)), err == nil
			return err
		}},
		fields.Text("category", func(e *Ext) *string { return &e.APNs.Category }),
	}, among(apnsFields, func(e *Ext) *APNs { return &e.APNs })...)...), itself),

	fields.Object("android", fields.NewTable(
		alert(func(e *Ext) *string { return &e.Android.Alert }),
		extras(func(e *Ext) *string { return &e.Android.Data }),
		fields.Object("hw", hwTable, func(e *Ext) *HW { return &e.HW }),
		fields.Object("honor", honorTable, func(e *Ext) *HONOR { return &e.HONOR }),
		fields.Object("mi", miTable, func(e *Ext) *MI { return &e.MI }),
		fields.Object("oppo", oppoTable, func(e *Ext) *OPPO { return &e.OPPO }),
		fields.Object("vivo", vivoTable, func(e *Ext) *VIVO { return &e.VIVO }),
		fields.Object("fcm", fcmTable, func(e *Ext) *FCM { return &e.FCM }),
	), itself),

	fields.Object("harmonyOS", fields.NewTable(
		alert(func(e *Ext) *string { return &e.HarmonyOS.Alert }),
		extras(func(e *Ext) *string { return &e.HarmonyOS.Data }),
		fields.Object("ohos", ohosTable, func(e *Ext) *OHOS { return &e.OHOS }),
	), itself),
)

func itself(e *Ext) *Ext { return e }

// among are the fields of a part, where the whole has them among its own.
func among[T, U any](list []fields.Field[U], at func(*T) *U) []fields.Field[T] {
	out := make([]fields.Field[T], len(list))
	for i, f := range list {
		out[i] = fields.Field[T]{Name: f.Name, Read: func(r *fields.Reader, v *T) error { return f.Read(r, at(v)) }}
	}
	return out
}

// alert is a field that holds the text of a notification.
func alert(at func(*Ext) *string) fields.Field[Ext] {
	return fields.Field[Ext]{Name: "alert", Read: func(r *fields.Reader, e *Ext) error {
		s, err := r.Text()
		if err == nil && len(s) > chat.MaxPushText {
			err = chat.TooLong("", chat.MaxPushText, len(s), "bytes")
		}
		*at(e) = s
		return err
	}}
}

// extras is a field that holds what is for the app: an object, or a text as it is.
func extras(at func(*Ext) *string) fields.Field[Ext] {
	return fields.Field[Ext]{Name: "extras", Read: func(r *fields.Reader, e *Ext) (err error) {
		*at(e), err = r.TextOrObject()
		return err
	}}
}
