package serverapi

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

const (
	registerPush     = "/v4x/push/device/register"
	removePush       = "/v4x/push/device/remove"
	listPush         = "/v4x/push/device/list"
	setCredential    = "/v4x/push/credential/set"
	removeCredential = "/v4x/push/credential/remove"
	listCredentials  = "/v4x/push/credential/list"
	checkCredentials = "/v4x/push/credential/check"
	setTemplate      = "/v4x/push/template/set"
	removeTemplate   = "/v4x/push/template/remove"
	listTemplates    = "/v4x/push/template/list"
)

func init() {
	archiveTables[registerPush] = registerPushFields.Names()
	archiveTables[removePush] = removePushFields.Names()
	archiveTables[listPush] = listPushFields.Names()
	archiveTables[setCredential] = setCredentialFields.Names()
	archiveTables[removeCredential] = removeCredentialFields.Names()
	archiveTables[listCredentials] = listCredentialFields.Names()
	archiveTables[checkCredentials] = checkCredentialFields.Names()
	archiveTables[setTemplate] = setTemplateFields.Names()
	archiveTables[removeTemplate] = removeTemplateFields.Names()
	archiveTables[listTemplates] = listTemplateFields.Names()
}

func TestPushDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := w.clock.ms.Load()
	apple := strings.Repeat("0A", 31) + "12bC"
	w.wantResult(listPush, `{"userId":"bob"}`, `{"userId":"bob","devices":[]}`)
	w.call(registerPush, `{"userId":"bob","deviceId":"phone","provider":"apns","token":"`+apple+`","bundle":"com.example","language":"zh_hans_cn","hideDetails":1,"timezone":"Europe/Berlin","quietHours":{"from":"22:00","to":"07:00"}}`).want(t, 200, 0, "")
	w.clock.advance(time.Second)
	w.call(registerPush, `{"userId":"bob","deviceId":"old","provider":"FCM","token":"t:1","package":"com.example","bundle":"com.example","quietHours":{"from":"22:00","to":"07:00"}}`).want(t, 200, 0, "")
	phone := fmt.Sprintf(`{"deviceId":"phone","provider":"APNs","token":"…0a12bc","package":"com.example","environment":"production","language":"zh-Hans-CN","hideDetails":true,"timezone":"Europe/Berlin","quietHours":{"from":"22:00","to":"07:00"},"registeredAt":%d,"lastSeen":%d}`, at, at)
	old := fmt.Sprintf(`{"deviceId":"old","provider":"FCM","token":"…1","package":"com.example","hideDetails":false,"quietHours":{"from":"22:00","to":"07:00"},"registeredAt":%d,"lastSeen":%d}`, at+1000, at+1000)
	for range 2 {
		w.wantResult(listPush, `{"userId":"bob"}`, `{"userId":"bob","devices":[`+phone+`,`+old+`]}`)
		w.restart()
	}

	// The phone changes hands: it is alice's alone, and of its whole registration
	// nothing is left of bob's.
	w.clock.advance(time.Second)
	w.call(registerPush, `{"userId":"alice","deviceId":"mine","provider":"APNs","token":"`+strings.ToLower(apple)+`","environment":"sandbox"}`).want(t, 200, 0, "")
	w.wantResult(listPush, `{"userId":"bob"}`, `{"userId":"bob","devices":[`+old+`]}`)
	w.wantResult(listPush, `{"userId":"alice"}`, fmt.Sprintf(`{"userId":"alice","devices":[{"deviceId":"mine","provider":"APNs","token":"…0a12bc","environment":"sandbox","hideDetails":false,"registeredAt":%d,"lastSeen":%d}]}`, at+2000, at+2000))

	for range 2 {
		w.call(removePush, `{"userId":"bob","deviceId":"old"}`).want(t, 200, 0, "")
		w.wantResult(listPush, `{"userId":"bob"}`, `{"userId":"bob","devices":[]}`)
	}
}

// A browser gives its subscription, as an object or as the text of it, and of that
// nothing is shown but what tells it from others.
func TestPushBrowsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := w.clock.ms.Load()
	token := webToken("https://updates.push.services.mozilla.com/wpush/v2/gAAAAABsecret")
	device := fmt.Sprintf(`{"deviceId":"browser","provider":"WEB","token":"…secret","environment":"mozilla","hideDetails":false,"registeredAt":%d,"lastSeen":%d}`, at, at)
	for _, text := range []string{token, quoted(token)} {
		w.call(registerPush, `{"userId":"bob","deviceId":"browser","provider":"WEB","token":`+text+`}`).want(t, 200, 0, "")
		w.wantResult(listPush, `{"userId":"bob"}`, `{"userId":"bob","devices":[`+device+`]}`)
	}
	// The browser is alice's now.
	w.call(registerPush, `{"userId":"alice","deviceId":"mine","provider":"web","token":`+token+`}`).want(t, 200, 0, "")
	w.wantResult(listPush, `{"userId":"bob"}`, `{"userId":"bob","devices":[]}`)
}

func TestPushDevicesRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		rest    string
		code    int
		message string
	}{
		{`"deviceId":""`, 1002, "deviceId: is required"},
		{`"userId":""`, 1002, "userId: is required"},
		{`"provider":""`, 1002, "provider: is required"},
		{`"provider":"GCM"`, 1002, "provider: one of APNs, FCM, HW, HONOR, MI, OPPO, VIVO, OHOS, MEIZU, WEB"},
		{`"token":""`, 1002, "token: is required"},
		{`"token":"a b"`, 1002, "token: must be printable ASCII characters without spaces"},
		{`"token":"` + strings.Repeat("x", 4097) + `"`, 1005, "token: at most 4096 bytes, got 4097"},
		{`"provider":"APNs","token":"xyz"`, 1002, "token: of APNs must be hexadecimal digits, two for each byte"},
		{`"provider":"APNs","token":"` + strings.Repeat("ab", 31) + `"`, 1002, "token: of APNs must be 32 to 100 bytes in hexadecimal, got 31 bytes"},
		{`"provider":"APNs","token":"` + strings.Repeat("ab", 101) + `"`, 1002, "token: of APNs must be 32 to 100 bytes in hexadecimal, got 101 bytes"},
		{`"bundle":"a","package":"b"`, 1002, "bundle: is the same as package; they must not differ"},
		{`"bundle":"` + strings.Repeat("b", 129) + `"`, 1005, "bundle: at most 128 bytes, got 129"},
		{`"package":"a\n"`, 1002, "package: must be printable ASCII characters without spaces"},
		{`"environment":"sandbox"`, 1002, "environment: is of APNs alone"},
		{`"provider":"APNs","token":"` + strings.Repeat("ab", 32) + `","environment":"test"`, 1002, "environment: one of production, sandbox"},
		{`"language":"e"`, 1002, "language: must be a language tag such as en or zh-Hans-CN"},
		{`"language":"` + strings.Repeat("en-", 12) + `"`, 1005, "language: at most 35 bytes, got 36"},
		{`"hideDetails":"x"`, 1002, `hideDetails: 0 or 1, got "x"`},
		{`"timezone":"Mars"`, 1002, "timezone: must be the name of a time zone, such as Europe/Berlin"},
		{`"timezone":"Mars","quietHours":{"from":"22:00","to":"07:00"}`, 1002, "timezone: must be the name of a time zone, such as Europe/Berlin"},
		{`"quietHours":{"from":"22:00"}`, 1002, "quietHours.to: is required"},
		{`"quietHours":{"from":"24:00","to":"07:00"}`, 1002, "quietHours.from: must be a time of the day such as 22:00"},
		{`"token":{"endpoint":"x"}`, 1002, "token: must be a string, as it is no browser's"},
		{`"token":5`, 1002, "token: must be a string, got 5"},
		{`"provider":"WEB"`, 1002, "token: of WEB must be what PushSubscription.toJSON() gives in the browser: {endpoint, keys: {p256dh, auth}}"},
		{`"provider":"WEB","token":` + webToken("https://127.0.0.1/x"), 1002, "token.endpoint: is not of a push service that is known here: those of Google, Mozilla, Microsoft and Apple are, and what the setting push-web-hosts names"},
		{`"provider":"WEB","token":` + webToken("http://fcm.googleapis.com/x"), 1002, "token.endpoint: must be an https URL, without user, fragment, a port of its own and dots that climb"},
		{`"provider":"WEB","token":` + strings.Replace(webToken("https://fcm.googleapis.com/x"), webSecret, "x", 1), 1002, "token.keys.auth: must be 16 bytes in base64url"},
		{`"provider":"WEB","token":` + strings.Replace(webToken("https://fcm.googleapis.com/x"), webPublic, "x", 1), 1002, "token.keys.p256dh: must be a public key of the curve P-256: 65 bytes in base64url"},
		{`"quietHours":5`, 1002, "quietHours: must be a JSON object, got 5"},
	} {
		body := map[string]json.RawMessage{}
		for _, text := range []string{`{"userId":"bob","deviceId":"d","provider":"FCM","token":"t"}`, `{` + c.rest + `}`} {
			if err := json.Unmarshal([]byte(text), &body); err != nil {
				t.Fatal(err)
			}
		}
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		w.call(registerPush, string(text)).want(t, 400, c.code, c.message)
	}
	w.call(removePush, `{"userId":"bob"}`).want(t, 400, 1002, "deviceId: is required")
	w.call(listPush, `{}`).want(t, 400, 1002, "userId: is required")
	w.wantResult(listPush, `{"userId":"bob"}`, `{"userId":"bob","devices":[]}`)
}

// keys are private keys in PEM, made once.
var keys = sync.OnceValue(func() (k struct{ p256, p384, rsa string }) {
	text := func(key any, err error) string {
		if err != nil {
			panic(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			panic(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	a, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.p256 = text(a, err)
	b, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	k.p384 = text(b, err)
	c, err := rsa.GenerateKey(rand.Reader, 2048)
	k.rsa = text(c, err)
	return k
})

// A key pair of WEB, that of the example in RFC 8291.
const (
	webPublic  = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"
	webPrivate = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
	webSecret  = "BTBZMqHH6r4Tts7J_aSIgg" // of a browser's subscription
)

func webToken(endpoint string) string {
	return `{"endpoint":"` + endpoint + `","expirationTime":null,"keys":{"p256dh":"` + webPublic + `","auth":"` + webSecret + `"}}`
}

// goodCredentials are credentials of every provider, with a text of each that must
// not be seen again.
func goodCredentials() map[string][2]string {
	k := keys()
	secretOf := func(p string) string { return strings.Split(p, "\n")[1] }
	google := fmt.Sprintf(`{"project_id":"p","private_key_id":"key-1","client_email":"a@example.com","private_key":%s,"token_uri":"https://oauth2.googleapis.com/token"}`, quoted(k.rsa))
	huawei := fmt.Sprintf(`{"project_id":"p","key_id":"key-2","sub_account":"7","private_key":%s}`, quoted(k.rsa))
	return map[string][2]string{
		"APNs":  {`{"keyId":"ABCDE12345","teamId":"TEAM567890","p8":` + quoted(k.p256) + `,"topic":"com.example"}`, secretOf(k.p256)},
		"FCM":   {`{"serviceAccount":` + google + `}`, secretOf(k.rsa)},
		"HW":    {`{"appId":"1","clientSecret":"hush-hw"}`, "hush-hw"},
		"HONOR": {`{"appId":"1","clientId":"2","clientSecret":"hush-honor"}`, "hush-honor"},
		"MI":    {`{"appSecret":"hush-mi","region":"global"}`, "hush-mi"},
		"OPPO":  {`{"appKey":"1","masterSecret":"hush-oppo","region":"cn"}`, "hush-oppo"},
		"VIVO":  {`{"appId":"1","appKey":"2","appSecret":"hush-vivo"}`, "hush-vivo"},
		"OHOS":  {`{"serviceAccount":` + quoted(huawei) + `}`, secretOf(k.rsa)},
		"MEIZU": {`{"appId":"1","appSecret":"hush-meizu"}`, "hush-meizu"},
		"WEB":   {`{"publicKey":"` + webPublic + `","privateKey":"` + webPrivate + `","subject":"mailto:push@example.com"}`, webPrivate},
	}
}

func TestPushCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.wantResult(listCredentials, `{}`, `{"credentials":[]}`)
	good := goodCredentials()
	if len(good) != len(chat.PushProviders()) {
		t.Fatal("a provider has no case")
	}
	set := func() {
		for provider, c := range good {
			r := w.call(setCredential, `{"provider":"`+provider+`","package":"com.example","credential":`+c[0]+`}`)
			r.want(t, 200, 0, "")
			if r.Body != `{"code":0}` {
				t.Errorf("%s: %s", provider, r.Body)
			}
		}
	}
	set()
	was := w.call(listCredentials, `{}`).Body
	w.clock.advance(time.Second)
	set() // what is the same keeps its time
	w.restart()
	is := w.call(listCredentials, `{}`).Body
	if was != is {
		t.Errorf("was %s, is %s", was, is)
	}
	var list struct {
		Result struct {
			Credentials []struct{ Provider, Package, KeyID, Fingerprint string }
		}
	}
	if err := json.Unmarshal([]byte(is), &list); err != nil || len(list.Result.Credentials) != len(good) {
		t.Fatalf("%s, %v", is, err)
	}
	ids := map[string]string{"APNs": "ABCDE12345", "FCM": "key-1", "HW": "1", "HONOR": "2", "OPPO": "1", "VIVO": "1", "OHOS": "key-2", "MEIZU": "1", "WEB": webPublic}
	for i, c := range list.Result.Credentials {
		if c.Provider != chat.PushProviders()[i].String() || c.Package != "com.example" || c.KeyID != ids[c.Provider] || len(c.Fingerprint) != 16 {
			t.Errorf("%+v", c)
		}
		if strings.Contains(is, good[c.Provider][1]) {
			t.Errorf("%s can be read back: %s", c.Provider, is)
		}
	}

	// By package and by environment they are apart.
	k := keys()
	apns := func(pack, environment, keyID string) {
		w.call(setCredential, fmt.Sprintf(`{"provider":"APNs","bundle":%q,"environment":%q,"credential":{"keyId":%q,"teamId":"TEAM567890","p8":%s}}`, pack, environment, keyID, quoted(k.p256))).want(t, 200, 0, "")
	}
	apns("com.example", "sandbox", "SANDBOX123")
	apns("", "", "ANYPACKAGE")
	ofApple := func() (out []string) {
		for _, part := range strings.Split(w.call(listCredentials, `{}`).Body, `{"provider":`) {
			if keyID, ok := strings.CutPrefix(part, `"APNs"`); ok {
				_, keyID, _ = strings.Cut(keyID, `"keyId":"`)
				out = append(out, keyID[:10])
			}
		}
		return out
	}
	if got := fmt.Sprint(ofApple()); got != "[ANYPACKAGE ABCDE12345 SANDBOX123]" {
		t.Error(got)
	}
	for range 2 {
		w.call(removeCredential, `{"provider":"apns","bundle":"com.example","environment":"sandbox"}`).want(t, 200, 0, "")
	}
	apns("com.example", "", "REPLACED12")
	if got := fmt.Sprint(ofApple()); got != "[ANYPACKAGE REPLACED12]" {
		t.Error(got)
	}

	for i := len(good) + 1; i < chat.MaxPushCredentials; i++ {
		w.clock.advance(time.Second)
		w.call(setCredential, fmt.Sprintf(`{"provider":"MI","package":"p%d","credential":{"appSecret":"x"}}`, i)).want(t, 200, 0, "")
	}
	w.call(setCredential, `{"provider":"MI","package":"more","credential":{"appSecret":"x"}}`).want(t, 400, 1002, "credential: at most 100 of one app")
	w.call(setCredential, `{"provider":"MI","package":"com.example","credential":{"appSecret":"y"}}`).want(t, 200, 0, "")

	// Nothing of them is written into a log or an error by mistake.
	all, err := w.store.PushCredentials(t.Context(), w.app.ID)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	fmt.Fprintf(&said, "%v %+v %#v %s", all, &all[0], all, all[0].LogValue())
	if err := json.NewEncoder(&said).Encode(all); err != nil {
		t.Fatal(err)
	}
	for provider, c := range good {
		if strings.Contains(said.String(), c[1]) {
			t.Errorf("%s shows what is secret when it is printed", provider)
		}
	}
}

func TestPushCredentialsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := keys()
	account := func(edit string) string {
		m := map[string]string{"project_id": "p", "private_key_id": "i", "client_email": "e", "sub_account": "s", "key_id": "i", "private_key": k.rsa}
		name, value, _ := strings.Cut(edit, "=")
		m[name] = value
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	apple := func(edit string) string {
		m := map[string]string{"keyId": "ABCDE12345", "teamId": "TEAM567890", "p8": k.p256}
		name, value, _ := strings.Cut(edit, "=")
		m[name] = value
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	const notP256 = "credential.p8: must be the text of the .p8 file from Apple: a private key of the curve P-256 in PEM"
	for _, c := range []struct {
		provider, credential string
		code                 int
		message              string
	}{
		{"APNs", apple("keyId=abc"), 1002, "credential.keyId: must be 10 capital letters and digits"},
		{"APNs", apple("teamId="), 1002, "credential.teamId: is required for APNs"},
		{"APNs", apple("p8=hush"), 1002, notP256},
		{"APNs", apple("p8=" + k.p384), 1002, notP256},
		{"APNs", apple("p8=" + k.rsa), 1002, notP256},
		{"APNs", apple("p8=" + strings.Repeat("x", 16<<10+1)), 1005, "credential.p8: at most 16384 bytes, got 16385"},
		{"APNs", apple("appSecret=x"), 1002, "credential.appSecret: is not of APNs credentials, which have keyId, teamId, p8, topic, sound, category, rate"},
		{"FCM", `{}`, 1002, "credential.serviceAccount: is required for FCM"},
		{"FCM", `{"serviceAccount":"hush"}`, 1002, "credential.serviceAccount: must be the text of the service account's file, which is a JSON object"},
		{"FCM", `{"serviceAccount":5}`, 1002, "credential.serviceAccount: must be a string, got 5"},
		{"FCM", `{"serviceAccount":` + account("client_email=") + `}`, 1002, "credential.serviceAccount: client_email is missing from it"},
		{"FCM", `{"serviceAccount":` + account("project_id=") + `}`, 1002, "credential.serviceAccount: project_id is missing from it"},
		{"FCM", `{"serviceAccount":` + account("private_key="+k.p256) + `}`, 1002, "credential.serviceAccount: private_key must be an RSA key in PEM"},
		{"FCM", `{"serviceAccount":` + account("token_uri=http://example.com") + `}`, 1002, "credential.serviceAccount: token_uri must begin with https://; http:// is for loopback addresses alone"},
		{"FCM", `{"serviceAccount":` + account("token_uri=https://example.com/token") + `}`, 1002, "credential.serviceAccount: token_uri must be Google's, such as https://oauth2.googleapis.com/token"},
		{"OHOS", `{"serviceAccount":` + account("key_id=") + `}`, 1002, "credential.serviceAccount: key_id is missing from it"},
		{"OHOS", `{"serviceAccount":` + account("sub_account=") + `}`, 1002, "credential.serviceAccount: sub_account is missing from it"},
		{"HW", `{"appId":"1"}`, 1002, "credential.clientSecret: is required for HW"},
		{"HONOR", `{"appId":"1","clientSecret":"x"}`, 1002, "credential.clientId: is required for HONOR"},
		{"MI", `{"appSecret":"x","region":"moon"}`, 1002, "credential.region: one of cn, global"},
		{"MI", `{"appSecret":"a b"}`, 1002, "credential.appSecret: must be printable ASCII characters without spaces"},
		{"OPPO", `{"masterSecret":"x"}`, 1002, "credential.appKey: is required for OPPO"},
		{"VIVO", `{"appId":"1","appKey":"x"}`, 1002, "credential.appSecret: is required for VIVO"},
		{"MEIZU", `{"appSecret":"` + strings.Repeat("x", 257) + `","appId":"1"}`, 1005, "credential.appSecret: at most 256 bytes, got 257"},
		{"GCM", `{}`, 1002, "provider: one of APNs, FCM, HW, HONOR, MI, OPPO, VIVO, OHOS, MEIZU, WEB"},
		{"", `{}`, 1002, "provider: is required"},
	} {
		r := w.call(setCredential, `{"provider":"`+c.provider+`","credential":`+c.credential+`}`)
		r.want(t, 400, c.code, c.message)
		for _, secret := range []string{"hush", strings.Split(k.rsa, "\n")[1], strings.Split(k.p384, "\n")[1]} {
			if strings.Contains(r.Body, secret) {
				t.Errorf("the answer tells what was secret: %s", r.Body)
			}
		}
	}
	w.call(setCredential, `{"provider":"MI"}`).want(t, 400, 1002, "credential: is required")
	w.call(setCredential, `{"provider":"MI","environment":"sandbox","credential":{"appSecret":"x"}}`).want(t, 400, 1002, "environment: is of APNs alone")
	// An app cannot have the server call whom it likes.
	for url, message := range map[string]string{
		"https://10.0.0.1":   "baseUrl: only the server's owner sets it, with the command parley push credential set",
		"http://example.com": "baseUrl: must begin with https://; http:// is for loopback addresses alone",
	} {
		w.call(setCredential, `{"provider":"MI","baseUrl":"`+url+`","credential":{"appSecret":"x"}}`).want(t, 400, 1002, message)
	}
	w.wantResult(listCredentials, `{}`, `{"credentials":[]}`)
}

func TestPushTemplates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := w.clock.ms.Load()
	const order = `{"templateId":"order","defaultLanguage":"EN","languages":[{"language":"en","title":"Your order","body":"{sender}: {content} {not here} {}"},{"language":"pt_br","body":"Olá"}]}`
	w.wantResult(listTemplates, `{}`, `{"templates":[]}`)
	for range 2 {
		w.call(setTemplate, order).want(t, 200, 0, "")
		w.clock.advance(time.Second)
		w.wantResult(listTemplates, `{}`, fmt.Sprintf(`{"templates":[{"templateId":"order","defaultLanguage":"en","languages":[{"language":"en","title":"Your order","body":"{sender}: {content} {not here} {}"},{"language":"pt-BR","body":"Olá"}],"since":%d}]}`, at))
		w.restart()
	}
	w.call(setTemplate, `{"templateId":"order","defaultLanguage":"de","languages":[{"language":"de","body":"Neu"}]}`).want(t, 200, 0, "")
	w.wantResult(listTemplates, `{}`, fmt.Sprintf(`{"templates":[{"templateId":"order","defaultLanguage":"de","languages":[{"language":"de","body":"Neu"}],"since":%d}]}`, at+2000))
	for i := 1; i < chat.MaxPushTemplates; i++ {
		w.clock.advance(time.Second)
		w.call(setTemplate, fmt.Sprintf(`{"templateId":"t%d","defaultLanguage":"de","languages":[{"language":"de","body":"x"}]}`, i)).want(t, 200, 0, "")
	}
	w.call(setTemplate, `{"templateId":"more","defaultLanguage":"de","languages":[{"language":"de","body":"x"}]}`).want(t, 400, 1002, "templateId: at most 100 templates of one app")
	w.call(setTemplate, order).want(t, 200, 0, "")
	for range 2 {
		w.call(removeTemplate, `{"templateId":"order"}`).want(t, 200, 0, "")
		if body := w.call(listTemplates, `{}`).Body; strings.Contains(body, `"order"`) || strings.Count(body, "templateId") != 99 {
			t.Error(body)
		}
	}
}

func TestPushTemplatesRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	texts := func(list string) string {
		return `{"templateId":"t","defaultLanguage":"en","languages":[` + list + `]}`
	}
	for _, c := range []struct {
		body    string
		code    int
		message string
	}{
		{`{}`, 1002, "templateId: is required"},
		{`{"templateId":"` + strings.Repeat("x", 65) + `"}`, 1005, "templateId: at most 64 characters, got 65"},
		{`{"templateId":"t"}`, 1002, "defaultLanguage: is required"},
		{texts(``), 1002, "languages: is required"},
		{texts(`{}`), 1002, "languages[0].language: is required"},
		{texts(`{"language":"en"}`), 1002, "languages[0].body: is required"},
		{texts(`{"language":"de","body":"x"}`), 1002, "defaultLanguage: must be one of the template's languages"},
		{texts(`{"language":"en","body":"x"},{"language":"EN","body":"y"}`), 1002, "languages[1].language: stands in the list twice"},
		{texts(`{"language":"en","body":"` + strings.Repeat("ü", 1001) + `"}`), 1005, "languages[0].body: at most 1000 characters, got 1001"},
		{texts(`{"language":"en","body":"x","title":"` + strings.Repeat("ü", 51) + `"}`), 1005, "languages[0].title: at most 50 characters, got 51"},
		{texts(`{"language":"en","body":"Hi {name}"}`), 1002, "languages[0].body: has no placeholder {name}; there are {sender} and {content}"},
		{texts(`{"language":"en","body":"x"}` + strings.Repeat(`,{"language":"en","body":"x"}`, 50)), 1002, "languages: at most 50 items, got 51"},
		{texts(`"en"`), 1002, "languages[0]: must be a JSON object, got a string"},
	} {
		w.call(setTemplate, c.body).want(t, 400, c.code, c.message)
	}
	w.call(removeTemplate, `{}`).want(t, 400, 1002, "templateId: is required")
	w.wantResult(listTemplates, `{}`, `{"templates":[]}`)
}

// The manual says what each provider's credentials hold.
func TestManualHasCredentials(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../docs/server-api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range chat.PushProviders() {
		_, row, _ := strings.Cut(string(manual), "\n| "+p.String()+" | ")
		row, _, _ = strings.Cut(row, "\n")
		for _, f := range chat.PushFields(p) {
			if !strings.Contains(row, "`"+f.Name+"`") && (f.Name != "rate" || !strings.Contains(string(manual), "\nAll of them can have a `rate`")) {
				t.Errorf("%s of %s is missing", f.Name, p)
			}
		}
	}
}

func TestCheckPushCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.wantResult(checkCredentials, `{}`, `{"credentials":[]}`)
	set := func(pack, appID, secret, more string) *reply {
		t.Helper()
		return w.call(setCredential, fmt.Sprintf(`{"provider":"VIVO","package":%q,"credential":{"appId":%q,"appKey":"k","appSecret":%q}%s}`, pack, appID, secret, more))
	}
	const refusal = ": the provider refuses it: look the code up in its console or documentation, compare id, secret, package and environment, and see that push is switched on there"
	// Asked before it is set, only a refusal keeps it out.
	set("good", "1", "hush", `,"check":1`).want(t, 200, 0, "")
	set("bad", "1", "wrong", `,"check":1`).want(t, 400, 1002, `credential: was refused with "10200"`+refusal)
	set("broken", "666", "hush", `,"check":1`).want(t, 400, 1002, "credential: it cannot be used: appId: is of no use")
	set("bad", "1", "", `,"check":1`).want(t, 400, 1002, "credential.appSecret: is required for VIVO")
	w.call(setCredential, `{"provider":"VIVO","check":1,"baseUrl":"https://localhost","credential":{"appId":"1","appKey":"k","appSecret":"s"}}`).want(t, 400, 1002,
		"baseUrl: only the server's owner sets it, with the command parley push credential set")
	if r := set("away", "1", "away", `,"check":1`); r.Body != `{"code":0,"result":{"check":{"verdict":"unknown","class":"retry","code":"connect","advice":"the provider did not answer: see that its address can be reached from here, and with push-ca that its certificate is trusted"}}}` {
		t.Errorf("%s", r.Body)
	}
	if r := set("good", "1", "hush", `,"check":true`); r.Body != `{"code":0,"result":{"check":{"verdict":"good","class":"accepted","code":"0"}}}` {
		t.Errorf("%s", r.Body)
	}
	// Not asked, it is set whatever its provider thinks.
	set("bad", "1", "wrong", "").want(t, 200, 0, "")
	set("broken", "666", "hush", "").want(t, 200, 0, "")
	w.call(setCredential, `{"provider":"MEIZU","credential":{"appId":"7","appSecret":"hush"}}`).want(t, 200, 0, "")

	check := func(body string, want ...string) {
		t.Helper()
		r := w.call(checkCredentials, body)
		r.want(t, 200, 0, "")
		var v struct {
			Result struct {
				Credentials []struct{ Provider, Package, KeyID, Verdict, Class, Code, Advice string }
			}
		}
		if err := json.Unmarshal([]byte(r.Body), &v); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range v.Result.Credentials {
			got = append(got, strings.Join([]string{c.Provider, c.Package, c.KeyID, c.Verdict, c.Class, c.Code}, " "))
			if (c.Advice == "") != (c.Verdict == "good") {
				t.Errorf("%+v", c)
			}
		}
		if strings.Join(got, ", ") != strings.Join(want, ", ") || strings.Contains(r.Body, "hush") {
			t.Errorf("%s: %s", body, r.Body)
		}
	}
	check(`{}`, "VIVO away 1 unknown retry connect", "VIVO bad 1 refused config_halt 10200", "VIVO broken 666 refused config_halt credential",
		"VIVO good 1 good accepted 0", "MEIZU  7 good accepted 0")
	check(`{"provider":"meizu"}`, "MEIZU  7 good accepted 0")
	check(`{"package":"good"}`, "VIVO good 1 good accepted 0")
	check(`{"bundle":"good","provider":"MEIZU"}`)
	check(`{"environment":"sandbox"}`)
	w.call(checkCredentials, `{"provider":"GCM"}`).want(t, 400, 1002, "provider: one of APNs, FCM, HW, HONOR, MI, OPPO, VIVO, OHOS, MEIZU, WEB")
	w.call(checkCredentials, `{"environment":"test"}`).want(t, 400, 1002, "")
	w.call(checkCredentials, `{"provider":"MI","environment":"sandbox"}`).want(t, 400, 1002, "")
}
