package serverapi

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

type tagged struct {
	Users []struct {
		UserID string   `json:"userId"`
		Tags   []string `json:"tags"`
	} `json:"users"`
}

func TestUserTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token(t, w.call(issue, `{"userId":"ann","name":"Ann","avatarUrl":""}`))
	read := func(users ...string) map[string][]string {
		t.Helper()
		got := map[string][]string{}
		result := ok[tagged](t, w.call(getTags, `{"userIds":`+list(users...)+`}`))
		for i, u := range result.Users {
			if u.UserID != users[i] || u.Tags == nil {
				t.Errorf("%d is %+v, want %s", i, u, users[i])
			}
			got[u.UserID] = u.Tags
		}
		return got
	}
	put := func(body string) {
		t.Helper()
		if r := w.call(setTags, body); r.Body != `{"code":0}` {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
	}
	put(`{"userIds":["ann","bob"],"tags":["z","a b","z"]}`)
	put(`{"userIds":["bob"],"tags":["ünï"]}`)
	want := map[string][]string{"nobody": {}, "bob": {"ünï"}, "ann": {"a b", "z"}}
	for range 2 {
		if got := read("nobody", "bob", "ann"); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		w.restart()
	}
	put(`{"userIds":["ann"],"tags":[]}`)
	want["ann"] = []string{}
	if got := read("nobody", "bob", "ann"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// The rest of a user stays, and tags alone make nobody known.
	if r := w.call(user, `{"userId":"ann"}`); !strings.Contains(r.Body, `"name":"Ann"`) {
		t.Error(r.Body)
	}
	w.call(user, `{"userId":"bob"}`).want(t, 400, 400, "userId: no such user")
}

func TestUserTagsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	many := func(n int) string {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprint("x", i)
		}
		return list(ids...)
	}
	for _, c := range []struct {
		path, body string
		code       int
		message    string
	}{
		{setTags, `{"tags":["a"]}`, 1002, "userIds: is required"},
		{setTags, `{"userIds":["ann"]}`, 1002, "tags: is required; an empty list takes all tags away"},
		{setTags, `{"userIds":["ann"],"tags":null}`, 1002, "tags: is required; an empty list takes all tags away"},
		{setTags, `{"userIds":["ann"],"tags":"a"}`, 1002, "tags: must be an array of strings, got a string"},
		{setTags, `{"userIds":["ann","a b"],"tags":[]}`, 1002, "userIds[1]: must not contain spaces or control characters"},
		{setTags, `{"userIds":` + many(1001) + `,"tags":[]}`, 1002, "userIds: at most 1000 items, got 1001"},
		{setTags, `{"userIds":["ann"],"tags":` + many(101) + `}`, 1002, "tags: at most 100 items, got 101"},
		{setTags, `{"userIds":["ann"],"tags":["a",""]}`, 1002, "tags[1]: must not be empty"},
		{setTags, `{"userIds":["ann"],"tags":["a\nb"]}`, 1002, "tags[0]: must not contain control characters"},
		{setTags, `{"userIds":["ann"],"tags":["` + strings.Repeat("ü", 65) + `"]}`, 1005, "tags[0]: at most 64 characters, got 65"},
		{getTags, `{}`, 1002, "userIds: is required"},
		{getTags, `{"userIds":` + many(1001) + `}`, 1002, "userIds: at most 1000 items, got 1001"},
	} {
		w.call(c.path, c.body).want(t, 400, c.code, c.message)
	}
	if got := ok[tagged](t, w.call(getTags, `{"userIds":["ann"]}`)); len(got.Users) != 1 || len(got.Users[0].Tags) != 0 {
		t.Errorf("a refused call changed something: %+v", got)
	}
	w.clock.advance(time.Second)
	for range 10 {
		w.call(setTags, `{"userIds":["ann"],"tags":["a"]}`).want(t, 200, 0, "")
	}
	w.call(setTags, `{"userIds":["ann"],"tags":[]}`).want(t, 429, 1008, "")
	w.clock.advance(time.Second)
	w.call(setTags, `{"userIds":["ann"],"tags":[]}`).want(t, 200, 0, "")
}
