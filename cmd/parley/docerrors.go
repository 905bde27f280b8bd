package main

import (
	"strconv"

	"github.com/alecthomas/kong"

	"github.com/parleychat/parley/internal/gateway"
	"github.com/parleychat/parley/internal/serverapi"
)

// errorsPage describes every code on the wire, from the doors' own tables.
func errorsPage(*kong.Application) string {
	var p page
	p.say("# Errors\n\n%s", generated)

	p.say("## The server API\n\nEvery error body is `{\"code\": …, \"errorMessage\": \"…\"}`; the message names the field and the rule. Every answer carries `X-Request-ID`, under which the server's log has more. Success is HTTP 200 with `code` 0.\n")
	p.head("HTTP status", "code", "reason in logs and metrics", "meaning", "does a repeat help?")
	for _, e := range serverapi.ErrorTable() {
		p.row(strconv.Itoa(e.Status), strconv.Itoa(e.Code), code(e.Kind), e.Meaning, e.Repeat)
	}

	p.say("\n## Client connections\n\n### Errors in answers\n\nAn answer to a command carries `error` with a code, a message and, where the same call can succeed later, `temporary`. The client SDKs repeat temporary ones by themselves.\n")
	p.head("code", "message", "temporary", "meaning")
	for _, e := range gateway.ErrorTable() {
		p.row(strconv.Itoa(int(e.Code)), e.Text, yesNo(e.Temporary), e.When)
	}

	p.say("\n### Close codes\n\nA connection is closed with one of these. After codes below 3500 and from 4000 to 4499 the client SDKs come back by themselves and recover what they missed; after the others they do not.\n")
	p.head("code", "reason", "comes back", "meaning")
	for _, d := range gateway.DisconnectTable() {
		p.row(strconv.Itoa(int(d.Code)), d.Reason, yesNo(d.Reconnect()), d.When)
	}
	return p.String()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
