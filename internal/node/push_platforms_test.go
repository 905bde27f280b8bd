package node

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push/pushtest"
)

// What a send by tags says for the devices of one platform comes to those, in the
// words of their provider, and to no others.
func TestPlatformsAreToldTheirOwn(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	m.set("limits.broadcast-hour", "0")
	m.done("/v4/system-channel/tagged-users/send", `{"platform":["ios","android","harmonyOS"],"fromUserId":"news","audience":{"isToAll":true},
		"message":{"messageType":"my:news","content":"x"},
		"notification":{"title":"All","alert":"to all","futureField":[1],
		"ios":{"title":"Apple","alert":"to Apple","badge":"7","contentAvailable":1,"category":"offer","thread-id":"t-1","apns-collapse-id":"c-1",
			"richMediaUri":"https://e.com/ios.png","interruption-level":"passive","extras":{"id":"1"},"sound":"ping"},
		"android":{"alert":"to Android","extras":{"id":"2"},
			"hw":{"channelId":"hw-1","importance":"LOW","image":"https://e.com/hw.png","category":"WORK"},
			"honor":{"importance":"LOW","image":"https://e.com/honor.png"},
			"mi":{"channelId":"mi-1"},
			"oppo":{"channelId":"oppo-1","category":"IM","notify_level":"16"},
			"vivo":{"classification":"1","category":"IM"},
			"fcm":{"channelId":"fcm-1","collapse_key":"c-2","imageUrl":"https://e.com/fcm.png"},
			"xiaomi":{"channelId":7}},
		"harmonyOS":{"extras":"as it is","ohos":{"category":"IM","image":"https://e.com/ohos.png"}}}}`)
	for p, words := range map[chat.PushProvider][]string{
		chat.APNs:  {`"category":"offer"`, `"thread-id":"t-1"`, `"mutable-content":1`, `"content-available":1`, `https://e.com/ios.png`, `"interruption-level":"passive"`},
		chat.FCM:   {`"fcm-1"`, `"c-2"`, `https://e.com/fcm.png`},
		chat.HW:    {`"hw-1"`, `"LOW"`, `https://e.com/hw.png`, `"WORK"`},
		chat.HONOR: {`"LOW"`, `https://e.com/honor.png`},
		chat.MI:    {`mi-1`},
		chat.OPPO:  {`oppo-1`, `IM`, `16`},
		chat.VIVO:  {`"classification":1`, `"IM"`},
		chat.OHOS:  {`"IM"`, `https://e.com/ohos.png`},
		chat.MEIZU: nil,
	} {
		title, body, data, badge := "All", "to Android", `{"id":"2"}`, -1
		switch p {
		case chat.APNs:
			title, body, data, badge = "Apple", "to Apple", `{"id":"1"}`, 7
		case chat.OHOS:
			body, data = "to all", "as it is"
		}
		if got := m.shown(p, 1)[0]; got.Title != title || got.Body != body || got.Data != data || p == chat.APNs && got.Badge != badge || got.Silent {
			t.Errorf("%s: %+v", p, got)
		}
		got := m.sent(p)
		for _, word := range words {
			if !strings.Contains(got.body, word) && !strings.Contains(unescaped(got.body), word) {
				t.Errorf("%s was sent no %s: %s", p, word, got.body)
			}
		}
		if p == chat.APNs && (got.header.Get("apns-collapse-id") != "c-1" || got.header.Get("apns-priority") != "5") {
			t.Errorf("%v", got.header)
		}
		if foreign := "to Apple"; p != chat.APNs && strings.Contains(unescaped(got.body), foreign) {
			t.Errorf("%s was sent what is for others: %s", p, got.body)
		}
	}

	// A type without a text of its own notifies where there is one, and whoever is named
	// whatever the platforms.
	answer := m.done("/v4/system-channel/tagged-users/send", `{"platform":["ios"],"fromUserId":"news","audience":{"userId":["FCM","APNs","OHOS"]},
		"message":{"messageType":"my:news","content":"x"},"notification":{"title":"Two","android":{"alert":"second"},"harmonyOS":{"alert":""},"ios":{"contentAvailable":1}}}`)
	if got := m.shown(chat.FCM, 2)[1]; got.Title != "Two" || got.Body != "second" {
		t.Errorf("%+v", got)
	}
	var sent struct {
		Result struct {
			MessageUIDs []struct{ MessageUID string }
		}
	}
	if err := json.Unmarshal([]byte(answer), &sent); err != nil || len(sent.Result.MessageUIDs) != 3 {
		t.Fatalf("%v: %s", err, answer)
	}
	for i, why := range []string{"alert away", "none nothing_to_show", "none nothing_to_show"} {
		m.want(sent.Result.MessageUIDs[i].MessageUID, why)
	}
	m.shown(chat.APNs, 1)
	m.shown(chat.OHOS, 1)
}

// unescaped is a body without what forms and texts in JSON put into it.
func unescaped(body string) string {
	if text, err := url.QueryUnescape(body); err == nil {
		body = text
	}
	return strings.ReplaceAll(body, `\"`, `"`)
}

// shown are the notifications that the provider's phone has shown, once they are n.
func (m *market) shown(p chat.PushProvider, n int) []pushtest.Shown {
	m.t.Helper()
	var log []pushtest.Shown
	m.until(p.String()+" shows it", func() bool {
		log = slices.Clone(m.sims[p].Log(tokenOf(p)))
		return len(log) >= n
	})
	if len(log) > n {
		m.t.Errorf("%s has shown %d, want %d: %+v", p, len(log), n, log)
	}
	return log
}
