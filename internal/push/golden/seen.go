package golden

import (
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/push"
)

// Received is a request as it came in, as people read it. Header fields that are
// the transport's are left out, and whatever is secret or changes from one time
// to the next is masked: hide holds it, and by what name it goes in the text.
func Received(r *http.Request, body string, hide map[string]string) string {
	header := map[string]string{}
	for name, values := range r.Header {
		switch name {
		case "User-Agent", "Content-Length", "Accept-Encoding":
		default:
			header[name] = strings.Join(values, ", ")
		}
	}
	q := push.Request{Method: r.Method, Path: r.URL.RequestURI(), Header: header, Body: []byte(body)}
	if strings.HasPrefix(header["Content-Type"], "application/x-www-form-urlencoded") {
		q.Form, _ = url.ParseQuery(body)
		if q.Form == nil {
			q.Form = url.Values{}
		}
	}
	text := Text(q)
	for _, secret := range slices.Sorted(maps.Keys(hide)) {
		text = strings.ReplaceAll(text, secret, "<"+hide[secret]+">")
	}
	return text
}

// CheckText compares a text with the file testdata/name.
func CheckText(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n got %s\nwant %s", name, got, want)
	}
}
