package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/pushtest"
	"github.com/parleychat/parley/internal/push/vivo"
)

// A simRun is parley push-sim while it runs.
type simRun struct {
	t     *testing.T
	dir   string
	lines *bufio.Scanner
	stop  context.CancelFunc
	code  chan int
	sent  uint32

	Providers map[string]string
	Control   string
}

// runSim runs it with --json and reads what it says at the start.
func runSim(t *testing.T, dir string, args ...string) *simRun {
	t.Helper()
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	r := &simRun{t: t, dir: dir, lines: bufio.NewScanner(out), stop: cancel, code: make(chan int, 1)}
	go func() {
		r.code <- run(ctx, append([]string{"push-sim", "--json", "--dir", dir}, args...), strings.NewReader(""), in, os.Stderr)
		_ = in.Close()
	}()
	t.Cleanup(func() { cancel(); _ = out.Close() })
	if err := json.Unmarshal([]byte(r.line()), r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *simRun) line() string {
	r.t.Helper()
	if !r.lines.Scan() {
		r.t.Fatalf("it has no more to say: %v", r.lines.Err())
	}
	return r.lines.Text()
}

// end interrupts it.
func (r *simRun) end() {
	r.t.Helper()
	r.stop()
	if code := <-r.code; code != exitDone {
		r.t.Errorf("code %d", code)
	}
}

func (r *simRun) file(name string) string {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// adapter is vivo's, with the files that a server has.
func (r *simRun) adapter() push.Adapter {
	r.t.Helper()
	var c struct {
		Provider, BaseURL string
		Credential        map[string]string
	}
	if err := json.Unmarshal([]byte(r.file("vivo.json")), &c); err != nil {
		r.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(r.file("ca.pem"))) || c.Provider != "VIVO" || c.BaseURL != r.Providers["VIVO"] {
		r.t.Fatalf("%+v", c)
	}
	a, err := vivo.New(&chat.PushCredential{Provider: chat.VIVO, Fields: c.Credential, BaseURL: c.BaseURL}, line.Options{Roots: roots}, time.Now)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(a.Close)
	return a
}

func (r *simRun) send(a push.Adapter, token, body string) push.Result {
	r.sent++ // so that no two are the same
	n := push.Notification{UID: chat.NewUID(time.Now().UnixMilli(), chat.Direct, 1, r.sent), To: chat.PushDevice{Token: token}, Title: "alice", Body: body, Data: "{}"}
	return a.Send(r.t.Context(), []*push.Notification{&n})[0].Result
}

// ask asks the control.
func (r *simRun) ask(method, path, body string) string {
	r.t.Helper()
	q, err := http.NewRequestWithContext(r.t.Context(), method, r.Control+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if body != "" {
		q.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestPushSim(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "sim")
	r := runSim(t, dir)
	if len(r.Providers) != len(pushtest.All()) {
		t.Errorf("%v", r.Providers)
	}
	a := r.adapter()
	if got := r.send(a, "phone-of-bob", "hello\x1b[2J"); got.Class != push.Accepted {
		t.Fatalf("%+v", got)
	}
	var shown struct{ Provider, Token, Title, Body, Key string }
	if err := json.Unmarshal([]byte(r.line()), &shown); err != nil {
		t.Fatal(err)
	}
	if key := shown.Key; shown.Provider != "VIVO" || shown.Token != "phone-of-bob" || shown.Title != "alice" || shown.Body != "hello\x1b[2J" || key == "" {
		t.Errorf("%+v", shown)
	}

	// Faults come and go.
	if got := r.ask("POST", "/faults", `{"provider":"vivo","code":10072,"times":"1"}`); got != `{"id":1}` {
		t.Error(got)
	}
	if got := r.send(a, "phone-of-bob", "x"); got.Class != push.RetryAfter || got.Code != "10072" {
		t.Errorf("%+v", got)
	}
	if got := r.send(a, "phone-of-bob", "x"); got.Class != push.Accepted {
		t.Errorf("%+v", got)
	}
	r.line()
	r.ask("POST", "/faults", `{"provider":"vivo","status":503,"header":{"Retry-After":"7"}}`)
	if got := r.send(a, "phone-of-bob", "x"); got.Code != "http 503" || got.After != 7*time.Second {
		t.Errorf("%+v", got)
	}
	if got := r.ask("DELETE", "/faults?provider=meizu", ""); got != `{"mended":0}` {
		t.Error(got)
	}
	if got := r.ask("DELETE", "/faults?id=2", ""); got != `{"mended":1}` {
		t.Error(got)
	}
	if got := r.send(a, "phone-of-bob", "once more"); got.Class != push.Accepted {
		t.Errorf("%+v", got)
	}
	r.line()
	if got := r.ask("POST", "/phones", `{"provider":"VIVO","token":"old","gone":true}`); got != `{}` {
		t.Error(got)
	}
	if got := r.send(a, "old", "x"); got.Class != push.TokenDead {
		t.Errorf("%+v", got)
	}
	var screen []struct{ Body string }
	if err := json.Unmarshal([]byte(r.ask("GET", "/screen?token=phone-of-bob", "")), &screen); err != nil || len(screen) != 3 || screen[2].Body != "once more" {
		t.Errorf("%+v, %v", screen, err)
	}
	if got := r.ask("GET", "/log?token=phone-of-bob&provider=MEIZU", ""); got != "[]" {
		t.Error(got)
	}
	if got := r.ask("GET", "/subscription?name=b", ""); got != pushtest.Subscription("b") {
		t.Error(got)
	}
	if got := r.ask("GET", "/subscription", ""); !strings.Contains(got, "name: is required") {
		t.Error(got)
	}
	var stats map[string]pushtest.Stats
	if err := json.Unmarshal([]byte(r.ask("GET", "/stats", "")), &stats); err != nil || stats["VIVO"].Taken != 3 || stats["VIVO"].Faults != 2 || stats["VIVO"].Auths != 1 {
		t.Errorf("%+v, %v", stats, err)
	}
	for body, want := range map[string]string{
		`[]`:                                     `want a JSON object`,
		`{}`:                                     `provider: is required`,
		`{"provider":"GCM"}`:                     `provider: one of APNs`,
		`{"provider":"vivo","code":{}}`:          `code: must be a text, a number, true or false`,
		`{"provider":"vivo","times":"x"}`:        `times: must be a number`,
		`{"provider":"vivo","hang":"perhaps"}`:   `hang: must be true or false`,
		`{"provider":"vivo","delay":"2"}`:        `delay: must be a duration such as 2s`,
		`{"provider":"vivo","status":99}`:        `status: must be from 200 to 599`,
		`{"provider":"vivo","colour":"red"}`:     `colour: is no part of a fault; there are header, auth`,
		`{"provider":"vivo","header":"Retry-X"}`: `header: `,
	} {
		if got := r.ask("POST", "/faults", body); !strings.Contains(got, `"error":"`) || !strings.Contains(got, want) {
			t.Errorf("%s: %s", body, got)
		}
	}
	for _, path := range []string{"/screen", "/screen?token=x&provider=GCM", "/elsewhere"} {
		if got := r.ask("GET", path, ""); strings.HasPrefix(got, "[") {
			t.Errorf("%s: %s", path, got)
		}
	}
	// A page in a browser sends no JSON without asking.
	res, err := http.Post(r.Control+"/faults", "text/plain", strings.NewReader(`{"provider":"vivo","reset":true}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusUnsupportedMediaType {
		t.Error(res.Status)
	}
	r.end()
}

// What the folder holds is used again, so that a server's credentials stay good.
func TestPushSimAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "sim")
	first := runSim(t, dir, "vivo", "--no-strangers", "--fault", "vivo:auth,status=503,times=1")
	if len(first.Providers) != 1 {
		t.Errorf("%v", first.Providers)
	}
	a := first.adapter()
	if got := first.send(a, "phone", "x"); got.Code != "http 503" {
		t.Errorf("%+v", got)
	}
	if got := first.send(a, "phone", "x"); got.Class != push.TokenDead {
		t.Errorf("%+v", got)
	}
	ca, secret := first.file("ca.pem"), first.file("vivo.appSecret")
	first.end()

	again := runSim(t, dir)
	if again.file("ca.pem") != ca || again.file("vivo.appSecret") != secret {
		t.Error("the keys are others")
	}
	if got := again.send(again.adapter(), "phone", "x"); got.Class != push.Accepted {
		t.Errorf("%+v", got)
	}
	again.line()

	// The commands are good for a server.
	data := filepath.Join(t.TempDir(), "data")
	if out, errOut, code := do(t.Context(), "app", "create", "shop", "--data", data); code != exitDone {
		t.Fatal(out, errOut)
	}
	printer := filepath.Join(dir, "printer")
	if err := os.WriteFile(printer, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\" ;\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	sh := exec.CommandContext(t.Context(), "sh", filepath.Join(dir, "credentials.sh"), "--data", data)
	sh.Env = append(os.Environ(), "PARLEY="+printer)
	text, err := sh.Output()
	if err != nil {
		t.Fatal(err)
	}
	commands := strings.Split(strings.TrimSpace(string(text)), "--data\n"+data)
	for _, args := range commands[:len(commands)-1] {
		if out, errOut, code := do(t.Context(), append(strings.Split(strings.TrimSpace(args), "\n"), "--data", data)...); code != exitDone {
			t.Errorf("%s: %s %s", args, out, errOut)
		}
	}
	list, _, _ := do(t.Context(), "push", "credential", "list", "--data", data)
	for name, address := range again.Providers {
		if !strings.Contains(list, name) || !strings.Contains(list, address) {
			t.Errorf("no %s at %s in %s", name, address, list)
		}
	}
	again.end()

	other := runSim(t, filepath.Join(t.TempDir(), "sim"))
	if other.file("ca.pem") == ca || other.file("vivo.appSecret") == secret {
		t.Error("another folder has the same keys")
	}
	other.end()
}

func TestPushSimLines(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "sim")
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &simRun{t: t, dir: dir, lines: bufio.NewScanner(out), stop: cancel, code: make(chan int, 1), Providers: map[string]string{}}
	go func() {
		r.code <- run(ctx, []string{"push-sim", "VIVO", "--dir", dir, "--data", "x y"}, strings.NewReader(""), in, os.Stderr)
		_ = in.Close()
	}()
	var greeting []string
	for l := r.line(); l != "What phones show:"; l = r.line() {
		greeting = append(greeting, l)
	}
	r.line()
	text := strings.Join(greeting, "\n")
	for _, want := range []string{"VIVO     https://127.0.0.1:", "control  http://127.0.0.1:", "parley serve --push-ca '" + dir + "/ca.pem' --data 'x y'", "sh '" + dir + "/credentials.sh' --data 'x y'"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	r.Providers["VIVO"] = strings.Fields(greeting[0])[1]
	if got := r.send(r.adapter(), "phone-of-bob", "say \"hi\"\x1b[2J"); got.Class != push.Accepted {
		t.Errorf("%+v", got)
	}
	if l := r.line(); !strings.Contains(l, `  VIVO  …of-bob  "alice"  "say \"hi\"\x1b[2J"  key `) {
		t.Error(l)
	}
	r.end()
}

func TestPushSimRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"GCM"}, "provider: one of APNs"},
		{[]string{"--port", "65535"}, "--port must be from 0 to"},
		{[]string{"--fault", "code=1"}, "want PROVIDER:FAULT"},
		{[]string{"--fault", "vivo:colour=red"}, "colour: is no part of a fault"},
		{[]string{"--fault", "vivo:header=x"}, "header: want header=Name:value"},
		{[]string{"vivo", "--fault", "meizu:hang"}, "MEIZU is not simulated"},
	} {
		_, errOut, code := do(t.Context(), append([]string{"push-sim", "--dir", filepath.Join(t.TempDir(), "sim")}, c.args...)...)
		if code != exitUsage || !strings.Contains(errOut, c.want) {
			t.Errorf("%v: code %d, %s", c.args, code, errOut)
		}
	}
}
