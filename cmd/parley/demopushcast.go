package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push/pushtest"
)

const (
	demoSender = "zoe" // who is called Zoë
	demoName   = "Zoë"
)

// A castMember is somebody whom messages are for.
type castMember struct {
	user   string
	phones []castPhone
	reason string // for which they are not notified; empty when they are
	why    string // the same, in words
}

// A castPhone is a device that is registered for push.
type castPhone struct {
	user, device string
	provider     chat.PushProvider
	language     string
	hides        bool // shows no details
}

func onPhone(user string, p chat.PushProvider, language string) castPhone {
	return castPhone{user: user, device: "phone", provider: p, language: language}
}

// pushCast is everybody to whom the first message goes: first who is notified, a
// device of each provider, then who is not, each for a reason of their own.
var pushCast = []castMember{
	{user: "ada", phones: []castPhone{onPhone("ada", chat.APNs, "en"), {user: "ada", device: "pad", provider: chat.APNs, language: "en"}}},
	{user: "ben", phones: []castPhone{onPhone("ben", chat.FCM, "de")}},
	{user: "chen", phones: []castPhone{onPhone("chen", chat.HW, "zh-Hans-CN")}},
	{user: "dora", phones: []castPhone{{user: "dora", device: "phone", provider: chat.HONOR, language: "fr", hides: true}}},
	{user: "emi", phones: []castPhone{onPhone("emi", chat.MI, "ja")}},
	{user: "fei", phones: []castPhone{onPhone("fei", chat.OPPO, "zh-Hant-TW")}},
	{user: "gabi", phones: []castPhone{onPhone("gabi", chat.VIVO, "es")}},
	{user: "hana", phones: []castPhone{onPhone("hana", chat.OHOS, "ko")}},
	{user: "ivo", phones: []castPhone{onPhone("ivo", chat.MEIZU, "pt-BR")}},
	{user: "jo", phones: []castPhone{{user: "jo", device: "browser", provider: chat.WEB, language: "de"}}},

	{user: "kim", phones: []castPhone{onPhone("kim", chat.HW, "en")}, reason: "reached", why: "is connected, and her phone has acknowledged it"},
	{user: "lea", phones: []castPhone{onPhone("lea", chat.FCM, "en")}, reason: "reached_desktop", why: "has it at her desk, which is enough here"},
	{user: "max", phones: []castPhone{onPhone("max", chat.OPPO, "de")}, reason: "quiet_hours", why: "has quiet hours now"},
	{user: "nia", phones: []castPhone{onPhone("nia", chat.VIVO, "en")}, reason: "level", why: "wants nothing of Zoë's"},
	{user: "otto", phones: []castPhone{onPhone("otto", chat.HONOR, "de")}, reason: "banned", why: "is banned for an hour"},
	{user: "pia", reason: "no_device", why: "has registered no device"},
	{user: "quin", phones: []castPhone{onPhone("quin", chat.MEIZU, "en")}, reason: "read", why: "has read it in the meantime, and is gone again"},
}

// stormCast is who gets too much at once.
var stormCast = castMember{user: "rosa", phones: []castPhone{onPhone("rosa", chat.APNs, "it")}}

// member is somebody of the cast.
func member(user string) *castMember {
	if user == stormCast.user {
		return &stormCast
	}
	return &pushCast[slices.IndexFunc(pushCast, func(m castMember) bool { return m.user == user })]
}

// allPhones are everybody's.
func allPhones() (list []*castPhone) {
	for i := range pushCast {
		for k := range pushCast[i].phones {
			list = append(list, &pushCast[i].phones[k])
		}
	}
	return append(list, &stormCast.phones[0])
}

// notified are those of the first message's recipients who are, with their phones.
func notified() (users []string, phones []*castPhone) {
	for i := range pushCast {
		if m := &pushCast[i]; m.reason == "" {
			users = append(users, m.user)
			for k := range m.phones {
				phones = append(phones, &m.phones[k])
			}
		}
	}
	return users, phones
}

// token is what the provider calls the phone, in a form that any could have given.
func (p *castPhone) token() string {
	sum := sha256.Sum256([]byte(p.user + "'s " + p.device))
	token := hex.EncodeToString(sum[:])
	if p.provider == chat.OPPO {
		return "OPPO_CN_" + token[:32]
	}
	return token
}

// name is what the phone is called in what is printed.
func (p *castPhone) name() string {
	if p.device == "phone" {
		return p.user
	}
	return p.user + "'s " + p.device
}

// start starts the node, tells it the credentials, registers the phones, and has
// those be as they are who are not to be notified.
func (d *pushShow) start(ctx context.Context) (err error) {
	if err := d.node.start(ctx); err != nil {
		return err
	}
	if d.owner, err = admin.Connect(ctx, d.node.dir); err != nil {
		return err
	}
	if d.srv, err = localServer(ctx, d.owner, ""); err != nil {
		return err
	}
	d.step("A node starts at http://%s with --push-ca and --push-grace %s. Its owner tells it the credentials, and it\n   asks the providers about them first:", d.node.address, demoPushGrace)
	good := 0
	for _, p := range chat.PushProviders() {
		c := d.theatre.sims[p].Credential(d.theatre.at[p])
		said, err := d.owner.SetPushCredential(ctx, d.srv.key, admin.PushKey{Provider: p.String()}, c.BaseURL, c.Fields, true)
		if err != nil {
			return fmt.Errorf("the credential for %s: %w", p, err)
		}
		if said.Verdict == "good" {
			good++
		}
		d.say("   %-5s  %s  %s", p, c.BaseURL, said.Verdict)
		// What was asked for this is not what it is about.
		d.asked[p] = d.theatre.sims[p].Stats()
	}
	d.check("the providers take the credentials", good == len(d.theatre.sims), fmt.Sprintf("%d of %d", good, len(d.theatre.sims)))
	if err := d.register(ctx); err != nil {
		return err
	}
	return d.prepare(ctx)
}

// register has phones be the providers', and registers them with the node.
func (d *pushShow) register(ctx context.Context) error {
	phones := allPhones()
	for _, p := range phones {
		d.theatre.sims[p.provider].Register(pushtest.Phone{Token: p.token(), Package: pushtest.HWPackage, RegisteredAt: time.Now()})
		fields := map[string]any{
			"userId": p.user, "deviceId": p.device, "provider": p.provider.String(), "token": pushtest.Token(p.provider, p.token()),
			"package": pushtest.HWPackage, "language": p.language,
		}
		if p.hides {
			fields["hideDetails"] = 1
		}
		if err := d.post(ctx, "/v4x/push/device/register", fields, nil); err != nil {
			return err
		}
	}
	_, shown := notified()
	d.step("%d phones are registered: %d of people who will be notified, at least one of each provider, and others of people\n   who will not be, each for a reason of their own. Dora's phone is to show no details.", len(phones), len(shown))
	return nil
}

// prepare has those be as they are who are not to be notified.
func (d *pushShow) prepare(ctx context.Context) (err error) {
	if _, err := d.owner.IssueToken(ctx, d.srv.key, demoSender, demoName); err != nil {
		return err
	}
	if err := d.post(ctx, "/v4/user/ban", map[string]any{"userIds": []string{"otto"}, "durationMinutes": 60}, nil); err != nil {
		return err
	}
	if err := d.post(ctx, "/v4/channel/push/set", map[string]any{
		"userId": "nia", "channelType": "1", "channelId": demoSender, "noDisturbLevel": 5,
	}, nil); err != nil {
		return err
	}
	quiet, err := d.connect(ctx, "max", map[string]string{})
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	err = quiet.call(ctx, "channel.notification", map[string]any{"quietHours": map[string]any{
		"from": now.Add(-time.Hour).Format("15:04"), "to": now.Add(time.Hour).Format("15:04"),
	}}, &struct{}{})
	quiet.leave()
	if err != nil {
		return err
	}
	if d.kim, err = d.connect(ctx, "kim", map[string]string{"deviceId": "phone", "platform": "ios"}); err != nil {
		return err
	}
	d.lea, err = d.connect(ctx, "lea", map[string]string{"deviceId": "desk", "platform": "desktop"})
	return err
}

// connect connects somebody; data says what they connect with.
func (d *pushShow) connect(ctx context.Context, user string, data map[string]string) (*device, error) {
	t, err := d.owner.IssueToken(ctx, d.srv.key, user, "")
	if err != nil {
		return nil, err
	}
	name := data["deviceId"]
	if name == "" {
		name = "browser"
	}
	return connectWith(ctx, d.srv, user, name, t.Token, data)
}
