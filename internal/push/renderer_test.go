package push_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/push"
)

// A token is nowhere in a masked request, however it is written there.
func TestMasked(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"0123456789abcdef", `a"b\c"d/e:f#g`, "x y?z%", "a", "ünicode-token"} {
		inner := push.JSON(map[string]string{"token": token})
		outer := push.JSON(map[string]any{"message": string(inner), "to": []string{token}})
		form := url.Values{"to": {token}, "message": {string(outer)}}
		r := push.FormRequest("/send/"+url.PathEscape(token), form, push.CutBody)
		r.Header["X-To"] = token
		m := r.Masked(token)
		if m.Cut != push.CutBody || m.Method != "POST" || r.Form.Get("to") != token || r.Header["X-To"] != token {
			t.Errorf("%q: %+v, of %+v", token, m, r)
		}
		j := push.JSONRequest("/", outer, 0)
		masked := j.Masked(token)
		for what, text := range map[string]string{
			"path": m.Path, "header": m.Header["X-To"], "field": m.Form.Get("to"), "nested": m.Form.Get("message"),
			"form": string(m.Body), "body": string(masked.Body),
		} {
			for _, spelt := range []string{token, url.QueryEscape(token), url.PathEscape(token), strings.Trim(string(push.JSON(token)), `"`)} {
				if strings.Contains(text, spelt) {
					t.Errorf("%q stands in the %s: %s", spelt, what, text)
				}
			}
			if !strings.Contains(text, "…") {
				t.Errorf("nothing is left of %q in the %s: %s", token, what, text)
			}
		}
	}
	r := push.JSONRequest("/", []byte(`{}`), 0)
	if m := r.Masked(""); string(m.Body) != `{}` {
		t.Errorf("%+v", m)
	}
}
