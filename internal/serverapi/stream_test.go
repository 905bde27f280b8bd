package serverapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/store"
)

const stream = "/v4/direct-channel/message/stream/send"

func init() {
	archiveTables[stream] = streamFields.Names()
}

// The manual speaks of what is in a chunk's content, too.
func TestStreamContentIsDescribed(t *testing.T) {
	t.Parallel()
	doc, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	described := doc.Components.Schemas["StreamChunk"].Value.Properties
	for _, name := range chunkFields.Names() {
		if described[name] == nil {
			t.Errorf("%s is not described", name)
		}
	}
	if len(described) != len(chunkFields.Names()) {
		t.Errorf("%d fields are described", len(described))
	}
}

// chunkBody is one chunk of a stream from u1 to u2; rest is more of its content.
func chunkBody(seq int, text string, complete bool, rest string, fields ...string) string {
	quoted, _ := json.Marshal(text)
	if rest != "" {
		rest = "," + rest
	}
	more := ""
	for _, f := range fields {
		more += "," + f
	}
	return fmt.Sprintf(`{"fromUserId":"u1","toUserId":"u2","messageType":"RC:StreamMsg","content":{"content":%s,"seq":%d,"complete":%t%s}%s}`,
		quoted, seq, complete, rest, more)
}

func of(uid string) string { return `"messageId":"` + uid + `"` }

// begin sends the first chunk and gives the stream's UID.
func (w *world) begin(body string) string {
	w.t.Helper()
	r := w.call(stream, body)
	var v struct {
		Result struct{ MessageUID, MessageID string }
	}
	if err := json.Unmarshal([]byte(r.Body), &v); err != nil || r.Status != 200 || v.Result.MessageUID == "" || v.Result.MessageID != v.Result.MessageUID {
		w.t.Fatalf("%d %s", r.Status, r.Body)
	}
	return v.Result.MessageUID
}

// goesOn sends a later chunk, whose answer has no result.
func (w *world) goesOn(body string) {
	w.t.Helper()
	if r := w.call(stream, body); r.Status != 200 || r.Body != `{"code":0}` {
		w.t.Fatalf("%d %s", r.Status, r.Body)
	}
}

// wantContent compares what history has in place of the only message.
func (w *world) wantContent(user, channel, uid, content string) {
	w.t.Helper()
	list := w.history(directHistory, w.allOf(user, channel))
	if len(list) != 1 || list[0].MessageUID != uid || list[0].Content != content || list[0].MessageType != "RC:StreamMsg" {
		w.t.Errorf("history of %s: %+v\nwant %s", user, list, content)
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	start := w.clock.ms.Load()
	uid := w.begin(chunkBody(1, "Hé\n", false, `"type":"markdown","user":{"id": "u1"},"mentionedInfo":{"type":1},"extra":"x","completeReason":3`,
		`"isEchoToSender":1,"metadata":{"k":"v"},"disableUpdateLastMsg":true`))
	const fixed = `"type":"markdown","user":{"id":"u1"},"mentionedInfo":{"type":1},"extra":"x"`
	w.wantContent("u2", "u1", uid, `{"content":"Hé\n",`+fixed+`,"seq":1,"complete":false}`)

	w.clock.advance(time.Second)
	// What belongs to the first chunk is not read in later ones.
	w.goesOn(chunkBody(2, `"l"`, false, of(uid)+`,"type":"markdown","extra":{"no":1},"user":{}`, `"metadata":{"bad key":"1"}`, `"isEchoToSender":0`))
	w.goesOn(strings.Replace(chunkBody(3, "l", false, of(uid)), "messageId", "messageUID", 1))
	w.wantContent("u2", "u1", uid, `{"content":"Hé\n\"l\"l",`+fixed+`,"seq":3,"complete":false}`)
	w.wantTimeline("u2", `in {"content":"Hé\n",`+fixed+`,"seq":1,"complete":false}`)
	w.restart()
	// Also as a text in place of the object, with switches and numbers in their
	// other forms.
	text, _ := json.Marshal(`{"content":"o","seq":"4","complete":"0","messageId":"` + uid + `"}`)
	w.goesOn(set(chunkBody(4, "", false, ""), "content", string(text)))
	w.goesOn(chunkBody(5, "", true, of(uid)+`,"completeReason":"-7"`))
	const end = `","type":"markdown","user":{"id":"u1"},"mentionedInfo":{"type":1},"extra":"x","seq":5,"complete":true,"completeReason":-7}`
	for range 2 {
		w.wantContent("u2", "u1", uid, `{"content":"Hé\n\"l\"lo`+end)
		w.wantContent("u1", "u2", uid, `{"content":"Hé\n\"l\"lo`+end)
		w.wantTimeline("u2", `in {"content":"Hé\n",`+fixed+`,"seq":1,"complete":false}`, "in message "+uid)
		w.wantTimeline("u1", `out u2 {"content":"Hé\n",`+fixed+`,"seq":1,"complete":false}`, "out u2 message "+uid)
		if list, err := w.store.Due(t.Context(), 1<<60, 10); err != nil || len(list) != 0 {
			t.Errorf("still due: %v, %v", list, err)
		}
		w.restart()
	}
	list := w.history(directHistory, w.allOf("u2", "u1"))
	if list[0].SentAt != start || !*list[0].HasMetadata || len(list[0].Metadata) != 1 {
		t.Errorf("%+v", list[0])
	}

	// A finished stream is a message as any other.
	w.call(updateDirectPath, updateBody(uid, `{"content":"edited"}`)).want(t, 200, 0, "")
	w.wantContent("u2", "u1", uid, `{"content":"edited"}`)
	w.call(stream, chunkBody(6, "x", false, of(uid))).want(t, 400, 1002, "content.messageId: the stream is complete")
	w.call(recall, recallBody(uid, "")).want(t, 200, 0, "")
	w.call(stream, chunkBody(6, "x", false, of(uid))).want(t, 400, 1002, "content.messageId: was recalled")
}

// A chunk that is the first and the last is a finished message at once.
func TestStreamOfOneChunk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.begin(chunkBody(1, "all", true, `"completeReason":1`, `"shouldPersist":1`))
	w.wantContent("u2", "u1", uid, `{"content":"all","type":"text","seq":1,"complete":true,"completeReason":1}`)
	w.wantTimeline("u2", `in {"content":"all","type":"text","seq":1,"complete":true,"completeReason":1}`)
	w.call(stream, chunkBody(2, "x", true, of(uid))).want(t, 400, 1002, "content.messageId: the stream is complete")
	if id, err := chat.ParseUID(uid); err != nil || w.state(id) != nil {
		t.Errorf("it has a state, %v", err)
	}
}

func (w *world) state(uid chat.UID) *chat.State {
	w.t.Helper()
	list, err := w.store.Overlays(w.t.Context(), w.app.ID, []chat.UID{uid})
	if err != nil {
		w.t.Fatal(err)
	}
	return list[0]
}

func TestStreamRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.begin(chunkBody(1, "a", false, ""))
	w.goesOn(chunkBody(2, "b", false, of(uid)))
	text := w.post(direct, sendBody(""))
	sys := w.post(system, sendBody(""))
	big := strings.Repeat("x", chat.MaxStreamText)
	later := chunkBody(3, "c", false, of(uid))
	for _, c := range []struct {
		body    string
		status  int
		code    int
		message string
	}{
		{`{}`, 400, 1002, "fromUserId: is required"},
		{set(later, "toUserId", `""`), 400, 1002, "toUserId: is required"},
		{set(later, "toUserId", `["u2"]`), 400, 1002, "toUserId: must be a string, got an array"},
		{set(later, "messageType", `null`), 400, 1002, "messageType: is required"},
		{set(later, "messageType", `"RC:TxtMsg"`), 400, 1002, `messageType: must be RC:StreamMsg, got "RC:TxtMsg"`},
		{set(later, "content", `null`), 400, 1002, "content: is required"},
		{set(later, "content", `[]`), 400, 1002, "content: must be a JSON object, got an array"},
		{set(later, "content", `"no object"`), 400, 1002, ""},
		{set(later, "content", `"{\"seq\":{}}"`), 400, 1002, "content.seq: must be a whole number, got an object"},
		{set(later, "content", `{}`), 400, 1002, "content.seq: is required"},
		{set(later, "content", `{"seq":1}`), 400, 1002, "content.complete: is required"},
		{set(later, "content", `{"seq":1,"complete":2}`), 400, 1002, "content.complete: 0 or 1, got 2"},
		{set(later, "content", `{"seq":1,"complete":false}`), 400, 1002, "content.content: is required, and may be empty only with complete"},
		{set(later, "content", `{"seq":1,"complete":true,"content":7}`), 400, 1002, "content.content: must be a string, got 7"},
		{chunkBody(0, "x", false, ""), 400, 1002, "content.seq: starts at 1, got 0"},
		{chunkBody(-4, "x", false, of(uid)), 400, 1002, "content.seq: starts at 1, got -4"},
		{chunkBody(1, "x", false, of(uid)), 400, 1002, "content.messageId: must be absent with seq 1, which begins a stream"},
		{chunkBody(2, "x", false, ""), 400, 1002, "content.messageId: is required from seq 2 on"},
		{chunkBody(3, "x", false, `"messageId":"x"`), 400, 1002, "content.messageId: not a message UID"},
		{chunkBody(1, "x", false, `"type":"rtf"`), 400, 1002, `content.type: one of text, markdown, html, got "rtf"`},
		{chunkBody(1, "x", false, `"user":"u1"`), 400, 1002, "content.user: must be an object, got a string"},
		{chunkBody(1, "x", false, `"mentionedInfo":[]`), 400, 1002, "content.mentionedInfo: must be an object, got an array"},
		{chunkBody(1, "x", false, `"extra":"`+strings.Repeat("x", chat.MaxStreamExtras)+`"`), 400, 1005, "content: at most 32768 bytes of user, mentionedInfo and extra, got 32770"},
		{chunkBody(1, big+"x", false, ""), 400, 1005, "content.content: at most 131072 bytes in all chunks together, got 131073"},
		{chunkBody(3, big, false, of(uid)), 400, 1005, "content.content: at most 131072 bytes in all chunks together, got 131074"},
		{chunkBody(2, "b", false, of(uid)), 400, 1002, "content.seq: expected 3, got 2"},
		{chunkBody(6, "b", true, of(uid)), 400, 1002, "content.seq: expected 3, got 6"},
		{set(later, "fromUserId", `"u3"`), 400, 1002, "fromUserId: did not begin this stream"},
		{set(later, "toUserId", `"u3"`), 400, 1002, "toUserId: the stream goes to another user"},
		{chunkBody(2, "x", false, of(text)), 400, 1002, "content.messageId: is of no direct stream"},
		{chunkBody(2, "x", false, of(sys)), 400, 1002, "content.messageId: is of no direct stream"},
		{chunkBody(2, "x", false, of("2222-2222-2222-2222")), 404, 1002, ""},
		{chunkBody(1, "x", false, "", `"metadata":{"a b":""}`), 400, 1002, `metadata: key "a b" may hold only letters, digits and + = - _`},
		{chunkBody(1, "x", false, "", `"metadata":[]`), 400, 1002, "metadata: must be an object, got an array"},
	} {
		w.call(stream, c.body).want(t, c.status, c.code, c.message)
	}
	// None of it has changed anything.
	w.goesOn(later)
	w.wantTimeline("u2", `in {"content":"a","type":"text","seq":1,"complete":false}`, `in {"content":"hi"}`, `in {"content":"hi"}`)
	w.call(updateDirectPath, updateBody(uid, `{}`)).want(t, 400, 1002, "messageUID: is of a stream that is not complete yet")

	// The sum just fits, and what is made of it may be longer than a content.
	full := w.begin(set(chunkBody(1, strings.Repeat("\n", chat.MaxStreamText-3), false, ""), "toUserId", `"u5"`))
	two := set(chunkBody(2, "\n\n", false, of(full)), "toUserId", `"u5"`)
	w.goesOn(two)
	w.goesOn(set(chunkBody(3, "\n", true, of(full)), "toUserId", `"u5"`))
	w.wantContent("u5", "u1", full, `{"content":"`+strings.Repeat(`\n`, chat.MaxStreamText)+`","type":"text","seq":3,"complete":true}`)

	w.set("users.registered-only", "true")
	w.call(stream, chunkBody(1, "x", false, "")).want(t, 400, 400, "fromUserId: user u1 was never issued a token, and this app takes registered users only")
	w.call(issue, `{"userId":"u1","name":"U1"}`).want(t, 200, 0, "")
	w.call(stream, chunkBody(1, "x", false, "")).want(t, 400, 400, "toUserId: user u2 was never issued a token, and this app takes registered users only")

	w.app = w.newApp("other", "other-secret")
	w.call(stream, chunkBody(4, "x", false, of(uid))).want(t, 404, 1002, "content.messageId: no such message, or not kept any more")
}

// Every chunk can be repeated with its key, also after a restart, and is there
// once.
func TestStreamIdempotency(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.direct", "1/m", "limits.stream", "2/m")
	key := func(n int) func(http.Header) { return with("Idempotency-Key", "chunk-"+strconv.Itoa(n)) }
	first := chunkBody(1, "a", false, "")
	r := w.call(stream, first, key(1))
	var v struct{ Result struct{ MessageUID string } }
	if err := json.Unmarshal([]byte(r.Body), &v); err != nil {
		t.Fatal(r.Body, err)
	}
	uid := v.Result.MessageUID
	bodies := []string{first, chunkBody(2, "b", false, of(uid)), chunkBody(3, "c", true, of(uid))}
	for i, body := range bodies[1:] {
		w.call(stream, body, key(i+2)).want(t, 200, 0, "")
	}
	for range 2 {
		for i, body := range bodies {
			again := w.call(stream, body, key(i+1))
			want := `{"code":0}`
			if i == 0 {
				want = r.Body
			}
			if again.Status != 200 || again.Body != want || again.Header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("chunk %d again: %d %v %s", i+1, again.Status, again.Header, again.Body)
			}
		}
		w.restart()
	}
	w.call(stream, chunkBody(2, "other", false, of(uid)), key(2)).want(t, 409, 1002, "Idempotency-Key: was used before with another request body")
	w.wantContent("u2", "u1", uid, `{"content":"abc","type":"text","seq":3,"complete":true}`)
	if w.head("u2") != 2 {
		t.Errorf("%d entries", w.head("u2"))
	}
}

// The first chunk spends the budget of direct messages, the others one of their
// own. A refused chunk can be sent again.
func TestStreamLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.direct", "1/m", "limits.stream", "2/m", "streams.idle", "1h")
	uid := w.begin(chunkBody(1, "a", false, ""))
	w.call(stream, chunkBody(1, "a", false, "")).want(t, 429, 1008, "")
	w.goesOn(chunkBody(2, "b", false, of(uid)))
	w.goesOn(chunkBody(3, "c", false, of(uid)))
	key := with("Idempotency-Key", "k")
	w.call(stream, chunkBody(4, "d", false, of(uid)), key).want(t, 429, 1008, "")
	w.clock.advance(30 * time.Second)
	w.call(stream, chunkBody(5, "d", false, of(uid)), key).want(t, 400, 1002, "content.seq: expected 4, got 5")
	w.clock.advance(time.Minute)
	w.call(stream, chunkBody(4, "d", false, of(uid)), key).want(t, 200, 0, "")
}

// A stream that is left alone is closed with what it has, whether the server was
// there all the time or not; one that goes on is not, however slowly.
func TestStreamLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "streams.idle", "10s")
	one := w.begin(chunkBody(1, "a", false, "", `"isEchoToSender":1`))
	other := w.begin(set(chunkBody(1, "x", false, ""), "toUserId", `"u3"`))
	w.set("streams.idle", "1h") // for those to come
	long := w.begin(set(chunkBody(1, "x", false, ""), "toUserId", `"u4"`))
	for seq := 2; seq < 6; seq++ {
		w.clock.advance(9 * time.Second)
		w.goesOn(chunkBody(seq, strconv.Itoa(seq), false, of(one)))
	}
	// Nothing of the one that was left alone is lost, and its sender is told so.
	w.eventually("the close", func() bool { return len(w.timeline("u3")) == 2 })
	w.wantContent("u3", "u1", other, `{"content":"x","type":"text","seq":1,"complete":true,"interrupted":true}`)
	w.call(stream, set(chunkBody(2, "y", false, of(other)), "toUserId", `"u3"`)).want(t, 400, 1002,
		"content.messageId: the stream was closed after 10 seconds without a chunk")
	w.wantTimeline("u2", `in {"content":"a","type":"text","seq":1,"complete":false}`)

	w.close()
	w.clock.advance(10 * time.Second)
	w.open()
	w.app = w.dir.App(w.app.Key)
	w.eventually("the close after a restart", func() bool { return len(w.timeline("u2")) == 2 })
	w.wantContent("u2", "u1", one, `{"content":"a2345","type":"text","seq":5,"complete":true,"interrupted":true}`)
	w.wantContent("u1", "u2", one, `{"content":"a2345","type":"text","seq":5,"complete":true,"interrupted":true}`)
	w.wantTimeline("u1", `out u2 {"content":"a","type":"text","seq":1,"complete":false}`, "out u2 message "+one)
	w.goesOn(set(chunkBody(2, "y", true, of(long)), "toUserId", `"u4"`))
	if list, err := w.store.Due(t.Context(), 1<<60, 10); err != nil || len(list) != 0 {
		t.Errorf("still due: %v, %v", list, err)
	}
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("never: %s", what)
		}
	}
}

// News of metadata and the close of the stream share what is due, and each comes
// in its time.
func TestStreamWithMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "streams.idle", "10s")
	uid := w.begin(chunkBody(1, "a", false, "", `"metadata":{"k":"v"}`, `"isEchoToSender":1`))
	due := func() int64 {
		t.Helper()
		list, err := w.store.Due(t.Context(), 1<<60, 10)
		if err != nil || len(list) > 1 {
			t.Fatalf("%v, %v", list, err)
		}
		if len(list) == 0 {
			return 0
		}
		return list[0].Due
	}
	start := w.clock.ms.Load()
	if due() != start+10_000 {
		t.Errorf("due at %d", due()-start)
	}
	w.call(setMeta, metaBody("u1", uid, `"metadata":{"a":"1"}`)).want(t, 200, 0, "")
	w.wantTold("u2", `map[a:1] [] u1`)
	w.clock.advance(time.Second)
	w.call(setMeta, metaBody("u1", uid, `"metadata":{"b":"2"}`)).want(t, 200, 0, "")
	if due() != start+2_000 {
		t.Errorf("with news it is due at %d", due()-start)
	}
	w.goesOn(chunkBody(2, "b", false, of(uid)))
	w.clock.advance(time.Second)
	w.wantTold("u2", `map[a:1] [] u1`, `map[b:2] [] u1`)
	w.eventually("the stream's time", func() bool { return due() == start+11_000 })
	w.goesOn(chunkBody(3, "c", false, of(uid)))
	// Both at once, the last chunk being of start+2s.
	w.clock.advance(9 * time.Second)
	w.eventually("a later time", func() bool { return due() == start+12_000 })
	w.call(setMeta, metaBody("u2", uid, `"metadata":{"c":"3"}`)).want(t, 200, 0, "")
	w.call(deleteMeta, metaBody("u2", uid, `"keys":["k"]`)).want(t, 200, 0, "")
	w.close()
	w.clock.advance(time.Minute)
	w.open()
	w.app = w.dir.App(w.app.Key)
	w.eventually("nothing due", func() bool { return due() == 0 })
	w.wantTold("u1", `map[c:3] [] u2`, `map[] [k] u2`) // their own they know
	w.wantContent("u2", "u1", uid, `{"content":"abc","type":"text","seq":3,"complete":true,"interrupted":true}`)
	list := w.history(directHistory, w.allOf("u2", "u1"))
	if got := fmt.Sprint(len(list[0].Metadata), list[0].Metadata[0].Key, list[0].Metadata[2].Key); got != "3ac" {
		t.Error(got, list[0].Metadata)
	}
}

// A recall ends an open stream and takes its text with it.
func TestStreamRecalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.begin(chunkBody(1, "a", false, ""))
	w.goesOn(chunkBody(2, "secret", false, of(uid)))
	w.call(recall, recallBody(uid, "")).want(t, 200, 0, "")
	for range 2 {
		w.call(stream, chunkBody(3, "x", false, of(uid))).want(t, 400, 1002, "content.messageId: was recalled")
		if list := w.history(directHistory, w.allOf("u2", "u1")); len(list) != 1 || list[0].MessageType != "RC:RcNtf" {
			t.Errorf("%+v", list)
		}
		id, _ := chat.ParseUID(uid)
		if st := w.state(id); st == nil || st.Recall == nil || st.Stream != nil {
			t.Errorf("%+v", st)
		}
		if list, err := w.store.Due(t.Context(), 1<<60, 10); err != nil || len(list) != 0 {
			t.Errorf("still due: %v, %v", list, err)
		}
		w.restart()
	}
	// Nothing of the text lies hidden below: a stream in its place has none.
	id, _ := chat.ParseUID(uid)
	if err := w.store.Append(t.Context(), &store.Append{
		Message: &chat.Message{App: w.app.ID, ChannelType: chat.Direct, From: "u1"},
		States:  []store.StateChange{{UID: id, History: true, State: &chat.State{Stream: &chat.Stream{Seq: 3}}}},
	}); err != nil {
		t.Fatal(err)
	}
	if st := w.state(id); st.Stream.Text != "" {
		t.Errorf("%q is left of it", st.Stream.Text)
	}
}

// Of many who send the same chunk at once one is taken.
func TestStreamChunksAreSerial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.begin(chunkBody(1, "0", false, ""))
	for seq := 2; seq < 8; seq++ {
		var mu sync.Mutex
		taken := 0
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				r := w.call(stream, chunkBody(seq, strconv.Itoa(seq), false, of(uid)))
				mu.Lock()
				defer mu.Unlock()
				if r.Status == 200 {
					taken++
				} else {
					r.want(t, 400, 1002, fmt.Sprintf("content.seq: expected %d, got %d", seq+1, seq))
				}
			})
		}
		wg.Wait()
		if taken != 1 {
			t.Fatalf("chunk %d was taken %d times", seq, taken)
		}
	}
	w.wantContent("u2", "u1", uid, `{"content":"0234567","type":"text","seq":7,"complete":false}`)
}

// What is not kept in history is a stream all the same, for as long as missed
// messages.
func TestStreamNotPersisted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.begin(chunkBody(1, "a", false, "", `"shouldPersist":0`))
	w.goesOn(chunkBody(2, "b", false, of(uid)))
	w.goesOn(chunkBody(3, "c", true, of(uid)))
	if list := w.history(directHistory, w.allOf("u2", "u1")); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	id, _ := chat.ParseUID(uid)
	if st := w.state(id); st == nil || st.Stream.Text != "bc" {
		t.Errorf("%+v", st)
	}
	entries, err := w.store.Read(t.Context(), w.app.ID, "u2", store.Range{Limit: 10}, nil)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

// FuzzChunk reads any body as a chunk. What is taken makes a content that says the
// same, and what is refused is refused by the body's fault.
func FuzzChunk(f *testing.F) {
	for _, s := range []string{
		chunkBody(1, "x", false, `"type":"html","user":{"a":[1]},"mentionedInfo":{},"extra":[null]`, `"metadata":{"a":1}`),
		chunkBody(2, "é\"", true, `"messageId":"F427-NLW2-2J22-2223","completeReason":"3"`),
		set(chunkBody(1, "", false, ""), "content", `"{\"content\":\"x\",\"seq\":\"1\",\"complete\":1}"`),
		set(chunkBody(1, "", false, ""), "content", `"{\"content\":{}}"`), `{"content":"{"}`, `{"content":[]}`, "{}",
		chunkBody(1, "x", false, `"user":{"a":1,"a":2}`), chunkBody(1, "x", false, `"extra":"\ud800"`),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		q := streamRequest{sendRequest: sendRequest{m: &chat.Message{}}}
		err := streamFields.Decode([]byte(body), &q)
		var chunk *courier.StreamChunk
		if err == nil {
			chunk, err = q.read()
		}
		if err != nil {
			if k := chat.KindOf(err); k != chat.KindInvalid && k != chat.KindTooLong {
				t.Fatalf("%v is of kind %s", err, k)
			}
			return
		}
		if (chunk.Seq == 1) != (q.chunk.uid == "") {
			t.Fatalf("seq %d with %q", chunk.Seq, q.chunk.uid)
		}
		if chunk.Seq > 1 {
			return
		}
		m := &chat.Message{}
		chunk.Begin(m)
		var v struct {
			Content  string
			Seq      int
			Complete bool
		}
		if err := json.Unmarshal([]byte(m.Content), &v); err != nil || v.Content != chunk.Text || v.Seq != 1 || v.Complete != chunk.Complete {
			t.Fatalf("%v: %+v of %s", err, v, m.Content)
		}
		if strings.ContainsAny(m.Content, "\n\r") {
			t.Fatalf("not in one line: %q", m.Content)
		}
	})
}
