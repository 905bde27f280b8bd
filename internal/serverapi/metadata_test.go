package serverapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

const (
	setMeta    = "/v4/channel-type/message/metadata/set"
	deleteMeta = "/v4/channel-type/message/metadata/delete"
	listMeta   = "/v4/channel-type/message/metadata/list"
)

func init() {
	archiveTables[setMeta] = setMetadataFields.Names()
	archiveTables[deleteMeta] = deleteMetadataFields.Names()
	archiveTables[listMeta] = listMetadataFields.Names()
}

func metaBody(user, uid, rest string) string {
	return fmt.Sprintf(`{"userId":%q,"channelType":1,"channelId":"u2","messageUID":%q,%s}`, user, uid, rest)
}

func (w *world) metadata(uid, rest string) (list []metadataPair) {
	w.t.Helper()
	r := w.call(listMeta, fmt.Sprintf(`{"messageUID":%q%s}`, uid, rest))
	var v struct {
		Result struct{ Metadata []metadataPair }
	}
	if err := json.Unmarshal([]byte(r.Body), &v); err != nil || r.Status != 200 {
		w.t.Fatalf("%d %s", r.Status, r.Body)
	}
	return v.Result.Metadata
}

// told is what the user's timeline was told of metadata: set and removed.
func (w *world) told(user string) (list []string) {
	w.t.Helper()
	entries, err := w.store.Read(w.t.Context(), w.app.ID, user, store.Range{Limit: 1000}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		m, err := w.store.Message(w.t.Context(), e.Ref)
		if err != nil {
			w.t.Fatal(err)
		}
		if m.Event != nil && m.Event.Kind == chat.EventMetadata {
			list = append(list, fmt.Sprintf("%v %v %s", m.Event.Set, m.Event.Removed, m.Event.Operator))
		}
	}
	return list
}

func (w *world) wantTold(user string, want ...string) {
	w.t.Helper()
	var got []string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got = w.told(user); slices.Equal(got, want) {
			return
		}
	}
	w.t.Errorf("%s was told %q, want %q", user, got, want)
}

const withMeta = `{"fromUserId":"u1","toUserIds":["u2","u3"],"messageType":"app:t","content":"x","isEchoToSender":1,"hasMetadata":1,"metadata":{"a":"1","b":"2"}}`

func TestMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.post(direct, withMeta)
	start := w.clock.ms.Load()
	if got := w.metadata(uid, ""); !slices.Equal(got, []metadataPair{{"a", "1", start}, {"b", "2", start}}) {
		t.Errorf("%+v", got)
	}
	w.clock.advance(time.Minute)
	first := w.clock.ms.Load()
	// Told at once, but not to who did it.
	w.call(setMeta, metaBody("u2", uid, `"metadata":{"a":"one","c":3}`)).want(t, 200, 0, "")
	w.wantTold("u1", `map[a:one c:3] [] u2`)
	// What follows within two seconds is gathered: by whomever, the last value
	// counts, and what cancels out is told as it ends.
	w.clock.advance(500 * time.Millisecond)
	second := w.clock.ms.Load()
	w.call(setMeta, metaBody("u2", uid, `"metadata":{"d":"4"}`)).want(t, 200, 0, "")
	w.call("/v4/message/metadata/set", strings.Replace(metaBody("u1", uid, `"metadata":{"d":"5","e":"6"}`), "messageUID", "messageId", 1)).want(t, 200, 0, "")
	w.call(deleteMeta, metaBody("u1", uid, `"keys":["a","never","b"],"syncToSender":1`)).want(t, 200, 0, "")
	w.call("/v4/message/metadata/delete", metaBody("u1", uid, `"keys":["e"]`)).want(t, 200, 0, "")
	want := []metadataPair{{"c", "3", first}, {"d", "5", second}}
	if got := w.metadata(uid, ""); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	time.Sleep(2 * dueTick) // nothing is due yet
	w.wantTold("u1", `map[a:one c:3] [] u2`)
	w.wantTold("u2")
	w.restart() // what is pending is not lost
	w.clock.advance(1500 * time.Millisecond)
	all := `map[d:5] [a b e] u1`
	w.wantTold("u1", `map[a:one c:3] [] u2`, all)
	w.wantTold("u2", all)
	w.wantTold("u3")
	if list := w.history(directHistory, w.allOf("u2", "u1")); !slices.Equal(list[0].Metadata, want) {
		t.Errorf("%+v", list[0])
	}
	if list := w.history(directHistory, w.allOf("u3", "u1")); len(list[0].Metadata) != 2 || list[0].Metadata[0].Value != "1" {
		t.Errorf("the other recipient has %+v", list[0])
	}
	// The same again is no change.
	w.clock.advance(time.Minute)
	w.call(setMeta, metaBody("u3", uid, `"metadata":{"d":"5"}`)).want(t, 200, 0, "")
	w.call(deleteMeta, metaBody("u3", uid, `"keys":["e"]`)).want(t, 200, 0, "")
	// With an echo who did it is told too.
	w.call(setMeta, metaBody("u1", uid, `"metadata":{"z":""},"isEchoToSender":1`)).want(t, 200, 0, "")
	w.wantTold("u1", `map[a:one c:3] [] u2`, all, `map[z:] [] u1`)
	w.wantTold("u2", all, `map[z:] [] u1`)
	if list, err := w.store.Due(t.Context(), 1<<60, 10); err != nil || len(list) != 0 {
		t.Errorf("still due: %v, %v", list, err)
	}
}

// A clock that is set back, under a running node or a stopped one, does not hold
// back what was gathered by then.
func TestMetadataWithAClockSetBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.post(direct, withMeta)
	w.clock.advance(3 * time.Hour)
	var want []string
	for i, restart := range []bool{false, true} {
		w.clock.advance(10 * time.Second)
		for j := range 2 {
			w.call(setMeta, metaBody("u1", uid, fmt.Sprintf(`"metadata":{"k":"%d.%d"}`, i, j))).want(t, 200, 0, "")
		}
		want = append(want, fmt.Sprintf("map[k:%d.0] [] u1", i))
		w.wantTold("u2", want...)
		if restart {
			w.close()
		}
		w.clock.advance(-time.Hour)
		if restart {
			w.open()
			w.app = w.dir.App(w.app.Key)
		}
		want = append(want, fmt.Sprintf("map[k:%d.1] [] u1", i))
		w.wantTold("u2", want...)
	}
}

const dueTick = 250 * time.Millisecond

// However many set pairs at once, no message has more than 300.
func TestMetadataIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.post(direct, withMeta)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 4 {
				pairs := map[string]string{}
				for k := range 7 {
					pairs[fmt.Sprintf("k%d-%d-%d", i, j, k)] = "v"
				}
				text, _ := json.Marshal(pairs)
				r := w.call(setMeta, metaBody("u1", uid, `"metadata":`+string(text)))
				if r.Status != 200 {
					r.want(t, 400, 1002, "metadata: at most 300 pairs on one message")
				}
			}
		})
	}
	wg.Wait()
	all := w.metadata(uid, "")
	if len(all) != 2+42*7 {
		t.Errorf("%d pairs, want as many calls as fit", len(all))
	}
	paged := slices.Concat(w.metadata(uid, `,"page":1`), w.metadata(uid, `,"page":"2"`), w.metadata(uid, `,"page":3`))
	if !slices.Equal(paged, all) || len(w.metadata(uid, `,"page":4`)) != 0 {
		t.Errorf("in pages %d pairs", len(paged))
	}
}

func TestMetadataRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.post(direct, withMeta)
	plain := w.post(direct, sendBody(""))
	many := map[string]string{}
	for i := range 101 {
		many[fmt.Sprint("k", i)] = "v"
	}
	text, _ := json.Marshal(many)
	for _, c := range []struct {
		path, body   string
		status, code int
		message      string
	}{
		{setMeta, `{}`, 400, 1002, "userId: is required"},
		{setMeta, `{"userId":"u1"}`, 400, 1002, "channelType: is required"},
		{setMeta, `{"userId":"u1","channelType":3}`, 400, 1002, "channelType: one of 1, got 3"},
		{setMeta, `{"userId":"u1","channelType":1}`, 400, 1002, "channelId: is required"},
		{setMeta, `{"userId":"u1","channelType":1,"channelId":"u2"}`, 400, 1002, "messageUID: is required"},
		{setMeta, metaBody("u1", uid, `"metadata":null`), 400, 1002, "metadata: is required"},
		{setMeta, metaBody("u1", uid, `"metadata":{}`), 400, 1002, "metadata: is required"},
		{setMeta, metaBody("u1", uid, `"metadata":`+string(text)), 400, 1002, "metadata: at most 100 pairs, got 101"},
		{setMeta, metaBody("u1", uid, `"metadata":{"a b":"1"}`), 400, 1002, `metadata: key "a b" may hold only letters, digits and + = - _`},
		{setMeta, metaBody("u1", uid, `"metadata":{"`+strings.Repeat("k", 33)+`":"1"}`), 400, 1005, "metadata key: at most 32 characters, got 33"},
		{setMeta, metaBody("u1", uid, `"metadata":{"k":"`+strings.Repeat("ü", 4097)+`"}`), 400, 1005, "metadata.k: at most 4096 characters, got 4097"},
		{setMeta, metaBody("u1", plain, `"metadata":{"k":"v"}`), 400, 1002, "messageUID: was sent without hasMetadata"},
		{setMeta, strings.Replace(metaBody("u1", uid, `"metadata":{"k":"v"}`), `"u2"`, `"u3"`, 1), 400, 1002, "channelId: the message is of another channel"},
		{deleteMeta, metaBody("u1", uid, `"keys":[]`), 400, 1002, "keys: is required"},
		{deleteMeta, metaBody("u1", plain, `"keys":["k"]`), 400, 1002, "messageUID: was sent without hasMetadata"},
		{listMeta, `{}`, 400, 1002, "messageUID: is required"},
		{listMeta, `{"messageUID":"` + uid + `","page":0}`, 400, 1002, "page: from 1, got 0"},
		{listMeta, `{"messageId":"` + plain + `"}`, 400, 1002, "messageUID: was sent without hasMetadata"},
	} {
		w.call(c.path, c.body).want(t, c.status, c.code, c.message)
	}
	w.call(recall, recallBody(uid, "")).want(t, 200, 0, "")
	w.call(setMeta, metaBody("u1", uid, `"metadata":{"k":"v"}`)).want(t, 400, 1002, "messageUID: was recalled")
	w.app = w.newApp("other", "other-secret")
	for path, rest := range map[string]string{setMeta: `"metadata":{"k":"v"}`, deleteMeta: `"keys":["a"]`, listMeta: `"page":1`} {
		w.call(path, metaBody("u1", uid, rest)).want(t, 404, 1002, "messageUID: no such message, or not kept any more")
	}
}
