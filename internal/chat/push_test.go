package chat

import (
	"strings"
	"testing"
)

func TestParseLanguage(t *testing.T) {
	t.Parallel()
	const wrong = "language: must be a language tag such as en or zh-Hans-CN"
	for tag, want := range map[string]string{
		"en": "en", "DE": "de", "zh_hans_cn": "zh-Hans-CN", "ZH-HANT": "zh-Hant", "es-419": "es-419", "sl-rozaj-biske": "sl-rozaj-biske",
		"de-DE-1996": "de-DE-1996", "en-US-u-Co-PHONEBK": "en-US-u-co-phonebk", "de-x-ab": "de-x-ab", "fil": "fil",
		"": "language: is required", "e": wrong, "en-": wrong, "-en": wrong, "en--US": wrong, "e1": wrong, "en US": wrong, "en-u": wrong,
		"ü": wrong, "en-ü": wrong, "englishes": wrong, "en-" + "abcdefghi": wrong, "x-klingon": wrong,
		strings.Repeat("abcde-", 6): "language: at most 35 bytes, got 36",
	} {
		got, err := ParseLanguage("language", tag)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q is %q, want %q", tag, got, want)
		}
	}
}

// What is a tag is one in the form it gets, too.
func FuzzLanguage(f *testing.F) {
	for _, tag := range []string{"en", "zh_hans_cn", "de-x-ab", "i", "e-", "en-u-co"} {
		f.Add(tag)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		got, err := ParseLanguage("f", tag)
		if err != nil {
			if got != "" || KindOf(err) != KindInvalid && KindOf(err) != KindTooLong {
				t.Errorf("%q: %q, %v", tag, got, err)
			}
			return
		}
		if again, err := ParseLanguage("f", got); err != nil || again != got || !strings.EqualFold(got, strings.ReplaceAll(tag, "_", "-")) {
			t.Errorf("%q is %q is %q, %v", tag, got, again, err)
		}
	})
}

func TestShortToken(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]string{
		"": "…", "a": "…", "ab": "…b", "abcdef": "…def", "0123456789abcdef": "…abcdef",
	} {
		if got := ShortToken(token); got != want {
			t.Errorf("%q is shown as %q, want %q", token, got, want)
		}
	}
	d := PushDevice{ID: "d", Provider: FCM, Token: "0123456789abcdef"}
	if got := d.String(); strings.Contains(got, "0123") || !strings.Contains(got, "abcdef") {
		t.Error(got)
	}
}

func TestPushBaseURL(t *testing.T) {
	t.Parallel()
	const form = "baseUrl: must be a URL such as https://push.example.com, without user, query and fragment"
	const secure = "baseUrl: must begin with https://; http:// is for loopback addresses alone"
	for url, want := range map[string]string{
		"": "", "https://push.example.com": "", "https://10.0.0.1:8443/relay": "", "http://127.0.0.1:9": "", "http://[::1]:9/x": "", "http://localhost": "",
		"http://example.com": secure, "http://10.0.0.1": secure, "http://localhost.example.com": secure, "ftp://localhost": secure,
		"example.com": form, "https://": form, "https://a:b@example.com": form, "https://example.com?x": form, "https://example.com#x": form, "https://exa mple.com": form,
		"https://example.com/" + strings.Repeat("x", 2000): "baseUrl: at most 2000 bytes, got 2020",
	} {
		got := ""
		if err := (&PushCredential{Provider: MI, Fields: map[string]string{"appSecret": "x"}, BaseURL: url}).Check(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%.40s: %q, want %q", url, got, want)
		}
	}
}

// The fingerprint is of what is secret alone, and of all of it.
func TestFingerprint(t *testing.T) {
	t.Parallel()
	of := func(appID, secret string) string {
		c := PushCredential{Provider: HW, Fields: map[string]string{"appId": appID, "clientSecret": secret}}
		return c.Fingerprint()
	}
	if of("1", "a") != of("2", "a") || of("1", "a") == of("1", "b") || strings.Contains(of("1", "a"), "a") && len(of("1", "a")) != 16 {
		t.Error(of("1", "a"), of("2", "a"), of("1", "b"))
	}
}
