package fields

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/chat"
)

type inner struct {
	Level int
	Word  string
}

type thing struct {
	Name  string
	Tags  []string
	On    bool
	Size  int64
	Inner inner
	Pairs map[string]string
	Any   string
	Raw   string
	Each  []inner
}

var innerTable = NewTable(
	Field[inner]{"level", func(r *Reader, v *inner) (err error) { v.Level, err = r.IntOf(1, 2, 16); return err }},
	Text("word", func(v *inner) *string { return &v.Word }),
)

var thingTable = NewTable(
	Text("name", func(v *thing) *string { return &v.Name }),
	Texts("tags", 3, func(v *thing) *[]string { return &v.Tags }),
	Switch("on", func(v *thing) *bool { return &v.On }),
	Field[thing]{"size", func(r *Reader, v *thing) (err error) { v.Size, err = r.Int(); return err }},
	Object("inner", innerTable, func(v *thing) *inner { return &v.Inner }),
	Objects("list", NewTable(Object("inner", innerTable, func(v *thing) *inner { return &v.Inner }))),
	ObjectOrText("either", innerTable, func(v *thing) *inner { return &v.Inner }),
	Field[thing]{"any", func(r *Reader, v *thing) (err error) { v.Any, err = r.JSON(false); return err }},
	Field[thing]{"raw", func(r *Reader, v *thing) (err error) { v.Raw, err = r.JSON(true); return err }},
	List("each", 2, innerTable, func(v *thing) *[]inner { return &v.Each }),
	Field[thing]{"pairs", func(r *Reader, v *thing) error {
		v.Pairs = map[string]string{}
		return r.Map(func(name, value string) { v.Pairs[name] = value })
	}},
)

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want thing
	}{
		{`{}`, thing{}},
		{` { "name" : "a" , "on" : true } `, thing{Name: "a", On: true}},
		{`{"name":"\u00e4\n\"\ud83d\ude00","size":"-12"}`, thing{Name: "ä\n\"😀", Size: -12}},
		{`{"n\u0061me":"a"}`, thing{Name: "a"}},
		{`{"tags":[]}`, thing{}},
		{`{"either":{"level":16,"word":"a"}}`, thing{Inner: inner{16, "a"}}},
		{`{"either":"{\"level\":16, \"word\":\"a\\n\"}","name":"b"}`, thing{Name: "b", Inner: inner{16, "a\n"}}},
		{`{"any": [ 1, {"b" : "c d"} ],"raw": { } }`, thing{Any: `[1,{"b":"c d"}]`, Raw: `{}`}},
		{`{"any":"x","raw":null}`, thing{Any: `"x"`}},
		{`{"tags":["a","b","c"]}`, thing{Tags: []string{"a", "b", "c"}}},
		{`{"inner":{"level":"16","word":"w","other":{}}}`, thing{Inner: inner{16, "w"}}},
		{`{"list":[{"inner":{"level":1,"word":"w"}},{},{"other":1,"inner":{"level":2}}]}`, thing{Inner: inner{2, "w"}}},
		{`{"name":null,"tags":null,"on":null,"size":null,"inner":null,"list":null,"pairs":null}`, thing{}},
		{`{"each":[{"level":1,"word":"w"},{}]}`, thing{Each: []inner{{1, "w"}, {}}}},
		{`{"each":[]}`, thing{}},
		{`{"pairs":{"s":"t","n":-1.50,"b":true,"o":{ "a" : [1, 2] },"z":null,"":""}}`,
			thing{Pairs: map[string]string{"s": "t", "n": "-1.50", "b": "true", "o": `{"a":[1,2]}`, "": ""}}},
		{`{"unknown":[{"deep":[[[]]]}],"Name":"other case","size":9223372036854775807}`, thing{Size: 1<<63 - 1}},
	} {
		var got thing
		if err := thingTable.Decode([]byte(c.text), &got); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.text, got, err)
		}
		var again thing
		if err := thingTable.DecodeString(c.text, &again); err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("%s as a string: %+v, %v", c.text, again, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                                    "must be a JSON object, got nothing",
		`7`:                                   "must be a JSON object, got 7",
		`{} {}`:                               "invalid JSON at byte 4: unexpected data after the object",
		`{"name":7}`:                          "name: must be a string, got 7",
		`{"tags":{}}`:                         "tags: must be an array of strings, got an object",
		`{"tags":["a",{}]}`:                   "tags[1]: must be a string, got an object",
		`{"tags":["a","b","c",4,null]}`:       "tags: at most 3 items, got 5",
		`{"tags":["a"`:                        "invalid JSON at byte 12: unexpected end",
		`{"tags":["a"}`:                       "invalid JSON at byte 12: invalid character '}' after array element (expecting ',' or ']')",
		`{"on":"yes"}`:                        `on: 0 or 1, got "yes"`,
		`{"size":1.5}`:                        "size: must be a whole number, got 1.5",
		`{"size":9223372036854775808}`:        "size: must be a whole number, got 9223372036854775808",
		`{"inner":[]}`:                        "inner: must be a JSON object, got an array",
		`{"inner":{"level":3}}`:               "inner.level: one of 1, 2, 16, got 3",
		`{"list":{}}`:                         "list: must be an array of objects, got an object",
		`{"list":[{},"x"]}`:                   "list[1]: must be a JSON object, got a string",
		`{"list":[{},{"inner":{"word":[]}}]}`: "list[1].inner.word: must be a string, got an array",
		`{"either":[]}`:                       "either: must be a JSON object, got an array",
		`{"either":"{\"level\":3}"}`:          "either.level: one of 1, 2, 16, got 3",
		`{"either":"{"}`:                      "either: invalid JSON at byte 1: unexpected end",
		`{"either":""}`:                       "either: must be a JSON object, got nothing",
		`{"raw":[]}`:                          "raw: must be an object, got an array",
		`{"raw":"{}"}`:                        "raw: must be an object, got a string",
		`{"each":{}}`:                         "each: must be an array of objects, got an object",
		`{"each":[{},{"level":3}]}`:           "each[1].level: one of 1, 2, 16, got 3",
		`{"each":[{},null]}`:                  "each[1]: must be a JSON object, got null",
		`{"each":[{},{},{"level":3},7]}`:      "each: at most 2 items, got 4",
		`{"each":[{}`:                         "invalid JSON at byte 11: unexpected end",
		`{"pairs":[]}`:                        "pairs: must be an object, got an array",
		`{"pairs":{"a":1,"a":2}}`:             `invalid JSON at byte 16: the name "a" comes twice in one object`,
		`{"unknown":{"a":1,"a":2}}`:           `invalid JSON at byte 18: the name "a" comes twice in one object`,
		`{"unknown":tru}`:                     "invalid JSON at byte 14: invalid character '}' in literal true (expecting 'e')",
		"{\"name\":\"\xc3(\"}":                "invalid JSON at byte 9: invalid UTF-8",
		"{\"name\":\"a\nb\"}":                 `invalid JSON at byte 10: invalid character '\n' in string (expecting non-control character)`,
	} {
		err := thingTable.Decode([]byte(text), new(thing))
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
		if k := chat.KindOf(err); k != chat.KindInvalid {
			t.Errorf("%s: kind %s", text, k)
		}
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"": `""`, "a\nb": `"a\nb"`, strings.Repeat("x", 24): `"` + strings.Repeat("x", 24) + `"`,
		strings.Repeat("ä", 13): `"` + strings.Repeat("ä", 12) + `"…`, strings.Repeat("€", 9): `"€€€€€€€€"…`,
	} {
		if got := Quote(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func TestTwoFieldsOfOneName(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	f := Text("a", func(v *thing) *string { return &v.Name })
	NewTable(f, f)
}

func TestNames(t *testing.T) {
	t.Parallel()
	if got := thingTable.Names(); !slices.Equal(got, []string{"name", "tags", "on", "size", "inner", "list", "either", "any", "raw", "each", "pairs"}) {
		t.Error(got)
	}
}

// A document that was read leaves nothing in the next one's way, whatever was
// wrong with it.
func TestReadersAreReused(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{`{"name":`, `{"tags":["a"`, `{"pairs":{"a":{`, `[[[[`, ``, `{"a":1,"a":2}`} {
		for range 50 {
			_ = thingTable.Decode([]byte(bad), new(thing))
			var v thing
			if err := thingTable.Decode([]byte(`{"name":"x","pairs":{"a":"b"}}`), &v); err != nil || v.Name != "x" || v.Pairs["a"] != "b" {
				t.Fatalf("after %s: %+v, %v", bad, v, err)
			}
		}
	}
}

// FuzzDecode compares with encoding/json: what we take it takes, with the same
// values, and what it refuses we refuse.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"name":"a","tags":["b"],"on":1,"size":"7","inner":{"level":16,"word":"w"},"pairs":{"a":1,"b":[2]}}`,
		`{"either":"{\"level\":1}"}`, `{"either":{}}`, `{"any":[1],"raw":{"a":1e9}}`, `{"list":[{"inner":{"level":1}},{}]}`, `{"name":"\ud83d\ude00"}`, `{"name":"\ud83d"}`, `{"size":1e2}`, `{"tags":["1","2","3","4"]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		var v thing
		err := thingTable.Decode(text, &v)
		if !bytes.Equal(before, text) {
			t.Fatal("the document was changed")
		}
		var s thing
		if again := thingTable.DecodeString(string(text), &s); (err == nil) != (again == nil) || !reflect.DeepEqual(v, s) {
			t.Fatalf("as bytes %v %+v, as a string %v %+v", err, v, again, s)
		}
		if err != nil {
			if k := chat.KindOf(err); k != chat.KindInvalid {
				t.Fatalf("%v is of kind %s", err, k)
			}
			return
		}
		var m map[string]any
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatalf("taken, though %v", err)
		}
		if name, ok := m["name"].(string); ok && name != v.Name {
			t.Fatalf("name %q, want %q", v.Name, name)
		}
		tags, _ := m["tags"].([]any)
		if len(tags) != len(v.Tags) {
			t.Fatalf("tags %q, want %v", v.Tags, tags)
		}
		pairs, _ := m["pairs"].(map[string]any)
		maps.DeleteFunc(pairs, func(_ string, v any) bool { return v == nil })
		if len(pairs) != len(v.Pairs) {
			t.Fatalf("pairs %q, want %v", v.Pairs, pairs)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	text := []byte(`{"name":"somebody","tags":["one","two"],"on":1,"size":12,"other":"ignored","inner":{"level":16,"word":"a \"word\""}}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var v thing
		if err := thingTable.Decode(text, &v); err != nil {
			b.Fatal(err)
		}
	}
}
