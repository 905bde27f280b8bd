package room

import (
	"time"

	"github.com/parleychat/parley/internal/chat"
)

const (
	// newsEvery is how often a room is told who came and went, at most. Large
	// rooms are told less often, by one such time for each newsCrowd users.
	newsEvery = time.Second
	newsCrowd = 2000
	newsSlow  = 10 // and no more of them than this
	// newsNames is how many of those who came, and of those who went, are named.
	newsNames = 10
)

// news is what has happened among the participants and is not told yet.
type news struct {
	entered, left int
	names         *newsNamed // nil while there is nothing to tell
	waited        int        // rounds since there is something

	shed [chat.PriorityLow + 1]int // messages, by class
}

type newsNamed struct {
	entered []chat.Comer
	left    []string
}

func (n *news) named() *newsNamed {
	if n.names == nil {
		n.names = &newsNamed{}
	}
	return n.names
}

func (n *news) came(user, extra string) {
	n.entered++
	if list := &n.named().entered; len(*list) < newsNames {
		*list = append(*list, chat.Comer{User: user, Extra: extra})
	}
}

func (n *news) went(user string) {
	n.left++
	if list := &n.named().left; len(*list) < newsNames {
		*list = append(*list, user)
	}
}

// Shed notes that the room's channel did not take a message. Those in it are told
// how many there were.
func (r *Rooms) Shed(key Key, class chat.Priority) {
	if rm := r.lock(key, false); rm != nil {
		rm.news.shed[class]++
		rm.mu.Unlock()
	}
}

// tell gives the members something that has no place among what is said.
func (p *pumps) tell(rm *room, at time.Time, kind chat.EventKind, n chat.RoomNews) {
	p.add(rm, &Publication{
		Channel: rm.key.Channel,
		Message: &chat.Message{
			App: rm.key.App, ChannelType: chat.Open, Echo: true, Priority: chat.PriorityLow,
			Event: &chat.Event{Kind: kind, At: at.UnixMilli(), Room: &n},
		},
	})
}

// tellNews tells every room who came and went since it was told last, and what
// was shed.
func (r *Rooms) tellNews() {
	r.eachRoom(func(rm *room) []string {
		n := &rm.news
		if n.shed != [len(n.shed)]int{} {
			shed := n.shed
			n.shed = [len(n.shed)]int{}
			r.pumps.tell(rm, r.now(), chat.EventShed, chat.RoomNews{Shed: shed})
		}
		if n.names == nil {
			return nil
		}
		if len(rm.present) == 1 && n.left == 0 && n.entered == 1 {
			rm.news = news{} // nobody but who came
			return nil
		}
		if n.waited++; n.waited < min(1+len(rm.present)/newsCrowd, newsSlow) {
			return nil
		}
		told := chat.RoomNews{Count: len(rm.present), Entered: n.names.entered, EnteredCount: n.entered, Left: n.names.left, LeftCount: n.left}
		rm.news = news{}
		r.pumps.tell(rm, r.now(), chat.EventParticipants, told)
		return nil
	})
}
