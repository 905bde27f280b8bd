package serverapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A listing is a list that is read in pages.
type listing struct {
	operation string
	add       func(w *world, name string)
	remove    func(w *world, name string)
	// page asks for the page behind cursor, empty for the first, of three items;
	// next is empty behind the last.
	page func(w *world, cursor string) (names []string, next string)
	// counts are those whose pages are counted from the list's beginning, as the
	// platform has it: what is added or removed in front moves them. There add
	// adds behind all others.
	counts bool
}

// field reads one list of an answer's result, and the field of its items when
// they are objects.
func (w *world) field(path, body, list, item string) (names []string, rest map[string]json.RawMessage) {
	w.t.Helper()
	rest = ok[map[string]json.RawMessage](w.t, w.call(path, body))
	if item == "" {
		_ = json.Unmarshal(rest[list], &names)
		return names, rest
	}
	var objects []map[string]any
	if err := json.Unmarshal(rest[list], &objects); err != nil {
		w.t.Fatal(err)
	}
	for _, o := range objects {
		names = append(names, fmt.Sprint(o[item]))
	}
	return names, rest
}

func text(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s)
	return s
}

// numbered pages have numbers, counted in pages or, with each, in items.
func numbered(path, head, field, list, item string, first, each int) func(*world, string) ([]string, string) {
	return func(w *world, cursor string) ([]string, string) {
		at, _ := strconv.Atoi(cmp.Or(cursor, strconv.Itoa(first)))
		names, _ := w.field(path, fmt.Sprintf(`{%s"%s":%d,"pageSize":3}`, head, field, at), list, item)
		if len(names) == 0 {
			return nil, ""
		}
		return names, strconv.Itoa(at + each)
	}
}

func blocksFrom(order int) func(*world, string) ([]string, string) {
	return func(w *world, cursor string) ([]string, string) {
		names, rest := w.field(blocklist, fmt.Sprintf(`{"userId":"me","pageSize":3,"order":%d,"pageToken":%q}`, order, cursor), "blockedUserIds", "")
		return names, text(rest["pageToken"])
	}
}

func historyFrom(path, user, channel string) func(*world, string) ([]string, string) {
	return func(w *world, cursor string) (names []string, next string) {
		now := w.clock.ms.Load()
		list := w.history(path, fmt.Sprintf(`{"userId":%q,"channelId":%q,"startAt":%d,"endAt":%d,"includeStart":1,"pageSize":3,"before":%q}`,
			user, channel, now, now-24*3600*1000, cursor))
		for _, r := range list {
			names, next = append(names, r.Content), r.MessageUID
		}
		return names, next
	}
}

// say sends what is named so, and gives its UID.
func (w *world) say(path, to, name string) string {
	return w.post(path, fmt.Sprintf(`{"fromUserId":"me",%s,"messageType":"app:t","content":%q}`, to, name))
}

func listings() []listing {
	users := func(path, body string) func(*world, string) {
		return func(w *world, name string) {
			w.t.Helper()
			ok[map[string]any](w.t, w.call(path, fmt.Sprintf(body, name)))
		}
	}
	uids := map[string]string{}
	taken := func(channelType int, channel string) func(*world, string) {
		return func(w *world, name string) {
			ok[nothing](w.t, w.call(recall, fmt.Sprintf(`{"fromUserId":"me","channelType":%d,"channelId":%q,"messageUID":%q,"isDelete":1}`, channelType, channel, uids[channel+name])))
		}
	}
	blocks := users(block, `{"userId":"me","targetUserIds":[%q]}`)
	unblocks := users(unblock, `{"userId":"me","blockedUserIds":[%q]}`)
	deletes := func(w *world, name string) {
		token(w.t, w.call(issue, fmt.Sprintf(`{"userId":%q,"name":"n"}`, name)))
		users(softDelete, `{"userIds":[%q]}`)(w, name)
	}
	// Each ban ends before the one that was made before it.
	minutes := 40000
	bans := func(w *world, name string) {
		minutes--
		ok[nothing](w.t, w.call(ban, fmt.Sprintf(`{"userIds":[%q],"durationMinutes":%d}`, name, minutes)))
	}
	mutes := users(mute, `{"userIds":[%q],"muteState":1,"channelTypes":["PERSON"]}`)
	meta := func(w *world, name string) {
		if uids["meta"] == "" {
			uids["meta"] = w.post(direct, `{"fromUserId":"me","toUserIds":["you"],"messageType":"app:t","content":"x","hasMetadata":1}`)
		}
		// A page has 100 pairs, so each name stands for 25 of them, 300 in all.
		var pairs []string
		for i := range 25 {
			pairs = append(pairs, fmt.Sprintf(`"%s-%02d":"v"`, name, i))
		}
		ok[nothing](w.t, w.call(setMeta, fmt.Sprintf(`{"userId":"me","channelType":1,"channelId":"you","messageUID":%q,"metadata":{%s}}`, uids["meta"], strings.Join(pairs, ","))))
	}
	return []listing{
		{operation: "getUserBlocklist", add: blocks, remove: unblocks, page: blocksFrom(0)},
		{operation: "getUserBlocklist", add: blocks, remove: unblocks, page: blocksFrom(1)},
		{operation: "listDirectChannelHistoryMessages", page: historyFrom(directHistory, "you", "me"),
			add:    func(w *world, name string) { uids["you"+name] = w.say(direct, `"toUserIds":["you"]`, name) },
			remove: taken(1, "you")},
		{operation: "listOpenChannelHistoryMessages", page: historyFrom(openHistory, "you", "hall"),
			add:    func(w *world, name string) { uids["hall"+name] = w.say(open, `"toChannelIds":["hall"]`, name) },
			remove: taken(4, "hall")},

		{operation: "listBannedUsers", counts: true, add: bans, remove: users(unban, `{"userIds":[%q]}`),
			page: numbered(banned, "", "page", "bannedUsers", "userId", 1, 1)},
		{operation: "listSoftDeletedUsers", counts: true, add: deletes, remove: users(restore, `{"userIds":[%q]}`),
			page: numbered(deleted, "", "page", "userIds", "", 1, 1)},
		{operation: "listChannelTypeMute", counts: true, add: mutes, remove: users(mute, `{"userIds":[%q],"muteState":0,"channelTypes":["PERSON"]}`),
			page: numbered(muted, `"channelType":"PERSON",`, "offset", "mutedUserIds", "", 0, 3)},
		{operation: "listFrozenOpenChannels", counts: true, add: users(freezeList+"/add", `{"channelId":%q}`), remove: users(freezeList+"/remove", `{"channelId":%q}`),
			page: numbered(freezeList+"/get", "", "page", "channelIds", "", 1, 1)},
		{operation: "listChannelTypeMessageMetadata", counts: true, add: meta,
			page: func(w *world, cursor string) (names []string, next string) {
				at, _ := strconv.Atoi(cmp.Or(cursor, "1"))
				for i, p := range w.metadata(uids["meta"], fmt.Sprintf(`,"page":%d`, at)) {
					names = append(names, p.Key)
					next = fmt.Sprint(at + 1)
					if i == 100 {
						w.t.Error("more than 100 on a page")
					}
				}
				return names, next
			}},
		{operation: "traceMessage", page: func(w *world, cursor string) (names []string, next string) {
			names, rest := w.field(tracePath, fmt.Sprintf(`{"messageUID":%q,"all":1,"pageSize":3,"pageToken":%q}`, uids["traced"], cursor), "recipients", "userId")
			return names, text(rest["pageToken"])
		},
			// A request's recipients are what they were.
			add: func(w *world, _ string) {
				if uids["traced"] == "" {
					uids["traced"] = w.post(direct, `{"fromUserId":"me","toUserIds":["a","b","c","d","e","f","g","h"],"messageType":"app:t","content":"x"}`)
				}
			}},
	}
}

// What is in a list while it is read in pages is found once, whatever comes and
// goes meanwhile. Where the platform counts pages this holds for what comes
// behind; it is as stable as it can be.
func TestPagesHold(t *testing.T) {
	t.Parallel()
	for i, l := range listings() {
		t.Run(l.operation, func(t *testing.T) {
			t.Parallel()
			l, w := listings()[i], newWorld(t) // with a memory of its own
			w.limit(w.app.ID, "0")
			w.app = w.dir.AppByID(w.app.ID)
			tick := func() { w.clock.advance(time.Millisecond) } // lists are in the order of times
			const n = 7
			for i := range n {
				l.add(w, fmt.Sprintf("m%d", i))
				tick()
				if !l.counts && l.remove != nil { // some that go in between
					l.add(w, fmt.Sprintf("goes%d", i))
					tick()
				}
			}
			// All that is there, as one pass over a list that rests.
			var there []string
			rounds := 0
			for at := ""; ; rounds++ {
				names, next := l.page(w, at)
				there = append(there, names...)
				if at = next; next == "" {
					break
				}
			}
			stays := slices.DeleteFunc(slices.Clone(there), func(s string) bool { return strings.HasPrefix(s, "goes") })
			if len(stays) < n || rounds < 2 {
				t.Fatalf("only %q in %d pages", stays, rounds)
			}

			var found []string
			for at, round := "", 0; ; round++ {
				names, next := l.page(w, at)
				found = append(found, names...)
				if at = next; next == "" {
					break
				}
				if round >= 3 {
					continue
				}
				l.add(w, fmt.Sprintf("z%d", round))
				tick()
				switch {
				case l.remove == nil:
				case !l.counts:
					// Behind the reader, and in front of it.
					l.remove(w, fmt.Sprintf("goes%d", round))
					l.remove(w, fmt.Sprintf("goes%d", n-1-round))
				case round > 0:
					l.remove(w, fmt.Sprintf("z%d", round-1))
				}
			}
			seen := map[string]int{}
			for _, name := range found {
				seen[name]++
			}
			var order []string
			for _, name := range found {
				if seen[name] > 1 {
					t.Errorf("%s was found %d times", name, seen[name])
				}
				if slices.Contains(stays, name) {
					order = append(order, name)
				}
			}
			if !slices.Equal(order, stays) {
				t.Errorf("found %q\nwant  %q", order, stays)
			}
		})
	}
	// Every operation that is read in pages has a case.
	doc, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range operations {
		fields := doc.Paths.Value(o.path).Post.RequestBody.Value.Content.Get("application/json").Schema.Value.Properties
		paged := false
		for _, name := range []string{"page", "pageToken", "offset", "before", "cursor"} {
			paged = paged || fields[name] != nil
		}
		if paged && proofs[o.name].effect == reads && !slices.ContainsFunc(listings(), func(l listing) bool { return l.operation == o.name }) {
			t.Errorf("%s is read in pages: add it to listings, so that its pages are tried while the list changes", o.name)
		}
	}
}
