package push

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/chat"
)

// The example of the page "Send a direct message", byte for byte.
func TestPublishedExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/pushExt.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseExt("pushExt", string(text))
	if err != nil {
		t.Fatal(err)
	}
	const image = "https://example.com/image.png"
	want := &Ext{
		Title: "you have a new message.", TemplateID: "123456",
		APNs:  APNs{ThreadID: "123", CollapseID: "123456", RichMediaURI: image},
		FCM:   FCM{ChannelID: "rongcloud_channelid", CollapseKey: "1234", ImageURL: image},
		HW:    HW{ChannelID: "hw-123", Importance: "NORMAL", Image: image},
		MI:    MI{ChannelID: "mi-123", LargeIconURI: image},
		OPPO:  OPPO{ChannelID: "oppo-123", Category: "IM", NotifyLevel: 2},
		VIVO:  VIVO{HasClassification: true},
		OHOS:  OHOS{Category: "IM", Image: image},
		MEIZU: MEIZU{NoticeMsgType: 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

func TestParseExt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Ext{
		`{}`: {},
		`{"title":"` + strings.Repeat("ü", 50) + `","forceShowPushContent":1}`: {Title: strings.Repeat("ü", 50), ForceShow: true},
		`{"forceShowPushContent":"1","templateId":null}`:                       {ForceShow: true},
		`{"pushConfigs":[]}`:   {},
		`{"pushConfigs":null}`: {},
		`{"pushConfigs":[{"HONOR":{"importance":"LOW","image":"https://e.com/i.png"}}]}`: {HONOR: HONOR{"LOW", "https://e.com/i.png"}},
		`{"pushConfigs":[{"APNs":{"interruption-level":"time-sensitive"}}]}`:             {APNs: APNs{InterruptionLevel: "time-sensitive"}},
		`{"pushConfigs":[{"VIVO":{"classification":"1","category":"IM"}}]}`:              {VIVO: VIVO{1, true, "IM"}},
		`{"pushConfigs":[{"OPPO":{"notify_level":"16"}}]}`:                               {OPPO: OPPO{NotifyLevel: 16}},
		`{"pushConfigs":[{"MEIZU":{"noticeMsgType":2}}]}`:                                {MEIZU: MEIZU{2}},
		`{"pushConfigs":[{"WEB":{"icon":"https://e.com/i","image":"https://e.com/j","link":"https://e.com/","tag":"t","urgency":"very-low","requireInteraction":1}}]}`: {
			WEB: WEB{"https://e.com/i", "https://e.com/j", "https://e.com/", "t", "very-low", true},
		},
		// Several providers in one item, and one provider in several: later
		// settings override earlier ones.
		`{"pushConfigs":[{"HW":{"channelId":"a","category":"IM"},"MI":{"channelId":"m"}},{"HW":{"channelId":"b"}}]}`: {
			HW: HW{ChannelID: "b", Category: "IM"}, MI: MI{ChannelID: "m"}},
		// What is not known is ignored, and so is what is empty or null.
		`{"sound":7,"pushConfigs":[{"NOKIA":{"a":1}},{"HW":{"volume":[]}},{"apns":7},{"FCM":null},{}]}`: {},
		`{"pushConfigs":[{"HW":{"importance":"","image":""}},{"APNs":{"interruption-level":null}}]}`:    {},
	} {
		got, err := ParseExt("pushExt", text)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", text, got, err, want)
		}
	}
}

func TestParseExtRefuses(t *testing.T) {
	t.Parallel()
	config := func(s string) string { return `{"pushConfigs":[{},{},` + s + `]}` }
	for text, want := range map[string]string{
		``:            "pushExt: must be a JSON object, got nothing",
		`title`:       "pushExt: invalid JSON at byte 1: invalid character 'i' in literal true (expecting 'r')",
		`[]`:          "pushExt: must be a JSON object, got an array",
		`"{}"`:        "pushExt: must be a JSON object, got a string",
		`{"title":1}`: "pushExt.title: must be a string, got 1",
		`{"title":"` + strings.Repeat("ü", 51) + `"}`:                                  "pushExt.title: at most 50 characters, got 51",
		`{"title":"a","title":"b"}`:                                                    `pushExt: invalid JSON at byte 13: the name "title" comes twice in one object`,
		`{"templateId":123456}`:                                                        "pushExt.templateId: must be a string, got 123456",
		`{"forceShowPushContent":2}`:                                                   "pushExt.forceShowPushContent: 0 or 1, got 2",
		`{"pushConfigs":{"HW":{}}}`:                                                    "pushExt.pushConfigs: must be an array of objects, got an object",
		config(`"HW"`):                                                                 "pushExt.pushConfigs[2]: must be a JSON object, got a string",
		config(`{"HW":"x"}`):                                                           "pushExt.pushConfigs[2].HW: must be a JSON object, got a string",
		config(`{"HW":{"channelId":1}}`):                                               "pushExt.pushConfigs[2].HW.channelId: must be a string, got 1",
		config(`{"HW":{"importance":"HIGH"}}`):                                         `pushExt.pushConfigs[2].HW.importance: one of NORMAL, LOW, got "HIGH"`,
		config(`{"HW":{"image":"http://e.com/i.png"}}`):                                "pushExt.pushConfigs[2].HW.image: must be an https URL",
		config(`{"HW":{"category":[]}}`):                                               "pushExt.pushConfigs[2].HW.category: must be a string, got an array",
		config(`{"HONOR":{"importance":"normal"}}`):                                    `pushExt.pushConfigs[2].HONOR.importance: one of NORMAL, LOW, got "normal"`,
		config(`{"HONOR":{"image":7}}`):                                                "pushExt.pushConfigs[2].HONOR.image: must be a string, got 7",
		config(`{"MI":{"channelId":{}}}`):                                              "pushExt.pushConfigs[2].MI.channelId: must be a string, got an object",
		config(`{"MI":{"large_icon_uri":"icon.png"}}`):                                 "pushExt.pushConfigs[2].MI.large_icon_uri: must be an https URL",
		config(`{"OPPO":{"notify_level":3}}`):                                          "pushExt.pushConfigs[2].OPPO.notify_level: one of 1, 2, 16, got 3",
		config(`{"OPPO":{"notify_level":"loud"}}`):                                     `pushExt.pushConfigs[2].OPPO.notify_level: must be a whole number, got "loud"`,
		config(`{"VIVO":{"classification":2}}`):                                        "pushExt.pushConfigs[2].VIVO.classification: one of 0, 1, got 2",
		config(`{"VIVO":{"category":0}}`):                                              "pushExt.pushConfigs[2].VIVO.category: must be a string, got 0",
		config(`{"APNs":{"thread-id":123}}`):                                           "pushExt.pushConfigs[2].APNs.thread-id: must be a string, got 123",
		config(`{"APNs":{"apns-collapse-id":true}}`):                                   "pushExt.pushConfigs[2].APNs.apns-collapse-id: must be a string, got true",
		config(`{"APNs":{"richMediaUri":"https://"}}`):                                 "pushExt.pushConfigs[2].APNs.richMediaUri: must be an https URL",
		config(`{"APNs":{"interruption-level":"now"}}`):                                `pushExt.pushConfigs[2].APNs.interruption-level: one of passive, active, time-sensitive, critical, got "now"`,
		config(`{"FCM":{"collapse_key":1234}}`):                                        "pushExt.pushConfigs[2].FCM.collapse_key: must be a string, got 1234",
		config(`{"FCM":{"imageUrl":"https://a b/%zz"}}`):                               "pushExt.pushConfigs[2].FCM.imageUrl: must be an https URL",
		config(`{"OHOS":{"image":"ftp://e.com/i.png"}}`):                               "pushExt.pushConfigs[2].OHOS.image: must be an https URL",
		config(`{"MEIZU":{"noticeMsgType":0}}`):                                        "pushExt.pushConfigs[2].MEIZU.noticeMsgType: one of 1, 2, got 0",
		config(`{"OHOS":{"image":"https://e.com/` + strings.Repeat("i", 1987) + `"}}`): "pushExt.pushConfigs[2].OHOS.image: at most 2000 bytes, got 2001",
		config(`{"WEB":{"link":"javascript:alert(1)"}}`):                               "pushExt.pushConfigs[2].WEB.link: must be an https URL",
		config(`{"WEB":{"urgency":"urgent"}}`):                                         `pushExt.pushConfigs[2].WEB.urgency: one of very-low, low, normal, high, got "urgent"`,
		config(`{"WEB":{"tag":"` + strings.Repeat("t", 65) + `"}}`):                    "pushExt.pushConfigs[2].WEB.tag: at most 64 characters, got 65",
		config(`{"WEB":{"requireInteraction":"yes"}}`):                                 `pushExt.pushConfigs[2].WEB.requireInteraction: 0 or 1, got "yes"`,
		`{"x":"` + strings.Repeat("x", 32<<10) + `"}`:                                  "pushExt: at most 32768 bytes, got 32776",
	} {
		_, err := ParseExt("pushExt", text)
		if err == nil || err.Error() != want {
			t.Errorf("%.100s:\n got %v\nwant %s", text, err, want)
		}
		kind := chat.KindInvalid
		if strings.Contains(want, ": at most ") {
			kind = chat.KindTooLong
		}
		if !errors.Is(err, &chat.Error{Kind: kind}) {
			t.Errorf("%.100s: kind %s", text, chat.KindOf(err))
		}
	}
}

func FuzzParseExt(f *testing.F) {
	text, err := os.ReadFile("testdata/pushExt.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	for i := range text {
		if i%17 == 0 {
			f.Add(string(text[:i]))
		}
	}
	f.Add(`{"pushConfigs":[{"VIVO":{"classification":"1"},"HONOR":{"importance":"LOW"}},{"OPPO":{"notify_level":1e0}}]}`)
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseExt("pushExt", s)
		if err != nil {
			if k := chat.KindOf(err); k != chat.KindInvalid && k != chat.KindTooLong || !strings.HasPrefix(err.Error(), "pushExt") {
				t.Fatalf("%s: %v", k, err)
			}
			return
		}
		if n := len([]rune(e.Title)); n > MaxTitle {
			t.Fatalf("a title of %d characters", n)
		}
		for _, link := range []string{e.HW.Image, e.HONOR.Image, e.OHOS.Image, e.MI.LargeIconURI, e.FCM.ImageURL, e.APNs.RichMediaURI} {
			if link != "" && (!strings.HasPrefix(strings.ToLower(link), "https://") || len(link) > MaxImageURL) {
				t.Fatalf("link %q", link)
			}
		}
	})
}

func BenchmarkParseExt(b *testing.B) {
	text, err := os.ReadFile("testdata/pushExt.json")
	if err != nil {
		b.Fatal(err)
	}
	s := string(text)
	b.ReportAllocs()
	b.SetBytes(int64(len(s)))
	for b.Loop() {
		if _, err := ParseExt("pushExt", s); err != nil {
			b.Fatal(err)
		}
	}
}
