package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/client"
	"github.com/parleychat/parley/internal/push/pushtest"
)

// demoPushExt is the example of pushExt that the platform's pages give.
const demoPushExt = `{"title":"you have a new message.","templateId":"123456","forceShowPushContent":0,"pushConfigs":[` +
	`{"HW":{"channelId":"hw-123","importance":"NORMAL","image":"https://example.com/image.png"}},` +
	`{"MI":{"channelId":"mi-123","large_icon_uri":"https://example.com/image.png"}},` +
	`{"OPPO":{"channelId":"oppo-123","category":"IM","notify_level":2}},` +
	`{"VIVO":{"classification":"0"}},` +
	`{"APNs":{"thread-id":"123","apns-collapse-id":"123456","richMediaUri":"https://example.com/image.png"}},` +
	`{"FCM":{"channelId":"rongcloud_channelid","collapse_key":"1234","imageUrl":"https://example.com/image.png"}},` +
	`{"OHOS":{"category":"IM","image":"https://example.com/image.png"}},` +
	`{"MEIZU":{"noticeMsgType":1}}]}`

// print prints what phones have shown since it was called last. The channel is
// closed when there is more.
func (d *pushShow) print() <-chan struct{} {
	list, more := d.theatre.after(len(d.told))
	for _, n := range list {
		d.told = append(d.told, n)
		d.line(n.At, n.Provider.String(), ownerOf(n.Token), whatShows(n))
	}
	return more
}

func (d *pushShow) line(at time.Time, provider, who, what string) {
	d.say("   %s  %-5s  %-16s  %s", at.UTC().Format("15:04:05.000"), provider, who, what)
}

// ownerOf says whose phone has the token, and the phone's language.
func ownerOf(token string) string {
	for _, p := range allPhones() {
		if p.token() == token {
			return fmt.Sprintf("%s, %s", p.name(), p.language)
		}
	}
	return "?"
}

// whatShows is what a phone shows of a notification. It is in quotes, so that no
// text moves the cursor.
func whatShows(n pushtest.Shown) string {
	if n.Silent {
		if n.Removes != "" {
			return "(shows nothing: take away what is shown of " + n.Removes + ")"
		}
		return "(shows nothing)"
	}
	text := strconv.Quote(n.Title) + "  " + strconv.Quote(n.Body)
	if n.Badge >= 0 {
		text += "  badge " + strconv.Itoa(n.Badge)
	}
	if n.Key != "" {
		text += "  key " + strings.TrimPrefix(n.Key, "notification ")
	}
	return text
}

// shownTo are the notifications of a phone behind the first n of all.
func (d *pushShow) shownTo(p *castPhone, n int) (list []pushtest.Shown) {
	for _, s := range d.told[n:] {
		if s.Token == p.token() && s.Provider == p.provider {
			list = append(list, s)
		}
	}
	return list
}

// expect notes that each of the phones is to be shown so many more notifications.
func (d *pushShow) expect(n int, phones ...*castPhone) {
	for _, p := range phones {
		d.due[p.token()] += n
	}
}

// haveShown waits until each of the phones was shown so many notifications more,
// and so many behind the first n of all.
func (d *pushShow) haveShown(ctx context.Context, what string, n, more int, phones ...*castPhone) error {
	d.expect(more, phones...)
	each := more + len(d.shownTo(phones[0], n))
	return d.await(ctx, what, func() (bool, error) {
		return !slices.ContainsFunc(phones, func(p *castPhone) bool { return len(d.shownTo(p, n)) < each }), nil
	})
}

// everybody shows what one message, with a full pushExt, does for each recipient.
func (d *pushShow) everybody(ctx context.Context) error {
	users, phones := notified()
	to := slices.Clone(users)
	for _, m := range pushCast[len(users):] {
		to = append(to, m.user)
	}
	quin, err := d.connect(ctx, "quin", map[string]string{})
	if err != nil {
		return err
	}
	defer func() {
		if quin != nil {
			quin.leave()
		}
	}()
	d.step("Zoë writes \"Dinner at seven?\" to %d people, with the pushExt of the documentation. Who has not taken it after %s\n   is notified; of the others the trace says why they are not.", len(to), demoPushGrace)
	began := len(d.told)
	uids, err := d.send(ctx, "Dinner at seven?", map[string]any{"pushExt": demoPushExt, "pushData": `{"table":7}`}, to...)
	if err != nil {
		return err
	}
	// Quin, who is no device that the server knows, reads it and goes.
	if _, err := quin.await(ctx, "the message", isMessage(uids["quin"])); err != nil {
		return err
	}
	if err := quin.call(ctx, "message.read", map[string]any{"channelType": "direct", "channelId": demoSender, "upTo": uids["quin"]}, &struct{}{}); err != nil {
		return err
	}
	quin.leave()
	quin = nil
	for _, u := range []*device{d.kim, d.lea} {
		if err := u.take(ctx, uids[u.user]); err != nil {
			return err
		}
	}

	d.expect(1, phones...)
	var t *traced
	err = d.await(ctx, "a notification or a reason for each of them", func() (_ bool, err error) {
		if t, err = d.trace(ctx, uids[to[0]]); err != nil {
			return false, err
		}
		open := len(to)
		for i := range t.Recipients {
			r := &t.Recipients[i]
			if r.Push == nil || r.Push.Reason == "pending" {
				continue
			}
			if r.Push.Effect != "none" && len(r.Push.Devices) < len(member(r.UserID).phones) {
				continue
			}
			open--
			if _, said := d.reasons[r.UserID]; !said {
				d.reasons[r.UserID] = r.Push.Reason
				if r.Push.Effect == "none" {
					d.line(time.Now(), "-", r.UserID, "not notified: "+r.Push.Reason+" ("+member(r.UserID).why+")")
				}
			}
		}
		return open == 0 && len(d.told)-began >= len(phones), nil
	})
	if err != nil {
		return err
	}
	d.checkEverybody(t)
	return nil
}

func isMessage(uid string) func(*news) bool {
	return func(n *news) bool { return n.Event == "message" && n.Message.UID == uid }
}

// take waits for a message and acknowledges it.
func (d *device) take(ctx context.Context, uid string) error {
	if _, err := d.await(ctx, "the message", isMessage(uid)); err != nil {
		return err
	}
	place, _ := d.client.Position(client.Me)
	if err := d.client.Ack(ctx, place); err != nil {
		return fmt.Errorf("%s's %s: %w", d.user, d.name, err)
	}
	return nil
}

// checkEverybody holds the trace of the first message against what was to be.
func (d *pushShow) checkEverybody(t *traced) {
	var wrong []string
	accepted, refused := 0, 0
	for i := range t.Recipients {
		r := &t.Recipients[i]
		want := member(r.UserID).reason
		if want == "" {
			want = "away"
		}
		if r.Push.Reason != want {
			wrong = append(wrong, fmt.Sprintf("%s: %s, not %s", r.UserID, r.Push.Reason, want))
			continue
		}
		if want != "away" {
			refused++
		}
		for _, v := range r.Push.Devices {
			if v.Class != "accepted" {
				wrong = append(wrong, fmt.Sprintf("%s's %s: %s %s", r.UserID, v.DeviceID, v.Class, v.Code))
			}
			accepted++
		}
	}
	detail := fmt.Sprintf("%d phones notified, %d people with a reason", accepted, refused)
	if len(wrong) > 0 {
		detail = strings.Join(wrong, "; ")
	}
	d.check("of each recipient the trace says whether and why they are notified", len(wrong) == 0, detail)
}

// languages shows a template.
func (d *pushShow) languages(ctx context.Context) error {
	users, phones := notified()
	d.step("A template says the same in the language of each phone. It has seven languages; who reads none of them gets that\n   of the app. Dora's details stay hidden.")
	texts := []admin.PushText{
		{Language: "en", Title: "Tonight", Body: "{sender} asks: {content}"},
		{Language: "de", Title: "Heute Abend", Body: "{sender} fragt: {content}"},
		{Language: "fr", Title: "Ce soir", Body: "{sender} demande : {content}"},
		{Language: "ja", Title: "今夜", Body: "{sender}より: {content}"},
		{Language: "zh", Title: "今晚", Body: "{sender}问：{content}"},
		{Language: "zh-Hant", Title: "今晚", Body: "{sender}問：{content}"},
		{Language: "es", Title: "Esta noche", Body: "{sender} pregunta: {content}"},
	}
	if err := d.owner.SetPushTemplate(ctx, d.srv.key, admin.PushTemplate{ID: "tonight", Default: "en", Texts: texts}); err != nil {
		return err
	}
	began := len(d.told)
	if _, err := d.send(ctx, "Who brings wine?", map[string]any{"pushExt": `{"templateId":"tonight"}`}, users...); err != nil {
		return err
	}
	if err := d.haveShown(ctx, "the message in the words of the template", began, 1, phones...); err != nil {
		return err
	}
	want := map[string]string{
		"en": "Zoë asks: Who brings wine?", "de": "Zoë fragt: Who brings wine?", "fr": "Nouveau message", "ja": "Zoëより: Who brings wine?",
		"zh-Hans-CN": "Zoë问：Who brings wine?", "zh-Hant-TW": "Zoë問：Who brings wine?", "es": "Zoë pregunta: Who brings wine?",
		"ko": "Zoë asks: Who brings wine?", "pt-BR": "Zoë asks: Who brings wine?",
	}
	wrong := []string{}
	for _, p := range phones {
		if got := d.shownTo(p, began)[0].Body; got != want[p.language] {
			wrong = append(wrong, fmt.Sprintf("%s: %q", p.name(), got))
		}
	}
	d.check("each phone is told in its own language, and the one that hides details without them", len(wrong) == 0,
		fmt.Sprintf("%d languages%s", len(want), strings.Join(append([]string{""}, wrong...), "; ")))
	return nil
}

// silence shows messages that notify nobody.
func (d *pushShow) silence(ctx context.Context) error {
	users, _ := notified()
	d.step("Some messages notify nobody, and that follows from the message alone:")
	var got []string
	for _, m := range []struct {
		words string
		more  map[string]any
	}{
		{"sent with disablePush", map[string]any{"disablePush": 1}},
		{"of a type of the app's own, without a pushContent", map[string]any{"messageType": "app:coordinates"}},
	} {
		uids, err := d.send(ctx, "Only for those who look", m.more, users...)
		if err != nil {
			return err
		}
		t, err := d.trace(ctx, uids[users[0]])
		if err != nil {
			return err
		}
		reason := ""
		for i := range t.Recipients {
			switch p := t.Recipients[i].Push; {
			case p == nil || p.Effect != "none":
				reason = "?"
			case reason == "" || reason == p.Reason:
				reason = p.Reason
			default:
				reason = "?"
			}
		}
		got = append(got, reason)
		d.line(time.UnixMilli(t.SentAt), "-", "all of them", "not notified: "+reason+" ("+m.words+")")
	}
	d.check("messages that notify nobody say so", slices.Equal(got, []string{"disabled", "no_text"}), strings.Join(got, ", "))
	return nil
}

// desk shows what counts as reached.
func (d *pushShow) desk(ctx context.Context) error {
	d.step("Lea sits at her desk. Where the app has push.despite-desktop, her phone is told all the same.")
	if _, err := d.owner.SetApp(ctx, d.srv.key, map[string]string{"push.despite-desktop": "true"}); err != nil {
		return err
	}
	began := len(d.told)
	uid, err := d.sendOne(ctx, "Are you still at work?", nil, "lea")
	if err != nil {
		return err
	}
	if err := d.lea.take(ctx, uid); err != nil {
		return err
	}
	if err := d.haveShown(ctx, "the notification for who is at a desk", began, 1, &member("lea").phones[0]); err != nil {
		return err
	}
	_, err = d.owner.SetApp(ctx, d.srv.key, map[string]string{"push.despite-desktop": "false"})
	return err
}

// outage shows that one provider's trouble is its own.
func (d *pushShow) outage(ctx context.Context) error {
	chen, dora := &member("chen").phones[0], &member("dora").phones[0]
	d.step("HW goes down: it breaks every connection off. Zoë writes to chen (HW) and to dora (HONOR).")
	sim := d.theatre.sims[chat.HW]
	mend := sim.Fail(pushtest.Fault{Reset: true})
	defer mend()
	began := len(d.told)
	if _, err := d.send(ctx, "The train is late", nil, "chen", "dora"); err != nil {
		return err
	}
	if err := d.haveShown(ctx, "the notification by the provider that is up", began, 1, dora); err != nil {
		return err
	}
	if err := d.await(ctx, "a second attempt at the provider that is down", func() (bool, error) { return sim.Stats().Faults >= 2, nil }); err != nil {
		return err
	}
	early := len(d.shownTo(chen, began))
	d.line(time.Now(), chat.HW.String(), "", fmt.Sprintf("is back: it has broken %d attempts off", sim.Stats().Faults))
	mend()
	if err := d.haveShown(ctx, "the notification by the provider that is back", began, 1, chen); err != nil {
		return err
	}
	d.check("a provider that is down holds up nobody else's, and loses nothing", early == 0, fmt.Sprintf("%d attempts in vain, then it came", sim.Stats().Faults))
	return nil
}

// call shows that a lane keeps quiet when it is asked to, and what comes first then.
func (d *pushShow) call(ctx context.Context) error {
	const pause = 4 * time.Second
	ben := &member("ben").phones[0]
	d.step("FCM answers a message for ben with 429 and Retry-After: %.0f. Zoë writes to him once more, and then calls: the call\n   comes first.", pause.Seconds())
	sim := d.theatre.sims[chat.FCM]
	faults := sim.Stats().Faults
	before := len(d.theatre.requests())
	mend := sim.Fail(pushtest.Fault{Status: 429, Header: map[string]string{"Retry-After": strconv.Itoa(int(pause.Seconds()))}, Times: 1})
	defer mend()
	began := len(d.told)
	if _, err := d.sendOne(ctx, "Where are you?", nil, "ben"); err != nil {
		return err
	}
	if err := d.await(ctx, "the request that is answered 429", func() (bool, error) { return sim.Stats().Faults > faults, nil }); err != nil {
		return err
	}
	d.line(time.Now(), chat.FCM.String(), "", fmt.Sprintf("has answered 429: nothing for %s", pause))
	if _, err := d.sendOne(ctx, "We are waiting", nil, "ben"); err != nil {
		return err
	}
	if _, err := d.sendOne(ctx, "", map[string]any{
		"messageType": "RC:VCInvite", "content": `{"callId":"demo"}`, "pushContent": "Zoë is calling",
	}, "ben"); err != nil {
		return err
	}
	if err := d.haveShown(ctx, "what has waited", began, 3, ben); err != nil {
		return err
	}
	asked := d.theatre.requests()[before:]
	if len(asked) < 2 {
		return errors.New("the requests to FCM were not seen")
	}
	quiet := asked[1].Sub(asked[0])
	d.check("a provider that asks for a pause gets it", quiet >= pause, fmt.Sprintf("%.1f s of %s", quiet.Seconds(), pause))
	var bodies []string
	for _, n := range d.shownTo(ben, began) {
		bodies = append(bodies, n.Body)
	}
	d.check("of what has waited the call comes first", bodies[0] == "Zoë is calling", fmt.Sprintf("%q", bodies))
	return nil
}

// requests are the times of the requests to FCM.
func (t *theatre) requests() []time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.asked)
}

const (
	stormSize  = 40
	stormShown = 5 // notifications of one phone until it is a storm
)

// storm shows what becomes of too many messages at once.
func (d *pushShow) storm(ctx context.Context) error {
	rosa := &stormCast.phones[0]
	d.step("A storm: %d messages for rosa within a moment. After %d her phone is told of the rest in one notification a minute.", stormSize, stormShown)
	began := len(d.told)
	uids := make([]string, stormSize)
	for i := range uids {
		uid, err := d.sendOne(ctx, fmt.Sprintf("And another thing (%d)", i+1), nil, rosa.user)
		if err != nil {
			return err
		}
		uids[i] = uid
	}
	if err := d.haveShown(ctx, "the first notifications of the storm", began, stormShown, rosa); err != nil {
		return err
	}
	folded, waiting := 0, 0
	next := time.Now()
	err := d.await(ctx, "the rest of the storm being held", func() (bool, error) {
		if time.Now().Before(next) {
			return false, nil
		}
		next = time.Now().Add(time.Second)
		folded, waiting = 0, 0
		for _, uid := range uids {
			t, err := d.trace(ctx, uid)
			if err != nil {
				return false, err
			}
			switch p := t.Recipients[0].Push; {
			case p == nil || p.Reason != "away":
				return false, nil
			case len(p.Devices) == 0:
				waiting++
			case p.Devices[0].Class == "coalesced":
				folded++
			}
		}
		return waiting == 1 && folded == stormSize-stormShown-1, nil
	})
	if err != nil {
		return err
	}
	d.line(time.Now(), chat.APNs.String(), "rosa, it", fmt.Sprintf("the other %d are held as one, due in a minute; the trace calls %d of them coalesced", folded+waiting, folded))
	if !d.cmd.Summary {
		d.say("                                          (which is not waited for here; --summary does)")
		d.check("a storm is a few notifications and a summary", len(d.shownTo(rosa, began)) == stormShown, fmt.Sprintf("%d shown, %d in one that waits", stormShown, folded+waiting))
		return nil
	}
	if err := d.within(ctx, demoPushSummary, "the summary", func() (bool, error) { return len(d.shownTo(rosa, began)) > stormShown, nil }); err != nil {
		return err
	}
	d.expect(1, rosa)
	list := d.shownTo(rosa, began)
	last := list[len(list)-1].Body
	d.check("a storm is a few notifications and a summary", len(list) == stormShown+1 && strings.HasPrefix(last, strconv.Itoa(folded+waiting)+" "), fmt.Sprintf("%d shown, then %q", stormShown, last))
	return nil
}

// deadToken shows that a phone is forgotten which the app was removed from.
func (d *pushShow) deadToken(ctx context.Context) error {
	phone, pad := &member("ada").phones[0], &member("ada").phones[1]
	d.step("Ada removes the app from her pad. APNs says so (410), and once it has taken another notification meanwhile, so that\n   it can be believed, the token goes. Two messages:")
	d.theatre.sims[chat.APNs].Remove(pad.token())
	began := len(d.told)
	uid, err := d.sendOne(ctx, "Did you get my card?", map[string]any{"count": 3}, "ada")
	if err != nil {
		return err
	}
	if err := d.haveShown(ctx, "the notification on the phone that is there", began, 1, phone); err != nil {
		return err
	}
	said := ""
	if err := d.await(ctx, "APNs' word about the pad", func() (bool, error) {
		t, err := d.trace(ctx, uid)
		if err != nil {
			return false, err
		}
		for _, v := range t.Recipients[0].Push.Devices {
			if v.DeviceID == pad.device {
				said = v.Class + ", code " + v.Code
			}
		}
		return said != "", nil
	}); err != nil {
		return err
	}
	d.line(time.Now(), "APNs", "ada's pad, en", "the trace: "+said)
	began = len(d.told)
	if _, err := d.sendOne(ctx, "It was the one with the owl", map[string]any{"count": 4}, "ada"); err != nil {
		return err
	}
	if err := d.haveShown(ctx, "the next notification on the phone that is there", began, 1, phone); err != nil {
		return err
	}
	var left []string
	if err := d.await(ctx, "the pad's registration to be gone", func() (bool, error) {
		var list struct {
			Devices []struct {
				DeviceID string `json:"deviceId"`
			}
		}
		if err := d.post(ctx, "/v4x/push/device/list", map[string]any{"userId": "ada"}, &list); err != nil {
			return false, err
		}
		left = left[:0]
		for _, v := range list.Devices {
			left = append(left, v.DeviceID)
		}
		return !slices.Contains(left, pad.device), nil
	}); err != nil {
		return err
	}
	d.line(time.Now(), "-", "ada", fmt.Sprintf("has registered, by /v4x/push/device/list: %q", left))
	d.check("a token that is dead goes, and no other", said == "token_dead, code Unregistered" && slices.Equal(left, []string{phone.device}), said)
	return nil
}

// recall shows that a recall takes the place of what it recalls.
func (d *pushShow) recall(ctx context.Context) error {
	emi := &member("emi").phones[0]
	d.step("Zoë writes to emi, and takes it back. The notification of the recall has the key of the other, and so its place.")
	began := len(d.told)
	uid, err := d.sendOne(ctx, "I never liked your cat", nil, "emi")
	if err != nil {
		return err
	}
	if err := d.haveShown(ctx, "the notification of what will be recalled", began, 1, emi); err != nil {
		return err
	}
	if err := d.post(ctx, "/v4/message/delete", map[string]any{
		"fromUserId": demoSender, "channelType": 1, "channelId": "emi", "messageUID": uid,
	}, nil); err != nil {
		return err
	}
	if err := d.haveShown(ctx, "the notification of the recall", began, 1, emi); err != nil {
		return err
	}
	list := d.shownTo(emi, began)
	there := 0
	for _, n := range d.theatre.sims[chat.MI].Screen(emi.token()) {
		if n.Key == list[0].Key || n.Key == list[1].Key {
			there++
		}
	}
	d.check("a recall takes the place of what it recalls", there == 1 && list[1].Key == list[0].Key && list[1].Removes == uid, fmt.Sprintf("%d of the two is on the screen", there))
	return nil
}

// readElsewhere shows that a notification goes when its message is read.
func (d *pushShow) readElsewhere(ctx context.Context) error {
	phone := &member("ada").phones[0]
	d.step("With push.withdraw, what ada reads at her desk is taken off her phone again: by a notification that shows nothing.")
	if _, err := d.owner.SetApp(ctx, d.srv.key, map[string]string{"push.withdraw": "true"}); err != nil {
		return err
	}
	began := len(d.told)
	uid, err := d.sendOne(ctx, "See you there", nil, "ada")
	if err != nil {
		return err
	}
	if err := d.haveShown(ctx, "the notification of what will be read", began, 1, phone); err != nil {
		return err
	}
	desk, err := d.connect(ctx, "ada", map[string]string{"deviceId": "desk", "platform": "desktop"})
	if err != nil {
		return err
	}
	defer desk.leave()
	if err := desk.take(ctx, uid); err != nil {
		return err
	}
	if err := desk.call(ctx, "message.read", map[string]any{"channelType": "direct", "channelId": demoSender, "upTo": uid}, &struct{}{}); err != nil {
		return err
	}
	if err := d.haveShown(ctx, "the notification being taken back", began, 1, phone); err != nil {
		return err
	}
	last := d.shownTo(phone, began)[1]
	d.check("what was read elsewhere is taken back", last.Silent && last.Removes == uid, last.Removes)
	return nil
}
