package pebble

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// A walk goes through one space in the order of its keys. It is not moved where it
// already stands at or behind what is looked for, so that it costs no more seeks
// than are asked for, or than there are rows in between, whichever is less.
type walk struct {
	it *pdb.Iterator
	ok bool
}

// walkFrom begins a walk at the first key or behind it, up to and with the rows of
// the prefix last.
func (s *Store) walkFrom(first, last []byte) (*walk, error) {
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: first, UpperBound: after(last)})
	if err != nil {
		return nil, fmt.Errorf("rows of users: %w", err)
	}
	return &walk{it, it.First()}, nil
}

// to moves on to the first row at the key or behind it. Keys never go back.
func (w *walk) to(key []byte) {
	if w.ok && bytes.Compare(w.it.Key(), key) < 0 {
		w.ok = w.it.SeekGE(key)
	}
}

// under reports whether it stands at a row whose key begins with the prefix.
func (w *walk) under(prefix []byte) bool { return w.ok && bytes.HasPrefix(w.it.Key(), prefix) }

// at reports whether it stands at the row with the key.
func (w *walk) at(key []byte) bool { return w.ok && bytes.Equal(w.it.Key(), key) }

func (w *walk) next() { w.ok = w.it.Next() }

// end ends it, and says whether it went well.
func (w *walk) end(err error) error {
	if werr := w.it.Close(); err == nil && werr != nil {
		err = fmt.Errorf("rows of users: %w", werr)
	}
	return err
}

// userOrder is the order in which rows of the users stand in spaces whose keys have
// a length before the id.
func userOrder(users []string) ([]int, error) {
	order := make([]int, len(users))
	for i := range order {
		order[i] = i
		if len(users[i]) > maxIDLength {
			return nil, chat.TooLong("userId", maxIDLength, len(users[i]), "bytes")
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(len(users[a]), len(users[b])), cmp.Compare(users[a], users[b]))
	})
	return order, nil
}

// eachOfUsers calls f for every row that the users, all different and in the order
// given, have in a space whose keys begin with app and user: with the user's place
// among users and what follows in the key.
func (s *Store) eachOfUsers(space byte, app chat.AppID, users []string, order []int, f func(i int, rest, value []byte) error) error {
	prefix := appendOwnPrefix(nil, space, app, users[order[0]])
	w, err := s.walkFrom(prefix, appendOwnPrefix(nil, space, app, users[order[len(order)-1]]))
	if err != nil {
		return err
	}
	for _, i := range order {
		if !w.ok {
			break
		}
		prefix = appendOwnPrefix(prefix[:0], space, app, users[i])
		for w.to(prefix); w.under(prefix); w.next() {
			if err := f(i, w.it.Key()[len(prefix):], w.it.Value()); err != nil {
				return w.end(err)
			}
		}
	}
	return w.end(nil)
}

// PushDevicesOf implements store.PushDevices.
func (s *Store) PushDevicesOf(ctx context.Context, app chat.AppID, users []string) ([][]chat.PushDevice, error) {
	lists := make([][]chat.PushDevice, len(users))
	if err := ctx.Err(); err != nil || len(users) == 0 {
		return lists, err
	}
	order, err := userOrder(users)
	if err != nil {
		return nil, err
	}
	err = s.eachOfUsers(spacePushDevice, app, users, order, func(i int, rest, value []byte) error {
		var row pushRow
		if err := json.Unmarshal(value, &row); err != nil {
			s.passOver("push device", append(appendPushPrefix(nil, app, users[i]), rest...))
			return nil
		}
		lists[i] = append(lists[i], row.device(string(rest)))
		return nil
	})
	return lists, err
}

// PushSights implements store.PushSights.
func (s *Store) PushSights(ctx context.Context, app chat.AppID, t chat.ChannelType, channel string, users []string, uids []chat.UID) ([]store.PushSight, error) {
	if err := ctx.Err(); err != nil || len(users) == 0 {
		return nil, err
	}
	order, err := userOrder(users)
	if err != nil {
		return nil, err
	}
	if len(uids) != len(users) {
		return nil, chat.Invalidf("messageUIDs", "one for each of %d users, got %d", len(users), len(uids))
	}
	if err := checkChannelRef(&store.ChannelRef{Channel: channel}); err != nil {
		return nil, err
	}
	sights := make([]store.PushSight, len(users))
	err = s.eachOfUsers(spaceDevice, app, users, order, func(i int, rest, value []byte) error {
		d, err := decodeDevice(string(rest), value)
		if err != nil {
			s.passOver("device", append(appendDevicePrefix(nil, app, users[i]), rest...))
			return nil
		}
		sights[i].Cursors = append(sights[i].Cursors, d)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := s.sightUsers(sights, app, users, order); err != nil {
		return nil, err
	}
	newest, err := s.sightViews(sights, app, t, channel, users, order)
	if err != nil {
		return nil, err
	}
	stamp, err := s.sightMarks(sights, app, t, channel, users, uids, order)
	if err != nil {
		return nil, err
	}
	if stamp.Compare(newest) > 0 {
		newest = stamp
	}
	return sights, s.waitDurable(ctx, newest)
}

// sightUsers fills in who they are. Users stand by their ids alone.
func (s *Store) sightUsers(sights []store.PushSight, app chat.AppID, users []string, order []int) error {
	order = slices.Clone(order)
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(users[a], users[b]) })
	key := appendUserKey(nil, spaceUser, app, users[order[0]])
	w, err := s.walkFrom(key, appendUserKey(nil, spaceUser, app, users[order[len(order)-1]]))
	if err != nil {
		return err
	}
	for _, i := range order {
		key = appendUserKey(key[:0], spaceUser, app, users[i])
		if w.to(key); w.at(key) {
			u, err := decodeUser(users[i], w.it.Value())
			if err != nil {
				s.passOver("user", key)
				continue
			}
			sights[i].User = u
		}
	}
	return w.end(nil)
}

// sightViews fills in the users' views of the channel and their preferences, and
// gives the newest commit that wrote one.
func (s *Store) sightViews(sights []store.PushSight, app chat.AppID, t chat.ChannelType, channel string, users []string, order []int) (newest chat.UID, err error) {
	key := appendPreferencesKey(nil, app, users[order[0]])
	w, err := s.walkFrom(key, appendViewPrefix(nil, app, users[order[len(order)-1]]))
	if err != nil {
		return newest, err
	}
	for _, i := range order {
		if !w.ok {
			break
		}
		key = appendPreferencesKey(key[:0], app, users[i])
		if w.to(key); w.at(key) {
			if p, stamp, err := decodePreferences(w.it.Value()); err != nil {
				s.passOver("preferences", key)
			} else if sights[i].Preferences = p; stamp.Compare(newest) > 0 {
				newest = stamp
			}
		}
		key = appendViewKey(key[:0], &store.ChannelRef{App: app, Owner: users[i], Type: t, Channel: channel})
		if w.to(key); w.at(key) {
			if v, stamp, err := decodeView(w.it.Value()); err != nil {
				s.passOver("view", key)
			} else if sights[i].View = v; stamp.Compare(newest) > 0 {
				newest = stamp
			}
		}
	}
	return newest, w.end(nil)
}

// sightMarks fills in the marks on each user's message, and gives the newest commit
// that put one.
func (s *Store) sightMarks(sights []store.PushSight, app chat.AppID, t chat.ChannelType, channel string, users []string, uids []chat.UID, order []int) (newest chat.UID, err error) {
	month := monthOf(uids[0].Millis()) // they are of one request
	ref := func(i int) *store.ChannelRef {
		return &store.ChannelRef{App: app, Owner: users[i], Type: t, Channel: channel}
	}
	key := appendMarkPrefix(nil, month, ref(order[0]))
	w, err := s.walkFrom(key, appendMarkPrefix(nil, month, ref(order[len(order)-1])))
	if err != nil {
		return newest, err
	}
	for _, i := range order {
		if !w.ok {
			break
		}
		key = append(appendMarkPrefix(key[:0], month, ref(i)), uids[i][:]...)
		for w.to(key); w.under(key); w.next() {
			m, stamp, err := decodeMark(w.it.Key()[len(key)-uidLen:], w.it.Value())
			if err != nil {
				s.passOver("mark", w.it.Key())
				continue
			}
			if stamp.Compare(newest) > 0 {
				newest = stamp
			}
			sights[i].Marks = append(sights[i].Marks, m)
		}
	}
	return newest, w.end(nil)
}
