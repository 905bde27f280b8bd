package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/parleychat/parley/internal/chat"
)

const directPath = "/v4/direct-channel/message/send"

// direct: many backends that send to one user at a time.
func direct(ctx context.Context, o *Options) (*Result, error) {
	sc := o.scale
	res := &Result{
		Case: "direct",
		Load: fmt.Sprintf("%d requests in flight, 1 recipient each out of %d, durable, 200-byte content", sc.callers, sc.callers*sc.recipients),
	}
	return res, o.serve(ctx, func(srv *server) error {
		type mailbox struct {
			user string
			body []byte
			uids []chat.UID
		}
		boxes := make([]mailbox, sc.callers*sc.recipients)
		for i := range boxes {
			user := "direct-" + strconv.Itoa(i)
			boxes[i] = mailbox{user: user, body: directBody([]string{user}, 200)}
		}
		var l load
		err := l.run(ctx, srv, sc.callers, o.Time, func(c *caller, i int) error {
			// A caller has its recipients to itself, so the order of its
			// requests is the order of their timelines.
			box := &boxes[i*sc.recipients+c.calls%sc.recipients]
			uid, err := c.send(directPath, box.body, 1)
			if err == nil {
				box.uids = append(box.uids, uid)
			}
			return err
		})
		if err != nil {
			return err
		}
		res.Seconds = o.Time.Seconds()
		res.Rates = []Rate{rate("requests", l.done.Load(), o.Time)}
		res.Latency = l.latency.latency("answer")
		res.Server = between(l.before, l.after)
		res.Floors = []Floor{
			atLeast("requests per second", 15_000, res.Rates[0].PerSecond),
			atMost("p99, ms", 40, res.Latency.P99),
		}
		lines := make([]timeline, len(boxes))
		for i := range boxes {
			box := &boxes[i]
			lines[i] = timeline{box.user, len(box.uids), func(k int) chat.UID { return box.uids[k] }}
		}
		return o.readBack(ctx, srv, lines, res)
	})
}

// directMany: the largest requests there are.
func directMany(ctx context.Context, o *Options) (*Result, error) {
	res, err := o.groups(ctx, 200)
	if err == nil {
		per := res.Rates[1].PerSecond
		res.Floors = append(res.Floors, atLeast("recipient messages per second", 150_000, per))
	}
	return res, err
}

// directLong: content of 10 KB, to see what a recipient costs on disk.
func directLong(ctx context.Context, o *Options) (*Result, error) {
	return o.groups(ctx, longContent)
}

const longContent = 10_000

// groups sends requests with many recipients and content of so many bytes.
func (o *Options) groups(ctx context.Context, content int) (*Result, error) {
	sc := o.scale
	res := &Result{
		Case: "direct-1000",
		Load: fmt.Sprintf("%d requests in flight, %d recipients each out of %d, durable, %d-byte content",
			sc.groupCallers, sc.group, sc.groupCallers*sc.group, content),
	}
	user := func(group, k int) string { return fmt.Sprintf("group-%d-%d", group, k) }
	firsts := make([][]chat.UID, sc.groupCallers) // of each request's UIDs
	var empty, running, rested int64
	return res, o.folder(func(data string) error {
		err := o.serveOn(ctx, data, nil, func(srv *server) (err error) {
			bodies := make([][]byte, sc.groupCallers)
			for i := range bodies {
				users := make([]string, sc.group)
				for k := range users {
					users[k] = user(i, k)
				}
				bodies[i] = directBody(users, content)
			}
			if empty, err = diskSize(data); err != nil {
				return err
			}
			var l load
			err = l.run(ctx, srv, sc.groupCallers, o.Time, func(c *caller, i int) error {
				first, err := c.send(directPath, bodies[i], sc.group)
				if err == nil {
					firsts[i] = append(firsts[i], first)
				}
				return err
			})
			if err != nil {
				return err
			}
			n := l.done.Load()
			res.Seconds = o.Time.Seconds()
			res.Rates = []Rate{rate("requests", n, o.Time), rate("recipient messages", n*int64(sc.group), o.Time)}
			res.Latency = l.latency.latency("answer")
			res.Server = between(l.before, l.after)
			running, err = diskSize(data)
			return err
		})
		if err != nil {
			return err
		}
		// A running server keeps a fixed number of log files at their full
		// size, however little is in them. After a restart the folder has what
		// the messages take, and reading back shows that all of it is there.
		return o.serveOn(ctx, data, nil, func(srv *server) (err error) {
			sleep(ctx, sc.settle)
			if rested, err = diskSize(data); err != nil {
				return err
			}
			var lines []timeline
			sent := 0
			for i := range firsts {
				sent += len(firsts[i])
				for k := range sc.group {
					lines = append(lines, timeline{user(i, k), len(firsts[i]), func(n int) chat.UID { return firsts[i][n].Plus(k) }})
				}
			}
			each := func(size int64) float64 { return float64(size-empty) / float64(max(1, sent*sc.group)) }
			if content == longContent {
				res.Floors = append(res.Floors, atMost("bytes on disk per recipient", 250, each(rested)))
			}
			res.Notes = append(res.Notes, fmt.Sprintf("the data folder grew by %.0f bytes per recipient while the server ran, log files kept for reuse among them; after a restart it is %.0f",
				each(running), each(rested)))
			err = o.readBack(ctx, srv, lines, res)
			res.Verified += "; that was after a restart"
			return err
		})
	})
}

// directBody is a request like those of the documentation, with content of n
// bytes that does not compress: real texts of a chat differ.
func directBody(to []string, n int) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789."
	text := make([]byte, max(0, n-len(`{"content":""}`)))
	for i := range text {
		text[i] = letters[rand.IntN(len(letters))]
	}
	return fmt.Appendf(nil, `{"fromUserId":"bench","toUserIds":["%s"],"messageType":"RC:TxtMsg","content":"{\"content\":\"%s\"}"}`,
		strings.Join(to, `","`), text)
}
