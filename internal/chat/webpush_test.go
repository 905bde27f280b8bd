package chat

import (
	"strings"
	"testing"
)

const (
	webPoint  = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
	webSecret = "BTBZMqHH6r4Tts7J_aSIgg"
)

func subscriptionOf(endpoint, point, secret string) string {
	return `{"endpoint":"` + endpoint + `","expirationTime":null,"keys":{"p256dh":"` + point + `","auth":"` + secret + `"}}`
}

func TestParseWebSubscription(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]PushEnvironment{
		"https://fcm.googleapis.com/fcm/send/abc:def":                   WebGoogle,
		"https://FCM.googleapis.com:443/wp/abc":                         WebGoogle,
		"https://updates.push.services.mozilla.com/wpush/v2/gAAA_-":     WebMozilla,
		"https://a.push.services.mozilla.com/wpush/v2/x":                WebMozilla,
		"https://wns2-par02p.notify.windows.com/w/?token=BQYAAA%2bb%3d": WebMicrosoft,
		"https://web.push.apple.com/QGk":                                WebApple,
		"https://a.push.apple.com/QGk":                                  WebApple,
		"https://push.example.com/x":                                    NoEnvironment,
		"https://a.b.example.net/x,y":                                   NoEnvironment,
	} {
		s, service, err := ParseWebSubscription(subscriptionOf(endpoint, webPoint, webSecret), "push.example.com", "*.Example.net")
		if err != nil || service != want {
			t.Errorf("%s: %s, %v", endpoint, service, err)
			continue
		}
		again, ok := OfWebToken(s.Token())
		if !ok || again != *s || !printable(s.Token()) || strings.Contains(ShortToken(s.Token()), webSecret[:4]) {
			t.Errorf("%s: %+v, %v", s.Token(), again, ok)
		}
		if !strings.HasSuffix(strings.ReplaceAll(strings.Replace(endpoint, "FCM", "fcm", 1), ":443", ""), again.Origin+again.Path) {
			t.Errorf("%s: %+v", endpoint, again)
		}
	}
	// Both alphabets, padded or not, are one token.
	a, _, err := ParseWebSubscription(subscriptionOf("https://web.push.apple.com/Q", webPoint, webSecret))
	b, _, err2 := ParseWebSubscription(subscriptionOf("https://web.push.apple.com/Q", strings.NewReplacer("-", "+", "_", "/").Replace(webPoint)+"=", strings.Replace(webSecret, "_", "/", 1)+"=="))
	if err != nil || err2 != nil || a.Token() != b.Token() {
		t.Errorf("%v, %v, %v, %v", a, b, err, err2)
	}
}

func TestParseWebSubscriptionRefuses(t *testing.T) {
	t.Parallel()
	const good = "https://fcm.googleapis.com/fcm/send/x"
	for name, c := range map[string]struct{ text, field string }{
		"no JSON":        {"token", "token"},
		"a list":         {"[]", "token"},
		"nothing":        {"{}", "token.endpoint"},
		"too long":       {subscriptionOf(good+strings.Repeat("x", 5000), webPoint, webSecret), "token.endpoint"},
		"http":           {subscriptionOf("http://fcm.googleapis.com/x", webPoint, webSecret), "token.endpoint"},
		"port":           {subscriptionOf("https://fcm.googleapis.com:22/x", webPoint, webSecret), "token.endpoint"},
		"user":           {subscriptionOf("https://a@fcm.googleapis.com/x", webPoint, webSecret), "token.endpoint"},
		"user as host":   {subscriptionOf("https://fcm.googleapis.com@127.0.0.1/x", webPoint, webSecret), "token.endpoint"},
		"fragment":       {subscriptionOf(good+"#x", webPoint, webSecret), "token.endpoint"},
		"no path":        {subscriptionOf("https://fcm.googleapis.com", webPoint, webSecret), "token.endpoint"},
		"root":           {subscriptionOf("https://fcm.googleapis.com/", webPoint, webSecret), "token.endpoint"},
		"climbs":         {subscriptionOf("https://fcm.googleapis.com/a/../../admin", webPoint, webSecret), "token.endpoint"},
		"climbs hidden":  {subscriptionOf("https://fcm.googleapis.com/a/%2e%2e/admin", webPoint, webSecret), "token.endpoint"},
		"space":          {subscriptionOf("https://fcm.googleapis.com/a b", webPoint, webSecret), "token.endpoint"},
		"this machine":   {subscriptionOf("https://127.0.0.1/x", webPoint, webSecret), "token.endpoint"},
		"IPv6":           {subscriptionOf("https://[::1]/x", webPoint, webSecret), "token.endpoint"},
		"in the network": {subscriptionOf("https://db.internal/x", webPoint, webSecret), "token.endpoint"},
		"metadata":       {subscriptionOf("https://169.254.169.254/latest/meta-data", webPoint, webSecret), "token.endpoint"},
		"looks alike":    {subscriptionOf("https://fcm.googleapis.com.example.com/x", webPoint, webSecret), "token.endpoint"},
		"looks alike 2":  {subscriptionOf("https://evilfcm.googleapis.com/x", webPoint, webSecret), "token.endpoint"},
		"looks alike 3":  {subscriptionOf("https://evilnotify.windows.com/x", webPoint, webSecret), "token.endpoint"},
		"trailing dot":   {subscriptionOf("https://fcm.googleapis.com./x", webPoint, webSecret), "token.endpoint"},
		"bare wildcard":  {subscriptionOf("https://notify.windows.com/x", webPoint, webSecret), "token.endpoint"},
		"no key":         {subscriptionOf(good, "", webSecret), "token.keys.p256dh"},
		"short key":      {subscriptionOf(good, webSecret, webSecret), "token.keys.p256dh"},
		"off the curve":  {subscriptionOf(good, webPoint[:80]+"AAAAAAA", webSecret), "token.keys.p256dh"},
		"no secret":      {subscriptionOf(good, webPoint, ""), "token.keys.auth"},
		"long secret":    {subscriptionOf(good, webPoint, webPoint), "token.keys.auth"},
	} {
		_, _, err := ParseWebSubscription(c.text)
		e, ok := err.(*Error)
		if !ok || e.Field != c.field || strings.Contains(e.Error(), webSecret) {
			t.Errorf("%s: %v, want %s", name, err, c.field)
		}
	}
}

func TestWebRegistration(t *testing.T) {
	t.Parallel()
	text := subscriptionOf("https://updates.push.services.mozilla.com/wpush/v2/abc", webPoint, webSecret)
	for _, object := range []bool{false, true} {
		r := PushRegistration{DeviceID: "browser", Provider: "web", Token: text, TokenObject: object}
		d, err := r.Device()
		if err != nil || d.Provider != WEB || d.Environment != WebMozilla || d.Token != webPoint+","+webSecret+",https://updates.push.services.mozilla.com/wpush/v2/abc" {
			t.Errorf("%+v, %v", d, err)
		}
		r.Provider = "FCM"
		if _, err := r.Device(); object == (err == nil) {
			t.Errorf("an object is a token of others: %v", err)
		}
	}
	r := PushRegistration{DeviceID: "browser", Provider: "WEB", Token: text, Environment: "mozilla"}
	if _, err := r.Device(); err == nil {
		t.Error("an environment was taken")
	}
}

func TestWebCredential(t *testing.T) {
	t.Parallel()
	public, private, err := NewWebKeys()
	if err != nil {
		t.Fatal(err)
	}
	other, _, _ := NewWebKeys()
	good := map[string]string{"publicKey": public, "privateKey": private, "subject": "mailto:push@example.com"}
	for _, c := range []struct{ name, value, field string }{
		{"", "", ""}, {"subject", "https://example.com/contact", ""}, {"icon", "https://example.com/i.png", ""}, {"rate", "100", ""}, {"publicKey", public + "=", ""},
		{"publicKey", other, "publicKey"}, {"publicKey", "x", "publicKey"}, {"publicKey", "", "publicKey"}, {"privateKey", public, "privateKey"}, {"privateKey", "", "privateKey"},
		{"privateKey", strings.Repeat("A", 43), "privateKey"},
		{"subject", "", "subject"}, {"subject", "push@example.com", "subject"}, {"subject", "mailto:nobody", "subject"}, {"subject", "http://example.com", "subject"},
		{"link", "/chat", "link"}, {"badge", "http://example.com/b.png", "badge"}, {"topic", "x", "topic"},
	} {
		fields := map[string]string{}
		for k, v := range good {
			fields[k] = v
		}
		if c.name != "" {
			fields[c.name] = c.value
		}
		cred := PushCredential{Provider: WEB, Fields: fields}
		err := cred.Check()
		e, _ := err.(*Error)
		if (c.field == "") != (err == nil) || e != nil && e.Field != c.field {
			t.Errorf("%s %q: %v", c.name, c.value, err)
		}
		if err != nil && strings.Contains(err.Error(), private) {
			t.Errorf("%s tells what is secret", c.name)
		}
	}
	cred := PushCredential{Provider: WEB, Fields: good}
	if cred.KeyID() != public || cred.CheckReach() != nil || strings.Contains(cred.String(), private) {
		t.Errorf("%s", cred)
	}
}

func TestCheckWebHost(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]bool{
		"push.example.com": true, "*.push.example.com": true, "Push.Example.com": true,
		"": false, "*": false, "*.": false, "localhost": false, "127.0.0.1": false, "::1": false, "https://push.example.com": false, "push.example.com:8443": false,
		"a.*.example.com": false, "push..example.com": false,
	} {
		if err := CheckWebHost(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzWebSubscription(f *testing.F) {
	f.Add(subscriptionOf("https://fcm.googleapis.com/fcm/send/x", webPoint, webSecret))
	f.Add(subscriptionOf("https://fcm.googleapis.com\\@127.0.0.1/x", webPoint, webSecret))
	f.Fuzz(func(t *testing.T, text string) {
		s, _, err := ParseWebSubscription(text)
		if err != nil {
			return
		}
		again, ok := OfWebToken(s.Token())
		if _, known := WebService(again.Host()); !ok || again != *s || !known || !printable(s.Token()) || len(s.Token()) > maxPushToken {
			t.Fatalf("%+v", s)
		}
	})
}
