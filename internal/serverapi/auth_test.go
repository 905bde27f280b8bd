package serverapi

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/parleychat/parley/internal/chat"
)

// sample is a call that is cheap and always fine when its headers are.
const sample = `{"userId":"nobody"}`

func TestSigningHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const now = 1795320000000 // the clock of a new world
	nowText := strconv.Itoa(now)
	key, secret := w.app.Key, w.app.Secret
	type headers map[string]string
	good := func(nonce, ts string) headers {
		return headers{"App-Key": key, "Nonce": nonce, "Timestamp": ts, "Signature": sha1Hex(secret + nonce + ts)}
	}
	change := func(h headers, pairs ...string) headers {
		for i := 0; i < len(pairs); i += 2 {
			if delete(h, pairs[i]); pairs[i+1] != "" {
				h[pairs[i]] = pairs[i+1]
			}
		}
		return h
	}
	signedAs := func(nonce, ts, text string) headers { return change(good(nonce, ts), "Signature", sha1Hex(text)) }
	hmacOf := func(text string) string {
		m := hmac.New(sha1.New, []byte(secret))
		m.Write([]byte(text))
		return hex.EncodeToString(m.Sum(nil))
	}
	const (
		formula = "Signature: must be lower-case hex of SHA-1 over App Secret, Nonce and Timestamp joined in this order"
		stampOf = "Timestamp: must be Unix time in milliseconds (13 digits) or seconds (10 digits)"
		order   = "Signature: was made in the wrong order; join App Secret, Nonce and Timestamp in this order"
	)
	for _, c := range []struct {
		name    string
		headers headers
		code    int // 0 for a call that is let in
		message string
	}{
		{"plain", good("1", nowText), 0, ""},
		{"prefixed", headers{"RC-App-Key": key, "RC-Nonce": "2", "RC-Timestamp": nowText, "RC-Signature": sha1Hex(secret + "2" + nowText)}, 0, ""},
		{"mixed", change(good("3", nowText), "Nonce", "", "rc-nonce", "3"), 0, ""},
		{"both, the bare one counts", change(good("4", nowText), "RC-App-Key", "other", "RC-Signature", "x"), 0, ""},
		{"lower-case names", headers{"app-key": key, "nonce": "5", "timestamp": nowText, "signature": sha1Hex(secret + "5" + nowText)}, 0, ""},
		{"seconds", good("6", nowText[:10]), 0, ""},
		{"longest nonce", good("999999999999999998", nowText), 0, ""},
		{"nonce of 18 characters, 36 bytes", good(strings.Repeat("ä", 18), nowText), 0, ""},
		{"oldest", good("7", strconv.Itoa(now-300_000)), 0, ""},
		{"newest", good("8", strconv.Itoa(now+300_000)), 0, ""},

		{"nothing", headers{}, 1001, "missing header: App-Key, Nonce, Timestamp, Signature"},
		{"no key", change(good("1", nowText), "App-Key", ""), 1001, "missing header: App-Key"},
		{"no nonce", change(good("1", nowText), "Nonce", ""), 1004, "missing header: Nonce"},
		{"no time, no signature", change(good("1", nowText), "Timestamp", "", "Signature", ""), 1004, "missing header: Timestamp, Signature"},
		{"unknown key", change(good("1", nowText), "App-Key", "nokey"), 1001, "App-Key: no app has this key"},
		{"key in other case", change(good("1", nowText), "App-Key", strings.ToUpper(key)), 1001, "App-Key: no app has this key"},
		{"long nonce", good("1234567890123456789", nowText), 1004, "Nonce: at most 18 characters, got 19"},
		{"no number", good("1", "yesterday"), 1004, stampOf + ", digits only"},
		{"fraction", good("1", nowText[:10]+".123"), 1004, stampOf + ", digits only"},
		{"negative", good("1", "-1"), 1004, stampOf + ", digits only"},
		{"microseconds", good("1", nowText+"000"), 1004, stampOf + ", got 16 digits, as of microseconds"},
		{"nanoseconds", good("1", nowText+"000000"), 1004, stampOf + ", got 19 digits, as of nanoseconds"},
		{"far too long", good("1", strings.Repeat("9", 40)), 1004, stampOf + ", got 40 digits"},
		{"too old", good("1", strconv.Itoa(now-300_001)), 1004,
			"Timestamp: 5m0.001s behind the server's clock, which says 1795320000000; at most 5m0s is allowed"},
		{"too new", good("1", strconv.Itoa(now+400_000)), 1004,
			"Timestamp: 6m40s ahead of the server's clock, which says 1795320000000; at most 5m0s is allowed"},
		{"the sample of the pages", good("14314", "1585127132438"), 1004, ""},

		{"wrong secret", signedAs("1", nowText, "other"+"1"+nowText), 1004, formula +
			"; it does not match: check that the App Secret is the one of this App Key, and that Nonce and Timestamp are sent exactly as they were hashed"},
		{"key for secret", signedAs("1", nowText, key+"1"+nowText), 1004, "Signature: was made with the App Key in place of the App Secret"},
		{"key and secret", signedAs("1", nowText, key+secret+"1"+nowText), 1004, "Signature: was made with the App Key in front of the App Secret; leave it out"},
		{"no secret", signedAs("1", nowText, "1"+nowText), 1004, "Signature: was made without the App Secret"},
		{"upper case", change(good("1", nowText), "Signature", strings.ToUpper(sha1Hex(secret+"1"+nowText))), 1004,
			"Signature: is right but in upper case; send it in lower case"},
		{"time before nonce", signedAs("1", nowText, secret+nowText+"1"), 1004, order},
		{"secret last", signedAs("1", nowText, "1"+nowText+secret), 1004, order},
		{"line feed", signedAs("1", nowText, secret+"1"+nowText+"\n"), 1004,
			"Signature: was made with a line feed at the end; in a shell use printf %s in place of echo"},
		{"hashed seconds", signedAs("1", nowText, secret+"1"+nowText[:10]), 1004,
			"Signature: was made over the time in seconds while the header Timestamp has milliseconds; they must be the same text"},
		{"hashed milliseconds", signedAs("1", nowText[:10], secret+"1"+nowText), 1004,
			"Signature: was made over the time in milliseconds while the header Timestamp has seconds; they must be the same text"},
		{"hmac", change(good("1", nowText), "Signature", hmacOf("1"+nowText)), 1004, "Signature: was made with HMAC; use plain SHA-1"},
		{"sha-256", change(good("1", nowText), "Signature", strings.Repeat("a", 64)), 1004, formula + ": want 40 characters, got 64, as of SHA-256"},
		{"base64", change(good("1", nowText), "Signature", strings.Repeat("a", 28)), 1004, formula + ": want 40 characters, got 28, as of Base64"},
		{"md5", change(good("1", nowText), "Signature", strings.Repeat("a", 32)), 1004, formula + ": want 40 characters, got 32, as of MD5"},
	} {
		h := http.Header{"Content-Type": {"application/json"}}
		for name, value := range c.headers {
			h.Set(name, value)
		}
		r := w.do(http.MethodPost, status, h, sample)
		if c.code == 0 {
			if r.Status != 200 {
				t.Errorf("%s: %d %s", c.name, r.Status, r.Body)
			}
			continue
		}
		if r.Status != 401 || r.code() != c.code || c.message != "" && r.message() != c.message {
			t.Errorf("%s: got %d %s\nwant code %d, %s", c.name, r.Status, r.Body, c.code, c.message)
		}
		if strings.Contains(r.Body, secret) {
			t.Errorf("%s: the answer holds the secret: %s", c.name, r.Body)
		}
	}
	if log := w.log.String(); strings.Contains(log, secret) || strings.Contains(log, sha1Hex(secret+"1"+nowText)) {
		t.Error("the log holds a secret or a signature")
	}
	if err := testutil.GatherAndCompare(w.metrics, strings.NewReader(`
# HELP parley_auth_refused_total Calls refused for their signing headers, by reason.
# TYPE parley_auth_refused_total counter
parley_auth_refused_total{reason="app_key"} 2
parley_auth_refused_total{reason="missing_header"} 4
parley_auth_refused_total{reason="nonce"} 1
parley_auth_refused_total{reason="replay"} 0
parley_auth_refused_total{reason="signature"} 14
parley_auth_refused_total{reason="timestamp"} 6
parley_auth_refused_total{reason="window"} 3
`), "parley_auth_refused_total"); err != nil {
		t.Error(err)
	}
}

// Of several lines of one header the first counts: official SDKs sign that one.
func TestDoubledHeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	double := func(first bool) func(http.Header) {
		return func(h http.Header) {
			if first {
				h["App-Key"] = append(h["App-Key"], "other")
			} else {
				h["App-Key"] = append([]string{"other"}, h["App-Key"]...)
			}
		}
	}
	w.call(status, sample, double(true)).want(t, 200, 0, "")
	w.call(status, sample, double(false)).want(t, 401, 1001, "App-Key: no app has this key")
}

func TestWindowSetting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "auth.window", "1s")
	late := func(w *world, by time.Duration) http.Header {
		h := w.signed(w.app)
		w.clock.advance(by)
		return h
	}
	w.do(http.MethodPost, status, late(w, time.Second), sample).want(t, 200, 0, "")
	w.do(http.MethodPost, status, late(w, time.Second+time.Millisecond), sample).want(t, 401, 1004, "")
	// Without a window any time is good, and so is any number of uses.
	w.set("auth.window", "0")
	h := late(w, 1000*time.Hour)
	for range 3 {
		w.do(http.MethodPost, status, h, sample).want(t, 200, 0, "")
	}
}

const usedBefore = "these signing headers were used before; each call needs a Nonce of its own and a new Signature"

func TestReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.signed(w.app)
	w.do(http.MethodPost, status, h, sample).want(t, 200, 0, "")
	w.do(http.MethodPost, status, h, sample).want(t, 401, 1004, usedBefore)
	w.clock.advance(5 * time.Minute)
	w.do(http.MethodPost, direct, h, sendBody("")).want(t, 401, 1004, usedBefore)
	w.clock.advance(time.Millisecond)
	w.do(http.MethodPost, status, h, sample).want(t, 401, 1004, "")

	// A timestamp ahead of the clock is good for longer, and remembered for it.
	h = w.signed(w.app)
	w.clock.advance(-5 * time.Minute)
	w.do(http.MethodPost, status, h, sample).want(t, 200, 0, "")
	for range 100 {
		w.clock.advance(6 * time.Second)
		w.do(http.MethodPost, status, h, sample).want(t, 401, 1004, usedBefore)
	}

	// The same nonce at another time is another call, and so is one refused.
	w.set("auth.replay", "false")
	h = w.signed(w.app)
	w.do(http.MethodPost, status, h, sample).want(t, 200, 0, "")
	w.do(http.MethodPost, status, h, sample).want(t, 200, 0, "")
}

// Callers' HTTP libraries repeat what was answered with "later", with the same
// headers. Such an answer must not use the headers up.
func TestRefusedForNowCanBeRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.direct", "1/s")
	w.call(direct, sendBody("")).want(t, 200, 0, "")
	h := w.signed(w.app)
	w.do(http.MethodPost, direct, h, sendBody("")).want(t, 429, 1008, "")
	w.clock.advance(time.Second)
	w.do(http.MethodPost, direct, h, sendBody("")).want(t, 200, 0, "")
	w.do(http.MethodPost, direct, h, sendBody("")).want(t, 401, 1004, usedBefore)

	// What breaks a rule breaks it tomorrow.
	h = w.signed(w.app)
	w.do(http.MethodPost, direct, h, "{}").want(t, 400, 1002, "")
	w.do(http.MethodPost, direct, h, sendBody("")).want(t, 401, 1004, usedBefore)
}

func TestReplayGuardIsBounded(t *testing.T) {
	t.Parallel()
	evicted := prometheus.NewCounter(prometheus.CounterOpts{Name: "evicted"})
	g := newReplayGuard(1000, evicted)
	app, other := &chat.App{ID: 1, Settings: chat.DefaultSettings()}, &chat.App{ID: 2, Settings: chat.DefaultSettings()}
	now := time.UnixMilli(1795320000000)
	use := func(app *chat.App, n int, at time.Time) bool {
		ts := strconv.FormatInt(at.UnixMilli(), 10)
		return g.first(app, &credentials{nonce: strconv.Itoa(n), timestamp: ts, signature: "s", at: at.UnixMilli()}, now)
	}
	if !use(other, 1, now) {
		t.Fatal("a first use was refused")
	}
	// Ten calls in each second of the window: the last 100 seconds fit.
	for s := range 300 {
		for n := range 10 {
			if !use(app, n, now.Add(time.Duration(s)*time.Second)) {
				t.Fatal("a first use was refused")
			}
		}
	}
	if size := g.apps[1].size; size > 1000 || size < 800 {
		t.Errorf("%d are remembered", size)
	}
	if n := testutil.ToFloat64(evicted); n < 2000 || n > 2200 {
		t.Errorf("%v were evicted", n)
	}
	for s := 220; s < 300; s++ {
		if use(app, 3, now.Add(time.Duration(s)*time.Second)) {
			t.Errorf("second %d was forgotten", s)
		}
	}
	// One app's crowd does not push out another's calls.
	if use(other, 1, now) {
		t.Error("the other app's call was forgotten")
	}
	// What the window has passed is given back.
	now = now.Add(11 * time.Minute)
	use(app, 1, now)
	if size := g.apps[1].size; size != 1 {
		t.Errorf("%d are remembered when all but one are out of the window", size)
	}
}

// Of many equal calls at once one is let in.
func TestReplayAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.signed(w.app)
	var mu sync.Mutex
	got := map[int]int{}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			r := w.do(http.MethodPost, direct, h.Clone(), sendBody(""))
			mu.Lock()
			defer mu.Unlock()
			got[r.Status]++
		})
	}
	wg.Wait()
	if got[200] != 1 || got[401] != 15 {
		t.Errorf("answers: %v", got)
	}
}
