package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheckID(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "2191", "a+b=c-d_e", "ä€😀", "user@example.com", strings.Repeat("x", 64), strings.Repeat("ä", 32), "a\u200db", "/", `"`} {
		if err := CheckID("f", good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"":                      "f: is required",
		strings.Repeat("x", 65): "f: at most 64 bytes, got 65",
		strings.Repeat("ä", 33): "f: at most 64 bytes, got 66",
		"\xff":                  "f: must be valid UTF-8",
		" ":                     "f: must not contain spaces or control characters",
		"a b":                   "f: must not contain spaces or control characters",
		"a\n":                   "f: must not contain spaces or control characters",
		"\x00":                  "f: must not contain spaces or control characters",
		"a\x7f":                 "f: must not contain spaces or control characters",
		"a\u0085":               "f: must not contain spaces or control characters",
		"a\u00a0b":              "f: must not contain spaces or control characters",
		"\u3000a":               "f: must not contain spaces or control characters",
		"a\u2003":               "f: must not contain spaces or control characters",
		"a\u2028":               "f: must not contain spaces or control characters",
	} {
		err := CheckID("f", bad)
		if err == nil || err.Error() != want || KindOf(err) != KindInvalid {
			t.Errorf("%q: %v, want %s", bad, err, want)
		}
	}
}

func TestChannelTypes(t *testing.T) {
	t.Parallel()
	for ct, name := range map[ChannelType]string{Direct: "direct", Group: "group", Open: "open", System: "system", Community: "community"} {
		if got, ok := ParseChannelType(name); !ok || got != ct || ct.String() != name {
			t.Errorf("%s: %v %t", name, got, ok)
		}
	}
	if _, ok := ParseChannelType("unknown"); ok || ChannelType(2).String() != "unknown" {
		t.Error("2 has a name")
	}
}

func TestTypes(t *testing.T) {
	t.Parallel()
	s := DefaultSettings()
	if err := s.Set("types.custom", "app:typing=status,app:cmd=none"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]TypeFlags{
		"RC:TxtMsg": Kept | Counted | Missed | Pushed, "RC:StreamMsg": Kept | Counted | Missed | Pushed,
		"RC:InfoNtf": Kept | Missed, "RC:CmdNtf": Kept | Missed, "RC:CmdMsg": Missed, "RC:RcCmd": Missed | Pushed, "RC:TypSts": 0,
		"app:order": Kept | Counted | Missed, "app:typing": 0, "app:cmd": Missed, "rc:lower": Kept | Counted | Missed, "😀": Kept | Counted | Missed,
	} {
		if got, err := s.Type("t", name); err != nil || got != want {
			t.Errorf("%s: %b, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{
		"": "t: is required", "RC:": "t: unknown built-in type; custom types must not start with RC:",
		"RC:Txtmsg": "t: unknown built-in type; custom types must not start with RC:",
		"a\xff":     "t: must be valid UTF-8", strings.Repeat("ä", 33): "t: at most 32 characters, got 33",
		"RC:" + strings.Repeat("x", 30): "t: at most 32 characters, got 33",
	} {
		if _, err := s.Type("t", name); err == nil || err.Error() != want {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := s.Set("types.unknown-builtins", "true"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Type("t", "RC:New"); err != nil || got != Kept|Counted|Missed {
		t.Errorf("%b, %v", got, err)
	}
}

func message() *Message {
	return &Message{ChannelType: Direct, From: "u", Type: "RC:TxtMsg", Content: `{"content":"x"}`, Persist: true}
}

func TestMessageCheck(t *testing.T) {
	t.Parallel()
	s := DefaultSettings()
	for name, change := range map[string]func(*Message){
		"plain":               func(*Message) {},
		"content with space":  func(m *Message) { m.Content = " \t\r\n{\"content\":\"x\"} \n" },
		"any object":          func(m *Message) { m.Content = "{}" },
		"sloppy object":       func(m *Message) { m.Content = `{"a":1,"a":2,"b":"\ud800"}` },
		"custom, any text":    func(m *Message) { m.Type, m.Content = "app:x", "not JSON {" },
		"longest content":     func(m *Message) { m.Type, m.Content = "app:x", strings.Repeat("ä", MaxContent/2) },
		"badge at the bounds": func(m *Message) { m.Push.HasBadge, m.Push.Badge = true, MaxBadge },
		"badge not given":     func(m *Message) { m.Push.Badge = 1 << 20 },
		"longest push":        func(m *Message) { m.Push.Content = strings.Repeat("x", MaxPushText) },
		"low priority":        func(m *Message) { m.ChannelType, m.Priority = Open, PriorityLow },
		"metadata": func(m *Message) {
			m.Metadata = map[string]string{"a": "", strings.Repeat("k", 32): strings.Repeat("ä", 4096)}
		},
	} {
		m := message()
		change(m)
		if err := m.Check(&s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct {
		change func(*Message)
		kind   Kind
		want   string
	}{
		{func(m *Message) { m.From = "" }, KindInvalid, "fromUserId: is required"},
		{func(m *Message) { m.Type = "" }, KindInvalid, "messageType: is required"},
		{func(m *Message) { m.Content = "" }, KindInvalid, "content: is required"},
		{func(m *Message) { m.Content = strings.Repeat("x", MaxContent+1) }, KindTooLong, "content: at most 131072 bytes, got 131073"},
		{func(m *Message) { m.Type, m.Content = "app:x", "\xff" }, KindInvalid, "content: must be valid UTF-8"},
		{func(m *Message) { m.Content = "[]" }, KindInvalid, "content: must be a JSON object for built-in type RC:TxtMsg"},
		{func(m *Message) { m.Content = `{"a":1` }, KindInvalid, "content: must be a JSON object for built-in type RC:TxtMsg"},
		{func(m *Message) { m.Content = `{} {}` }, KindInvalid, "content: must be a JSON object for built-in type RC:TxtMsg"},
		{func(m *Message) { m.Content = ` "{}"` }, KindInvalid, "content: must be a JSON object for built-in type RC:TxtMsg"},
		{func(m *Message) { m.Content = "  " }, KindInvalid, "content: must be a JSON object for built-in type RC:TxtMsg"},
		{func(m *Message) { m.Push.Content = strings.Repeat("x", MaxPushText+1) }, KindTooLong, "pushContent: at most 16384 bytes, got 16385"},
		{func(m *Message) { m.Push.Data = strings.Repeat("x", MaxPushText+1) }, KindTooLong, "pushData: at most 16384 bytes, got 16385"},
		{func(m *Message) { m.Push.HasBadge, m.Push.Badge = true, -2 }, KindInvalid, "count: from -1 to 9999, got -2"},
		{func(m *Message) { m.Priority = 4 }, KindInvalid, "priority: one of 0, 1, 2, 3, got 4"},
		{func(m *Message) { m.Metadata = map[string]string{"a b": ""} }, KindInvalid, `metadata: key "a b" may hold only letters, digits and + = - _`},
	} {
		m := message()
		c.change(m)
		err := m.Check(&s)
		if err == nil || err.Error() != c.want || KindOf(err) != c.kind {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestEphemeral(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ct      ChannelType
		name    string
		persist bool
		want    bool
	}{
		{Direct, "RC:TxtMsg", true, false},
		{Direct, "RC:TxtMsg", false, false}, // shouldPersist 0 does not touch missed messages
		{Direct, "RC:TypSts", true, true},
		{System, "RC:TypSts", false, true},
		{System, "RC:CmdMsg", false, false},
		{Open, "RC:TxtMsg", true, false},
		{Open, "RC:TxtMsg", false, true},
	} {
		m := message()
		m.ChannelType, m.Type, m.Persist = c.ct, c.name, c.persist
		s := DefaultSettings()
		if err := m.Check(&s); err != nil || m.Ephemeral() != c.want {
			t.Errorf("%+v: %t, %v", c, m.Ephemeral(), err)
		}
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	pairs := map[string]string{}
	for i := range MaxMetadataPerSend {
		pairs["k"+strconv.Itoa(i)] = "v"
	}
	if err := CheckMetadata("m", pairs); err != nil {
		t.Error(err)
	}
	pairs["one-more"] = ""
	for want, pairs := range map[string]map[string]string{
		"m: at most 100 pairs, got 101":                            pairs,
		"m: keys must not be empty":                                {"": "v"},
		"m key: at most 32 characters, got 33":                     {strings.Repeat("ä", 33): "v"},
		"m.k: at most 4096 characters, got 4097":                   {"k": strings.Repeat("€", 4097)},
		`m: key "ä" may hold only letters, digits and + = - _`:     {"ä": "v"},
		`m: key "a.b" may hold only letters, digits and + = - _`:   {"a.b": "v"},
		`m: key "a\x00" may hold only letters, digits and + = - _`: {"a\x00": "v"},
	} {
		if err := CheckMetadata("m", pairs); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	e := Because(KindUnavailable, "later", io.ErrClosedPipe)
	wrapped := fmt.Errorf("outside: %w", e)
	if e.Error() != "later" || !errors.Is(wrapped, io.ErrClosedPipe) || KindOf(wrapped) != KindUnavailable {
		t.Error(e, KindOf(wrapped))
	}
	if !errors.Is(wrapped, &Error{Kind: KindUnavailable}) || errors.Is(wrapped, &Error{Kind: KindUnknown}) || errors.Is(wrapped, &Error{Kind: KindUnavailable, Rule: "later"}) {
		t.Error("an error is not told by its kind")
	}
	if KindOf(io.EOF) != KindInternal || KindOf(nil) != KindInternal {
		t.Error("errors of others are internal")
	}
	if got := Failf(KindRate, "%d", 7).Error(); got != "7" {
		t.Error(got)
	}
	seen := map[string]bool{}
	for i, k := range Kinds() {
		if k != Kind(i) || k.String() == "" || seen[k.String()] {
			t.Errorf("kind %d is called %q", i, k)
		}
		seen[k.String()] = true
	}
	if Kind(200).String() != "unknown_kind" {
		t.Error(Kind(200))
	}
}

func FuzzCheckContent(f *testing.F) {
	for _, s := range []string{"{}", " {\"a\":[1,2.5e3,null,true]} ", "[]", "{\"a\":\"\\ud800\"}", "{\"a\":1,\"a\":2}", "\xef\xbb\xbf{}", "{\"a\":tru}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		// The standard library draws the same line between objects and the rest.
		var m map[string]json.RawMessage
		want := json.Unmarshal([]byte(s), &m) == nil && m != nil
		if got := isJSONObject(s); got != want {
			t.Fatalf("%q: %t, want %t", s, got, want)
		}
	})
}

func FuzzCheckID(f *testing.F) {
	f.Add("a b")
	f.Add("ä\u2003")
	f.Fuzz(func(t *testing.T, s string) {
		if CheckID("f", s) != nil {
			return
		}
		if s == "" || len(s) > MaxID || strings.ToValidUTF8(s, "") != s || len(strings.Fields(s)) != 1 || strings.Fields(s)[0] != s {
			t.Fatalf("%q passed", s)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	s := DefaultSettings()
	for _, n := range []int{20, 10_000} {
		m := message()
		m.Content = `{"content":"` + strings.Repeat("x", n) + `"}`
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Check(&s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestOpenPairsRules(t *testing.T) {
	t.Parallel()
	pairs := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[strings.Repeat("k", i+1)] = "v"
		}
		return m
	}
	for _, tt := range []struct {
		name  string
		pairs map[string]string
		want  string
	}{
		{"none", nil, ""},
		{"20 pairs", pairs(20), ""},
		{"21 pairs", pairs(21), "m: at most 20 pairs, got 21"},
		{"every character", map[string]string{"aZ09+=-_": ""}, ""},
		{"the longest key", map[string]string{strings.Repeat("k", 128): "v"}, ""},
		{"a key too long", map[string]string{strings.Repeat("k", 129): "v"}, "m key: at most 128 characters, got 129"},
		{"a long key of foreign characters", map[string]string{strings.Repeat("é", 129): "v"}, "m key: at most 128 characters, got 129"},
		{"no key", map[string]string{"": "v"}, "m key: must not be empty"},
		{"a dot", map[string]string{"a.b": "v"}, `m key: "a.b" may hold only letters, digits and + = - _`},
		{"the longest value", map[string]string{"k": strings.Repeat("é", 4096)}, ""},
		{"a value too long", map[string]string{"k": strings.Repeat("é", 4097)}, "m.k: at most 4096 characters, got 4097"},
	} {
		got := ""
		if err := CheckOpenPairs("m", MaxOpenPairsPerCall, tt.pairs); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if err := CheckOpenKeys("keys", []string{"a", "b c"}); err == nil || err.Error() != `keys[1]: "b c" may hold only letters, digits and + = - _` {
		t.Error(err)
	}
}

func FuzzOpenPairs(f *testing.F) {
	f.Add("k", "v")
	f.Add("é", "\xff")
	f.Fuzz(func(t *testing.T, k, v string) {
		err := CheckOpenPairs("m", MaxOpenPairsPerCall, map[string]string{k: v})
		good := len(k) >= 1 && len(k) <= 128 && utf8.RuneCountInString(v) <= 4096 &&
			strings.Trim(k, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+=-_") == ""
		if good != (err == nil) {
			t.Fatalf("%q: %v", k, err)
		}
		if kind := KindOf(err); err != nil && kind != KindInvalid && kind != KindTooLong {
			t.Fatalf("%v is of kind %s", err, kind)
		}
	})
}
