package serverapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

const (
	addTags      = "/v4/user/channel/tag/add"
	removeTags   = "/v4/user/channel/tag/remove"
	listTags     = "/v4/user/channel/tag/list"
	addTagTo     = "/v4/channel/tag/add"
	removeTagOf  = "/v4/channel/tag/delete"
	listTagged   = "/v4/channel/tag/list"
	getAttribute = "/v4/channel/attribute/get"
)

func init() {
	archiveTables[addTags] = setChannelTagsFields.Names()
	archiveTables[removeTags] = removeChannelTagsFields.Names()
	archiveTables[listTags] = listChannelTagsFields.Names()
	archiveTables[addTagTo] = tagFields.Names()
	archiveTables[removeTagOf] = tagFields.Names()
	archiveTables[listTagged] = taggedFields.Names()
	archiveTables[getAttribute] = attributeFields.Names()
}

func (w *world) wantResult(path, body, want string) {
	w.t.Helper()
	r := w.call(path, body)
	if got, ok := strings.CutPrefix(r.Body, `{"code":0,"result":`); !ok || got != want+"}" {
		w.t.Errorf("%s %s:\n got %s\nwant %s", path, body, r.Body, want)
	}
}

// tagBody asks for a tag on, or off, direct channels of u1.
func tagBody(tag string, channels ...string) string {
	var list []string
	for _, id := range channels {
		list = append(list, fmt.Sprintf(`{"channelId":%q,"channelType":1}`, id))
	}
	return fmt.Sprintf(`{"userId":"u1","tagId":%q,"channels":[%s]}`, tag, strings.Join(list, ","))
}

// taggedIDs are the ids of u1's channels with the tag, in the order of the answer.
func (w *world) taggedIDs(tag string) (ids []string) {
	w.t.Helper()
	r := w.call(listTagged, fmt.Sprintf(`{"userId":"u1","tagId":%q}`, tag))
	if r.Status != 200 {
		w.t.Fatalf("%s", r.Body)
	}
	for _, part := range strings.Split(r.Body, `"channelId":"`)[1:] {
		id, _, _ := strings.Cut(part, `"`)
		ids = append(ids, id)
	}
	return ids
}

func TestChannelTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := w.clock.ms.Load()
	const list = `{"userId":"u1"}`
	w.wantResult(listTags, list, `{"userId":"u1","tags":[]}`)
	for range 2 {
		w.call(addTags, `{"userId":"u1","tags":[{"tagId":"w","tagName":"Work"},{"tagId":"h","tagName":"Zuhause"}]}`).want(t, 200, 0, "")
		w.clock.advance(time.Second)
	}
	w.wantOwn("u1", 1, fmt.Sprintf("Tags:[{ID:w Name:Work At:%d} {ID:h Name:Zuhause At:%d}]", at, at))
	// An id that is there gets another name and keeps its place.
	w.call(addTags, `{"userId":"u1","tags":[{"tagId":"x","tagName":"X"},{"tagId":"w","tagName":"Office"}]}`).want(t, 200, 0, "")
	for range 2 {
		w.wantResult(listTags, list, fmt.Sprintf(`{"userId":"u1","tags":[{"tagId":"w","tagName":"Office","createdAt":%d},{"tagId":"h","tagName":"Zuhause","createdAt":%d},{"tagId":"x","tagName":"X","createdAt":%d}]}`, at, at, at+2000))
		w.wantResult(listTags, `{"userId":"u2"}`, `{"userId":"u2","tags":[]}`)
		w.restart()
	}

	var most []string
	for i := range 18 {
		most = append(most, fmt.Sprintf(`{"tagId":"t%d","tagName":"T"}`, i))
	}
	full := func(n int) string { return `{"userId":"u1","tags":[` + strings.Join(most[:n], ",") + `]}` }
	w.call(addTags, full(18)).want(t, 400, 1002, "tags: at most 20 of one user, would be 21")
	w.call(addTags, full(17)).want(t, 200, 0, "")
	w.call(addTags, full(17)).want(t, 200, 0, "")
	w.wantOwn("u1", 3, "ID:t16")

	for _, c := range []struct {
		path, body string
		code       int
		message    string
	}{
		{addTags, `{"userId":"u1"}`, 1002, "tags: is required"},
		{addTags, `{"userId":"u1","tags":[{"tagName":"T"}]}`, 1002, "tags[0].tagId: is required"},
		{addTags, `{"userId":"u1","tags":[{"tagId":"w","tagName":"T"},{"tagId":"a"}]}`, 1002, "tags[1].tagName: is required"},
		{addTags, `{"userId":"u1","tags":[{"tagId":"12345678901","tagName":"T"}]}`, 1005, "tags[0].tagId: at most 10 characters, got 11"},
		{addTags, `{"userId":"u1","tags":[{"tagId":"a","tagName":"1234567890123456"}]}`, 1005, "tags[0].tagName: at most 15 characters, got 16"},
		{addTags, `{"userId":"u1","tags":{"tagId":"a"}}`, 1002, "tags: must be an array of objects, got an object"},
		{addTags, `{"userId":"u1","tags":["a"]}`, 1002, "tags[0]: must be a JSON object, got a string"},
		{addTags, `{"userId":"u1","tags":[{"tagId":5}]}`, 1002, "tags[0].tagId: must be a string, got 5"},
		{addTags, `{"userId":"u1","tags":[` + strings.Repeat(`{},`, 20) + `{}]}`, 1002, "tags: at most 20 items, got 21"},
		{addTags, `{"tags":[{"tagId":"a","tagName":"A"}]}`, 1002, "userId: is required"},
		{removeTags, `{"userId":"u1"}`, 1002, "tagIds: is required"},
		{removeTags, `{"userId":"u1","tagIds":[""]}`, 1002, "tagIds[0]: is required"},
		{removeTags, `{"tagIds":["w"]}`, 1002, "userId: is required"},
		{listTags, `{}`, 1002, "userId: is required"},
	} {
		w.call(c.path, c.body).want(t, 400, c.code, c.message)
	}
	w.wantOwn("u1", 3, "")

	w.call(removeTags, `{"userId":"u1","tagIds":["w","nosuch"]}`).want(t, 200, 0, "")
	w.wantOwn("u1", 4, "Part:4")
	w.call(removeTags, `{"userId":"u1","tagIds":["w"]}`).want(t, 200, 0, "")
	w.wantOwn("u1", 4, "")
	w.call(addTags, full(18)).want(t, 200, 0, "")
}

func TestTagsOnChannels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call(addTags, `{"userId":"u1","tags":[{"tagId":"w","tagName":"Work"},{"tagId":"h","tagName":"Home"}]}`).want(t, 200, 0, "")
	w.wantResult(listTagged, `{"userId":"u1","tagId":"w"}`, `{"tagId":"w","channels":[]}`)
	w.call(addTagTo, tagBody("w", "b", "a")).want(t, 200, 0, "")
	w.clock.advance(time.Second)
	second := w.clock.ms.Load()
	w.call(addTagTo, `{"userId":"u1","tagId":"w","channels":[{"channelId":"g","channelType":3},{"channelId":"a","channelType":"1"},{"channelId":"s","channelType":6},{"channelId":"g","channelType":3}]}`).want(t, 200, 0, "")
	w.wantOwn("u1", 3, fmt.Sprintf("Tag:w TaggedAt:%d Tagged:[{Type:group ID:g} {Type:system ID:s}] Untagged:[]", second))
	w.call(addTagTo, tagBody("h", "a")).want(t, 200, 0, "")
	// What has the tag keeps its place, and nobody is told of what is so already.
	w.call(addTagTo, tagBody("w", "a")).want(t, 200, 0, "")
	w.wantOwn("u1", 4, "Tag:h")
	w.call(pin, `{"userId":"u1","channelType":1,"channelId":"a","isPin":true}`).want(t, 200, 0, "")
	w.call(setLevelPath, `{"requestId":"u1","channelType":"1","channelId":"a","noDisturbLevel":5}`).want(t, 200, 0, "")
	for range 2 {
		w.wantResult(listTagged, `{"userId":"u1","tagId":"w"}`, `{"tagId":"w","channels":[{"channelId":"g","channelType":3},{"channelId":"s","channelType":6},{"channelId":"a","channelType":1},{"channelId":"b","channelType":1}]}`)
		w.wantResult(getAttribute, `{"userId":"u1","channelId":"a","channelType":1}`,
			fmt.Sprintf(`{"channelId":"a","channelType":1,"pin":{"isPinned":true,"pinnedAt":%d},"notification":{"level":5},"tags":[{"tagId":"w","tagName":"Work"},{"tagId":"h","tagName":"Home"}]}`, second))
		w.wantResult(getAttribute, `{"userId":"u1","channelId":"g","channelType":"3"}`, `{"channelId":"g","channelType":3,"tags":[{"tagId":"w","tagName":"Work"}]}`)
		w.wantResult(getAttribute, `{"userId":"u1","channelId":"nobody","channelType":1}`, `{"channelId":"nobody","channelType":1}`)
		w.restart()
	}

	w.call(removeTagOf, tagBody("w", "a", "nobody", "a")).want(t, 200, 0, "")
	w.wantOwn("u1", 7, "Tag:w TaggedAt:0 Tagged:[] Untagged:[{Type:direct ID:a}]")
	w.call(removeTagOf, tagBody("w", "a")).want(t, 200, 0, "")
	w.wantOwn("u1", 7, "")
	if got := w.taggedIDs("w"); fmt.Sprint(got) != "[g s b]" {
		t.Errorf("%v", got)
	}
	// A tag that goes is gone from the channels too, and one made anew is on none.
	w.call(removeTags, `{"userId":"u1","tagIds":["w","h"]}`).want(t, 200, 0, "")
	w.wantOwn("u1", 8, "Part:4")
	w.call(listTagged, `{"userId":"u1","tagId":"w"}`).want(t, 400, 1002, "tagId: the user has no such tag")
	w.call(addTags, `{"userId":"u1","tags":[{"tagId":"w","tagName":"Work"}]}`).want(t, 200, 0, "")
	if got := w.taggedIDs("w"); len(got) != 0 {
		t.Errorf("%v", got)
	}
	w.wantResult(getAttribute, `{"userId":"u1","channelId":"a","channelType":1}`,
		fmt.Sprintf(`{"channelId":"a","channelType":1,"pin":{"isPinned":true,"pinnedAt":%d},"notification":{"level":5}}`, second))

	var many []string
	for i := range 101 {
		many = append(many, fmt.Sprint("c", i))
	}
	for _, c := range [][3]string{
		{addTagTo, tagBody("nosuch", "a"), "tagId: the user has no such tag"},
		{removeTagOf, tagBody("nosuch", "a"), "tagId: the user has no such tag"},
		{addTagTo, tagBody("", "a"), "tagId: is required"},
		{addTagTo, tagBody("w"), "channels: is required"},
		{addTagTo, tagBody("w", many...), "channels: at most 100 items, got 101"},
		{addTagTo, tagBody("w", "a", "b c"), "channels[1].channelId: must not contain spaces or control characters"},
		{addTagTo, `{"userId":"u1","tagId":"w","channels":[{"channelId":"a"}]}`, "channels[0].channelType: is required"},
		{addTagTo, `{"userId":"u1","tagId":"w","channels":[{"channelId":"a","channelType":4}]}`, "channels[0].channelType: one of 1, 3, 6, got 4"},
		{addTagTo, `{"userId":"u1","tagId":"w","channels":[{"channelType":1}]}`, "channels[0].channelId: is required"},
		{addTagTo, `{"tagId":"w","channels":[{"channelId":"a","channelType":1}]}`, "userId: is required"},
		{listTagged, `{"userId":"u1"}`, "tagId: is required"},
		{getAttribute, `{"userId":"u1","channelType":1}`, "channelId: is required"},
		{getAttribute, `{"userId":"u1","channelId":"a"}`, "channelType: is required"},
		{getAttribute, `{"channelId":"a","channelType":1}`, "userId: is required"},
	} {
		w.call(c[0], c[1]).want(t, 400, 1002, c[2])
	}
	if got := w.taggedIDs("w"); len(got) != 0 {
		t.Errorf("refused calls have tagged %v", got)
	}
}

// A tag is on a thousand channels at most: those that had it for the longest lose
// it. Taking it away takes it off all of them.
func TestTagsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.default", "0")
	w.call(addTags, `{"userId":"u1","tags":[{"tagId":"w","tagName":"Work"},{"tagId":"h","tagName":"Home"}]}`).want(t, 200, 0, "")
	for call := range 10 {
		var ids []string
		for i := range 100 {
			ids = append(ids, fmt.Sprintf("c%04d", call*100+i))
		}
		w.call(addTagTo, tagBody("w", ids...)).want(t, 200, 0, "")
		w.clock.advance(time.Second)
	}
	w.call(addTagTo, tagBody("h", "c0001", "c0500")).want(t, 200, 0, "")
	w.clock.advance(-time.Hour) // the order is that of the calls all the same
	// Of the first hundred, c0007 is asked for again and stays.
	w.call(addTagTo, tagBody("w", "new1", "c0007", "new2")).want(t, 200, 0, "")
	w.wantOwn("u1", 13, "Tagged:[{Type:direct ID:new1} {Type:direct ID:new2}] Untagged:[{Type:direct ID:c0099} {Type:direct ID:c0098}]")
	w.call(addTagTo, tagBody("w", "new3")).want(t, 200, 0, "")
	got := w.taggedIDs("w")
	if len(got) != chat.MaxTagChannels || strings.Join(got[:4], " ") != "new3 new1 new2 c0900" || got[999] != "c0096" {
		t.Errorf("%d channels, %v to %v", len(got), got[:4], got[len(got)-3:])
	}
	commits := len(w.own("u1"))
	w.call(removeTags, `{"userId":"u1","tagIds":["w"]}`).want(t, 200, 0, "")
	w.wantOwn("u1", commits+1, "Tags:[{ID:h Name:Home")
	list, err := w.store.Views(t.Context(), w.app.ID, "u1")
	if err != nil || len(list) != 2 || len(list[0].View.Tags) != 1 || list[0].View.Tags[0].ID != "h" {
		t.Errorf("%d views are left, %v", len(list), err)
	}
}
