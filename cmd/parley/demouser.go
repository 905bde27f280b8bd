package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/client"
)

// A demoUser is a connected user who writes down what comes.
type demoUser struct {
	name   string
	client *client.Client
	noted  chan struct{} // closed when the record is complete

	mu       sync.Mutex
	timeline []entry
	passing  []message // without an offset: never kept
	heard    []message // in open channels
	losses   int       // connections that were lost
}

// An entry is a message at its place in a timeline.
type entry struct {
	offset uint64
	message
}

// connectUser connects a user, from their place in the timeline when it is
// known.
func connectUser(ctx context.Context, srv *server, name, token string, from client.Position) (*demoUser, error) {
	o := client.Options{
		URL: srv.websocketURL(), Token: token, Name: "parley demo", Reconnect: true,
		MinBackoff: 50 * time.Millisecond, MaxBackoff: time.Second,
	}
	if from.Epoch != "" {
		o.Positions = map[string]client.Position{client.Me: from}
	}
	c, err := client.Dial(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("%s cannot connect: %w", name, err)
	}
	u := &demoUser{name: name, client: c, noted: make(chan struct{})}
	go u.note()
	return u, nil
}

func (u *demoUser) note() {
	defer close(u.noted)
	for e := range u.client.Events() {
		u.mu.Lock()
		switch e := e.(type) {
		case client.Connecting:
			u.losses++
		case client.Publication:
			var ev event
			if json.Unmarshal(e.Data, &ev) != nil || ev.Event != "message" {
				break
			}
			switch {
			case e.Channel != client.Me:
				u.heard = append(u.heard, ev.Message)
			case e.Offset == 0:
				u.passing = append(u.passing, ev.Message)
			default:
				u.timeline = append(u.timeline, entry{e.Offset, ev.Message})
			}
		}
		u.mu.Unlock()
	}
}

// leave closes the connection and completes the record.
func (u *demoUser) leave() {
	u.client.Close()
	<-u.noted
}

// record is what was noted so far.
func (u *demoUser) record() (timeline []entry, passing, heard []message, losses int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]entry(nil), u.timeline...), append([]message(nil), u.passing...), append([]message(nil), u.heard...), u.losses
}

// await waits until the record has as much as is expected, and reports whether
// it came to that in time. More than expected shows later, as a double.
func (u *demoUser) await(ctx context.Context, entries, passing, heard int) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		u.mu.Lock()
		there := len(u.timeline) >= entries && len(u.passing) >= passing && len(u.heard) >= heard
		u.mu.Unlock()
		if there {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}
