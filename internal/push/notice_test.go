package push

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

func TestWithPlatforms(t *testing.T) {
	t.Parallel()
	const image = "https://example.com/image.png"
	for text, want := range map[string]Ext{
		`{}`: {},
		`{"platform":["ios"],"ios":{},"android":null,"harmonyOS":{"title":7}}`: {},
		`{"ios":{"title":"T","alert":"A","contentAvailable":"1","badge":"3","category":"c","richMediaUri":"` + image + `","thread-id":"t",
			"apns-collapse-id":"i","interruption-level":"critical","extras":{"id": "1"}}}`: {
			IOS:  Notice{Title: "T", Alert: "A", Data: `{"id":"1"}`, Badge: 3, HasBadge: true, ContentAvailable: true},
			APNs: APNs{ThreadID: "t", CollapseID: "i", RichMediaURI: image, InterruptionLevel: "critical", Category: "c"},
		},
		`{"ios":{"badge":-7}}`: {IOS: Notice{HasBadge: true}},
		`{"android":{"alert":"A","extras":"text","hw":{"channelId":"h","importance":"LOW","image":"` + image + `","category":"IM"},"honor":{"importance":"NORMAL","image":"` + image + `"},
			"mi":{"channelId":"m","large_icon_uri":"` + image + `"},"oppo":{"channelId":"o","category":"IM","notify_level":16},"vivo":{"classification":"0","category":"IM"},
			"fcm":{"channelId":"f","collapse_key":"k","imageUrl":"` + image + `"}}}`: {
			Android: Notice{Alert: "A", Data: "text"},
			HW:      HW{"h", "LOW", image, "IM"}, HONOR: HONOR{"NORMAL", image}, MI: MI{"m", image}, OPPO: OPPO{"o", "IM", 16},
			VIVO: VIVO{0, true, "IM"}, FCM: FCM{"f", "k", image},
		},
		`{"harmonyOS":{"alert":"A","extras":{},"ohos":{"category":"IM","image":"` + image + `"}}}`: {
			HarmonyOS: Notice{Alert: "A", Data: "{}"}, OHOS: OHOS{"IM", image},
		},
		// What is not known is ignored.
		`{"web":{"x":1},"ios":{"sound":7,"hw":1},"android":{"HW":{"importance":"x"},"badge":"x","honor":{"y":[]}},"harmonyOS":{"category":7}}`: {},
	} {
		got, err := new(Ext).WithPlatforms(text)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", text, got, err, want)
		}
	}
	all := &Ext{Title: "all", HW: HW{ChannelID: "a", Category: "IM"}}
	if got, err := all.WithPlatforms(`{"android":{"hw":{"channelId":"b"}}}`); err != nil || got.Title != "all" || got.HW != (HW{ChannelID: "b", Category: "IM"}) || all.HW.ChannelID != "a" {
		t.Errorf("%+v, %v, of %+v", got, err, all)
	}
}

func TestWithPlatformsRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"ios":[]}`:                                                   "ios: must be a JSON object, got an array",
		`{"ios":{"badge":"x"}}`:                                        `ios.badge: must be a whole number, got "x"`,
		`{"ios":{"badge":10000}}`:                                      "ios.badge: at most 9999, got 10000",
		`{"ios":{"contentAvailable":2}}`:                               "ios.contentAvailable: 0 or 1, got 2",
		`{"ios":{"category":1}}`:                                       "ios.category: must be a string, got 1",
		`{"ios":{"thread-id":1}}`:                                      "ios.thread-id: must be a string, got 1",
		`{"ios":{"richMediaUri":"http://e.com"}}`:                      "ios.richMediaUri: must be an https URL",
		`{"ios":{"interruption-level":"loud"}}`:                        `ios.interruption-level: one of passive, active, time-sensitive, critical, got "loud"`,
		`{"ios":{"extras":[]}}`:                                        "ios.extras: must be a string, got an array",
		`{"android":"x"}`:                                              "android: must be a JSON object, got a string",
		`{"android":{"alert":{}}}`:                                     "android.alert: must be a string, got an object",
		`{"android":{"hw":"x"}}`:                                       "android.hw: must be a JSON object, got a string",
		`{"android":{"hw":{"importance":"HIGH"}}}`:                     `android.hw.importance: one of NORMAL, LOW, got "HIGH"`,
		`{"android":{"honor":{"image":1}}}`:                            "android.honor.image: must be a string, got 1",
		`{"android":{"mi":{"large_icon_uri":"icon"}}}`:                 "android.mi.large_icon_uri: must be an https URL",
		`{"android":{"oppo":{"notify_level":3}}}`:                      "android.oppo.notify_level: one of 1, 2, 16, got 3",
		`{"android":{"vivo":{"classification":2}}}`:                    "android.vivo.classification: one of 0, 1, got 2",
		`{"android":{"fcm":{"collapse_key":1}}}`:                       "android.fcm.collapse_key: must be a string, got 1",
		`{"harmonyOS":{"ohos":{"image":"x"}}}`:                         "harmonyOS.ohos.image: must be an https URL",
		`{"ios":{"title":"` + strings.Repeat("ü", 51) + `"}}`:          "ios.title: at most 50 characters, got 51",
		`{"harmonyOS":{"alert":"` + strings.Repeat("x", 16385) + `"}}`: "harmonyOS.alert: at most 16384 bytes, got 16385",
	} {
		_, err := new(Ext).WithPlatforms(text)
		if err == nil || err.Error() != want {
			t.Errorf("%.100s:\n got %v\nwant %s", text, err, want)
		}
		kind := chat.KindInvalid
		if strings.Contains(want, "characters") || strings.Contains(want, "bytes") {
			kind = chat.KindTooLong
		}
		if !errors.Is(err, &chat.Error{Kind: kind}) {
			t.Errorf("%.100s: kind %s", text, chat.KindOf(err))
		}
	}
}

// What is said for one platform goes before what is said for all; details that the
// device hides stay hidden.
func TestNoticesOfPlatforms(t *testing.T) {
	t.Parallel()
	m := &chat.Message{ChannelType: chat.System, From: "news", Type: "my:news", Flags: chat.Missed, Push: chat.PushOptions{
		Ext: `{"title":"All","forceShowPushContent":0}`, Content: "to all",
		More: `{"platform":["ios","android","harmonyOS"],"ios":{"title":"Apple","alert":"to Apple","badge":-1,"extras":{"a":1}},"android":{"alert":"to Android"},"harmonyOS":{"extras":"x"}}`,
	}}
	s := NewSend(m)
	for p, want := range map[chat.PushProvider]Notification{
		chat.APNs:  {Title: "Apple", Body: "to Apple", Data: `{"a":1}`, HasBadge: true},
		chat.FCM:   {Title: "All", Body: "to Android"},
		chat.MEIZU: {Title: "All", Body: "to Android"},
		chat.OHOS:  {Title: "All", Body: "to all", Data: "x"},
	} {
		w := &Words{Send: s, User: "bob", Sender: "News", Provider: p}
		n := s.Notification(1, chat.UID{1}, "news", chat.PushDevice{Provider: p}, Alert, time.Unix(1, 0), &Rules{}, w)
		if n.Title != want.Title || n.Body != want.Body || n.Data != want.Data || n.HasBadge != want.HasBadge || n.Badge != 0 {
			t.Errorf("%s: %+v", p, n)
		}
		w.Hide = true
		if title, body := Compose(w); title != "News" || body != "New message" {
			t.Errorf("%s, hidden: %s, %s", p, title, body)
		}
	}

	// Where nothing is said for all, those with no text of their own are not told.
	for more, want := range map[string]string{
		`{}`:                          "no_text",
		`{"ios":{"alert":"x"}}`:       "200",
		`{"android":{"alert":"x"}}`:   "020",
		`{"harmonyOS":{"alert":"x"}}`: "002",
		`{"harmonyOS":{"alert":7}}`:   "no_text", // stored by a release that did not look
		`{"android":{"alert":"x","x":1},"harmonyOS":{"alert":"y"}}`: "022",
	} {
		s := NewSend(&chat.Message{ChannelType: chat.System, Type: "my:news", Flags: chat.Missed, Push: chat.PushOptions{More: more}})
		devices := []chat.PushDevice{{Provider: chat.APNs}, {Provider: chat.VIVO}, {Provider: chat.OHOS}}
		d := Decide(s, &Recipient{ID: "bob", Devices: devices}, &Rules{Enabled: true}, time.Unix(1, 0), time.Unix(1, 0))
		got := ""
		for _, e := range d.Devices {
			got += string('0' + rune(e))
		}
		if d.Effect == None {
			got = d.Reason.String()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", more, got, want)
		}
	}
}
