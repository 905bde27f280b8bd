package serverapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// An effect is what a call does with what there is.
type effect int

const (
	reads   effect = iota + 1 // nothing
	changes                   // the same however often it is called
	sends                     // once more with each call, unless an Idempotency-Key says that it is the same one
)

// A proof is what the tests that try every operation need to know of one.
type proof struct {
	effect effect
	// bodies are calls that succeed, with words in place of what they are about;
	// see estate.
	bodies []string
	// of sends what $UID names.
	of *source
	// sinceNow operations count from the time of the call, so that a later repeat
	// ends later.
	sinceNow bool
}

// A source is a call that makes something that has a UID.
type source struct{ path, body string }

var (
	aDirect = &source{direct, `{"fromUserId":$FROM,"toUserIds":[$TO],"messageType":"app:t","content":$TEXT,"isEchoToSender":1,"hasMetadata":1,"metadata":{"a":"1"}}`}
	aCast   = &source{castAll, `{"fromUserId":$FROM,"messageType":"app:t","content":$TEXT}`}
	anOpen  = &source{open, `{"fromUserId":$FROM,"toChannelIds":[$ROOM],"messageType":"app:t","content":$TEXT}`}
)

// proofs are the cases of the tests that try every operation: that apps are
// apart (TestEveryOperationAcrossApps), that budgets are (TestBudgetsAreApart), that a send is
// done once per key (TestEverySendIsDoneOnce) and a change can be repeated
// (TestEveryChangeCanBeRepeated).
//
// Who adds an operation adds a line. effect says which of the three it is; bodies
// are one or more calls that an app makes about what is its own, with
//
//	$FROM, $TO    two of its users, who are registered
//	$ROOM         one of its open channels, which has metadata "a"
//	$UID          a message of its own for this line, sent by what of says
//	$TEXT         a text that is different in each app
//	$PHONE        a push token of $FROM, the same in each app
//	$NOW          a time after all that was sent, not in the future
//	$LATER, $EARLIER  a day from it, either way
//
// which all but $NOW, $LATER and $EARLIER stand for JSON strings. An operation
// that works on what no source here makes (a stream that is open, a broadcast)
// gets a source of its own: the first messageUID of its answer is $UID. What a
// changing operation does must be seen in timelines or in what one of the reading
// ones answers, or the test says so.
var proofs = map[string]proof{
	"sendDirectChannelStreamMessage": {effect: sends, bodies: []string{
		`{"fromUserId":$FROM,"toUserId":$TO,"messageType":"RC:StreamMsg","content":{"content":$TEXT,"seq":1,"complete":true}}`,
	}},

	"issueAccessToken":        {effect: changes, bodies: []string{`{"userId":$FROM,"name":"issued"}`}},
	"expireAccessToken":       {effect: changes, bodies: []string{`{"userIds":[$FROM],"expiresAt":$NOW}`}},
	"getUser":                 {effect: reads, bodies: []string{`{"userId":$FROM}`}},
	"getUserConnectionStatus": {effect: reads, bodies: []string{`{"userId":$FROM}`}},
	"updateUser":              {effect: changes, bodies: []string{`{"userId":$FROM,"name":"changed","avatarUrl":"https://example.com/a.png"}`}},

	"banUsers":             {effect: changes, bodies: []string{`{"userIds":[$FROM],"durationMinutes":5}`}, sinceNow: true},
	"unbanUsers":           {effect: changes, bodies: []string{`{"userIds":[$FROM]}`}},
	"listBannedUsers":      {effect: reads, bodies: []string{`{}`, `{"page":2,"pageSize":1}`}},
	"setChannelTypeMute":   {effect: changes, bodies: []string{`{"userIds":[$FROM],"muteState":1,"channelTypes":["PERSON","GROUP","CHATROOM"]}`}},
	"listChannelTypeMute":  {effect: reads, bodies: []string{`{"channelType":"PERSON"}`, `{"channelType":"GROUP"}`, `{"channelType":"CHATROOM","offset":1}`}},
	"softDeleteUsers":      {effect: changes, bodies: []string{`{"userIds":[$FROM]}`}},
	"restoreUsers":         {effect: changes, bodies: []string{`{"userIds":[$FROM]}`}},
	"listSoftDeletedUsers": {effect: reads, bodies: []string{`{}`}},

	"addUserBlocklist":    {effect: changes, bodies: []string{`{"userId":$FROM,"targetUserIds":[$TO]}`}},
	"removeUserBlocklist": {effect: changes, bodies: []string{`{"userId":$FROM,"blockedUserIds":[$TO]}`}},
	"getUserBlocklist":    {effect: reads, bodies: []string{`{"userId":$FROM}`, `{"userId":$FROM,"pageToken":"1","order":1}`}},

	"batchSetUserTags": {effect: changes, bodies: []string{`{"userIds":[$FROM,$TO],"tags":["changed"]}`}},
	"batchGetUserTags": {effect: reads, bodies: []string{`{"userIds":[$FROM,$TO]}`}},

	"broadcastSystemChannelMessage": {effect: sends, bodies: []string{`{"fromUserId":$FROM,"messageType":"RC:TxtMsg","content":"{}"}`}},
	"broadcastMessageOnline":        {effect: sends, bodies: []string{`{"fromUserId":$FROM,"messageType":"RC:TxtMsg","content":"{}"}`}},
	"deleteBroadcastMessage":        {effect: changes, of: aCast, bodies: []string{`{"fromUserId":$FROM,"messageUID":$UID}`}},
	"sendSystemChannelPushByTag": {effect: sends, bodies: []string{
		`{"platform":["ios"],"fromUserId":$FROM,"audience":{"tag":["changed"]},"message":{"messageType":"app:t","content":"x"},"notification":{}}`,
		`{"platform":["ios"],"fromUserId":$FROM,"audience":{"userId":[$TO]},"message":{"messageType":"app:t","content":"x"},"notification":{}}`}},
	"sendSystemChannelPushByPackage": {effect: sends, bodies: []string{
		`{"platform":["ios"],"fromUserId":$FROM,"audience":{"packageName":"p"},"message":{"messageType":"app:t","content":"x"},"notification":{}}`}},

	"sendDirectChannelMessage": {effect: sends, bodies: []string{`{"fromUserId":$FROM,"toUserIds":[$TO],"messageType":"RC:TxtMsg","content":"{}","isEchoToSender":1,"verifyBlocklist":0}`}},
	"sendSystemChannelMessage": {effect: sends, bodies: []string{`{"fromUserId":$FROM,"toUserIds":[$TO],"messageType":"RC:TxtMsg","content":"{}"}`}},
	"sendOpenChannelMessage":   {effect: sends, bodies: []string{`{"fromUserId":$FROM,"toChannelIds":[$ROOM],"messageType":"RC:TxtMsg","content":"{}"}`}},

	"listDirectChannelHistoryMessages": {effect: reads, of: aDirect, bodies: []string{
		`{"userId":$FROM,"channelId":$TO,"startAt":$LATER,"endAt":$EARLIER,"includeStart":1,"pageSize":100}`,
		`{"userId":$TO,"channelId":$FROM,"startAt":$LATER,"endAt":$EARLIER,"includeStart":1,"pageSize":100,"before":$UID}`}},
	"listOpenChannelHistoryMessages": {effect: reads, of: anOpen, bodies: []string{
		`{"userId":$FROM,"channelId":$ROOM,"startAt":$LATER,"endAt":$EARLIER,"includeStart":1,"pageSize":100}`,
		`{"userId":$FROM,"channelId":$ROOM,"startAt":$LATER,"endAt":$EARLIER,"includeStart":1,"pageSize":100,"before":$UID}`}},
	"deleteChannelMessageHistory": {effect: changes, bodies: []string{
		`{"fromUserId":$TO,"channelType":1,"channelId":$FROM}`, `{"fromUserId":$FROM,"channelType":4,"channelId":$ROOM,"sentAt":""}`}},
	"deleteMessage":                    {effect: changes, of: aDirect, bodies: []string{`{"fromUserId":$FROM,"channelType":1,"channelId":$TO,"messageUID":$UID}`}},
	"updateDirectChannelMessage":       {effect: changes, of: aDirect, bodies: []string{`{"fromUserId":$FROM,"targetId":$TO,"messageUID":$UID,"content":"changed"}`}},
	"setChannelTypeMessageMetadata":    {effect: changes, of: aDirect, bodies: []string{`{"userId":$FROM,"channelType":1,"channelId":$TO,"messageUID":$UID,"metadata":{"a":"2","b":"1"}}`}},
	"deleteChannelTypeMessageMetadata": {effect: changes, of: aDirect, bodies: []string{`{"userId":$FROM,"channelType":1,"channelId":$TO,"messageUID":$UID,"keys":["a"]}`}},
	"listChannelTypeMessageMetadata":   {effect: reads, of: aDirect, bodies: []string{`{"messageUID":$UID}`, `{"messageUID":$UID,"page":1}`}},

	"broadcastOpenChannelMessage":    {effect: sends, bodies: []string{`{"fromUserId":$FROM,"messageType":"app:t","content":$TEXT,"isEchoToSender":1}`}},
	"createOpenChannel":              {effect: changes, bodies: []string{`{"channelId":$ROOM,"destroyType":1,"ttlMinutes":125,"shouldFreeze":false,"allowedSendersList":[$FROM],"metadataOwnerId":$FROM,"metadata":{"k":"v"}}`}},
	"getOpenChannel":                 {effect: reads, bodies: []string{`{"channelId":$ROOM}`}},
	"setOpenChannelDestroyType":      {effect: changes, bodies: []string{`{"channelId":$ROOM,"destroyType":0,"ttlMinutes":200}`}},
	"addOpenChannelKeepAliveList":    {effect: changes, bodies: []string{`{"channelId":$ROOM}`}},
	"getOpenChannelKeepAliveList":    {effect: reads, bodies: []string{`{}`}},
	"removeOpenChannelKeepAliveList": {effect: changes, bodies: []string{`{"channelIds":[$ROOM]}`}},

	"listOpenChannelParticipants":       {effect: reads, bodies: []string{`{"channelId":$ROOM}`, `{"channelId":$ROOM,"pageSize":1,"order":2}`}},
	"checkOpenChannelParticipantsExist": {effect: reads, bodies: []string{`{"channelId":$ROOM,"participantIds":[$FROM,$TO]}`}},

	"addOpenChannelParticipantMuteList":             {effect: changes, bodies: []string{`{"channelId":$ROOM,"participantIds":[$FROM],"durationMinutes":7,"needNotify":true,"extra":"{}"}`}, sinceNow: true},
	"removeOpenChannelParticipantMuteList":          {effect: changes, bodies: []string{`{"channelId":$ROOM,"participantIds":[$FROM],"needNotify":true}`}},
	"getOpenChannelParticipantMuteList":             {effect: reads, bodies: []string{`{"channelId":$ROOM}`}},
	"addOpenChannelParticipantBanList":              {effect: changes, bodies: []string{`{"channelId":$ROOM,"participantIds":[$TO],"durationMinutes":7,"needNotify":true}`}, sinceNow: true},
	"removeOpenChannelParticipantBanList":           {effect: changes, bodies: []string{`{"channelId":$ROOM,"participantIds":[$TO],"needNotify":true}`}},
	"getOpenChannelParticipantBanList":              {effect: reads, bodies: []string{`{"channelId":$ROOM}`}},
	"addOpenChannelGlobalMuteList":                  {effect: changes, bodies: []string{`{"participantIds":[$FROM],"durationMinutes":7,"needNotify":true}`}, sinceNow: true},
	"removeOpenChannelGlobalMuteList":               {effect: changes, bodies: []string{`{"participantIds":[$FROM],"needNotify":true}`}},
	"getOpenChannelGlobalMuteList":                  {effect: reads, bodies: []string{`{}`}},
	"addOpenChannelFreezeList":                      {effect: changes, bodies: []string{`{"channelId":$ROOM,"needNotify":true}`}},
	"removeOpenChannelFreezeList":                   {effect: changes, bodies: []string{`{"channelId":$ROOM,"needNotify":true}`}},
	"listFrozenOpenChannels":                        {effect: reads, bodies: []string{`{}`, `{"page":2,"pageSize":1}`}},
	"checkOpenChannelFreeze":                        {effect: reads, bodies: []string{`{"channelId":$ROOM}`}},
	"addOpenChannelParticipantAllowedSenderList":    {effect: changes, bodies: []string{`{"channelId":$ROOM,"participantIds":[$TO],"needNotify":true}`}},
	"removeOpenChannelParticipantAllowedSenderList": {effect: changes, bodies: []string{`{"channelId":$ROOM,"participantIds":[$TO],"needNotify":true}`}},
	"getOpenChannelParticipantAllowedSenderList":    {effect: reads, bodies: []string{`{"channelId":$ROOM}`}},

	"addOpenChannelPrioritySenderList":            {effect: changes, bodies: []string{`{"channelId":$ROOM,"participantIds":[$FROM]}`}},
	"removeOpenChannelPrioritySenderList":         {effect: changes, bodies: []string{`{"channelId":$ROOM,"participantIds":[$FROM]}`}},
	"getOpenChannelPrioritySenderList":            {effect: reads, bodies: []string{`{"channelId":$ROOM}`}},
	"addOpenChannelPriorityMessageTypeList":       {effect: changes, bodies: []string{`{"messageTypes":["app:gift"]}`}},
	"removeOpenChannelPriorityMessageTypeList":    {effect: changes, bodies: []string{`{"messageTypes":["app:gift"]}`}},
	"getOpenChannelPriorityMessageTypeList":       {effect: reads, bodies: []string{`{}`}},
	"addOpenChannelLowPriorityMessageTypeList":    {effect: changes, bodies: []string{`{"messageTypes":["app:like"]}`}},
	"removeOpenChannelLowPriorityMessageTypeList": {effect: changes, bodies: []string{`{"messageTypes":["app:like"]}`}},
	"getOpenChannelLowPriorityMessageTypeList":    {effect: reads, bodies: []string{`{}`}},
	"destroyOpenChannels":                         {effect: changes, bodies: []string{`{"channelIds":[$ROOM]}`}},

	"setChannelPin": {effect: changes, bodies: []string{`{"userId":$FROM,"channelType":1,"channelId":$TO,"isPin":1}`}},

	"setChannelPushNotification": {effect: changes, bodies: []string{`{"requestId":$FROM,"channelType":"1","channelId":$TO,"noDisturbLevel":5}`}},
	"getChannelPushNotification": {effect: reads, bodies: []string{`{"requestId":$FROM,"channelType":"1","channelId":$TO}`}},
	"setChannelTypeNotification": {effect: changes, bodies: []string{`{"requestId":$FROM,"channelType":"3","noDisturbLevel":5}`}},
	"getChannelTypeNotification": {effect: reads, bodies: []string{`{"requestId":$FROM,"channelType":"3"}`}},
	"addUserChannelTags":         {effect: changes, bodies: []string{`{"userId":$FROM,"tags":[{"tagId":"new","tagName":"New"}]}`}},
	"removeUserChannelTags":      {effect: changes, bodies: []string{`{"userId":$FROM,"tagIds":["gone"]}`}},
	"listUserChannelTags":        {effect: reads, bodies: []string{`{"userId":$FROM}`}},
	"addTagToChannels":           {effect: changes, bodies: []string{`{"userId":$FROM,"tagId":"w","channels":[{"channelId":$TO,"channelType":1}]}`}},
	"removeTagFromChannels":      {effect: changes, bodies: []string{`{"userId":$FROM,"tagId":"off","channels":[{"channelId":$TO,"channelType":1}]}`}},
	"listChannelsByTag":          {effect: reads, bodies: []string{`{"userId":$FROM,"tagId":"w"}`}},
	"getChannelAttribute":        {effect: reads, bodies: []string{`{"userId":$FROM,"channelType":1,"channelId":$TO}`}},

	"batchSetOpenChannelMetadata":    {effect: changes, bodies: []string{`{"channelId":$ROOM,"metadataOwnerId":$FROM,"metadata":{"a":"2","b":$TEXT}}`}},
	"batchRemoveOpenChannelMetadata": {effect: changes, bodies: []string{`{"channelId":$ROOM,"metadataOwnerId":$FROM,"metadataKeys":["a"]}`}},
	"batchGetOpenChannelMetadata":    {effect: reads, bodies: []string{`{"channelId":$ROOM}`, `{"channelId":$ROOM,"metadataKeys":["a"]}`}},
	"registerPushDevice":             {effect: changes, bodies: []string{`{"userId":$FROM,"deviceId":"new","provider":"MI","token":$PHONE}`}, sinceNow: true},
	"removePushDevice":               {effect: changes, bodies: []string{`{"userId":$FROM,"deviceId":"gone"}`}},
	"listPushDevices":                {effect: reads, bodies: []string{`{"userId":$FROM}`}},
	"setPushCredential":              {effect: changes, bodies: []string{`{"provider":"MI","package":"new","credential":{"appSecret":"s"}}`}},
	"removePushCredential":           {effect: changes, bodies: []string{`{"provider":"MI","package":"gone"}`}},
	"listPushCredentials":            {effect: reads, bodies: []string{`{}`}},
	"checkPushCredentials":           {effect: reads, bodies: []string{`{}`}},
	"setPushTemplate":                {effect: changes, bodies: []string{`{"templateId":"new","defaultLanguage":"en","languages":[{"language":"en","body":"x"}]}`}},
	"removePushTemplate":             {effect: changes, bodies: []string{`{"templateId":"gone"}`}},
	"listPushTemplates":              {effect: reads, bodies: []string{`{}`}},
	"previewPush": {effect: reads, bodies: []string{
		`{"fromUserId":$FROM,"toUserIds":[$TO,$FROM],"messageType":"RC:TxtMsg","content":"{\"content\":\"x\"}"}`,
		`{"fromUserId":$TO,"toUserIds":[$FROM],"channelType":6,"messageType":"app:t","content":"x","pushContent":"y"}`}},

	"traceMessage": {effect: reads, of: aDirect, bodies: []string{`{"messageUID":$UID}`, `{"messageUID":$UID,"all":1}`}},
}

// proofOf is the proof of an operation; it is a failure that there is none.
func proofOf(t *testing.T, o *operation) proof {
	t.Helper()
	p, there := proofs[o.name]
	if !there || p.effect == 0 || len(p.bodies) == 0 {
		t.Fatalf("%s has no line in proofs (internal/serverapi/proofs_test.go): add one, so that it is tried across apps and repeated; the comment there says how", o.name)
	}
	if (p.effect == sends) != o.idempotent {
		t.Fatalf("%s: exactly those that send take an Idempotency-Key: effect in proofs %d, idempotent in operations.go %t", o.name, p.effect, o.idempotent)
	}
	return p
}

func TestProofsAreOfOperations(t *testing.T) {
	t.Parallel()
	served := map[string]bool{}
	for i := range operations {
		proofOf(t, &operations[i])
		served[operations[i].name] = true
	}
	for name := range proofs {
		if !served[name] {
			t.Errorf("proofs has a line for %s, which is not served", name)
		}
	}
}

// An estate is what an app has: users, who know each other in a ring, and what
// was sent between neighbours.
type estate struct {
	w      *world
	app    *chat.App
	name   string // in texts, to tell it from what others have
	users  []string
	uids   map[string]string // what $UID is, by operation and pair
	tokens []string
	first  map[string]string // the first answers to sends with keys
	now    int64
	pairs  int // how many of the pairs picture looks at; all when 0
}

// sameUsers are ids that would meet if keys were made without care: ones that
// begin like others, the longest ones, and those that sort first and last.
var sameUsers = []string{
	"alice", "bob", "bo", "b", strings.Repeat("b", 64), strings.Repeat("b", 63) + "a", "!", "\U0010ffff", `"\`, "0",
}

// as makes a call as the estate's app.
func (e *estate) as(path, body string, edits ...func(http.Header)) *reply {
	e.w.t.Helper()
	if path == roomBan+"/add" {
		e.w.heard(e.app.ID) // a ban does not wait for what was said before it
	}
	h := e.w.signed(e.app)
	h.Set("X-Request-Id", "call")
	for _, edit := range edits {
		edit(h)
	}
	return e.w.do(http.MethodPost, path, h, body)
}

// must is a call that has to be done.
func (e *estate) must(path, body string, edits ...func(http.Header)) *reply {
	e.w.t.Helper()
	r := e.as(path, body, edits...)
	if r.Status != 200 || r.code() != 0 {
		e.w.t.Fatalf("%s: %s %s: %d %s", e.name, path, body, r.Status, r.Body)
	}
	return r
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (e *estate) pair(i int) (from, to string) {
	return e.users[i], e.users[(i+1)%len(e.users)]
}

// fill in the words of a text that is about pair i.
func (e *estate) fill(text, operation string, i int) string {
	from, to := e.pair(i)
	day := int64(24 * time.Hour / time.Millisecond)
	return strings.NewReplacer(
		"$FROM", quoted(from), "$TO", quoted(to), "$ROOM", quoted(from), "$TEXT", quoted(e.name+" to "+to), "$PHONE", quoted("phone-"+strconv.Itoa(i)),
		"$UID", quoted(e.uids[operation+strconv.Itoa(i)]), "$NOW", fmt.Sprint(e.now), "$LATER", fmt.Sprint(e.now+day), "$EARLIER", fmt.Sprint(e.now-day),
	).Replace(text)
}

// bodies are the calls of an operation, for every pair.
func (e *estate) bodies(operation string) (list []string) {
	for i := range cmp.Or(e.pairs, len(e.users)) {
		for _, b := range proofs[operation].bodies {
			list = append(list, e.fill(b, operation, i))
		}
	}
	return list
}

var anyUID = regexp.MustCompile(`[0-9A-Z]{4}(-[0-9A-Z]{4}){3}`)

// settle makes an estate. Those of different variants differ in everything but
// the users' ids.
func settle(w *world, app *chat.App, name string, variant int, users []string) *estate {
	e := &estate{w: w, app: app, name: name, users: users, uids: map[string]string{}, first: map[string]string{}}
	for i, u := range users {
		id := quoted(u)
		e.tokens = append(e.tokens, token(w.t, e.must(issue, `{"userId":`+id+`,"name":`+quoted(name+" "+u)+`}`)))
		if i%3 == variant {
			e.must(ban, fmt.Sprintf(`{"userIds":[%s],"durationMinutes":%d}`, id, 1000+i+variant))
			e.must(mute, `{"userIds":[`+id+`],"muteState":1,"channelTypes":["CHATROOM"]}`)
		}
		if i%2 == variant {
			e.must(mute, `{"userIds":[`+id+`],"muteState":1,"channelTypes":["PERSON"]}`)
		}
		if i%4 == variant {
			e.must(softDelete, `{"userIds":[`+id+`]}`)
		}
		e.must(setTags, `{"userIds":[`+id+`],"tags":[`+quoted(name)+`]}`)
		next := quoted(users[(i+1)%len(users)])
		e.must(setLevelPath, fmt.Sprintf(`{"requestId":%s,"channelType":"1","channelId":%s,"noDisturbLevel":%d}`, id, next, 1+variant))
		e.must(setTypeLevelPath, fmt.Sprintf(`{"requestId":%s,"channelType":"3","noDisturbLevel":%d}`, id, 1+variant))
		e.must(addTags, fmt.Sprintf(`{"userId":%s,"tags":[{"tagId":"w","tagName":"W%d"},{"tagId":"off","tagName":"x"},{"tagId":"gone","tagName":"x"}]}`, id, variant))
		e.must(addTagTo, `{"userId":`+id+`,"tagId":"w","channels":[{"channelId":`+quoted(users[(i+2+variant)%len(users)])+`,"channelType":1}]}`)
		for _, tag := range []string{"off", "gone"} {
			e.must(addTagTo, `{"userId":`+id+`,"tagId":"`+tag+`","channels":[{"channelId":`+next+`,"channelType":1}]}`)
		}
		e.must(setOpenMeta, e.fill(`{"channelId":$ROOM,"metadataOwnerId":$FROM,"metadata":{"a":$TEXT}}`, "", i))
		e.must(block, `{"userId":`+id+`,"targetUserIds":[`+quoted(users[(i+2+variant)%len(users)])+`]}`)
	}
	for i, u := range users {
		e.must(registerPush, fmt.Sprintf(`{"userId":%s,"deviceId":"gone","provider":"FCM","token":"token-%d"}`, quoted(u), i))
		e.must(registerPush, fmt.Sprintf(`{"userId":%s,"deviceId":"kept","provider":"FCM","token":"kept-%d-%d"}`, quoted(u), i, variant))
	}
	for _, pack := range []string{"gone", "kept"} {
		e.must(setCredential, fmt.Sprintf(`{"provider":"MI","package":%q,"credential":{"appSecret":"secret-%d"}}`, pack, variant))
		e.must(setTemplate, fmt.Sprintf(`{"templateId":%q,"defaultLanguage":"en","languages":[{"language":"en","body":"of %d"}]}`, pack, variant))
	}
	e.now = w.clock.ms.Load() + 500
	e.furnish(variant)
	for _, o := range operations {
		p := proofOf(w.t, &o)
		for i := range users {
			if p.of != nil {
				uid := anyUID.FindString(e.must(p.of.path, e.fill(p.of.body, o.name, i)).Body)
				if uid == "" {
					w.t.Fatalf("%s: the source has no UID", o.name)
				}
				e.uids[o.name+strconv.Itoa(i)] = uid
			}
		}
	}
	return e
}

// furnish gives every user an open channel in which they and the next one are, and
// the app what it says of its channels.
func (e *estate) furnish(variant int) {
	kind := quoted("app:of-" + e.name)
	e.must(priorityTypes+"/add", `{"messageTypes":[`+kind+`]}`)
	e.must(lowTypes+"/add", `{"messageTypes":[`+kind+`]}`)
	for i, u := range e.users {
		_, next := e.pair(i)
		other := quoted(e.users[(i+2+variant)%len(e.users)])
		room := quoted(u)
		e.must(createRoom, fmt.Sprintf(`{"channelId":%s,"ttlMinutes":%d,"shouldFreeze":%t}`, room, 100+i+variant, i%2 == variant))
		e.w.sit(e.app.ID, u, u)
		if i%2 == variant {
			e.w.sit(e.app.ID, u, next)
		}
		if i%3 == variant {
			e.must(keepAlivePath+"/add", `{"channelId":`+room+`}`)
			e.must(globalMute+"/add", fmt.Sprintf(`{"participantIds":[%s],"durationMinutes":%d}`, room, 600+i+variant))
		}
		e.must(roomMute+"/add", fmt.Sprintf(`{"channelId":%s,"participantIds":[%s],"durationMinutes":%d}`, room, other, 500+i+variant))
		e.must(roomBan+"/add", fmt.Sprintf(`{"channelId":%s,"participantIds":["evil-%d"],"durationMinutes":%d}`, room, i, 500+i+variant))
		e.must(allowedSenders+"/add", `{"channelId":`+room+`,"participantIds":[`+other+`]}`)
		e.must(prioritySenders+"/add", `{"channelId":`+room+`,"participantIds":[`+other+`]}`)
	}
}

// useKeys sends everything once with the keys that others use too.
func (e *estate) useKeys() {
	for _, o := range operations {
		if o.idempotent {
			for i, body := range e.bodies(o.name) {
				e.first[o.name+strconv.Itoa(i)] = e.must(o.path, body, keyOf(i)).Body
			}
		}
	}
}

// keyOf is an Idempotency-Key that all apps use.
func keyOf(i int) func(http.Header) { return with(idempotencyKey, "key-"+strconv.Itoa(i)) }

// picture is all that the app can see of what it has: what every reading
// operation answers, every user's timeline and tokens, and the broadcasts that wait
// for users to come.
func (e *estate) picture() (lines []string) {
	e.w.t.Helper()
	for _, o := range operations {
		if proofs[o.name].effect != reads {
			continue
		}
		for _, body := range e.bodies(o.name) {
			lines = append(lines, o.name+" "+body+" is "+e.as(o.path, body).Body)
		}
	}
	ctx := e.w.t.Context()
	for i, u := range e.users[:cmp.Or(e.pairs, len(e.users))] {
		_, err := e.w.dir.Verify(ctx, e.tokens[i])
		lines = append(lines, fmt.Sprintf("token of %s: %v", u, err))
		entries, err := e.w.store.Read(ctx, e.app.ID, u, store.Range{Limit: 1000}, nil)
		if err != nil {
			e.w.t.Fatal(err)
		}
		for _, entry := range entries {
			m, err := e.w.store.Message(ctx, entry.Ref)
			if err != nil {
				e.w.t.Fatal(err)
			}
			shown, about := *m, ""
			if m.Event != nil {
				ev := *m.Event
				about, ev.UID = " about "+ev.UID.String(), chat.UID{}
				shown.Event = &ev
			}
			b, err := json.Marshal(shown)
			if err != nil {
				e.w.t.Fatal(err)
			}
			lines = append(lines, fmt.Sprintf("timeline of %s: %d %d %s %s%s %s", u, entry.Offset, entry.Kind, entry.UID, entry.Peer, about, b))
		}
	}
	casts, err := e.w.store.Broadcasts(ctx, e.now)
	if err != nil {
		e.w.t.Fatal(err)
	}
	for _, b := range casts {
		if b.App == e.app.ID {
			lines = append(lines, fmt.Sprintf("broadcast %+v", *b))
		}
	}
	lines = append(lines, e.w.heard(e.app.ID)...)
	e.w.said.mu.Lock()
	defer e.w.said.mu.Unlock()
	own := strconv.Itoa(int(e.app.ID)) + "/"
	for _, list := range [][]string{e.w.said.expired, e.w.said.shut} {
		for _, s := range list {
			if strings.HasPrefix(s, own) {
				lines = append(lines, "connections: "+s)
			}
		}
	}
	return lines
}

// plain is a text without what differs from run to run.
func plain(s string) string {
	s = anyUID.ReplaceAllString(s, "UID")
	return anyToken.ReplaceAllString(s, `"accessToken":"TOKEN"`)
}

var anyToken = regexp.MustCompile(`"accessToken":"[^"]*"`)

// sameLines fails where two pictures differ, and says where first.
func sameLines(t *testing.T, what string, was, is []string) bool {
	t.Helper()
	for i := range max(len(was), len(is)) {
		a, b := "nothing", "nothing"
		if i < len(was) {
			a = was[i]
		}
		if i < len(is) {
			b = is[i]
		}
		if a != b {
			t.Errorf("%s:\nwas %.1500s\nis  %.1500s", what, a, b)
			return false
		}
	}
	return true
}
