package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A client of the npm package misses 500 messages while its network is cut, and
// gets each exactly once and in order when it comes back. A second one, which
// knows nothing, starts from the oldest.
func TestMissedMessages(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.node("missed.mjs")
	s.node("missed.mjs", "oldest", "503")
}

// What the backend says of users is what clients of the npm package meet: bans
// and deletions close their connections, mutes and blocks refuse their messages.
func TestStanding(t *testing.T) {
	t.Parallel()
	start(t).node("standing.mjs")
}

// What the backend does with open channels is what clients of the npm package meet
// there: mutes and freezes refuse their messages, a ban and the end put them out.
func TestOpenChannelOperations(t *testing.T) {
	t.Parallel()
	start(t).node("moderation.mjs")
}

// Echoes, history, recalls, new content, metadata, traces and blocklists, through
// both doors, as clients of the npm package see them.
func TestWhatBecomesOfMessages(t *testing.T) {
	t.Parallel()
	start(t).node("changed.mjs")
}

// Broadcasts as clients see them: live, on the next connect, and recalled.
func TestBroadcast(t *testing.T) {
	t.Parallel()
	start(t).node("broadcast.mjs")
}

// What users make of what they got, as clients of the npm package see it.
func TestReading(t *testing.T) {
	t.Parallel()
	start(t).node("reading.mjs")
}

// Pins, notification levels and tags, as another device that was away learns of
// them, and who is typing.
func TestOwnChannels(t *testing.T) {
	t.Parallel()
	start(t).node("channels.mjs")
}

// Metadata of open channels, through both doors, as clients of the npm package
// see it.
func TestOpenChannelPairs(t *testing.T) {
	t.Parallel()
	start(t).node("pairs.mjs")
}

// An open channel that is sent too much, as clients of the npm package see it.
func TestShed(t *testing.T) {
	t.Parallel()
	s := start(t)
	// So large a window that all of the test is in one.
	settings := []string{"open.intake.window=10s", "open.intake.shared=3", "open.intake.high=4", "open.intake.allowlisted=2", "limits.open=0", "limits.client=0"}
	if _, stderr, code := s.parley(append([]string{"app", "set", appKey}, settings...)...); code != 0 {
		t.Fatal(stderr)
	}
	s.node("shed.mjs", "3", "4", "2")
}

// The three requests that the platform's pages print, byte for byte.
func TestPublishedExamples(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, want := range map[string]struct {
		path    string
		targets []string
	}{
		"direct": {"/v4/direct-channel/message/send", []string{"2193", "2192"}},
		"system": {"/v4/system-channel/message/send", []string{"2191", "2192"}},
		"open":   {"/v4/open-channel/message/send", []string{"2192", "2193"}},
	} {
		body, err := os.ReadFile(filepath.Join("testdata", "seeds", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		// Base URLs that end in a slash make paths with two.
		for _, slashes := range []string{"", "/"} {
			a := s.call(slashes+want.path, body)
			if got := a.header.Get("Content-Type"); got != "application/json; charset=utf-8" {
				t.Errorf("%s: Content-Type %q", name, got)
			}
			if len(a.Result.UIDs) != len(want.targets) {
				t.Fatalf("%s: %s", name, a.body)
			}
			for i, u := range a.Result.UIDs {
				if u.User+u.Channel != want.targets[i] || len(strings.Split(u.UID, "-")) != 4 {
					t.Errorf("%s: target %d is %+v", name, i, u)
				}
			}
			if (a.Result.UIDs[0].Channel != "") != (name == "open") {
				t.Errorf("%s: the ids are under the wrong name: %s", name, a.body)
			}
		}
	}
}
