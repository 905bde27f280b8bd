package serverapi

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// lastApp is the number of an app whose keys would meet those of app 1 if the
// bytes of numbers were mixed up.
const lastApp = 256

// newTenants is a world with many apps, and without rate limits.
func newTenants(t *testing.T) (w *world, byID func(chat.AppID) *chat.App) {
	t.Helper()
	w = newWorld(t)
	for i := 2; i <= lastApp; i++ {
		w.newApp("tenant-"+strconv.Itoa(i), "secret of "+strconv.Itoa(i))
	}
	return w, func(id chat.AppID) *chat.App {
		w.limit(id, "0")
		return w.dir.AppByID(id)
	}
}

// limit sets every rate limit of an app.
func (w *world) limit(id chat.AppID, rate string) {
	w.t.Helper()
	w.app = w.dir.AppByID(id)
	for _, s := range chat.AppSettings {
		if strings.HasPrefix(s.Name, "limits.") {
			w.set(s.Name, rate)
		}
	}
}

// What an app has, another can neither see nor change, nor even find out that it
// is there: B is answered as if A did not exist. So everything B does is done in
// two worlds, in one of which A has nothing, and must look the same in both.
func TestEveryOperationAcrossApps(t *testing.T) {
	t.Parallel()
	for _, ids := range [][2]chat.AppID{{1, lastApp}, {lastApp, 1}} {
		t.Run(fmt.Sprintf("%d from %d", ids[1], ids[0]), func(t *testing.T) {
			t.Parallel()
			apart(t, ids[0], ids[1])
		})
	}
}

func apart(t *testing.T, theirs, ours chat.AppID) {
	both, appOf := newTenants(t)
	alone, aloneAppOf := newTenants(t)
	a, b := appOf(theirs), appOf(ours)
	lonely := aloneAppOf(ours)
	tick := func() {
		both.clock.advance(time.Second)
		alone.clock.advance(time.Second)
	}

	// B has messages before and behind those of A, and users of the same ids.
	before := func(w *world, app *chat.App) {
		e := &estate{w: w, app: app, name: "B", users: sameUsers}
		for i := range e.users {
			e.must(aDirect.path, e.fill(aDirect.body, "", i))
		}
	}
	before(both, b)
	before(alone, lonely)
	tick()
	A := settle(both, a, "A", 0, append(slices.Clone(sameUsers), "unknown-to-B"))
	A.useKeys()
	for _, u := range sameUsers {
		both.said.online[strconv.Itoa(int(theirs))+"/"+u] = true
	}
	tick()
	B := settle(both, b, "B", 1, sameUsers)
	lone := settle(alone, lonely, "B", 1, sameUsers)
	tick()

	// What reads is worth trying only where A is told something that B is not.
	for _, o := range operations {
		if proofOf(t, &o).effect == reads && !slices.ContainsFunc(A.bodies(o.name), func(body string) bool {
			return A.must(o.path, body).Body != B.as(o.path, body).Body
		}) {
			t.Errorf("%s answers the two apps the same, so its line in proofs shows nothing", o.name)
		}
	}

	was := A.picture()
	for _, o := range operations {
		p := proofs[o.name]
		for i, body := range A.bodies(o.name) {
			var edits []func(http.Header)
			if o.idempotent {
				edits = append(edits, keyOf(i))
			}
			for _, path := range []string{o.path, o.alias} {
				if path == "" {
					continue
				}
				got, want := B.as(path, body, edits...), lone.as(path, body, edits...)
				if got.Status != want.Status || plain(got.Body) != plain(want.Body) || got.Header.Get("Idempotency-Replayed") != want.Header.Get("Idempotency-Replayed") {
					t.Errorf("%s %s tells that another app is there:\ngot  %d %s\nwant %d %s", o.name, body, got.Status, got.Body, want.Status, want.Body)
				}
				if p.of != nil && p.effect != reads && got.Status == 200 {
					t.Errorf("%s %s was done to a message of another app", o.name, body)
				}
				// At its alias it is B's own call of just now.
				if o.idempotent && path == o.path && got.Header.Get("Idempotency-Replayed") != "" {
					t.Errorf("%s %s is answered as a repeat of what another app did", o.name, body)
				}
			}
		}
	}
	if !sameLines(t, "what A has, after all that B did", was, A.picture()) {
		return
	}
	bothPlain, alonePlain := B.picture(), lone.picture()
	for i := range bothPlain {
		bothPlain[i] = plain(bothPlain[i])
	}
	for i := range alonePlain {
		alonePlain[i] = plain(alonePlain[i])
	}
	sameLines(t, "what B has, without A and with it", alonePlain, bothPlain)

	// None of this was for nothing: A can do all of it, and sees what it does. One
	// pair is enough to look at.
	looks := *A
	looks.pairs = 1
	was = looks.picture()
	for _, o := range operations {
		if proofs[o.name].effect == reads {
			continue
		}
		for i, body := range A.bodies(o.name) {
			if o.idempotent {
				r := A.must(o.path, body, keyOf(i))
				if r.Body != A.first[o.name+strconv.Itoa(i)] || r.Header.Get("Idempotency-Replayed") == "" {
					t.Errorf("%s: a repeat after the other app used the key: %s", o.name, r.Body)
				}
			}
			A.must(o.path, body)
		}
		is := looks.picture()
		if slices.Equal(was, is) {
			t.Errorf("%s changes nothing that is seen in timelines or by an operation that reads, so its line in proofs shows nothing", o.name)
		}
		was = is
	}
}

// What an app spends of its rate limits is its own.
func TestBudgetsAreApart(t *testing.T) {
	t.Parallel()
	w, appOf := newTenants(t)
	a, b := appOf(1), appOf(lastApp)
	A, B := settle(w, a, "A", 0, sameUsers[:4]), settle(w, b, "B", 1, sameUsers[:4])
	w.clock.advance(time.Second)
	w.limit(1, "8/h")
	w.limit(lastApp, "8/h")
	A.app, B.app = w.dir.AppByID(1), w.dir.AppByID(lastApp)
	for _, o := range operations {
		if A.as(o.path, A.bodies(o.name)[0]).Status == http.StatusTooManyRequests {
			w.clock.advance(time.Hour) // it shares a limit with one that was tried
		}
		A.must(o.path, A.bodies(o.name)[0])
		refused := false
		for n := 0; n < 8 && !refused; n++ {
			refused = A.as(o.path, A.bodies(o.name)[0]).Status == http.StatusTooManyRequests
		}
		if !refused {
			t.Errorf("%s has no rate limit", o.name)
		}
		B.must(o.path, B.bodies(o.name)[0])
	}
}

// Apps that sign alike, down to the signature, do not use up each other's.
func TestReplayGuardsAreApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	twin := w.newApp("twin", w.app.Secret)
	h := w.signed(w.app)
	w.do(http.MethodPost, status, h, sample).want(t, 200, 0, "")
	h.Set("App-Key", twin.Key)
	w.do(http.MethodPost, status, h.Clone(), sample).want(t, 200, 0, "")
	w.do(http.MethodPost, status, h, sample).want(t, 401, 1004, usedBefore)
}

// Within an app, users and channels whose ids look alike are as different as
// others.
func TestIDsThatLookAlike(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.default", "0", "limits.direct", "0", "limits.open", "0", "limits.history", "0")
	for _, u := range sameUsers {
		for _, v := range sameUsers {
			w.post(direct, fmt.Sprintf(`{"fromUserId":%s,"toUserIds":[%s],"messageType":"app:t","content":%s}`, quoted(u), quoted(v), quoted(u+">"+v)))
		}
		w.post(open, fmt.Sprintf(`{"fromUserId":"x","toChannelIds":[%s],"messageType":"app:t","content":%s}`, quoted(u), quoted(u)))
	}
	for i, u := range sameUsers {
		ok[nothing](t, w.call(block, fmt.Sprintf(`{"userId":%s,"targetUserIds":[%s]}`, quoted(u), quoted(sameUsers[(i+1)%len(sameUsers)]))))
		ok[nothing](t, w.call(mute, fmt.Sprintf(`{"userIds":[%s],"muteState":1,"channelTypes":["PERSON"]}`, quoted(u))))
		ok[nothing](t, w.call(ban, fmt.Sprintf(`{"userIds":[%s],"durationMinutes":%d}`, quoted(u), 100-i)))
	}
	span := fmt.Sprintf(`"startAt":%d,"endAt":%d,"includeStart":1,"pageSize":100`, w.clock.ms.Load()+1000, w.clock.ms.Load()-1000)
	for i, u := range sameUsers {
		for _, v := range sameUsers {
			got := contents(w.history(directHistory, fmt.Sprintf(`{"userId":%s,"channelId":%s,%s}`, quoted(u), quoted(v), span)))
			if want := []string{v + ">" + u}; !slices.Equal(got, want) {
				t.Errorf("%s has of %s %q", u, v, got)
			}
		}
		if got := contents(w.history(openHistory, fmt.Sprintf(`{"userId":"x","channelId":%s,%s}`, quoted(u), span))); !slices.Equal(got, []string{u}) {
			t.Errorf("the channel %s has %q", u, got)
		}
		if n := w.head(u); n != uint64(len(sameUsers)) {
			t.Errorf("%s has %d entries", u, n)
		}
		if got := ok[blockedIDs](t, w.call(blocklist, `{"userId":`+quoted(u)+`}`)).BlockedUserIDs; !slices.Equal(got, []string{sameUsers[(i+1)%len(sameUsers)]}) {
			t.Errorf("%s blocks %q", u, got)
		}
	}
	if got := ok[struct{ MutedUserIDs []string }](t, w.call(muted, `{"channelType":"PERSON"}`)).MutedUserIDs; len(got) != len(sameUsers) {
		t.Errorf("muted are %q", got)
	}
	if got := w.call(banned, `{}`).Body; strings.Count(got, "userId") != len(sameUsers) {
		t.Errorf("banned are %s", got)
	}
}

type blockedIDs struct {
	BlockedUserIDs []string
	PageToken      string
}
