package gateway

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var inBackticks = regexp.MustCompile("`([^`]+)`")

// The page for those who write clients has a heading for every call and a row for
// every code, and none that there is not.
func TestManualIsComplete(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/client-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	section := func(from, to string) string {
		_, rest, found := strings.Cut(page, "\n"+from+"\n")
		part, _, ended := strings.Cut(rest, "\n"+to)
		if !found || !ended {
			t.Fatalf("no section between %q and %q", from, to)
		}
		return part
	}

	// A heading names one call, or several: `a.b`, `.c` are a.b and a.c.
	described := map[string]bool{}
	for _, line := range strings.Split(section("## Calls", "## "), "\n") {
		if !strings.HasPrefix(line, "### ") {
			continue
		}
		prefix := ""
		for _, m := range inBackticks.FindAllStringSubmatch(line, -1) {
			name := m[1]
			if strings.HasPrefix(name, ".") {
				name = prefix + name
			} else if i := strings.LastIndexByte(name, '.'); i >= 0 {
				prefix = name[:i]
			}
			described[name] = true
			if rpcMethods[name] == nil {
				t.Errorf("the page has the call %s, which there is not", name)
			}
		}
	}
	for method := range rpcMethods {
		if !described[method] {
			t.Errorf("the call %s has no heading in docs/client-protocol.md", method)
		}
	}

	const heading = "## When something is refused, when the connection ends"
	_, rest, found := strings.Cut(page, "\n"+heading+"\n")
	if !found {
		t.Fatalf("no section %q", heading)
	}
	answers, closes, found := strings.Cut(rest, "The connection ends with")
	if !found {
		t.Fatal("the two tables of codes cannot be told apart")
	}
	var codes, closeCodes []int
	for _, r := range errorTable {
		codes = append(codes, int(r.Code))
	}
	for _, r := range disconnectTable {
		closeCodes = append(closeCodes, int(r.Code))
	}
	for what, c := range map[string]struct {
		text string
		want []int
	}{"answers": {answers, codes}, "closing": {closes, closeCodes}} {
		got := firstColumn(t, c.text)
		for _, code := range c.want {
			if !slices.Contains(got, code) {
				t.Errorf("%d is not in the table of codes of %s in docs/client-protocol.md", code, what)
			}
		}
		for i, code := range got {
			if !slices.Contains(c.want, code) || slices.Contains(got[:i], code) {
				t.Errorf("the table of codes of %s has %d, which there is not or which is there twice", what, code)
			}
		}
	}
}

// firstColumn are the numbers in the first column of a table.
func firstColumn(t *testing.T, text string) (codes []int) {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || strings.Contains(cells[1], "code") || strings.Contains(cells[1], "---") {
			continue
		}
		for _, s := range strings.Split(cells[1], ",") {
			n, err := strconv.Atoi(strings.TrimSpace(s))
			if err != nil {
				t.Errorf("%s: %v", line, err)
			}
			codes = append(codes, n)
		}
	}
	return codes
}
