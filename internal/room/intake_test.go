package room

import (
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// TestAdmit throws messages at a channel, a letter each: l(ow), h(igh),
// s(tandard), a(llowlisted), and a dot for 50 ms that pass.
func TestAdmit(t *testing.T) {
	t.Parallel()
	usual := Budgets{Window: 200 * time.Millisecond, Shared: 20, High: 20, Allowlisted: 20}
	tests := []struct {
		name    string
		budgets Budgets
		thrown  string
		want    string // which were taken
	}{
		{"low ones have what is shared", usual, strings.Repeat("l", 25), strings.Repeat("l", 20)},
		{"high ones have both", usual, strings.Repeat("h", 45), strings.Repeat("h", 40)},
		{"standard is high", usual, strings.Repeat("s", 45), strings.Repeat("s", 40)},
		{"allowlisted ones have all three", usual, strings.Repeat("a", 70), strings.Repeat("a", 60)},
		{"low first leaves high their own", usual, strings.Repeat("l", 30) + strings.Repeat("h", 30), strings.Repeat("l", 20) + strings.Repeat("h", 20)},
		{"high first takes its own, then what is shared", usual, strings.Repeat("h", 30) + strings.Repeat("l", 20), strings.Repeat("h", 30) + strings.Repeat("l", 10)},
		{"40 in all without allowlisted ones", usual, strings.Repeat("lh", 40), strings.Repeat("lh", 20)},
		{"60 in all with them", usual, strings.Repeat("lha", 40), strings.Repeat("lha", 20)},
		{"a new window", usual, strings.Repeat("l", 21) + "...." + strings.Repeat("l", 21), strings.Repeat("l", 40)},
		{"not quite a new window", usual, strings.Repeat("l", 21) + "..." + "l", strings.Repeat("l", 20)},
		{"a window begins with its first message", usual, "....." + "l..." + strings.Repeat("l", 20) + "." + "l", strings.Repeat("l", 21)},
		{"no window, no limit", Budgets{}, strings.Repeat("l", 1000), strings.Repeat("l", 1000)},
		{"budgets of nothing", Budgets{Window: time.Second}, "lhsa", ""},
		{"only allowlisted ones", Budgets{Window: time.Second, Allowlisted: 2}, "lhaha", "aa"},
	}
	classes := map[rune]chat.Priority{'l': chat.PriorityLow, 'h': chat.PriorityHigh, 's': chat.PriorityStandard, 'a': chat.PriorityAllowlisted}
	for _, tt := range tests {
		now := time.UnixMilli(1_790_000_000_000)
		in := NewIntake(func() time.Time { return now })
		taken := ""
		for _, c := range tt.thrown {
			if c == '.' {
				now = now.Add(50 * time.Millisecond)
			} else if in.Admit(lobby, classes[c], tt.budgets) {
				taken += string(c)
			}
		}
		if taken != tt.want {
			t.Errorf("%s: took %q, want %q", tt.name, taken, tt.want)
		}
	}
}

// Channels are apart, and what is over is forgotten.
func TestAdmitForgets(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_790_000_000_000)
	in := NewIntake(func() time.Time { return now })
	b := Budgets{Window: 200 * time.Millisecond, Shared: 1}
	for i := range 1000 {
		if !in.Admit(Key{App: chat.AppID(i), Channel: "c"}, chat.PriorityLow, b) {
			t.Fatal("one channel's budget is spent by another")
		}
	}
	now = now.Add(2 * intakeSweep)
	for i := range 1000 {
		in.Admit(Key{App: chat.AppID(i % 2), Channel: "d"}, chat.PriorityLow, b)
	}
	kept := 0
	for i := range in.shards {
		kept += len(in.shards[i].windows)
	}
	if kept >= 1000 {
		t.Errorf("%d windows are kept", kept)
	}
}

func BenchmarkAdmit(b *testing.B) {
	in := NewIntake(time.Now)
	budgets := Budgets{Window: 200 * time.Millisecond, Shared: 20, High: 20, Allowlisted: 20}
	b.ReportAllocs()
	for b.Loop() {
		in.Admit(lobby, chat.PriorityLow, budgets)
	}
}
