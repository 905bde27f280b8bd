package bench

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// idle: what a connection costs that has nothing to do.
func idle(ctx context.Context, o *Options) (*Result, error) {
	n, notes := o.fitting(o.scale.connections)
	res := &Result{
		Case:  "idle",
		Load:  fmt.Sprintf("%d connections of as many users, subscribed to their timelines, pinged every %s", n, o.scale.ping),
		Notes: notes,
	}
	return res, o.folder(func(data string) error {
		// Issuing tokens leaves traces in a server's memory that are not the
		// connections': another one serves these.
		var list []string
		err := o.serveOn(ctx, data, nil, func(srv *server) (err error) {
			list, err = tokens(ctx, srv, n, func(i int) string { return "idle-" + strconv.Itoa(i) })
			return err
		})
		if err != nil {
			return err
		}
		return o.serveOn(ctx, data, []string{"ping-interval=" + o.scale.ping.String()}, func(srv *server) error {
			return o.rest(ctx, srv, list, res)
		})
	})
}

// rest measures connections that do nothing, one per token.
func (o *Options) rest(ctx context.Context, srv *server, list []string, res *Result) error {
	n := len(list)
	var broken complaints
	sleep(ctx, o.scale.settle)
	before := srv.now()
	hello := func(token string) []byte {
		return fmt.Appendf(nil, `{"id":1,"connect":{"token":%q,"name":"bench"}}`, token)
	}
	start := time.Now()
	crowd, err := gather(ctx, srv, list, hello, 1, &broken, func(m *member, line []byte) {
		broken.add("client %d was sent %.100s", m.i, line)
	})
	if err != nil {
		return err
	}
	defer crowd.leave()
	took := time.Since(start)
	connected := srv.now()

	limit := time.Now().Add(3*o.scale.ping + o.scale.deliver)
	for crowd.pinged.Load() < int64(n) && time.Now().Before(limit) && ctx.Err() == nil {
		sleep(ctx, 100*time.Millisecond)
	}
	if left := int64(n) - crowd.pinged.Load(); left > 0 {
		broken.add("%d connections were not pinged within %s", left, 3*o.scale.ping+o.scale.deliver)
	}
	pinged := srv.now()
	// What connecting left for the garbage collector goes in the course of
	// the next pings; in a server that runs for months it is long gone.
	sleep(ctx, max(o.Time, 2*o.scale.ping))
	after := srv.now()
	if err := ctx.Err(); err != nil {
		return err
	}

	each := func(m moment) float64 { return float64(m.server.rss-before.server.rss) / float64(n) }
	res.Seconds = after.at.Sub(pinged.at).Seconds()
	res.Rates = []Rate{rate("connections made", int64(n), took)}
	res.Server = between(pinged, after)
	res.Server.RSSBefore = before.server.rss
	if after.server.rss > 0 {
		res.Floors = []Floor{atMost("bytes of memory per connection", 6*1024, each(after))}
		res.Notes = append(res.Notes, fmt.Sprintf("memory per connection was %.0f bytes when all were connected, %.0f when all had been through a ping", each(connected), each(pinged)))
	} else {
		res.Notes = append(res.Notes, "the server's memory is not known on this system")
	}
	res.Verified = fmt.Sprintf("all %d connections were answered, answered a ping, and stayed", n)
	if res.Broken = broken.list(); len(res.Broken) > 0 {
		res.Verified = "not every connection was answered, pinged and kept"
	}
	return nil
}
