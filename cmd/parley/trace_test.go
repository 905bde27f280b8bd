package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/push"
)

// What became of notifications is printed for people.
func TestTraceOfPush(t *testing.T) {
	t.Parallel()
	var traced traced
	if err := json.Unmarshal([]byte(`{"deliveriesKept":true,"recipients":[
		{"userId":"bob","offset":3,"sessions":[],"devices":[],"push":{"effect":"alert","reason":"away","devices":[
			{"deviceId":"pad","provider":"OPPO","token":"…abc","class":"payload_bad","code":"400","attempts":3,"at":0,"cut":["data","title"]},
			{"deviceId":"phone","provider":"APNs","token":"…def","class":"accepted","id":"i/1","attempts":1,"at":1},
			{"deviceId":"wrist","provider":"APNs","withdrawn":true,"class":"expired","attempts":0,"at":2}]}},
		{"userId":"carl","offset":1,"sessions":[],"devices":[],"push":{"effect":"none","reason":"level","devices":[]}},
		{"userId":"dora","offset":1,"sessions":[],"devices":[]},
		{"userId":"eve","offset":1,"sessions":[],"devices":[],"push":{"effect":"silent","reason":"away","devices":[]}}]}`), &traced); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := traced.print(&out, false); err != nil {
		t.Fatal(err)
	}
	const want = `to  bob, offset 3
    not written to any session yet
    notified (alert): away
    notification, device pad (OPPO …abc) 1970-01-01 00:00:00.000: payload_bad, code 400, 3 attempts, shortened: data, title
    notification, device phone (APNs …def) 1970-01-01 00:00:00.001: accepted, id i/1
    taking back, device wrist (APNs) 1970-01-01 00:00:00.002: expired
to  carl, offset 1
    not written to any session yet
    not notified: level (by their notification level)
to  dora, offset 1
    not written to any session yet
to  eve, offset 1
    not written to any session yet
    notified (silent): away
    notifications wait for their providers
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

// Each reason for which somebody is not notified is told in words, too.
func TestReasonsInWords(t *testing.T) {
	t.Parallel()
	for _, r := range push.Reasons() {
		if (inWords(r.String()) != r.String()) != (r != push.ReasonAway) {
			t.Errorf("%s: %s", r, inWords(r.String()))
		}
	}
}
