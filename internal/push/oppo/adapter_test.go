package oppo_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/oppo"
	"github.com/parleychat/parley/internal/push/pushtest"
)

const token = "OPPO_CN_7ab8"

const (
	authPath  = "/server/v1/auth"
	sendPath  = "/server/v1/message/notification/unicast"
	batchPath = "/server/v1/message/notification/unicast_batch"
)

// A world is a simulator with one phone, and an adapter for it.
type world struct {
	t       *testing.T
	server  *pushtest.Server
	sim     *pushtest.Sim
	address string
	cred    chat.PushCredential
	adapter push.Adapter

	mu   sync.Mutex
	now  time.Time
	seen []*http.Request
	body []string
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
}

func newWorld(t *testing.T, set func(*world)) *world {
	t.Helper()
	w := &world{t: t, now: golden.Now}
	w.sim = pushtest.NewOPPO(pushtest.Options{Now: w.clock, Seen: func(r *http.Request, body string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen, w.body = append(w.seen, r), append(w.body, body)
	}})
	var err error
	if w.server, err = pushtest.NewServer(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.server.Close)
	if w.address, err = w.server.Serve(w.sim, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w.sim.Register(pushtest.Phone{Token: token})
	w.cred = w.sim.Credential(w.address)
	if set != nil {
		set(w)
	}
	w.adapter = w.connect(line.Options{})
	return w
}

func (w *world) connect(o line.Options) push.Adapter {
	w.t.Helper()
	o.Roots = w.server.Roots
	a, err := oppo.New(&w.cred, o, w.clock)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(a.Close)
	return a
}

func (w *world) send(batch ...push.Notification) []push.Attempt {
	w.t.Helper()
	return sendBy(w.t, w.adapter, batch...)
}

func sendBy(t *testing.T, a push.Adapter, batch ...push.Notification) []push.Attempt {
	t.Helper()
	list := make([]*push.Notification, len(batch))
	for i := range batch {
		list[i] = &batch[i]
	}
	attempts := a.Send(t.Context(), list)
	if len(attempts) != len(batch) {
		t.Fatalf("%d attempts of %d", len(attempts), len(batch))
	}
	return attempts
}

// sendInTime is sendBy by a line with little time, which may run out on the way, but
// not always.
func sendInTime(t *testing.T, a push.Adapter, n push.Notification) []push.Attempt {
	t.Helper()
	got := sendBy(t, a, n)
	for tries := 1; got[0].Code == "timeout" && tries < 100; tries++ {
		got = sendBy(t, a, n)
	}
	return got
}

func want(t *testing.T, got []push.Attempt, class push.Class, code string) {
	t.Helper()
	for i := range got {
		if got[i].Class != class || got[i].Code != code {
			t.Errorf("%d: %s %q, want %s %q: %+v", i, got[i].Class, got[i].Code, class, code, got[i])
		}
	}
}

// message is the example as the n-th message, for a token.
func message(t *testing.T, n int, token string) push.Notification {
	m := golden.Example(t, token)
	m.UID = chat.NewUID(golden.Now.UnixMilli(), chat.Direct, 3, uint32(n))
	m.Title = fmt.Sprintf("title %d", n)
	return m
}

// paths are those that were asked for so far, without those before.
func (w *world) paths() (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.seen {
		list = append(list, r.URL.Path)
	}
	w.seen, w.body = nil, nil
	return list
}

// What arrives is what OPPO wants, for everything that the sender asks for.
func TestRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.cred.Fields["channelId"], w.cred.Fields["notifyLevel"] = "default", "16" })
	got := w.send(golden.Example(t, token))
	want(t, got, push.Accepted, "0")
	if got[0].ID == "" || got[0].Cut != 0 {
		t.Errorf("%+v", got)
	}
	other := golden.With(t, token, `{"pushConfigs":[{"OPPO":{"category":"IM"}}]}`)
	other.UID, other.Body = chat.NewUID(golden.Now.UnixMilli(), chat.Direct, 3, 8), "another"
	want(t, w.send(message(t, 7, token), other), push.Accepted, "0")
	stamp := strconv.FormatInt(golden.Now.UnixMilli(), 10)
	sum := sha256.Sum256([]byte(w.cred.Fields["appKey"] + stamp + w.cred.Fields["masterSecret"]))
	form, err := url.ParseQuery(w.body[1])
	if err != nil {
		t.Fatal(err)
	}
	hide := map[string]string{
		w.cred.Fields["appKey"]: "key", stamp: "time", hex.EncodeToString(sum[:]): "sign", form.Get("auth_token"): "token",
	}
	if len(w.seen) != 3 {
		t.Fatal(w.paths())
	}
	for i, name := range []string{"auth.txt", "received.txt", "batch.txt"} {
		golden.CheckText(t, name, golden.Received(w.seen[i], w.body[i], hide))
	}
	shown := w.sim.Screen(token)
	if len(shown) != 3 || shown[0].Title != "you have a new message." || shown[0].Data != `{"order":17}` || !strings.Contains(shown[0].Card, `"tId":"alice"`) || shown[0].ID != got[0].ID {
		t.Fatalf("shown %+v", shown)
	}
	if d := shown[0].Expires.Sub(golden.Now); d != 36*time.Hour-10*time.Second {
		t.Errorf("lives for %s", d)
	}
	if s := w.sim.Stats(); s.Taken != 3 || s.Refused != 0 || s.Odd != 0 || s.Auths != 1 || s.Requests != 2 {
		t.Errorf("%+v", s)
	}
}

// What is sent again is not shown again, even if the first answer got lost; a
// recall takes the place of what it recalls.
func TestOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first, recall := golden.Example(t, token), message(t, 9, token)
	recall.Removes = first.UID
	w.sim.Fail(pushtest.Fault{Lost: true, Times: 1})
	want(t, w.send(first), push.Retry, "transport")
	want(t, w.send(first), push.Accepted, "32")
	want(t, w.send(first, first), push.Accepted, "32")
	if log := w.sim.Log(token); len(log) != 1 {
		t.Fatalf("%+v", log)
	}
	got := w.send(first, message(t, 8, token), recall)
	want(t, got[:1], push.Accepted, "32")
	want(t, got[1:], push.Accepted, "0")
	if shown := w.sim.Screen(token); len(shown) != 2 || shown[1].Removes != first.UID.String() {
		t.Errorf("shown %+v", shown)
	}
}

// Every item of a batch has its own outcome, in our order.
func TestBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.sim.Register(pushtest.Phone{Token: "CN_dead"})
	w.sim.Remove("CN_dead")
	silent, late := message(t, 3, token), message(t, 4, token)
	silent.Silent = true
	late.Expires = golden.Now
	got := w.send(message(t, 1, token), message(t, 2, "CN_dead"), silent, late, message(t, 5, "CN_stranger"), message(t, 6, token))
	for i, c := range []struct {
		class push.Class
		code  string
	}{{push.Accepted, "0"}, {push.TokenDead, "10000"}, {push.PayloadBad, "silent"}, {push.PayloadBad, "expired"}, {push.TokenDead, "10000"}, {push.Accepted, "0"}} {
		want(t, got[i:i+1], c.class, c.code)
	}
	if shown := w.sim.Screen(token); len(shown) != 2 || shown[0].Title != "title 1" || shown[1].Title != "title 6" || shown[1].ID != got[5].ID || got[1].ID != "" {
		t.Errorf("%+v, attempts %+v", shown, got)
	}
	if paths := w.paths(); !slices.Equal(paths, []string{authPath, batchPath}) {
		t.Error(paths)
	}
	want(t, w.send(), 0, "")
	if n := w.adapter.Batch(); n < 2 || n > 1000 {
		t.Errorf("batches of %d", n)
	}
	// A whole one is answered within what is read of an answer.
	var batch []push.Notification
	for i := range w.adapter.Batch() {
		batch = append(batch, message(t, 100+i, "CN_"+strings.Repeat("x", 60)+strconv.Itoa(i)))
	}
	want(t, w.send(batch...), push.TokenDead, "10000")
}

// Answers are matched by tokens where they come in another order, and what is not
// in them is tried again.
func TestBatchAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for name, c := range map[string]struct {
		data string
		want string // classes and ids
	}{
		"in order":   {`[{"messageId":"1","registrationId":"CN_a"},{"messageId":"2","registrationId":"CN_b"},{"errorCode":10000,"registrationId":"CN_a"}]`, "accepted 1, accepted 2, token_dead "},
		"turned":     {`[{"errorCode":"10000","registrationId":"CN_b"},{"messageId":"1","registrationId":"CN_a"},{"messageId":"3","registrationId":"CN_a"}]`, "accepted 1, token_dead , accepted 3"},
		"one short":  {`[{"messageId":"2","registrationId":"CN_b","errorCode":0},{"messageId":"1","registrationId":"CN_a"}]`, "accepted 1, accepted 2, retry "},
		"another's":  {`[{"messageId":"2","registrationId":"CN_c"}]`, "retry , retry , retry "},
		"said of it": {`[{"registrationId":"CN_a","errorCode":33},{"registrationId":"CN_b","errorCode":11},{"registrationId":"CN_a","errorCode":777}]`, "quota_day , retry , payload_bad "},
		"nothing":    {`null`, "accepted , accepted , accepted "},
		"no list":    {`{"messageId":"x"}`, "accepted , accepted , accepted "},
		"no objects": {`[1,2,3]`, "accepted , accepted , accepted "},
	} {
		mend := w.sim.Fail(pushtest.Fault{Status: 200, Body: `{"code":0,"message":"Success","data":` + c.data + `}`})
		var got []string
		for _, a := range w.send(message(t, 1, "CN_a"), message(t, 2, "CN_b"), message(t, 3, "CN_a")) {
			got = append(got, a.Class.String()+" "+a.ID)
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
		mend()
	}
}

// One that is wrong does not take the others of its batch with it.
func TestPoison(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.sim.SetOPPORules(pushtest.OPPORules{Categories: map[string]bool{"IM": true}}) })
	var batch []push.Notification
	for i := range 16 {
		batch = append(batch, message(t, i, token))
	}
	batch[11].Ext = golden.With(t, token, `{"pushConfigs":[{"OPPO":{"category":"NEWS","notify_level":2}}]}`).Ext
	got := w.send(batch...)
	want(t, got[11:12], push.PayloadBad, "67")
	if got[11].Without != push.OptionCategory || !got[11].Alert {
		t.Errorf("%+v", got[11])
	}
	want(t, slices.Delete(slices.Clone(got), 11, 12), push.Accepted, "0")
	if n := len(w.sim.Log(token)); n != 15 {
		t.Errorf("%d shown", n)
	}
	if n := w.sim.Stats().Requests; n != 9 { // all, then both halves of what is refused
		t.Errorf("%d requests", n)
	}
	// It goes without, and what is not there is not asked to go again.
	batch[11].Without = got[11].Without
	want(t, w.send(batch[11]), push.Accepted, "0")
	if body := w.body[len(w.body)-1]; strings.Contains(body, "category") || strings.Contains(body, "notify_level") || !strings.Contains(body, "channel_id") && batch[11].Ext.OPPO.ChannelID != "" {
		t.Error(body)
	}
	mend := w.sim.Fail(pushtest.Fault{Code: "67"})
	if got := w.send(batch[11]); got[0].Without != 0 {
		t.Errorf("%+v", got)
	}
	mend()

	// A token is dead only when it is said of it: a batch that is refused with that
	// code is tried again in parts, down to one.
	mend = w.sim.Fail(pushtest.Fault{Code: "10000", Times: 2})
	got = w.send(message(t, 101, token), message(t, 102, token), message(t, 103, token), message(t, 104, token))
	want(t, got, push.Accepted, "0")
	mend()
	// So is one that is said to be there already.
	mend = w.sim.Fail(pushtest.Fault{Code: "32", Times: 1})
	want(t, w.send(message(t, 105, token), message(t, 106, token)), push.Accepted, "0")
	mend()
	if n := len(w.sim.Log(token)); n != 22 {
		t.Errorf("%d shown", n)
	}
	// What is true of all is said of all, in one request.
	for code, class := range map[string]push.Class{"33": push.QuotaDay, "-2": push.RetryAfter, "27": push.ConfigHalt, "-1": push.Retry} {
		before := w.sim.Stats().Requests
		mend := w.sim.Fail(pushtest.Fault{Code: code})
		want(t, w.send(message(t, 1, token), message(t, 2, token)), class, code)
		mend()
		if n := w.sim.Stats().Requests - before; n != 1 {
			t.Errorf("%s: %d requests", code, n)
		}
	}
}

// Every code that is in the table comes out as its class.
func TestCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for class, codes := range map[push.Class]string{
		push.Accepted:   "32",
		push.TokenDead:  "10000",
		push.ConfigHalt: "11 29 14 15 16 17 26 27 28 30 18 19", // the first two are those of the second time
		push.RetryAfter: "13 55 -2",
		push.Retry:      "-1",
		push.QuotaDay:   "33",
		push.PayloadBad: "12 20 21 22 23 24 25 31 40 41 51 59 67 777",
	} {
		for code := range strings.FieldsSeq(codes) {
			mend := w.sim.Fail(pushtest.Fault{Code: code})
			got := w.send(golden.Example(t, token))
			mend()
			want(t, got, class, code)
			if got[0].Unknown != (code == "777") || got[0].Alert != (code == "18" || code == "19" || code == "67") {
				t.Errorf("%+v", got[0])
			}
		}
	}
	// Where the access token comes from nothing is the notification's fault.
	for class, codes := range map[push.Class]string{
		push.ConfigHalt: "11 14 15 16 17 18 19 26 27 28 30 12 20 40 41 777 10000",
		push.RetryAfter: "13 55 -2",
		push.Retry:      "-1",
		push.QuotaDay:   "33",
	} {
		for code := range strings.FieldsSeq(codes) {
			mend := w.sim.Fail(pushtest.Fault{Auth: true, Code: code})
			a := w.connect(line.Options{})
			want(t, sendBy(t, a, message(t, 1, token), message(t, 2, token)), class, code)
			if r := a.Check(t.Context()); r.Class != class || r.Code != code {
				t.Errorf("checked %s: %+v", code, r)
			}
			mend()
			a.Close()
		}
	}
}

// What the simulator itself refuses, it refuses with OPPO's codes.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	want(t, w.send(golden.Example(t, "CN_stranger")), push.TokenDead, "10000")
	w.sim.Remove("CN_dead")
	want(t, w.send(golden.Example(t, "CN_dead")), push.TokenDead, "10000")
	w.sim.SetOPPORules(pushtest.OPPORules{NoBanner: true})
	banner := golden.With(t, token, `{"pushConfigs":[{"OPPO":{"category":"IM","notify_level":16}}]}`)
	got := w.send(banner)
	want(t, got, push.PayloadBad, "67")
	banner.Without = got[0].Without
	want(t, w.send(banner), push.Accepted, "0")
	w.sim.SetOPPORules(pushtest.OPPORules{Channels: map[string]bool{"other": true}})
	want(t, w.send(message(t, 1, token)), push.PayloadBad, "41")
	w.sim.Register(pushtest.Phone{Token: "US_a"})
	w.sim.SetOPPORules(pushtest.OPPORules{Region: "cn"})
	want(t, w.send(message(t, 1, "US_a")), push.TokenDead, "10000")
	w.sim.SetOPPORules(pushtest.OPPORules{Region: "global"})
	want(t, w.send(message(t, 1, token)), push.TokenDead, "10000")
	want(t, w.send(message(t, 1, "US_a")), push.Accepted, "0")
	w.sim.SetOPPORules(pushtest.OPPORules{Daily: w.sim.Stats().Taken + 1})
	want(t, w.send(message(t, 1, token)), push.Accepted, "0")
	want(t, w.send(message(t, 2, token)), push.QuotaDay, "33")
	w.pass(24 * time.Hour)
	want(t, w.send(message(t, 2, token)), push.Accepted, "0")
}

// What goes wrong on the way is never the token's fault.
func TestTransport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	want(t, w.send(golden.Example(t, token)), push.Accepted, "0")
	quick := w.connect(line.Options{Timeout: 500 * time.Millisecond})
	want(t, sendInTime(t, quick, message(t, 1, token)), push.Accepted, "0")
	for name, c := range map[string]struct {
		fault pushtest.Fault
		class push.Class
		code  string
		after time.Duration
	}{
		"hangs":           {pushtest.Fault{Hang: true}, push.Retry, "timeout", 0},
		"drips":           {pushtest.Fault{Status: 200, Body: `{"code":0}`, Drip: true}, push.Retry, "timeout", 0},
		"resets":          {pushtest.Fault{Reset: true}, push.Retry, "transport", 0},
		"truncated":       {pushtest.Fault{Status: 200, Body: `{"code":0,"da`}, push.Retry, "unreadable", 0},
		"empty":           {pushtest.Fault{Status: 200}, push.Retry, "unreadable", 0},
		"a page":          {pushtest.Fault{Status: 502, Body: "<html>Bad gateway</html>"}, push.Retry, "http 502", 0},
		"a page, 200":     {pushtest.Fault{Status: 200, Body: "<html>Please log in</html>"}, push.Retry, "unreadable", 0},
		"redirected":      {pushtest.Fault{Status: 302, Header: map[string]string{"Location": w.address + sendPath}}, push.ConfigHalt, "http 302", 0},
		"a proxy, 403":    {pushtest.Fault{Status: 403}, push.ConfigHalt, "http 403", 0},
		"limited":         {pushtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "7"}}, push.RetryAfter, "http 429", 7 * time.Second},
		"limited by code": {pushtest.Fault{Status: 200, Header: map[string]string{"Retry-After": "3"}, Body: `{"code":-2}`}, push.RetryAfter, "-2", 3 * time.Second},
		"busy":            {pushtest.Fault{Status: 503}, push.Retry, "http 503", 0},
	} {
		a := w.adapter
		if c.code == "timeout" {
			a = quick
		}
		for _, batch := range [][]push.Notification{{message(t, 1, token)}, {message(t, 1, token), message(t, 2, token)}} {
			mend := w.sim.Fail(c.fault)
			got := sendBy(t, a, batch...)
			for _, got := range got {
				if got.Class != c.class || got.Code != c.code || got.After != c.after {
					t.Errorf("%s: %s %+v, want %s %s", name, got.Class, got, c.class, c.code)
				}
			}
			mend()
		}
	}
	want(t, w.send(message(t, 3, token)), push.Accepted, "0")
}

// Splitting a batch ends when its time does, whatever is left of it then.
func TestBatchTime(t *testing.T) {
	t.Parallel()
	for tries := 1; ; tries++ {
		w := newWorld(t, nil)
		a := w.connect(line.Options{Timeout: 500 * time.Millisecond})
		want(t, sendInTime(t, a, message(t, 1, token)), push.Accepted, "0")
		w.sim.Fail(pushtest.Fault{Code: "41", Times: 1})
		w.sim.Fail(pushtest.Fault{Hang: true})
		before := w.sim.Stats().Requests
		want(t, sendBy(t, a, message(t, 2, token), message(t, 3, token), message(t, 4, token), message(t, 5, token)), push.Retry, "timeout")
		n := w.sim.Stats().Requests - before
		if n < 2 && tries < 20 {
			continue // its time was over before it could be split
		}
		if n != 2 {
			t.Errorf("%d requests", n)
		}
		break
	}
}

// One access token is made for all who need it, and renewed before its day is over.
func TestToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	many := func(from int) {
		t.Helper()
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				n := message(t, from+i, token)
				for _, got := range w.adapter.Send(t.Context(), []*push.Notification{&n}) {
					if got.Class != push.Accepted {
						t.Errorf("%+v", got)
					}
				}
			})
		}
		wg.Wait()
	}
	many(0)
	if n := w.sim.Stats().Auths; n != 1 {
		t.Errorf("%d access tokens", n)
	}
	// Void all at once while they are in use.
	w.sim.Fail(pushtest.Fault{Revoke: true, Skip: 30, Times: 1})
	many(100)
	if s := w.sim.Stats(); s.Auths != 2 || s.Taken != 200 {
		t.Errorf("%+v", s)
	}
	w.sim.Mend()
	w.pass(19 * time.Hour)
	want(t, w.send(message(t, 200, token)), push.Accepted, "0")
	if n := w.sim.Stats().Auths; n != 2 {
		t.Errorf("%d access tokens", n)
	}
	w.pass(2 * time.Hour) // it would still be good for three
	refused := w.sim.Stats().Refused
	want(t, w.send(message(t, 201, token)), push.Accepted, "0")
	if s := w.sim.Stats(); s.Auths != 3 || s.Refused != refused {
		t.Errorf("%+v", s)
	}
	// Refused twice it is the credential.
	w.sim.Fail(pushtest.Fault{Code: "11", Times: 2})
	want(t, w.send(message(t, 202, token)), push.ConfigHalt, "11")
	w.sim.Mend()
	w.sim.Fail(pushtest.Fault{Code: "11", Times: 1})
	want(t, w.send(message(t, 203, token), message(t, 204, token)), push.Accepted, "0")
}

// Without an access token nothing is lost, unless it is the secret that is wrong.
func TestAuthDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for name, c := range map[string]struct {
		fault pushtest.Fault
		class push.Class
		code  string
	}{
		"resets":      {pushtest.Fault{Reset: true}, push.Retry, "transport"},
		"a page":      {pushtest.Fault{Status: 502, Body: "<html>"}, push.Retry, "http 502"},
		"empty":       {pushtest.Fault{Status: 200}, push.Retry, "unreadable"},
		"no token":    {pushtest.Fault{Status: 200, Body: `{"code":0,"data":{"auth_token":""}}`}, push.Retry, "unreadable"},
		"no data":     {pushtest.Fault{Status: 200, Body: `{"code":0}`}, push.Retry, "unreadable"},
		"unsaid":      {pushtest.Fault{Status: 400, Body: `nope`}, push.ConfigHalt, "http 400"},
		"not allowed": {pushtest.Fault{Status: 401}, push.ConfigHalt, "http 401"},
		"redirected":  {pushtest.Fault{Status: 307, Header: map[string]string{"Location": w.address + authPath}}, push.ConfigHalt, "http 307"},
		"limited":     {pushtest.Fault{Status: 429}, push.RetryAfter, "http 429"},
	} {
		c.fault.Auth = true
		mend := w.sim.Fail(c.fault)
		want(t, w.send(golden.Example(t, token), message(t, 1, token)), c.class, c.code)
		if r := w.adapter.Check(t.Context()); r.Class != c.class || r.Code != c.code {
			t.Errorf("%s: checked %+v", name, r)
		}
		mend()
	}
	want(t, w.send(golden.Example(t, token)), push.Accepted, "0")

	w.cred.Fields["masterSecret"] = "wrong"
	a := w.connect(line.Options{})
	want(t, sendBy(t, a, message(t, 2, token)), push.ConfigHalt, "16")
	if r := a.Check(t.Context()); r.Class != push.ConfigHalt || r.Code != "16" {
		t.Errorf("%+v", r)
	}
	if _, err := a.(push.Feedback).Dead(t.Context()); line.ResultOf(err).Code != "16" || strings.Contains(err.Error(), "wrong") {
		t.Error(err)
	}
	w.cred.Fields["masterSecret"] = w.sim.Credential("").Fields["masterSecret"]
	w.cred.Fields["appKey"] = "wrong"
	want(t, sendBy(t, w.connect(line.Options{}), message(t, 2, token)), push.ConfigHalt, "14")
	w.cred = w.sim.Credential(w.address)
	skewed, err := oppo.New(&w.cred, line.Options{Roots: w.server.Roots}, func() time.Time { return golden.Now.Add(11 * time.Minute) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(skewed.Close)
	got := sendBy(t, skewed, message(t, 2, token))
	want(t, got, push.ConfigHalt, "19")
	if !got[0].Alert {
		t.Error("nobody is told that the clock is wrong")
	}
}

// Phones in China and elsewhere are reached at different addresses, each with
// access tokens of its own, and neither waits for the other.
func TestRegions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.sim.SetOPPORules(pushtest.OPPORules{Region: "cn"}) })
	abroad := newWorld(t, func(w *world) { w.sim.SetOPPORules(pushtest.OPPORules{Region: "global"}) })
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.server.CA)
	roots.AppendCertsFromPEM(abroad.server.CA)
	home := []string{"plain", "CN_a", "OPPO_CN_a"}
	others := []string{"US_a", "OPPO_US_a", "cn_a", "CN_OPPO_a", "a_b_CN", "OPPO_CN_a_b"}
	for _, token := range home {
		w.sim.Register(pushtest.Phone{Token: token})
	}
	for _, token := range others {
		abroad.sim.Register(pushtest.Phone{Token: token})
	}
	// They are different providers here, so there is a secret for each.
	connect := func(cred chat.PushCredential, o line.Options) push.Adapter {
		o.Roots = roots
		a, err := oppo.NewAt(&cred, o, w.clock, w.address, abroad.address, w.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.Close)
		return a
	}
	for _, c := range []struct {
		cred  chat.PushCredential
		of    []string
		world *world
		not   []string
	}{{w.cred, home, w, others}, {abroad.cred, others, abroad, home}} {
		a := connect(c.cred, line.Options{})
		var batch []push.Notification
		for i, token := range slices.Concat(c.of, c.not) {
			batch = append(batch, message(t, i, token))
		}
		got := sendBy(t, a, batch...)
		want(t, got[:len(c.of)], push.Accepted, "0")
		want(t, got[len(c.of):], push.ConfigHalt, "14") // the other one does not know the key
		for i, token := range c.of {
			if shown := c.world.sim.Screen(token); len(shown) != 1 || shown[0].ID != got[i].ID {
				t.Errorf("%s: %+v", token, shown)
			}
		}
	}
	// One that hangs is not waited for by the other's.
	mend := w.sim.Fail(pushtest.Fault{Auth: true, Hang: true})
	hasty := connect(abroad.cred, line.Options{Timeout: 500 * time.Millisecond})
	got := sendBy(t, hasty, message(t, 100, "CN_a"), message(t, 101, "US_a"), message(t, 102, "US_a"))
	for tries := 1; got[1].Code == "timeout" && tries < 20; tries++ { // on the way
		got = sendBy(t, hasty, message(t, 100, "CN_a"), message(t, 101, "US_a"), message(t, 102, "US_a"))
	}
	want(t, got[:1], push.Retry, "timeout")
	want(t, got[1:], push.Accepted, "0")
	mend()

	// The credential's region is for tokens that do not say it, and for checking.
	for _, c := range []struct {
		region string
		odd    string
		check  string
	}{{"", "global", "cn"}, {"cn", "cn", "cn"}, {"global", "global", "global"}} {
		w.paths()
		abroad.paths()
		cred := w.cred
		cred.Fields = maps.Clone(cred.Fields)
		if c.region != "" {
			cred.Fields["region"] = c.region
		}
		a := connect(cred, line.Options{})
		asked := func() (list []string) {
			if len(w.paths()) > 0 {
				list = append(list, "cn")
			}
			if len(abroad.paths()) > 0 {
				list = append(list, "global")
			}
			return list
		}
		a.Check(t.Context())
		if got := asked(); !slices.Equal(got, []string{c.check}) {
			t.Errorf("%q: checked at %s", c.region, got)
		}
		sendBy(t, a, message(t, 1, "a_b_c_d"))
		if got := asked(); !slices.Equal(got, []string{c.odd}) {
			t.Errorf("%q: sent to %s", c.region, got)
		}
		sendBy(t, a, message(t, 2, "CN_x"))
		if got := asked(); !slices.Equal(got, []string{"cn"}) {
			t.Errorf("%q: China's sent to %s", c.region, got)
		}
	}
	// One address takes the place of all, and there is one access token.
	abroad.sim.SetOPPORules(pushtest.OPPORules{})
	abroad.sim.Register(pushtest.Phone{Token: "CN_a"})
	a := abroad.connect(line.Options{})
	want(t, sendBy(t, a, message(t, 201, "CN_a"), message(t, 202, "US_a")), push.Accepted, "0")
	if cn, global := oppo.Made(a); cn != 1 || global != 1 || !slices.Equal(abroad.paths(), []string{authPath, batchPath}) {
		t.Errorf("%d and %d access tokens", cn, global)
	}
}

// The list of dead tokens is told once, however long it is.
func TestDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	feedback := w.adapter.(push.Feedback)
	if list, err := feedback.Dead(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	var all []string
	for i := range 1001 {
		all = append(all, fmt.Sprintf("CN_%s%04d", strings.Repeat("x", 90), i))
		w.sim.Remove(all[i])
	}
	w.sim.Revoke()
	list, err := feedback.Dead(t.Context())
	if err != nil || !slices.Equal(list, all[:1000]) {
		t.Fatalf("%d, %v", len(list), err)
	}
	if list, err = feedback.Dead(t.Context()); err != nil || !slices.Equal(list, all[1000:]) {
		t.Fatalf("%v, %v", list, err)
	}
	w.sim.SetOPPORules(pushtest.OPPORules{Feedback: time.Hour})
	for name, c := range map[string]struct {
		fault pushtest.Fault
		class push.Class
		code  string
	}{
		"too often": {pushtest.Fault{Times: 1, Skip: 1000}, push.RetryAfter, "13"},
		"truncated": {pushtest.Fault{Status: 200, Body: `{"code":0,"data":{"registration_ids":["a"`}, push.Retry, "unreadable"},
		"no list":   {pushtest.Fault{Status: 200, Body: `{"code":0,"data":{"registration_ids":7}}`}, push.Retry, "unreadable"},
		"what":      {pushtest.Fault{Code: "32"}, push.Retry, "unreadable"},
		"refused":   {pushtest.Fault{Code: "27"}, push.ConfigHalt, "27"},
		"reset":     {pushtest.Fault{Reset: true}, push.Retry, "transport"},
	} {
		mend := w.sim.Fail(c.fault)
		list, err := feedback.Dead(t.Context())
		if r := line.ResultOf(err); err == nil || list != nil || r.Class != c.class || r.Code != c.code {
			t.Errorf("%s: %v, %v", name, list, err)
		}
		mend()
	}
}

// The simulator is not blind: whatever is wrong with a request is refused.
func TestSimulator(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.server.Roots}}}
	t.Cleanup(client.CloseIdleConnections)
	ask := func(method, path, kind string, form url.Values) string {
		r, err := http.NewRequestWithContext(t.Context(), method, w.address+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			Code push.Code `json:"code"`
		}
		push.ReadJSON(text, &v)
		return string(v.Code)
	}
	const kind = "application/x-www-form-urlencoded"
	// alter is a form with a field set, or without it where there is a minus.
	alter := func(form url.Values, change string) url.Values {
		form = maps.Clone(form)
		if name, ok := strings.CutPrefix(change, "-"); ok {
			form.Del(name)
		} else {
			name, value, _ := strings.Cut(change, "=")
			form.Set(name, value)
		}
		return form
	}
	key, secret := w.cred.Fields["appKey"], w.cred.Fields["masterSecret"]
	signed := func(at time.Time) url.Values {
		stamp := strconv.FormatInt(at.UnixMilli(), 10)
		sum := sha256.Sum256([]byte(key + stamp + secret))
		return url.Values{"app_key": {key}, "timestamp": {stamp}, "sign": {hex.EncodeToString(sum[:])}}
	}
	for at, code := range map[time.Duration]string{0: "0", 10 * time.Minute: "0", -10 * time.Minute: "0", 601 * time.Second: "19", -601 * time.Second: "19"} {
		if got := ask("POST", authPath, kind, signed(golden.Now.Add(at))); got != code {
			t.Errorf("signed %s from now: %s", at, got)
		}
	}
	for change, code := range map[string]string{
		"-app_key": "15", "app_key=x": "14", "-timestamp": "18", "timestamp=1800000000": "19", "timestamp=x": "19", "-sign": "17",
		"sign=" + strings.Repeat("0", 64): "16", "sign=" + strings.ToUpper(signed(golden.Now).Get("sign")): "16", "other=x": "41",
	} {
		if got := ask("POST", authPath, kind, alter(signed(golden.Now), change)); got != code {
			t.Errorf("%s: %s, want %s", change, got, code)
		}
	}
	for want, r := range map[string][3]string{"12": {"GET", authPath, kind}, "41": {"POST", authPath, "application/json"}, "20": {"POST", "/server/v1/other", kind}} {
		if got := ask(r[0], r[1], r[2], signed(golden.Now)); got != want {
			t.Errorf("%s: %s", r, got)
		}
	}

	want(t, w.send(golden.Example(t, token)), push.Accepted, "0")
	good, err := url.ParseQuery(w.body[len(w.body)-1])
	if err != nil {
		t.Fatal(err)
	}
	ids := 0
	// change is a message in which a text is another, as one that was not sent before.
	change := func(old, with string) string {
		ids++
		text := strings.Replace(good.Get("message"), "F553-G4KW-2J25-2229", fmt.Sprintf("id%d", ids), 1)
		if !strings.Contains(text, old) {
			t.Fatalf("%s is not in %s", old, text)
		}
		return strings.Replace(text, old, with, 1)
	}
	both := func(text string) [2]url.Values {
		auth := good.Get("auth_token")
		return [2]url.Values{{"auth_token": {auth}, "message": {text}}, {"auth_token": {auth}, "messages": {"[" + change("", "") + "," + text + "]"}}}
	}
	for _, c := range []struct{ old, with, code string }{
		{"", "", "0"},
		{`"target_type":2`, `"target_type":5`, "41"}, {`"target_type":2`, `"target_type":"2"`, "41"}, {`"target_type":2,`, "", "40"},
		{`"target_value":"OPPO_CN_7ab8"`, `"target_value":""`, "40"}, {`OPPO_CN_7ab8`, `OPPO_CN_7ab8;x`, "41"},
		{`"target_value"`, `"registration_id"`, "41"}, {`"channel_id"`, `"channelId"`, "41"}, {`"notification"`, `"Notification"`, "41"},
		{`"title":"you have a new message."`, `"title":""`, "40"}, {"you have a new message.", strings.Repeat("😀", 50), "0"}, {"you have a new message.", strings.Repeat("😀", 51), "41"},
		{`1 < 2 & \"so\" on 👍🏽`, strings.Repeat("x", 50), "0"}, {`1 < 2 & \"so\" on 👍🏽`, strings.Repeat("x", 51), "41"}, {`1 < 2 & \"so\" on 👍🏽`, "", "40"},
		{`"style":1`, `"style":3`, "41"}, {`"style":1`, `"style":2,"sub_title":"12345678901"`, "41"}, {`"style":1`, `"style":2,"big_picture_id":"x"`, "41"},
		{`"click_action_type":0`, `"click_action_type":1`, "40"}, {`"click_action_type":0`, `"click_action_type":2`, "40"}, {`"click_action_type":0`, `"click_action_type":3`, "41"},
		{`"click_action_type":0`, `"click_action_type":4,"click_action_activity":"a"`, "0"}, {`"click_action_type":0`, `"click_action_type":5,"click_action_url":"` + strings.Repeat("x", 2001) + `"`, "41"},
		{`"off_line":true`, `"off_line":"true"`, "41"}, {`"off_line_ttl":129590`, `"off_line_ttl":129590000`, "41"}, {`"off_line_ttl":129590`, `"off_line_ttl":0`, "41"}, {`"off_line_ttl":129590`, `"off_line_ttl":"129590"`, "41"},
		{`"notify_id":6970990`, `"notify_id":-1`, "41"}, {`"notify_id":6970990`, `"notify_id":4294967296`, "41"},
		{`"category":"IM",`, "", "67"}, {`"category":"IM"`, `"category":""`, "67"}, {`"notify_level":2`, `"notify_level":3`, "67"}, {`"notify_level":2`, `"notify_level":16`, "0"},
		{`"action_parameters":"{`, `"action_parameters":"x{`, "41"}, {`"notify_level":2`, `"private_title_parameters":"{}"`, "40"}, {`"notify_level":2`, `"private_msg_template_id":"P","private_title_parameters":"x"`, "41"},
		{`"notify_level":2`, `"call_back_parameter":"` + strings.Repeat("x", 101) + `"`, "41"},
		{`"OPPO_CN_7ab8"`, `"CN_stranger"`, "10000"},
	} {
		for i, form := range both(change(c.old, c.with)) {
			want := c.code
			if want == "10000" && i == 1 {
				want = "0" // which is said of the item
			}
			if got := ask("POST", []string{sendPath, batchPath}[i], kind, form); got != want {
				t.Errorf("%.60s: %.60s: %s, want %s", c.old, c.with, got, want)
			}
		}
	}
	for change, code := range map[string]string{"-auth_token": "29", "auth_token=": "29", "auth_token=x": "11", "-message": "40", "message=x": "41", "message=null": "40", "message=[]": "41", "x=y": "41", "target_value=x": "41"} {
		if got := ask("POST", sendPath, kind, alter(good, change)); got != code {
			t.Errorf("%s: %s, want %s", change, got, code)
		}
	}
	auth := url.Values{"auth_token": good["auth_token"]}
	for text, code := range map[string]string{"": "40", "[]": "41", "{}": "41", "[" + strings.Repeat("{},", 1000) + "{}]": "41", "[{}]": "40"} {
		if got := ask("POST", batchPath, kind, alter(auth, "messages="+text)); got != code {
			t.Errorf("batch of %.20s: %s, want %s", text, got, code)
		}
	}
	if got := ask("POST", sendPath, kind, good); got != "32" {
		t.Errorf("again: %s", got)
	}
	if got := ask("GET", "/server/v1/feedback/fetch_invalid_regidList?auth_token="+good.Get("auth_token"), kind, nil); got != "0" {
		t.Errorf("feedback: %s", got)
	}
	if got := ask("GET", "/server/v1/feedback/fetch_invalid_regidList", kind, nil); got != "29" {
		t.Errorf("feedback: %s", got)
	}
	w.pass(24 * time.Hour)
	if got := ask("POST", sendPath, kind, good); got != "11" {
		t.Errorf("after a day: %s", got)
	}
}

// Credentials that cannot be are refused, without telling what is in them.
func TestNew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cred chat.PushCredential
		want string
	}{
		"another's": {chat.PushCredential{Provider: chat.MI, Fields: map[string]string{"appSecret": "hush"}}, "provider: must be OPPO"},
		"no secret": {chat.PushCredential{Provider: chat.OPPO, Fields: map[string]string{"appKey": "a"}}, "masterSecret: is required for OPPO"},
		"region":    {chat.PushCredential{Provider: chat.OPPO, Fields: map[string]string{"appKey": "a", "masterSecret": "hush", "region": "moon"}}, "region: one of cn, global"},
		"level":     {chat.PushCredential{Provider: chat.OPPO, Fields: map[string]string{"appKey": "a", "masterSecret": "hush", "notifyLevel": "3"}}, "notifyLevel: one of 1, 2, 16"},
		"a space":   {chat.PushCredential{Provider: chat.OPPO, Fields: map[string]string{"appKey": "a", "masterSecret": "hush hush"}}, "masterSecret: must be printable ASCII characters without spaces"},
	} {
		a, err := oppo.New(&c.cred, line.Options{}, time.Now)
		if a != nil || err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
