package push

import (
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/chat"
)

func TestCompose(t *testing.T) {
	t.Parallel()
	type opts = chat.PushOptions
	direct := func(o opts) *chat.Message { return message("RC:TxtMsg", chat.Direct, o) }
	group := func(content string, o opts) *chat.Message {
		m := message("RC:TxtMsg", chat.Group, o)
		m.Content = content
		return m
	}
	of := func(typ, content string) *chat.Message {
		m := message(typ, chat.Direct, opts{})
		m.Content = content
		return m
	}
	template := &chat.PushTemplate{Default: "en", Texts: map[string]chat.PushText{
		"en": {Title: "Order", Body: "News from {sender}"}, "de": {Title: "", Body: "{sender} schreibt: {content}"}, "zh-Hant": {Title: "訂單", Body: "新"},
	}}
	mention := `{"content":"Hello","mentionedInfo":{"type":2,"userIdList":["bob"],"mentionedContent":"you!"}}`
	for name, c := range map[string]struct {
		m           *chat.Message
		w           Words
		title, body string
	}{
		"a text":                     {direct(opts{}), Words{}, "Alice", "Hello"},
		"pushContent":                {direct(opts{Content: "Look"}), Words{}, "Alice", "Look"},
		"a title":                    {direct(opts{Ext: `{"title":"Hi"}`}), Words{}, "Hi", "Hello"},
		"in a group":                 {group(`{"content":"Hello"}`, opts{}), Words{Channel: "Friends"}, "Friends", "Alice: Hello"},
		"in a group without a name":  {group(`{"content":"Hello"}`, opts{}), Words{}, "Alice", "Alice: Hello"},
		"in a group, pushContent":    {group(`{"content":"Hello"}`, opts{Content: "Look"}), Words{Channel: "Friends"}, "Friends", "Look"},
		"mentioned":                  {group(mention, opts{Content: "Look"}), Words{Channel: "Friends"}, "Friends", "you!"},
		"mentioned, somebody else":   {group(mention, opts{Content: "Look"}), Words{User: "carol", Channel: "Friends"}, "Friends", "Look"},
		"a template":                 {direct(opts{}), Words{Template: template}, "Order", "News from Alice"},
		"a template in German":       {direct(opts{}), Words{Template: template, Language: "de-AT"}, "Alice", "Alice schreibt: Hello"},
		"in Taiwan":                  {direct(opts{}), Words{Template: template, Language: "zh-TW"}, "訂單", "新"},
		"in no language of it":       {direct(opts{}), Words{Template: template, Language: "fr", App: "de"}, "Alice", "Alice schreibt: Hello"},
		"in no language at all":      {direct(opts{}), Words{Template: template, Language: "fr"}, "Order", "News from Alice"},
		"a template and pushContent": {direct(opts{Content: "Look"}), Words{Template: template}, "Order", "Look"},
		"a template and a title":     {direct(opts{Ext: `{"title":"Hi"}`}), Words{Template: template}, "Hi", "News from Alice"},
		"an empty template":          {direct(opts{}), Words{Template: &chat.PushTemplate{Default: "en"}}, "Alice", "Hello"},

		"hidden":            {direct(opts{Content: "Look", Ext: `{"title":"Hi"}`}), Words{Hide: true}, "Alice", "New message"},
		"hidden in German":  {direct(opts{}), Words{Hide: true, Language: "de_DE"}, "Alice", "Neue Nachricht"},
		"hidden and forced": {direct(opts{Content: "Look", Ext: `{"title":"Hi","forceShowPushContent":1}`}), Words{Hide: true}, "Hi", "Look"},
		"hidden template":   {direct(opts{}), Words{Hide: true, Template: template}, "Alice", "New message"},
		"hidden recall":     {recall(opts{Content: "gone"}), Words{Hide: true}, "Alice", "Alice recalled a message"},
		"hidden mention":    {group(mention, opts{}), Words{Hide: true, Channel: "Friends"}, "Friends", "New message"},

		"an image":                  {of("RC:ImgMsg", `{}`), Words{}, "Alice", "[Image]"},
		"an image in Chinese":       {of("RC:ImgMsg", `{}`), Words{Language: "zh-Hans-CN"}, "Alice", "[图片]"},
		"in traditional characters": {of("RC:ImgMsg", `{}`), Words{Language: "zh-Hant-HK"}, "Alice", "[圖片]"},
		"in Hong Kong":              {of("RC:ImgMsg", `{}`), Words{Language: "zh-HK"}, "Alice", "[圖片]"},
		"in a language of nobody":   {of("RC:ImgMsg", `{}`), Words{Language: "tlh"}, "Alice", "[Image]"},
		"in the app's language":     {of("RC:ImgMsg", `{}`), Words{Language: "tlh", App: "fr"}, "Alice", "[Image]"},
		"a quoted message":          {of("RC:ReferenceMsg", `{"content":"Yes","referMsg":{}}`), Words{}, "Alice", "Yes"},
		"a page":                    {of("RC:ImgTextMsg", `{"title":"News","content":"Long"}`), Words{}, "Alice", "News"},
		"a page without a title":    {of("RC:ImgTextMsg", `{"title":7,"content":"Long"}`), Words{}, "Alice", "Long"},
		"a text that is none":       {of("RC:TxtMsg", `{"content":[1]}`), Words{}, "Alice", "New message"},
		"a text that is empty":      {of("RC:TxtMsg", `{"content":"\n"}`), Words{}, "Alice", "New message"},
		"control characters":        {direct(opts{Content: "a\x00b\tc\nd "}), Words{}, "Alice", "a b c\nd"},
		"a pushContent of spaces":   {direct(opts{Content: "  "}), Words{}, "Alice", "Hello"},
		"nobody's name":             {direct(opts{}), Words{Sender: strings.Repeat("n", 60)}, strings.Repeat("n", 49) + "…", "Hello"},
		"a name of spaces":          {direct(opts{}), Words{Sender: " \t "}, "New message", "Hello"},
		"a group's of spaces":       {group(`{"content":"Hello"}`, opts{}), Words{Channel: "  "}, "Alice", "Alice: Hello"},
		"hidden, a name of spaces":  {direct(opts{}), Words{Hide: true, Sender: "  "}, "New message", "New message"},
		"hidden, a name of lines":   {direct(opts{}), Words{Hide: true, Sender: "A\x00B"}, "A B", "New message"},
		"several, by spaces":        {direct(opts{}), Words{More: 2, Sender: "  "}, "New message", "3 new messages"},
		"a novel":                   {direct(opts{Content: strings.Repeat("ab", 600)}), Words{}, "Alice", strings.Repeat("ab", 499) + "a…"},
		"a recall":                  {recall(opts{}), Words{Language: "ja"}, "Alice", "Aliceがメッセージを取り消しました"},
		"a name that turns round":   {group(`{"content":"Hello"}`, opts{}), Words{Sender: "A\u202elice\u2066", Channel: "\u202bFriends"}, "Friends", "Alice: Hello"},
		"a name in Hebrew":          {group(`{"content":"Hello"}`, opts{}), Words{Sender: "דנה", Channel: "Friends"}, "Friends", "דנה: Hello"},
		"a recall with a text":      {recall(opts{Content: "gone"}), Words{}, "Alice", "gone"},
	} {
		w := c.w
		w.Send = NewSend(c.m)
		if w.User == "" {
			w.User = "bob"
		}
		if w.Sender == "" {
			w.Sender = "Alice"
		}
		if title, body := Compose(&w); title != c.title || body != c.body {
			t.Errorf("%s:\n got %q, %q\nwant %q, %q", name, title, body, c.title, c.body)
		}
	}
}

// A device and the author of a template may name one language in different ways.
func TestLanguages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ texts, tag, want string }{
		{"en zh-CN", "zh-Hans-CN", "zh-CN"},
		{"en zh-Hans-CN", "zh-CN", "zh-Hans-CN"},
		{"en zh-Hans", "zh-CN", "zh-Hans"},
		{"en zh-CN", "zh", "zh-CN"},
		{"en zh-CN", "zh-SG", "zh-CN"},
		{"en zh", "zh-Hans-CN", "zh"},
		{"zh-CN zh-TW", "zh-Hant-TW", "zh-TW"},
		{"zh-CN zh-TW", "zh-Hant-HK", "zh-TW"},
		{"zh-CN zh-HK", "zh-TW", "zh-HK"},
		{"zh-Hans zh-Hant", "zh-MO", "zh-Hant"},
		{"zh-TW zh-HK", "zh-Hant-HK", "zh-HK"},
		{"en zh-TW", "zh-Hans-CN", ""},
		{"en zh-CN", "zh-Hant-TW", ""},
		{"en zh", "zh-Hant-TW", "zh"}, // which says nothing of its characters
		{"en-US de", "en-GB", "en-US"},
		{"en-US en-GB de", "en", "en-GB"},
		{"en de-AT de-DE", "de-CH", "de-AT"},
		{"de-CH de", "de-CH-1996", "de-CH"},
		{"de", "de-Latn-CH", "de"},
		{"de en", "nl", ""},
		{"de en", "d", ""},
		{"de en", "", ""},
		{"pt-BR", "pt_br", "pt-BR"},
	} {
		texts := map[string]string{}
		for _, tag := range strings.Fields(c.texts) {
			texts[tag] = tag
		}
		if got, ok := inLanguage(texts, c.tag); got != c.want || ok != (c.want != "") {
			t.Errorf("%s of %s is %q, want %q", c.tag, c.texts, got, c.want)
		}
	}
}

// Every type that is pushed by default has something to say, in every language,
// and no two types the same in a language where they should differ.
func TestDefaultTexts(t *testing.T) {
	t.Parallel()
	for _, must := range []string{"en", "zh", "de", "fr", "es", "ja"} {
		if languages[must] == nil {
			t.Errorf("no texts in %s", must)
		}
	}
	var rules chat.Settings
	for tag, l := range languages {
		if l.hidden == "" || !strings.Contains(l.recalled, "{sender}") {
			t.Errorf("%s: %+v", tag, l)
		}
		for _, typ := range strings.Fields("ImgMsg GIFMsg HQVCMsg VcMsg FileMsg SightMsg LBSMsg CombineMsg CombineV2Msg") {
			if len(l.types["RC:"+typ]) < 3 {
				t.Errorf("%s says nothing of %s", tag, typ)
			}
		}
		for typ := range l.types {
			if flags, err := rules.Type("", typ); err != nil || flags&chat.Pushed == 0 {
				t.Errorf("%s is not pushed by default: %v", typ, err)
			}
		}
	}
}

// Whatever is in a content, what is shown is text of a bounded length.
func FuzzCompose(f *testing.F) {
	f.Add(`{"content":"Hello","mentionedInfo":{"type":2,"userIdList":["bob"],"mentionedContent":"you!"}}`, "Look", "RC:TxtMsg")
	f.Add(`{"content":"\ud800\u0000","title":1}`, "", "RC:ImgTextMsg")
	f.Add(`{"mentionedInfo":{"type":1,"type":"2","userIdList":{}}}`, "\xff", "RC:VcMsg")
	f.Fuzz(func(t *testing.T, content, pushContent, typ string) {
		s := NewSend(&chat.Message{ChannelType: chat.Group, Type: typ, From: "alice", Content: content, Push: chat.PushOptions{Content: pushContent}})
		title, body := Compose(&Words{Send: s, User: "bob", Sender: "Alice", Channel: "Friends"})
		if n := Characters.Length(title); n == 0 || n > MaxTitle {
			t.Fatalf("title %q", title)
		}
		if n := Characters.Length(body); n == 0 || n > maxBody || strings.ContainsAny(body, "\x00\r\t") {
			t.Fatalf("body %q", body)
		}
	})
}
