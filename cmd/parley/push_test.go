package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/push/pushtest"
)

func TestPushCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	must := func(want string, args ...string) {
		t.Helper()
		out, errOut, code := do(t.Context(), append(args, "--data", data)...)
		if code != exitDone || strings.Join(strings.Fields(out), " ") != want {
			t.Errorf("%v: code %d, %q %s, want %q", args, code, out, errOut, want)
		}
	}
	refused := func(want string, args ...string) {
		t.Helper()
		_, errOut, code := do(t.Context(), append(args, "--data", data)...)
		if code != exitUsage || !strings.Contains(errOut, want) || strings.Contains(errOut, "hush") {
			t.Errorf("%v: code %d, %s, want %q", args, code, errOut, want)
		}
	}
	if out, errOut, code := do(t.Context(), "app", "create", "shop", "--data", data); code != exitDone {
		t.Fatal(out, errOut)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	must("", "push", "credential", "list")
	must("[]", "push", "credential", "list", "--json")
	must("", "push", "credential", "set", "mi", "appSecret=@"+secret, "--package", "com.example", "--base-url", "http://127.0.0.1:9")
	must("", "push", "credential", "set", "HW", "appId=app-1", "clientSecret=hush", "--bundle", "com.example")
	list := func(rows ...string) {
		t.Helper()
		out, _, _ := do(t.Context(), "push", "credential", "list", "--data", data)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if len(lines) != len(rows) || strings.Contains(out, "hush") {
			t.Fatalf("%q, want %q", lines, rows)
		}
		for i, row := range rows {
			for _, word := range strings.Fields(row) {
				if !strings.Contains(lines[i], word) {
					t.Errorf("%q, want %q", lines[i], row)
				}
			}
		}
	}
	list("HW com.example app-1", "MI com.example http://127.0.0.1:9")
	// By standard input, so that it stands nowhere.
	var out, errOut bytes.Buffer
	args := []string{"push", "credential", "set", "HONOR", "appId=1", "clientId=two", "clientSecret=@-", "--data", data}
	if code := run(context.Background(), args, strings.NewReader("hush"), &out, &errOut); code != exitDone {
		t.Errorf("%d %s", code, errOut.String())
	}
	list("HW", "HONOR two", "MI")
	must("", "push", "credential", "remove", "HONOR")
	must("", "push", "credential", "remove", "MI", "--package", "com.example")
	list("HW")

	refused("want each field once, as name=value or name=@FILE", "push", "credential", "set", "MI", "hush")
	refused("appSecret: is required for MI", "push", "credential", "set", "MI", "region=cn")
	refused("baseUrl: must begin with https://", "push", "credential", "set", "MI", "appSecret=hush", "--base-url", "http://example.com")
	refused("appId: is not of MI credentials", "push", "credential", "set", "MI", "appSecret=hush", "appId=1")
	refused("provider: one of APNs", "push", "credential", "remove", "GCM")

	must("", "push", "template", "set", "order", "en={sender}: {content}", "de=Neu, {content}", "--title", "en=Your order, now")
	must(`order de - "" "Neu, {content}" order en default "Your order, now" "{sender}: {content}"`, "push", "template", "list")
	must("", "push", "template", "set", "order", "en=x", "de=y", "--default", "de")
	must(`order de default "" "y" order en - "" "x"`, "push", "template", "list")
	refused("want language=text", "push", "template", "set", "order", "hello")
	refused(`a title in "fr", but no text`, "push", "template", "set", "order", "en=x", "--title", "fr=Bonjour")
	refused("languages[1].language: stands in the list twice", "push", "template", "set", "order", "en=x", "EN=y")
	refused("languages[0].body: has no placeholder {name}", "push", "template", "set", "order", "en={name}")
	must("", "push", "template", "remove", "order")
	must("", "push", "template", "list")
	must("[]", "push", "template", "list", "--json")
}

// The keys that are made are good for a credential, and a private key that is there
// already is kept: browsers have subscribed by it.
func TestPushVapidCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "vapid.key")
	run := func(code int, args ...string) string {
		t.Helper()
		out, errOut, got := do(t.Context(), args...)
		if got != code {
			t.Fatalf("%v: code %d, %s", args, got, errOut)
		}
		return strings.TrimSpace(out)
	}
	run(exitDone, "app", "create", "shop", "--data", data)
	set := func(code int, fields ...string) {
		t.Helper()
		run(code, append([]string{"push", "credential", "set", "WEB", "--data", data, "subject=mailto:push@example.com"}, fields...)...)
	}
	both := strings.Fields(run(exitDone, "push", "credential", "vapid"))
	set(exitDone, both...)
	public := run(exitDone, "push", "credential", "vapid", "--private-key", file)
	if strings.Contains(public, "privateKey") {
		t.Error(public)
	}
	set(exitDone, public, "privateKey=@"+file)
	set(exitUsage, public, both[1])
	if out := run(exitDone, "push", "credential", "list", "--data", data); !strings.Contains(out, strings.TrimPrefix(public, "publicKey=")) {
		t.Errorf("%s is not in %s", public, out)
	}
	before, _ := os.ReadFile(file)
	run(1, "push", "credential", "vapid", "--private-key", file)
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) || len(after) < 40 {
		t.Errorf("%q, %v", after, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if out := run(exitDone, "push", "credential", "vapid", "--json"); !strings.HasPrefix(out, `{"publicKey":"B`) {
		t.Error(out)
	}
}

func TestPushCheckCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, ca := filepath.Join(dir, "data"), filepath.Join(dir, "ca.pem")
	server, err := pushtest.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	sim := pushtest.NewVIVO(pushtest.Options{})
	address, err := server.Serve(sim, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca, server.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(code int, out, errOut string, args ...string) {
		t.Helper()
		gotOut, gotErr, got := do(t.Context(), append(args, "--data", data)...)
		if got != code || !strings.Contains(strings.Join(strings.Fields(gotOut), " "), out) || (out == "") != (gotOut == "") || !strings.Contains(gotErr, errOut) || strings.Contains(gotErr, "hush") {
			t.Errorf("%v: code %d, %q, %q; want %d, %q, %q", args, got, gotOut, gotErr, code, out, errOut)
		}
	}
	good := sim.Credential(address).Fields
	set := func(secret string, more ...string) []string {
		return append([]string{"push", "credential", "set", "VIVO", "--base-url", address, "appId=" + good["appId"], "appKey=" + good["appKey"], "appSecret=" + secret}, more...)
	}
	run(exitDone, "app key", "", "app", "create", "shop")
	run(exitNoNode, "", "", "push", "check")
	run(exitNoNode, "", "", set(good["appSecret"], "--check")...)

	serving(t, data, "--push-ca", ca)

	run(exitFailed, "", "there is no such credential", "push", "check")
	run(exitUsage, "", "credential: was refused with", set("hush", "--check")...)
	run(exitFailed, "", "there is no such credential", "push", "check")
	run(exitDone, "", "", set(good["appSecret"], "--check")...)
	run(exitDone, "VIVO - - "+good["appId"]+" good accepted 0", "", "push", "check")
	run(exitDone, `"verdict":"good"`, "", "push", "check", "vivo", "--json")
	run(exitFailed, "", "there is no such credential", "push", "check", "MI")
	run(exitDone, "", "", set("hush")...)
	run(exitFailed, "refused config_halt", "1 of 1 credentials are not known to be good", "push", "check")
	run(exitUsage, "", "provider: one of", "push", "check", "GCM")
}

// serving has a server run on the folder until the test is over.
func serving(t *testing.T, data string, flags ...string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, errOut, code := do(ctx, append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0"}, flags...)...); code != exitDone {
			t.Errorf("serve: code %d, %s", code, errOut)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(data, "listen")); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the server did not start")
		}
	}
}

func TestPushPreviewCommand(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	preview := func(code int, want string, args ...string) {
		t.Helper()
		out, errOut, got := do(t.Context(), append([]string{"push", "preview", "--data", data, "--from", "alice"}, args...)...)
		if got != code || !strings.Contains(out+errOut, want) {
			t.Errorf("%v: code %d, %s%s, want %d, %s", args, got, out, errOut, code, want)
		}
	}
	for _, args := range [][]string{{"app", "create", "shop"}, {"push", "credential", "set", "VIVO", "appId=1", "appKey=k", "appSecret=hush"}} {
		if out, errOut, code := do(t.Context(), append(args, "--data", data)...); code != exitDone {
			t.Fatal(out, errOut)
		}
	}
	preview(exitNoNode, "no node is running", "--to", "bob", "hi")
	serving(t, data)
	srv, o, err := find(t.Context(), data, appFlags{}, serverFlags{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	device := `{"userId":"bob","deviceId":"phone","provider":"VIVO","token":"token-of-bobs-phone"}`
	if a, err := srv.call(t.Context(), "/v4x/push/device/register", []byte(device), nil); err != nil || a.code != 0 {
		t.Fatal(a, err)
	}
	preview(exitDone, "carl: would not be notified: no_device", "--to", "bob,carl", "hi")
	preview(exitDone, `"title": "News"`, "--to", "bob", "--push-ext", `{"title":"News"}`, "hi")
	preview(exitDone, `"channelType":"system"`, "--to", "bob", "--system", "--json", "hi")
	preview(exitDone, "bob: would not be notified: no_text", "--to", "bob", "--type", "my:own", "--content", "{}")
	preview(exitRefused, `"code":1002,"errorMessage":"count: from -1 to 9999, got 10000"`, "--to", "bob", "--count", "10000", "hi")
	preview(exitUsage, "give one of them", "--to", "bob", "--content", "{}", "hi")

	var p previewed
	if err := json.Unmarshal([]byte(`{"recipients":[
		{"userId":"bob","connected":true,"effect":"alert","reason":"away","devices":[
			{"deviceId":"pad","provider":"MEIZU","token":"…f","effect":"alert","reason":"away","language":"de","credential":{"provider":"MEIZU","package":"p"},
			 "title":"A","body":"two\nlines","cut":["image","data"],"request":{"method":"POST","path":"/x","headers":{"a":"b"},"form":{"k":"v","i":"1"}}},
			{"deviceId":"phone","provider":"APNs","effect":"silent","reason":"away","credential":{"provider":"APNs","environment":"sandbox"},"error":"too large"},
			{"deviceId":"watch","provider":"APNs","effect":"none","reason":"quiet_hours"}]},
		{"userId":"carl","connected":true,"effect":"none","reason":"level","devices":[]}],
		"leftOut":[{"userId":"eve","reason":"blocklist"}]}`), &p); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := p.print(&out); err != nil {
		t.Fatal(err)
	}
	const want = `bob: would be notified (alert): away
  connected: only if none of their devices takes the message in time
  device pad (MEIZU …f): would be notified (alert): away
    title     A
    body      two
              lines
    language  de
    by        MEIZU p
    left out  image, data
    POST /x
    a: b
    i=1
    k=v
  device phone (APNs): would be notified (silent): away
    by        APNs sandbox
    no request: too large
  device watch (APNs): would not be notified: quiet_hours (they have quiet hours)
carl: would not be notified: level (by their notification level)
eve: left out (blocklist)
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}
