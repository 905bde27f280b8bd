package main

import (
	"strings"
)

// pasteable is a call as shell commands that make the signature when they are
// run, so that they work tomorrow, too. They need date, sha1sum and cut, and
// mean the same to sh, bash and zsh: values are in single quotes, where none of
// them looks for $ or \, nor for ! as long as no double quotes are around.
//
// The nonce is the shell's process number and the nanoseconds, so that pasting
// twice in a second makes two different calls; it has at most 18 characters, as
// the API asks for.
func pasteable(base, key, secret string, insecure bool) string {
	curl := "curl -sS"
	if insecure {
		// The address is this machine's; the certificate names another.
		curl += " -k"
	}
	return strings.Join([]string{
		`t=$(date +%s)000 n=$$-$(date +%N) s=` + quote(secret),
		curl + ` ` + quote(base+"/v4/direct-channel/message/send") + ` \`,
		`  -H ` + quote("App-Key: "+key) + ` -H "Timestamp: $t" -H "Nonce: $n" \`,
		`  -H "Signature: $(printf %s "$s$n$t" | sha1sum | cut -c1-40)" \`,
		`  -H 'Content-Type: application/json' \`,
		`  -d '{"fromUserId":"alice","toUserIds":["bob"],"messageType":"RC:TxtMsg","content":"{\"content\":\"hello\"}"}'`,
	}, "\n")
}

// quote is s as one word of a POSIX shell.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
