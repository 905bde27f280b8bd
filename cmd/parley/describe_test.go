package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/client"
)

// Every event that clients are told of has a line, and one that is not known is
// shown as it came.
func TestDescribeEvent(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_000).Format(time.TimeOnly)
	for _, c := range []struct {
		channel string
		offset  uint64
		data    string
		want    string
	}{
		{"me", 7, `{"event":"message","message":{"channelType":"direct","channelId":"ann","fromUserId":"ann","direction":"in","messageType":"RC:TxtMsg","content":"{\"content\":\"hi\"}"}}`,
			`#7     direct    ann → me: "hi"`},
		{"me", 7, `{"event":"message","message":{"channelType":"direct","channelId":"ann","fromUserId":"bob","direction":"out","messageType":"app:x","content":"1234"}}`,
			`#7     direct    me → ann: [app:x, 4 bytes]`},
		{"open:lobby", 3, `{"event":"message","message":{"channelType":"open","channelId":"lobby","fromUserId":"ann","messageType":"RC:TxtMsg","content":"not JSON"}}`,
			`#3     open      ann in lobby: [RC:TxtMsg, 8 bytes]`},
		{"me", 7, `{"event":"message","message":{"channelType":"direct","fromUserId":"bot","messageType":"RC:StreamMsg","content":"{\"content\":\"Once\",\"seq\":1,\"complete\":false}"}}`,
			`#7     direct    bot → me: "Once" …`},
		{"me", 0, `{"event":"stream","messageUID":"U","seq":4,"content":" upon","complete":false}`, `       stream    U goes on (4): " upon"`},
		{"me", 0, `{"event":"stream","messageUID":"U","seq":5,"content":".","complete":true}`, `       stream    U goes on (5): ".", and ends`},
		{"me", 8, `{"event":"gone","messageUID":"U"}`, `#8     gone      U is not kept any more`},
		{"me", 8, `{"event":"recall","messageUID":"U","operatorId":"ann","recalledAt":1}`, `#8     recall    ann took back U`},
		{"me", 8, `{"event":"recall","messageUID":"U","operatorId":"ann","isAdmin":true,"isDelete":true}`, `#8     recall    ann, for the app, took back U, leaving nothing`},
		{"me", 8, `{"event":"update","messageUID":"U","content":"{\"content\":\"hi!\"}"}`, `#8     update    U is now "hi!"`},
		{"me", 8, `{"event":"metadata","messageUID":"U","set":{"b":"2","a":"1"},"removed":["c"],"operatorId":"ann"}`, `#8     metadata  U: a="1", b="2", c removed, by ann`},
		{"me", 8, `{"event":"receipt","messageUID":"U","readCount":1,"users":[{"userId":"bob","readAt":1700000000000}]}`, `#8     receipt   U was read by bob at ` + at},
		{"me", 8, `{"event":"read","channelType":"direct","channelId":"ann","upTo":"U","readAt":1}`, `#8     read      direct ann: up to U`},
		{"me", 8, `{"event":"delete","channelType":"direct","channelId":"ann","messageUIDs":["U","V"]}`, `#8     delete    direct ann: U, V`},
		{"open:lobby", 8, `{"event":"clear","channelType":"open","channelId":"lobby","upTo":"U"}`, `#8     clear     open lobby: up to U`},
		{"me", 0, `{"event":"typing","channelType":"direct","channelId":"ann","userId":"ann"}`, `       typing    ann is typing`},
		{"open:lobby", 0, `{"event":"participants","participantCount":3,"enteredCount":2,"leftCount":1,"entered":[{"userId":"ann"},{"userId":"bob"}],"left":["cho"]}`,
			`       people    3 in lobby; 2 came: ann, bob; 1 left: cho`},
		{"me", 9, `{"event":"channel","channelType":"direct","channelId":"ann","pinned":true,"pinnedAt":1700000000000}`,
			`#9     channel   {"channelId":"ann","channelType":"direct","pinned":true,"pinnedAt":1700000000000}`},
		{"open:lobby", 9, `{"event":"kv","set":{"topic":"tea"}}`, `#9     kv        {"set":{"topic":"tea"}}`},
		{"open:lobby", 9, `{"event":"destroyed"}`, `#9     destroyed`},
		{"me", 9, `{"event":"of a later release","x":1}`, `#9     {"event":"of a later release","x":1}`},
		{"me", 9, `{"event":"read","upTo":5}`, `#9     {"event":"read","upTo":5}`},
		{"me", 9, `[]`, `#9     []`},
	} {
		if got := describeEvent(client.Publication{Channel: c.channel, Offset: c.offset, Data: json.RawMessage(c.data)}); got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.data, got, c.want)
		}
	}
}
