package chat

import "testing"

func TestAudience(t *testing.T) {
	t.Parallel()
	phone := []Client{{"web", "com.example.app"}, {"iOS", "com.example.app"}}
	for _, tt := range []struct {
		name    string
		a       Audience
		tags    []string
		clients []Client
		fits    bool
	}{
		{name: "everybody", fits: true},
		{name: "all tags", a: Audience{AllTags: []string{"a", "b"}}, tags: []string{"a", "b", "c"}, fits: true},
		{name: "one of all is missing", a: Audience{AllTags: []string{"a", "b"}}, tags: []string{"a", "c"}},
		{name: "any tag", a: Audience{AnyTag: []string{"x", "b"}}, tags: []string{"a", "b"}, fits: true},
		{name: "none of any", a: Audience{AnyTag: []string{"x", "y"}}, tags: []string{"a", "b"}},
		{name: "both", a: Audience{AllTags: []string{"a"}, AnyTag: []string{"x", "b"}}, tags: []string{"a", "b"}, fits: true},
		{name: "both, any is missing", a: Audience{AllTags: []string{"a"}, AnyTag: []string{"x"}}, tags: []string{"a", "b"}},
		{name: "no tags", a: Audience{AnyTag: []string{"x"}}},
		{name: "package", a: Audience{Package: "com.example.app", Platforms: []string{"android", "ios"}}, clients: phone, fits: true},
		{name: "package on another platform", a: Audience{Package: "com.example.app", Platforms: []string{"android"}}, clients: phone},
		{name: "package in a browser", a: Audience{Package: "com.example.app", Platforms: []string{"web"}}, clients: phone},
		{name: "another package", a: Audience{Package: "com.example.other", Platforms: []string{"ios"}}, clients: phone},
		{name: "no client", a: Audience{Package: "com.example.app", Platforms: []string{"ios"}}},
		{name: "package and tag", a: Audience{AllTags: []string{"a"}, Package: "com.example.app", Platforms: []string{"ios"}}, clients: phone},
		{name: "platforms alone", a: Audience{Platforms: []string{"ios"}}, fits: true},
	} {
		if got := tt.a.Fits(tt.tags, tt.clients); got != tt.fits {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}
