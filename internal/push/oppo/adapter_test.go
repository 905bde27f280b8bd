package oppo

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/pushtest"
)

const token = "OPPO_CN_7ab8"

var provider = golden.Provider{
	Sim: pushtest.NewOPPO, New: New, Accepts: `{"code":0}`, Once: true,
	Gone:   `{"code":10000}`,
	Phone:  pushtest.Phone{Token: token},
	Spoil:  func(c *chat.PushCredential) { c.Fields["masterSecret"] = "wrong" },
	Grants: true, Life: renewal, Good: lifetime,
	Bearer: func(s golden.Seen) string {
		form, _ := url.ParseQuery(s.Body)
		return form.Get("auth_token")
	},
	Otherwise: map[string]golden.Outcome{
		"wait until":    {Class: push.Retry, Code: "http 503", After: time.Minute},
		"wait for days": {Class: push.Retry, Code: "http 503", After: push.MaxRetryAfter},
	},
	Refusals: refusals(),
}

// refusals are what comes of asking for access tokens in vain: nothing of that is the
// notification's fault.
func refusals() map[string]golden.Refusal {
	all := map[string]golden.Refusal{
		"down":         {Fault: pushtest.Fault{Reset: true}, Outcome: golden.Outcome{Class: push.Retry, Code: "transport"}},
		"a page":       {Fault: pushtest.Fault{Status: 502, Body: "<html>"}, Outcome: golden.Outcome{Class: push.Retry, Code: "http 502"}},
		"says nothing": {Fault: pushtest.Fault{Status: 200}, Outcome: golden.Outcome{Class: push.Retry, Code: "unreadable"}},
		"no token":     {Fault: pushtest.Fault{Status: 200, Body: `{"code":0,"data":{"auth_token":""}}`}, Outcome: golden.Outcome{Class: push.Retry, Code: "unreadable"}},
		"no data":      {Fault: pushtest.Fault{Status: 200, Body: `{"code":0}`}, Outcome: golden.Outcome{Class: push.Retry, Code: "unreadable"}},
		"unsaid":       {Fault: pushtest.Fault{Status: 400, Body: `nope`}, Outcome: golden.Outcome{Class: push.ConfigHalt, Code: "http 400"}},
		"not allowed":  {Fault: pushtest.Fault{Status: 401}, Outcome: golden.Outcome{Class: push.ConfigHalt, Code: "http 401"}},
		"elsewhere":    {Fault: pushtest.Fault{Status: 307, Header: map[string]string{"Location": "https://127.0.0.1:1/"}}, Outcome: golden.Outcome{Class: push.ConfigHalt, Code: "http 307"}},
		"limited":      {Fault: pushtest.Fault{Status: 429}, Outcome: golden.Outcome{Class: push.RetryAfter, Code: "http 429"}},
	}
	for class, codes := range map[push.Class]string{
		push.ConfigHalt: "11 14 15 16 17 18 19 26 27 28 30 12 20 40 41 777 10000",
		push.RetryAfter: "13 55 -2",
		push.Retry:      "-1",
		push.QuotaDay:   "33",
	} {
		for code := range strings.FieldsSeq(codes) {
			all[code] = golden.Refusal{Fault: pushtest.Fault{Code: code}, Outcome: golden.Outcome{Class: class, Code: code}}
		}
	}
	return all
}

func TestMain(m *testing.M)      { provider.Main(m) }
func TestProvider(t *testing.T)  { provider.All(t) }
func BenchmarkSend(b *testing.B) { provider.Bench(b) }

// Every code that is in the table comes out as its class.
func TestProvoke(t *testing.T) {
	all := maps.Clone(classes)
	all["777"] = push.Result{Class: push.PayloadBad, Unknown: true}
	provider.Provoke(t, all)
}

// send sends a batch.
func send(t *testing.T, a push.Adapter, batch ...push.Notification) []push.Attempt {
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

// sendInTime is send by a line with little time, which may run out on the way, but
// not always.
func sendInTime(t *testing.T, a push.Adapter, n push.Notification) []push.Attempt {
	got := send(t, a, n)
	for tries := 1; got[0].Code == "timeout" && tries < 100; tries++ {
		got = send(t, a, n)
	}
	return got
}

func want(t *testing.T, got []push.Attempt, class push.Class, code string) {
	t.Helper()
	for i := range got {
		golden.Want(t, fmt.Sprint(i), got[i].Result, class, code)
	}
}

// numbered is the example as the n-th message, for a token.
func numbered(t *testing.T, n int, token string) push.Notification {
	m := golden.Example(t, token)
	m.UID = chat.NewUID(golden.Now.UnixMilli(), chat.Direct, 3, uint32(n))
	m.Title = fmt.Sprintf("title %d", n)
	return m
}

// paths are those that were asked for, without the first so many.
func paths(r *golden.Rig, before int) (list []string) {
	for _, s := range r.Seen()[before:] {
		list = append(list, s.Request.URL.Path)
	}
	return list
}

// last is the body of the last request.
func last(r *golden.Rig) string {
	seen := r.Seen()
	return seen[len(seen)-1].Body
}

// What arrives is what OPPO wants, for everything that the sender asks for.
func TestReceived(t *testing.T) {
	t.Parallel()
	stamp := strconv.FormatInt(golden.Now.UnixMilli(), 10)
	hide := func(r *golden.Rig) map[string]string {
		key := r.Credential.Fields["appKey"]
		sum := sha256.Sum256([]byte(key + stamp + r.Credential.Fields["masterSecret"]))
		return map[string]string{key: "key", stamp: "time", hex.EncodeToString(sum[:]): "sign", provider.Bearer(r.Seen()[1]): "token"}
	}
	r := provider.Received(t, "received.txt", "auth.txt", golden.Options{Credential: func(c *chat.PushCredential) {
		c.Fields["channelId"], c.Fields["notifyLevel"] = "default", "16"
	}}, nil, hide)
	other := golden.With(t, token, `{"pushConfigs":[{"OPPO":{"category":"IM"}}]}`)
	other.UID, other.Body = chat.NewUID(golden.Now.UnixMilli(), chat.Direct, 3, 8), "another"
	want(t, send(t, r, numbered(t, 7, token), other), push.Accepted, "0")
	batch := r.Seen()[2]
	golden.CheckText(t, "batch.txt", golden.Received(batch.Request, batch.Body, hide(r)))
	if s := r.Sim.Stats(); s.Taken != 3 || s.Refused != 0 || s.Odd != 0 || s.Auths != 1 || s.Requests != 2 {
		t.Errorf("%+v", s)
	}
}

// What is sent again is not shown again, even if the first answer got lost; a
// recall takes the place of what it recalls.
func TestOnce(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	first, recall := golden.Example(t, token), numbered(t, 9, token)
	recall.Removes = first.UID
	w.Sim.Fail(pushtest.Fault{Lost: true, Times: 1})
	want(t, send(t, w, first), push.Retry, "transport")
	want(t, send(t, w, first), push.Accepted, "32")
	want(t, send(t, w, first, first), push.Accepted, "32")
	if log := w.Sim.Log(token); len(log) != 1 {
		t.Fatalf("%+v", log)
	}
	got := send(t, w, first, numbered(t, 8, token), recall)
	want(t, got[:1], push.Accepted, "32")
	want(t, got[1:], push.Accepted, "0")
	if shown := w.Sim.Screen(token); len(shown) != 2 || shown[1].Removes != first.UID.String() {
		t.Errorf("shown %+v", shown)
	}
}

// Every item of a batch has its own outcome, in our order.
func TestBatch(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	w.Sim.Register(pushtest.Phone{Token: "CN_dead"})
	w.Sim.Remove("CN_dead")
	silent, late := numbered(t, 3, token), numbered(t, 4, token)
	silent.Silent = true
	late.Expires = golden.Now
	got := send(t, w, numbered(t, 1, token), numbered(t, 2, "CN_dead"), silent, late, numbered(t, 5, "CN_stranger"), numbered(t, 6, token))
	for i, c := range []struct {
		class push.Class
		code  string
	}{{push.Accepted, "0"}, {push.TokenDead, "10000"}, {push.PayloadBad, "silent"}, {push.PayloadBad, "expired"}, {push.TokenDead, "10000"}, {push.Accepted, "0"}} {
		want(t, got[i:i+1], c.class, c.code)
	}
	if shown := w.Sim.Screen(token); len(shown) != 2 || shown[0].Title != "title 1" || shown[1].Title != "title 6" || shown[1].ID != got[5].ID || got[1].ID != "" {
		t.Errorf("%+v, attempts %+v", shown, got)
	}
	if paths := paths(w, 0); !slices.Equal(paths, []string{authPath, batchPath}) {
		t.Error(paths)
	}
	want(t, send(t, w), 0, "")
	if n := w.Adapter.Batch(); n < 2 || n > 1000 {
		t.Errorf("batches of %d", n)
	}
	// A whole one is answered within what is read of an answer.
	var batch []push.Notification
	for i := range w.Adapter.Batch() {
		batch = append(batch, numbered(t, 100+i, "CN_"+strings.Repeat("x", 60)+strconv.Itoa(i)))
	}
	want(t, send(t, w, batch...), push.TokenDead, "10000")
}

// Answers are matched by tokens where they come in another order, and what is not
// in them is tried again.
func TestBatchAnswers(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
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
		mend := w.Sim.Fail(pushtest.Fault{Status: 200, Body: `{"code":0,"message":"Success","data":` + c.data + `}`})
		var got []string
		for _, a := range send(t, w, numbered(t, 1, "CN_a"), numbered(t, 2, "CN_b"), numbered(t, 3, "CN_a")) {
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
	w := provider.Start(t, golden.Options{})
	w.Sim.SetOPPORules(pushtest.OPPORules{Categories: map[string]bool{"IM": true}})
	var batch []push.Notification
	for i := range 16 {
		batch = append(batch, numbered(t, i, token))
	}
	batch[11].Ext = golden.With(t, token, `{"pushConfigs":[{"OPPO":{"category":"NEWS","notify_level":2}}]}`).Ext
	got := send(t, w, batch...)
	want(t, got[11:12], push.PayloadBad, "67")
	if got[11].Without != push.OptionCategory || !got[11].Alert {
		t.Errorf("%+v", got[11])
	}
	want(t, slices.Delete(slices.Clone(got), 11, 12), push.Accepted, "0")
	if n := len(w.Sim.Log(token)); n != 15 {
		t.Errorf("%d shown", n)
	}
	if n := w.Sim.Stats().Requests; n != 9 { // all, then both halves of what is refused
		t.Errorf("%d requests", n)
	}
	// It goes without, and what is not there is not asked to go again.
	batch[11].Without = got[11].Without
	want(t, send(t, w, batch[11]), push.Accepted, "0")
	if body := last(w); strings.Contains(body, "category") || strings.Contains(body, "notify_level") || !strings.Contains(body, "channel_id") && batch[11].Ext.OPPO.ChannelID != "" {
		t.Error(body)
	}
	mend := w.Sim.Fail(pushtest.Fault{Code: "67"})
	if got := send(t, w, batch[11]); got[0].Without != 0 {
		t.Errorf("%+v", got)
	}
	mend()

	// A token is dead only when it is said of it: a batch that is refused with that
	// code is tried again in parts, down to one.
	mend = w.Sim.Fail(pushtest.Fault{Code: "10000", Times: 2})
	got = send(t, w, numbered(t, 101, token), numbered(t, 102, token), numbered(t, 103, token), numbered(t, 104, token))
	want(t, got, push.Accepted, "0")
	mend()
	// So is one that is said to be there already.
	mend = w.Sim.Fail(pushtest.Fault{Code: "32", Times: 1})
	want(t, send(t, w, numbered(t, 105, token), numbered(t, 106, token)), push.Accepted, "0")
	mend()
	if n := len(w.Sim.Log(token)); n != 22 {
		t.Errorf("%d shown", n)
	}
	// What is true of all is said of all, in one request.
	for code, class := range map[string]push.Class{"33": push.QuotaDay, "-2": push.RetryAfter, "27": push.ConfigHalt, "-1": push.Retry} {
		before := w.Sim.Stats().Requests
		mend := w.Sim.Fail(pushtest.Fault{Code: code})
		want(t, send(t, w, numbered(t, 1, token), numbered(t, 2, token)), class, code)
		mend()
		if n := w.Sim.Stats().Requests - before; n != 1 {
			t.Errorf("%s: %d requests", code, n)
		}
	}
}

// What the simulator itself refuses, it refuses with OPPO's codes.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	want(t, send(t, w, golden.Example(t, "CN_stranger")), push.TokenDead, "10000")
	w.Sim.Remove("CN_dead")
	want(t, send(t, w, golden.Example(t, "CN_dead")), push.TokenDead, "10000")
	w.Sim.SetOPPORules(pushtest.OPPORules{NoBanner: true})
	banner := golden.With(t, token, `{"pushConfigs":[{"OPPO":{"category":"IM","notify_level":16}}]}`)
	got := send(t, w, banner)
	want(t, got, push.PayloadBad, "67")
	banner.Without = got[0].Without
	want(t, send(t, w, banner), push.Accepted, "0")
	w.Sim.SetOPPORules(pushtest.OPPORules{Channels: map[string]bool{"other": true}})
	want(t, send(t, w, numbered(t, 1, token)), push.PayloadBad, "41")
	w.Sim.Register(pushtest.Phone{Token: "US_a"})
	w.Sim.SetOPPORules(pushtest.OPPORules{Region: "cn"})
	want(t, send(t, w, numbered(t, 1, "US_a")), push.TokenDead, "10000")
	w.Sim.SetOPPORules(pushtest.OPPORules{Region: "global"})
	want(t, send(t, w, numbered(t, 1, token)), push.TokenDead, "10000")
	want(t, send(t, w, numbered(t, 1, "US_a")), push.Accepted, "0")
	w.Sim.SetOPPORules(pushtest.OPPORules{Daily: w.Sim.Stats().Taken + 1})
	want(t, send(t, w, numbered(t, 1, token)), push.Accepted, "0")
	want(t, send(t, w, numbered(t, 2, token)), push.QuotaDay, "33")
	w.Pass(24 * time.Hour)
	want(t, send(t, w, numbered(t, 2, token)), push.Accepted, "0")
}

// What goes wrong on the way is said of all of a batch.
func TestBatchFaults(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	for name, c := range map[string]golden.Refusal{
		"resets":          {Fault: pushtest.Fault{Reset: true}, Outcome: golden.Outcome{Class: push.Retry, Code: "transport"}},
		"truncated":       {Fault: pushtest.Fault{Status: 200, Body: `{"code":0,"da`}, Outcome: golden.Outcome{Class: push.Retry, Code: "unreadable"}},
		"a page":          {Fault: pushtest.Fault{Status: 502, Body: "<html>Bad gateway</html>"}, Outcome: golden.Outcome{Class: push.Retry, Code: "http 502"}},
		"a proxy, 403":    {Fault: pushtest.Fault{Status: 403}, Outcome: golden.Outcome{Class: push.ConfigHalt, Code: "http 403"}},
		"limited":         {Fault: pushtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "7"}}, Outcome: golden.Outcome{Class: push.RetryAfter, Code: "http 429", After: 7 * time.Second}},
		"limited by code": {Fault: pushtest.Fault{Status: 200, Header: map[string]string{"Retry-After": "3"}, Body: `{"code":-2}`}, Outcome: golden.Outcome{Class: push.RetryAfter, Code: "-2", After: 3 * time.Second}},
		"no access token": {Fault: pushtest.Fault{Auth: true, Status: 502}, Outcome: golden.Outcome{Class: push.Retry, Code: "http 502"}},
	} {
		w.Sim.Revoke()
		w.Pass(24 * time.Hour)
		mend := w.Sim.Fail(c.Fault)
		for _, got := range send(t, w, w.Example(token), w.Example(token)) {
			c.Is(t, name, got.Result)
		}
		mend()
	}
	want(t, send(t, w, w.Example(token)), push.Accepted, "0")
}

// Splitting a batch ends when its time does, whatever is left of it then.
func TestBatchTime(t *testing.T) {
	t.Parallel()
	for tries := 1; ; tries++ {
		w := provider.Start(t, golden.Options{})
		a := w.With(t, line.Options{Roots: w.Server.Roots, Timeout: 500 * time.Millisecond}, nil)
		want(t, sendInTime(t, a, numbered(t, 1, token)), push.Accepted, "0")
		w.Sim.Fail(pushtest.Fault{Code: "41", Times: 1})
		w.Sim.Fail(pushtest.Fault{Hang: true})
		before := w.Sim.Stats().Requests
		want(t, send(t, a, numbered(t, 2, token), numbered(t, 3, token), numbered(t, 4, token), numbered(t, 5, token)), push.Retry, "timeout")
		n := w.Sim.Stats().Requests - before
		if n < 2 && tries < 20 {
			continue // its time was over before it could be split
		}
		if n != 2 {
			t.Errorf("%d requests", n)
		}
		break
	}
}

// What is wrong with the credential, or with the clock, is said.
func TestCredential(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	a := w.With(t, w.Roots, provider.Spoil)
	want(t, send(t, a, numbered(t, 2, token)), push.ConfigHalt, "16")
	if r := a.Check(t.Context()); r.Class != push.ConfigHalt || r.Code != "16" {
		t.Errorf("%+v", r)
	}
	if _, err := a.(push.Feedback).Dead(t.Context()); line.ResultOf(err).Code != "16" || strings.Contains(err.Error(), "wrong") {
		t.Error(err)
	}
	other := w.With(t, w.Roots, func(c *chat.PushCredential) { c.Fields["appKey"] = "wrong" })
	want(t, send(t, other, numbered(t, 2, token)), push.ConfigHalt, "14")
	skewed, err := New(&w.Credential, line.Options{Roots: w.Server.Roots}, func() time.Time { return golden.Now.Add(11 * time.Minute) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(skewed.Close)
	got := send(t, skewed, numbered(t, 2, token))
	want(t, got, push.ConfigHalt, "19")
	if !got[0].Alert {
		t.Error("nobody is told that the clock is wrong")
	}
}

// Phones in China and elsewhere are reached at different addresses, each with
// access tokens of its own, and neither waits for the other.
func TestRegions(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	w.Sim.SetOPPORules(pushtest.OPPORules{Region: "cn"})
	abroad := provider.Start(t, golden.Options{})
	abroad.Sim.SetOPPORules(pushtest.OPPORules{Region: "global"})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.Server.CA)
	roots.AppendCertsFromPEM(abroad.Server.CA)
	home := []string{"plain", "CN_a", "OPPO_CN_a"}
	others := []string{"US_a", "OPPO_US_a", "cn_a", "CN_OPPO_a", "a_b_CN", "OPPO_CN_a_b"}
	for _, token := range home {
		w.Sim.Register(pushtest.Phone{Token: token})
	}
	for _, token := range others {
		abroad.Sim.Register(pushtest.Phone{Token: token})
	}
	// They are different providers here, so there is a secret for each.
	connect := func(cred chat.PushCredential, o line.Options) push.Adapter {
		o.Roots = roots
		a, err := NewAt(&cred, o, w.Now, w.Credential.BaseURL, abroad.Credential.BaseURL, w.Credential.BaseURL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.Close)
		return a
	}
	for _, c := range []struct {
		cred  chat.PushCredential
		of    []string
		world *golden.Rig
		not   []string
	}{{w.Credential, home, w, others}, {abroad.Credential, others, abroad, home}} {
		a := connect(c.cred, line.Options{})
		var batch []push.Notification
		for i, token := range slices.Concat(c.of, c.not) {
			batch = append(batch, numbered(t, i, token))
		}
		got := send(t, a, batch...)
		want(t, got[:len(c.of)], push.Accepted, "0")
		want(t, got[len(c.of):], push.ConfigHalt, "14") // the other one does not know the key
		for i, token := range c.of {
			if shown := c.world.Sim.Screen(token); len(shown) != 1 || shown[0].ID != got[i].ID {
				t.Errorf("%s: %+v", token, shown)
			}
		}
	}
	// One that hangs is not waited for by the other's.
	mend := w.Sim.Fail(pushtest.Fault{Auth: true, Hang: true})
	hasty := connect(abroad.Credential, line.Options{Timeout: 500 * time.Millisecond})
	got := send(t, hasty, numbered(t, 100, "CN_a"), numbered(t, 101, "US_a"), numbered(t, 102, "US_a"))
	for tries := 1; got[1].Code == "timeout" && tries < 20; tries++ { // on the way
		got = send(t, hasty, numbered(t, 100, "CN_a"), numbered(t, 101, "US_a"), numbered(t, 102, "US_a"))
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
		home, away := len(w.Seen()), len(abroad.Seen())
		cred := w.Credential
		cred.Fields = maps.Clone(cred.Fields)
		if c.region != "" {
			cred.Fields["region"] = c.region
		}
		a := connect(cred, line.Options{})
		asked := func() (list []string) {
			if len(w.Seen()) > home {
				list = append(list, "cn")
			}
			if len(abroad.Seen()) > away {
				list = append(list, "global")
			}
			home, away = len(w.Seen()), len(abroad.Seen())
			return list
		}
		a.Check(t.Context())
		if got := asked(); !slices.Equal(got, []string{c.check}) {
			t.Errorf("%q: checked at %s", c.region, got)
		}
		send(t, a, numbered(t, 1, "a_b_c_d"))
		if got := asked(); !slices.Equal(got, []string{c.odd}) {
			t.Errorf("%q: sent to %s", c.region, got)
		}
		send(t, a, numbered(t, 2, "CN_x"))
		if got := asked(); !slices.Equal(got, []string{"cn"}) {
			t.Errorf("%q: China's sent to %s", c.region, got)
		}
	}
	// One address takes the place of all, and there is one access token.
	abroad.Sim.SetOPPORules(pushtest.OPPORules{})
	abroad.Sim.Register(pushtest.Phone{Token: "CN_a"})
	before := len(abroad.Seen())
	a := abroad.With(t, abroad.Roots, nil)
	want(t, send(t, a, numbered(t, 201, "CN_a"), numbered(t, 202, "US_a")), push.Accepted, "0")
	if cn, global := Made(a); cn != 1 || global != 1 || !slices.Equal(paths(abroad, before), []string{authPath, batchPath}) {
		t.Errorf("%d and %d access tokens", cn, global)
	}
}

// The list of dead tokens is told once, however long it is.
func TestDead(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	feedback := w.Adapter.(push.Feedback)
	if list, err := feedback.Dead(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	var all []string
	for i := range 1001 {
		all = append(all, fmt.Sprintf("CN_%s%04d", strings.Repeat("x", 90), i))
		w.Sim.Remove(all[i])
	}
	w.Sim.Revoke()
	list, err := feedback.Dead(t.Context())
	if err != nil || !slices.Equal(list, all[:1000]) {
		t.Fatalf("%d, %v", len(list), err)
	}
	if list, err = feedback.Dead(t.Context()); err != nil || !slices.Equal(list, all[1000:]) {
		t.Fatalf("%v, %v", list, err)
	}
	w.Sim.SetOPPORules(pushtest.OPPORules{Feedback: time.Hour})
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
		mend := w.Sim.Fail(c.fault)
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
	w := provider.Start(t, golden.Options{})
	ask := func(method, path, kind string, form url.Values) string {
		a := w.Ask(t, push.Request{Method: method, Path: path, Header: map[string]string{"Content-Type": kind}, Body: []byte(form.Encode())})
		var v struct {
			Code push.Code `json:"code"`
		}
		push.ReadJSON(a.Body, &v)
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
	key, secret := w.Credential.Fields["appKey"], w.Credential.Fields["masterSecret"]
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

	want(t, send(t, w, golden.Example(t, token)), push.Accepted, "0")
	good, err := url.ParseQuery(last(w))
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
	w.Pass(24 * time.Hour)
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
		a, err := New(&c.cred, line.Options{}, time.Now)
		if a != nil || err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
