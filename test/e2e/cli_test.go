package e2e

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Exit codes, as docs/cli.md lists them.
const (
	exitUsage   = 2
	exitNoNode  = 3
	exitRefused = 4
)

// The commands that an owner uses work on a running node, and on its folder
// when it does not run.
func TestOwnerCommands(t *testing.T) {
	t.Parallel()
	s := start(t)
	check := func(when string) {
		t.Helper()
		out, _, code := s.parley("app", "list", "--secrets")
		if code != 0 || !strings.Contains(out, appKey) || !strings.Contains(out, appSecret) {
			t.Errorf("%s: app list: code %d, %s", when, code, out)
		}
		if out, _, _ := s.parley("app", "list"); strings.Contains(out, appSecret) {
			t.Errorf("%s: app list shows a secret without being asked", when)
		}
		if out, _, code := s.parley("token", "ann"); code != 0 || strings.Count(out, ".") != 2 || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: token: code %d, %q", when, code, out)
		}
		if _, errOut, code := s.parley("app", "set", appKey, "limits.direct=lots"); code != exitUsage || !strings.Contains(errOut, "limits.direct: ") {
			t.Errorf("%s: a bad setting: code %d, %s", when, code, errOut)
		}
		if _, errOut, code := s.parley("app", "set", "nobody", "limits.direct=0"); code == 0 || !strings.Contains(errOut, "app") {
			t.Errorf("%s: an unknown app: code %d, %s", when, code, errOut)
		}
	}
	check("running")
	s.stop()
	check("not running")
	if _, errOut, code := s.parley("send", "direct", "--from", "a", "--to", "b", "hi"); code != exitNoNode {
		t.Errorf("send without a node: code %d, %s", code, errOut)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "listen")); !os.IsNotExist(err) {
		t.Errorf("the file listen is still there: %v", err)
	}
	// A token made while no node ran is good on the node.
	token, _, _ := s.parley("token", "ann")
	s.up()
	s.node("connects.mjs", strings.TrimSpace(token))
}

func TestMissingDataFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "misspelt")
	for _, args := range [][]string{{"app", "list"}, {"token", "ann"}, {"app", "set", "k", "a=b"}} {
		if _, errOut, code := parley(t, append(args, "--data", dir)...); code == 0 || !strings.Contains(errOut, "misspelt") {
			t.Errorf("%v: code %d, %s", args, code, errOut)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("a command that only reads has made the folder")
	}
	if out, errOut, code := parley(t, "app", "create", "shop", "--data", dir); code != 0 || !strings.Contains(out, "shop") {
		t.Errorf("app create: code %d, %s%s", code, out, errOut)
	}
}

// What is sent on the command line is printed by a tail, live and from the
// oldest, as are messages in an open channel.
func TestSendAndTail(t *testing.T) {
	t.Parallel()
	s := start(t)
	if out, errOut, code := s.parley("send", "direct", "--from", "ann", "--to", "bob,cho", "--echo", "--metadata", "k=v", "waits"); code != 0 || !strings.Contains(out, `"userId":"cho"`) {
		t.Fatalf("send direct: code %d, %s%s", code, out, errOut)
	}
	tail := exec.Command(binary, "tail", "bob", "--data", s.dir, "--from", "oldest", "--open", "lobby", "--json", "--count", "3", "--for", "30s")
	stdout, err := tail.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := tail.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stderr); lines.Scan() && !strings.Contains(lines.Text(), "entered open:lobby"); {
	}
	if out, _, code := s.parley("send", "open", "--from", "ann", "--to", "lobby", "hello all"); code != 0 || !strings.Contains(out, `"channelId":"lobby"`) {
		t.Errorf("send open: code %d, %s", code, out)
	}
	if out, _, code := s.parley("send", "system", "--from", "news", "--to", "bob", "--json", "live"); code != 0 || !strings.Contains(out, `"requestId"`) {
		t.Errorf("send system: code %d, %s", code, out)
	}
	got := map[string]string{}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var e struct {
			Channel string
			Offset  uint64
			Data    struct {
				Message struct{ ChannelType, Content string }
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		got[e.Data.Message.Content] = e.Channel + " " + e.Data.Message.ChannelType
	}
	if err := tail.Wait(); err != nil {
		t.Errorf("tail: %v", err)
	}
	for text, want := range map[string]string{"waits": "me direct", "hello all": "open:lobby open", "live": "me system"} {
		if got[`{"content":"`+text+`"}`] != want {
			t.Errorf("tail printed %v, and not %q as %s", got, text, want)
		}
	}
	if out, _, code := s.parley("send", "direct", "--from", "ann", "hi"); code != exitRefused || !strings.Contains(out, `"code":1002`) {
		t.Errorf("a send without recipients: code %d, %s", code, out)
	}
	body := filepath.Join("testdata", "seeds", "direct.json")
	if out, _, code := s.parley("send", "direct", "--body", body); code != 0 || !strings.Contains(out, `"userId":"2193"`) {
		t.Errorf("send --body: code %d, %s", code, out)
	}
}

func TestTailIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t)
	_, errOut, code := parley(t, "tail", "bob", "--url", "http://"+s.address, "--app-key", appKey, "--token", "nonsense")
	if code != exitRefused || !strings.Contains(errOut, "invalid token") {
		t.Errorf("a token that was never issued: code %d, %s", code, errOut)
	}
	if _, errOut, code := parley(t, "tail", "bob", "--url", "http://"+s.address); code != exitUsage {
		t.Errorf("no token: code %d, %s", code, errOut)
	}
	// A good one is enough for a server that is not this machine's.
	s.call("/v4/direct-channel/message/send", textMessage("ann", []string{"bob"}, "far away"))
	out, errOut, code := parley(t, "tail", "bob", "--url", "http://"+s.address, "--token", s.token("bob"), "--from", "oldest", "--count", "1")
	if code != 0 || !strings.Contains(out, `ann → me: "far away"`) {
		t.Errorf("tail over --url: code %d, %s%s", code, out, errOut)
	}
}

// The call that a start prints can be pasted into any of the usual shells, more
// than once.
func TestPasteableCurl(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(binary, "serve", "--data", dir, "--listen", freeAddress(t), "--banner", "--app-key", "k")
	// A secret with all that shells might take for something else.
	cmd.Env = append(os.Environ(), `PARLEY_APP_SECRET=a'b"c$d!e\f g`+"`h")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server did not stop well: %v", err)
		}
	})
	var call strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "t=$(date") || call.Len() > 0 {
			call.WriteString(line + "\n")
		}
		if strings.HasPrefix(line, "  -d ") {
			break
		}
	}
	shells := 0
	for _, shell := range []string{"sh", "bash", "dash", "zsh"} {
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		shells++
		for range 2 {
			got, err := exec.Command(shell, "-c", call.String()).CombinedOutput()
			if err != nil || !regexp.MustCompile(`^\{"code":0,"result":\{"messageUIDs":\[\{"userId":"bob",`).Match(got) {
				t.Errorf("%s: %v\n%s\n%s", shell, err, got, &call)
			}
		}
	}
	if shells == 0 {
		t.Error("no shell was found")
	}
}

// An app is made when there is none, its secret is printed once, and the secret
// works.
func TestFirstApp(t *testing.T) {
	t.Parallel()
	dir, address := filepath.Join(t.TempDir(), "data"), freeAddress(t)
	run := func() (stdout string) {
		t.Helper()
		cmd := exec.Command(binary, "serve", "--data", dir, "--listen", address)
		var out strings.Builder
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(20 * time.Second)
		for {
			if resp, err := http.Get("http://" + address + "/readyz"); err == nil {
				resp.Body.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the server did not come up")
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	first := run()
	m := regexp.MustCompile(`app key +(\S+)\n +app secret +(\S+)\n`).FindStringSubmatch(first)
	if m == nil {
		t.Fatalf("the first start printed %q", first)
	}
	if list, _, _ := parley(t, "app", "list", "--secrets", "--data", dir); !strings.Contains(list, m[1]) || !strings.Contains(list, m[2]) {
		t.Errorf("the app that was printed is not there: %s", list)
	}
	if again := run(); again != "" {
		t.Errorf("the second start printed %q", again)
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	out, errOut, code := parley(t, "demo")
	if code != 0 || strings.Contains(out, "BROKEN") || strings.Count(out, "\n  kept    ") != 10 {
		t.Errorf("code %d\n%s%s", code, out, errOut)
	}
	// The story of one message: what happens to it, in this order, and where in
	// the timeline of whom it is about.
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^   \d\d:\d\d:\d\d\.\d{3}  (\w+) +(#\d+)? `).FindAllStringSubmatch(out, -1) {
		got = append(got, strings.TrimSpace(m[1]+" "+m[2]))
	}
	want := []string{"sent #1", "arrived #1", "missed #1", "recovered #1", "read #2", "synced #2", "receipt #2", "metadata #3", "recalled #4", "traced"}
	if !slices.Equal(got, want) {
		t.Errorf("the story is told as %q, want %q\n%s", got, want, out)
	}
	_, trace, _ := strings.Cut(out, "What parley trace says of it now:")
	for _, part := range []string{"from       dan, through the client protocol", "device phone: written", "device laptop: written", "device phone is past it", "recalled "} {
		if !strings.Contains(trace, part) {
			t.Errorf("the trace lacks %q:\n%s", part, trace)
		}
	}
}

// A short showing of an open channel: within its budgets, beyond them, and with
// somebody slow. The command itself holds what was answered against what came.
func TestDemoOpen(t *testing.T) {
	t.Parallel()
	out, errOut, code := parley(t, "demo", "open", "--for", "4s", "--participants", "30", "--plain")
	if code != 0 || strings.Contains(out, "BROKEN") || strings.Count(out, "\n  kept    ") != 6 {
		t.Fatalf("code %d\n%s%s", code, out, errOut)
	}
	for _, line := range []string{
		`(?m)^  2s  well beyond the budgets: \d+ in \(\d+ entered, \d+ left\); \d+ msg/s, taken [1-9]\d*, shed \d+ \(low \d+, standard and high \d+, allowlisted \d+\); \d+ deliveries/s, p50 \S+, p99 \S+$`,
		`(?m)^  low +\d+ +[1-9]\d* +[1-9]\d* +[1-9]\d*$`,
		`(?m)^  allowlisted +\d+ +[1-9]\d* +\d+ +[1-9]\d*$`,
		`The slow participant read [1-9]`,
	} {
		if !regexp.MustCompile(line).MatchString(out) {
			t.Errorf("nothing is like %s in\n%s", line, out)
		}
	}
	out, errOut, code = parley(t, "demo", "open", "--for", "3s", "--participants", "10", "--json")
	var told struct {
		Kept     bool
		Promises []struct{ Kept bool }
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil || code != 0 || !told.Kept || len(told.Promises) != 6 {
		t.Errorf("--json: code %d, %s%s", code, out, errOut)
	}
	for _, bad := range [][]string{{"--for", "1s"}, {"--participants", "9"}} {
		if _, errOut, code := parley(t, append([]string{"demo", "open"}, bad...)...); code != exitUsage || !strings.Contains(errOut, bad[0]) {
			t.Errorf("%v: code %d, %s", bad, code, errOut)
		}
	}
}

// Notifications on simulated phones, and the reasons of those who get none. The
// command itself holds what phones were shown against what was to be.
func TestDemoPush(t *testing.T) {
	t.Parallel()
	out, errOut, code := parley(t, "demo", "push")
	if code != 0 || strings.Contains(out, "BROKEN") || strings.Count(out, "\n  kept    ") != 14 {
		t.Fatalf("code %d\n%s%s", code, out, errOut)
	}
	for _, line := range []string{
		`APNs   ada, en +"you have a new message\."  "Dinner at seven\?"  key 123456`,
		`HONOR  dora, fr +"Zoë"  "Nouveau message"  key \d+`,
		`-      quin +not notified: read \(.+\)`,
		`OPPO   fei, zh-Hant-TW +"今晚"  "Zoë問：Who brings wine\?"  key \d+`,
		`APNs   rosa, it +the other 35 are held as one, .+ 34 of them coalesced`,
		`MI     emi, ja +"Zoë"  "Zoëがメッセージを取り消しました"  key \d+`,
		`WEB    jo's browser, de +"you have a new message\."  "Dinner at seven\?"  key \S+`,
		`APNs   ada, en +"Zoë"  "Did you get my card\?"  badge 3  key \S+`,
	} {
		if !regexp.MustCompile(`(?m)^   \d\d:\d\d:\d\d\.\d{3}  ` + line + `$`).MatchString(out) {
			t.Errorf("nothing is like %s in\n%s", line, out)
		}
	}
	// Each recipient of the first message, what became of it for them, and each
	// provider have a line of their own.
	for _, line := range []string{
		`ada +APNs en, APNs en +notified +\d+`, `lea +FCM en +reached_desktop: .+ +1`, `otto +HONOR de +banned: .+ +0`, `pia +- +no_device: .+ +0`,
		`HW +\d+ +3 +0 +\d+ +\d+ +\d+`, `OHOS +2 +2 +0 +0 +0 +\d+`, `WEB +2 +2 +0 +0 +0 +\d+`,
	} {
		if !regexp.MustCompile(`(?m)^  ` + line + `$`).MatchString(out) {
			t.Errorf("no row is like %s in\n%s", line, out)
		}
	}
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	s := start(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "parley.yaml")
	if err := os.WriteFile(file, []byte("log-format: json\n\nlisten_address: 127.0.0.1:0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"unknown flag":        {[]string{"--lisen", "x"}, exitUsage, "--lisen"},
		"bad value":           {[]string{"--min-free", "much"}, exitUsage, "min-free"},
		"half of a pair":      {[]string{"--tls-cert", "c.pem"}, exitUsage, "tls-key"},
		"unknown file key":    {[]string{"--config", file}, exitUsage, file + `:3: unknown setting "listen_address"`},
		"missing file":        {[]string{"--config", file + "x"}, exitUsage, file + "x"},
		"folder in use":       {[]string{"--data", s.dir, "--listen", "127.0.0.1:0"}, 1, "in use by another process"},
		"port in use":         {[]string{"--data", filepath.Join(dir, "d"), "--listen", s.address}, 1, "address already in use"},
		"folder of something": {[]string{"--data", dir, "--listen", "127.0.0.1:0"}, 1, "not a Parley data folder"},
	} {
		_, errOut, code := parley(t, append([]string{"serve"}, c.args...)...)
		if code != c.code || !strings.Contains(errOut, c.says) {
			t.Errorf("%s: code %d, want %d; %s does not say %q", name, code, c.code, errOut, c.says)
		}
	}
	if out, _, code := parley(t, "serve", "--check", "--data", filepath.Join(dir, "none")); code != 0 || out == "" {
		t.Errorf("--check of good settings: code %d, %s", code, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Error("--check has made the data folder")
	}
}
