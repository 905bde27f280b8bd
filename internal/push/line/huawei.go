package line

import (
	"net/http"

	"github.com/parleychat/parley/internal/push"
)

// Huawei reads an answer of one of Huawei's two services, which speak alike: codes
// are what the answer says, and reasons why a token was not served.
func Huawei(codes, reasons push.Classes, status int, header http.Header, body []byte) push.Result {
	var v struct {
		Code      push.Code  `json:"code"`
		Msg       push.Loose `json:"msg"`
		RequestID push.Code  `json:"requestId"`
	}
	if !push.ReadJSON(body, &v) {
		v.Code = ""
	}
	r := codes.Or(string(v.Code), status, push.ParseRetryAfter(header.Get))
	switch r.Class {
	case push.Accepted:
		r.ID = string(v.RequestID)
	case push.TokenStrike:
		if reason := illegal(v.Msg); reason != "" {
			r = reasons.Of(reason)
		}
	}
	return r
}

// illegal is why the request's only token was not served, if the answer says more
// than that it was not. It has it as JSON in a string, or as an object: a list of
// tokens, or lists by reason.
func illegal(msg push.Loose) string {
	var text string
	if msg.Into(&text) {
		msg = push.Loose(text)
	}
	var v struct {
		Illegal map[string][]string `json:"illegalTokens"`
	}
	if !msg.Into(&v) {
		return ""
	}
	for reason, tokens := range v.Illegal {
		if len(tokens) > 0 {
			return reason
		}
	}
	return ""
}
