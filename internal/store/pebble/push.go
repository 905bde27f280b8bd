package pebble

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// A pushRow is how a registration is stored; the id is in the key.
type pushRow struct {
	Provider     chat.PushProvider    `json:"p"`
	Token        string               `json:"k"`
	Package      string               `json:"b,omitempty"`
	Environment  chat.PushEnvironment `json:"v,omitempty"`
	Language     string               `json:"l,omitempty"`
	HideDetails  bool                 `json:"h,omitempty"`
	Zone         string               `json:"z,omitempty"`
	Quiet        *quietRow            `json:"q,omitempty"`
	RegisteredAt int64                `json:"t"`
	SeenAt       int64                `json:"s"`
	Strikes      []int64              `json:"x,omitempty"` // the days of them
}

type quietRow struct {
	From  int              `json:"f"`
	To    int              `json:"t"`
	Zone  string           `json:"z"`
	Level chat.NotifyLevel `json:"l"`
}

// A pushOwner is whose a token is.
type pushOwner struct {
	User   string `json:"u"`
	Device string `json:"d"`
}

func appendPushPrefix(dst []byte, app chat.AppID, user string) []byte {
	return appendOwnPrefix(dst, spacePushDevice, app, user)
}

func pushDeviceKey(app chat.AppID, o pushOwner) []byte {
	return append(appendPushPrefix(nil, app, o.User), o.Device...)
}

func pushTokenKey(app chat.AppID, p chat.PushProvider, token string) []byte {
	sum := sha256.Sum256([]byte(token))
	key := binary.BigEndian.AppendUint32([]byte{spacePushToken}, uint32(app))
	return append(append(key, byte(p)), sum[:]...)
}

func (d *pushRow) device(id string) chat.PushDevice {
	out := chat.PushDevice{
		ID: id, Provider: d.Provider, Token: d.Token, Package: d.Package, Environment: d.Environment, Language: d.Language,
		HideDetails: d.HideDetails, Zone: d.Zone, RegisteredAt: d.RegisteredAt, SeenAt: d.SeenAt, Struck: len(d.Strikes) > 0,
	}
	if q := d.Quiet; q != nil {
		out.Quiet = &chat.QuietHours{From: q.From, To: q.To, Zone: q.Zone, Level: q.Level}
	}
	return out
}

func pushRowOf(d *chat.PushDevice) *pushRow {
	row := &pushRow{
		Provider: d.Provider, Token: d.Token, Package: d.Package, Environment: d.Environment, Language: d.Language,
		HideDetails: d.HideDetails, Zone: d.Zone, RegisteredAt: d.RegisteredAt, SeenAt: d.SeenAt,
	}
	if q := d.Quiet; q != nil {
		row.Quiet = &quietRow{q.From, q.To, q.Zone, q.Level}
	}
	return row
}

func setJSON(b *pdb.Batch, key []byte, row any) error {
	value, err := json.Marshal(row)
	if err != nil {
		return err
	}
	return b.Set(key, value, nil)
}

// PushDevices implements store.PushDevices.
func (s *Store) PushDevices(ctx context.Context, app chat.AppID, user string) (list []chat.PushDevice, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(user) > maxIDLength {
		return nil, chat.TooLong("userId", maxIDLength, len(user), "bytes")
	}
	prefix := appendPushPrefix(nil, app, user)
	err = s.eachRow(prefix, func(key, value []byte) error {
		var row pushRow
		if err := json.Unmarshal(value, &row); err != nil {
			s.passOver("push device", key)
			return nil
		}
		list = append(list, row.device(string(key[len(prefix):])))
		return nil
	})
	if err != nil || len(list) == 0 {
		return list, err
	}
	// When a device was on a connection stands with its cursor. Rows here are
	// written by registrations alone, which are rare.
	seen, err := s.Devices(ctx, app, user)
	for i := range list {
		for j := range seen {
			if seen[j].ID == list[i].ID {
				list[i].SeenAt = max(list[i].SeenAt, seen[j].SeenAt)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b chat.PushDevice) int { return cmp.Compare(a.SeenAt, b.SeenAt) })
	return list, err
}

// PushDevice implements store.PushDevices.
func (s *Store) PushDevice(ctx context.Context, app chat.AppID, user, device string) (*chat.PushDevice, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(user) > maxIDLength || len(device) > maxIDLength {
		return nil, nil
	}
	row, found, err := s.pushRow(pushDeviceKey(app, pushOwner{user, device}))
	if err != nil || !found {
		return nil, err
	}
	d := row.device(device)
	return &d, nil
}

// PushDevicesBehind implements store.PushDevices.
func (s *Store) PushDevicesBehind(ctx context.Context, app chat.AppID, behind string, limit int) (list []store.PushRegistered, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if limit <= 0 {
		return nil, chat.Invalid("limit", "must be positive")
	}
	if len(behind) > maxIDLength {
		return nil, chat.TooLong("behind", maxIDLength, len(behind), "bytes")
	}
	prefix := binary.BigEndian.AppendUint32([]byte{spacePushDevice}, uint32(app))
	from := prefix
	if behind != "" {
		from = after(appendPushPrefix(nil, app, behind))
	}
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: from, UpperBound: after(prefix)})
	if err != nil {
		return nil, fmt.Errorf("push devices: %w", err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		rest := it.Key()[len(prefix):]
		if len(rest) == 0 || len(rest) <= int(rest[0]) {
			s.passOver("push device", it.Key())
			continue
		}
		end := 1 + int(rest[0])
		user, device := rest[1:end], rest[end:]
		if len(list) == 0 || list[len(list)-1].User != string(user) {
			if len(list) == limit {
				break
			}
			list = append(list, store.PushRegistered{User: string(user)})
		}
		var row pushRow
		if err := json.Unmarshal(it.Value(), &row); err != nil {
			s.passOver("push device", it.Key())
			continue // who has no other has none
		}
		at := &list[len(list)-1]
		at.Devices = append(at.Devices, row.device(string(device)))
	}
	return list, closeIter(it)
}

// PutPushDevice implements store.PushDevices.
func (s *Store) PutPushDevice(ctx context.Context, app chat.AppID, user string, d *chat.PushDevice) error {
	if err := s.pushes(ctx, user, d.ID); err != nil {
		return err
	}
	if d.Token == "" {
		return chat.Invalid("token", "is required")
	}
	tokenKey := pushTokenKey(app, d.Provider, d.Token)
	me := pushOwner{user, d.ID}
	// Whoever changes what points to a user's device holds that user's lock, and
	// who gives a token that nobody has an owner holds the token's. The owner can
	// change until both are held.
	for {
		owner, _, err := s.pushOwner(tokenKey)
		if err != nil {
			return err
		}
		done, err := func() (bool, error) {
			locked := []string{user, string(tokenKey)}
			if owner.User != "" {
				locked = append(locked, owner.User)
			}
			defer s.userLocks.lock(app, locked...)()
			now, found, err := s.pushOwner(tokenKey)
			if err != nil || found && now.User != owner.User && now.User != user {
				return false, err
			}
			return true, s.putPushDevice(ctx, app, me, d, tokenKey, now)
		}()
		if err != nil || done {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func (s *Store) putPushDevice(ctx context.Context, app chat.AppID, me pushOwner, d *chat.PushDevice, tokenKey []byte, had pushOwner) error {
	b := s.db.NewBatch()
	if err := s.forgetPush(b, app, me); err != nil {
		return err
	}
	if had.User != "" && had != me {
		switch row, found, err := s.pushRow(pushDeviceKey(app, had)); {
		case err != nil:
			return err
		case found && (row.Provider != d.Provider || row.Token != d.Token):
			had = pushOwner{} // it has another token since its row could not be read
		default:
			if err := b.Delete(pushDeviceKey(app, had), nil); err != nil {
				return fmt.Errorf("push device: %w", err)
			}
		}
	}
	list, err := s.PushDevices(ctx, app, me.User)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(o chat.PushDevice) bool { return o.ID == d.ID || had == pushOwner{me.User, o.ID} })
	for i := 0; len(list)-i >= chat.MaxPushDevices; i++ {
		if err := s.forgetPush(b, app, pushOwner{me.User, list[i].ID}); err != nil {
			return err
		}
	}
	// Last, since what was forgotten may have had the token.
	if err := setJSON(b, pushDeviceKey(app, me), pushRowOf(d)); err != nil {
		return fmt.Errorf("push device: %w", err)
	}
	if err := setJSON(b, tokenKey, me); err != nil {
		return fmt.Errorf("push device: %w", err)
	}
	return s.apply(b, pdb.Sync)
}

// forgetPush takes away a registration together with what points to it. The
// user's lock is held.
func (s *Store) forgetPush(b *pdb.Batch, app chat.AppID, o pushOwner) error {
	key := pushDeviceKey(app, o)
	row, found, err := s.pushRow(key)
	if err != nil || !found {
		return err
	}
	// A token that has moved took its registration along, so this one's is its own.
	if err := b.Delete(pushTokenKey(app, row.Provider, row.Token), nil); err != nil {
		return fmt.Errorf("push device: %w", err)
	}
	if err := b.Delete(key, nil); err != nil {
		return fmt.Errorf("push device: %w", err)
	}
	return nil
}

func (s *Store) pushOwner(tokenKey []byte) (o pushOwner, found bool, err error) {
	found, err = s.readPush("push token", tokenKey, &o)
	if !found {
		o = pushOwner{}
	}
	return o, found, err
}

// pushRow reads a registration, if it is there.
func (s *Store) pushRow(key []byte) (row pushRow, found bool, err error) {
	found, err = s.readPush("push device", key, &row)
	return row, found, err
}

// readPush reads a row, if it is there. One that cannot be read is not: so what comes
// next takes its place.
func (s *Store) readPush(kind string, key []byte, row any) (found bool, err error) {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pdb.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", kind, err)
	}
	defer closer.Close()
	if err := json.Unmarshal(value, row); err != nil {
		s.passOver(kind, key)
		return false, nil
	}
	return true, nil
}

// pushes says whether what is registered can be changed now.
func (s *Store) pushes(ctx context.Context, user, device string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Health(); err != nil {
		return err
	}
	if user == "" || len(user) > maxIDLength {
		return chat.Invalidf("userId", "1 to %d bytes, got %d", maxIDLength, len(user))
	}
	if device == "" || len(device) > maxIDLength {
		return chat.Invalidf("deviceId", "1 to %d bytes, got %d", maxIDLength, len(device))
	}
	return nil
}

// RemovePushDevice implements store.PushDevices.
func (s *Store) RemovePushDevice(ctx context.Context, app chat.AppID, user, device string) error {
	if err := s.pushes(ctx, user, device); err != nil {
		return err
	}
	defer s.userLocks.lock(app, user)()
	b := s.db.NewBatch()
	if err := s.forgetPush(b, app, pushOwner{user, device}); err != nil {
		return err
	}
	return s.apply(b, pdb.Sync)
}

// DropPushToken implements store.PushDevices.
func (s *Store) DropPushToken(ctx context.Context, app chat.AppID, p chat.PushProvider, token string, registeredBy int64) (bool, error) {
	did, err := s.judgePush(ctx, app, p, token, registeredBy, func(*pushRow) verdict { return dead })
	return did == dead, err
}

// StrikePushToken implements store.PushDevices.
func (s *Store) StrikePushToken(ctx context.Context, app chat.AppID, p chat.PushProvider, token string, registeredBy, day int64) (bool, error) {
	did, err := s.judgePush(ctx, app, p, token, registeredBy, func(row *pushRow) verdict {
		if slices.Contains(row.Strikes, day) {
			return same
		}
		if row.Strikes = append(row.Strikes, day); len(row.Strikes) >= chat.PushStrikes {
			return dead
		}
		return changed
	})
	return did == dead, err
}

// ClearPushStrikes implements store.PushDevices.
func (s *Store) ClearPushStrikes(ctx context.Context, app chat.AppID, p chat.PushProvider, token string, registeredBy int64) error {
	_, err := s.judgePush(ctx, app, p, token, registeredBy, func(row *pushRow) verdict {
		if len(row.Strikes) == 0 {
			return same
		}
		row.Strikes = nil
		return changed
	})
	return err
}

// MovePushToken implements store.PushDevices.
func (s *Store) MovePushToken(ctx context.Context, app chat.AppID, p chat.PushProvider, token string, registeredBy int64, from, to chat.PushEnvironment) (bool, error) {
	did, err := s.judgePush(ctx, app, p, token, registeredBy, func(row *pushRow) verdict {
		if row.Environment != from || from == to {
			return same
		}
		row.Environment = to
		return changed
	})
	return did == changed, err
}

// A verdict is what becomes of a registration.
type verdict int

const (
	same verdict = iota
	changed
	dead
)

// judgePush does with the registration of a token what judge says of its row, which
// it may change.
func (s *Store) judgePush(ctx context.Context, app chat.AppID, p chat.PushProvider, token string, registeredBy int64, judge func(*pushRow) verdict) (verdict, error) {
	if err := s.pushes(ctx, "-", "-"); err != nil {
		return same, err
	}
	tokenKey := pushTokenKey(app, p, token)
	owner, found, err := s.pushOwner(tokenKey)
	if err != nil || !found {
		return same, err
	}
	defer s.userLocks.lock(app, owner.User)()
	// Who has got it meanwhile registered it later than what was said of it.
	now, found, err := s.pushOwner(tokenKey)
	if err != nil || !found || now != owner {
		return same, err
	}
	key := pushDeviceKey(app, owner)
	row, found, err := s.pushRow(key)
	if err != nil || !found {
		return same, err
	}
	// What points to another registration was left by a row that could not be read.
	if row.RegisteredAt > registeredBy || row.Provider != p || row.Token != token {
		return same, nil
	}
	did := judge(&row)
	if did == same {
		return same, nil
	}
	b := s.db.NewBatch()
	if did == dead {
		err = s.forgetPush(b, app, owner)
	} else if err = setJSON(b, key, &row); err != nil {
		err = fmt.Errorf("push device: %w", err)
	}
	if err != nil {
		return same, err
	}
	if err := s.apply(b, pdb.Sync); err != nil {
		return same, err
	}
	return did, nil
}

// A credentialRow is how a credential is stored; what it is for is in the key.
type credentialRow struct {
	Fields  map[string]string `json:"f"`
	BaseURL string            `json:"u,omitempty"`
	Since   int64             `json:"t"`
}

func credentialKey(app chat.AppID, c *chat.PushCredential) []byte {
	key := binary.BigEndian.AppendUint32([]byte{spacePushCredential}, uint32(app))
	return append(append(key, byte(c.Provider), byte(c.Environment)), c.Package...)
}

// PushCredentials implements store.PushSettings.
func (s *Store) PushCredentials(ctx context.Context, app chat.AppID) (list []chat.PushCredential, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	prefix := binary.BigEndian.AppendUint32([]byte{spacePushCredential}, uint32(app))
	err = s.eachRow(prefix, func(key, value []byte) error {
		rest := key[len(prefix):]
		var row credentialRow
		// What could not be read is not told of: it may hold what is secret.
		if len(rest) < 2 || json.Unmarshal(value, &row) != nil {
			s.passOver("push credential", key)
			return nil
		}
		list = append(list, chat.PushCredential{
			Provider: chat.PushProvider(rest[0]), Environment: chat.PushEnvironment(rest[1]), Package: string(rest[2:]),
			Fields: row.Fields, BaseURL: row.BaseURL, Since: row.Since,
		})
		return nil
	})
	slices.SortFunc(list, func(a, b chat.PushCredential) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Package, b.Package), cmp.Compare(a.Environment, b.Environment))
	})
	return list, err
}

// PutPushCredential implements store.PushSettings.
func (s *Store) PutPushCredential(ctx context.Context, app chat.AppID, c *chat.PushCredential) error {
	return s.writePush(ctx, credentialKey(app, c), &credentialRow{c.Fields, c.BaseURL, c.Since})
}

// RemovePushCredential implements store.PushSettings.
func (s *Store) RemovePushCredential(ctx context.Context, app chat.AppID, c *chat.PushCredential) error {
	return s.writePush(ctx, credentialKey(app, c), nil)
}

// A templateRow is how a template is stored; the id is in the key.
type templateRow struct {
	Default string                     `json:"d"`
	Texts   map[string]templateTextRow `json:"x"`
	Since   int64                      `json:"t"`
}

type templateTextRow struct {
	Title string `json:"t,omitempty"`
	Body  string `json:"b"`
}

func templateKey(app chat.AppID, id string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{spacePushTemplate}, uint32(app)), id...)
}

// PushTemplates implements store.PushSettings.
func (s *Store) PushTemplates(ctx context.Context, app chat.AppID) (list []chat.PushTemplate, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	prefix := templateKey(app, "")
	err = s.eachRow(prefix, func(key, value []byte) error {
		var row templateRow
		if err := json.Unmarshal(value, &row); err != nil {
			s.passOver("push template", key)
			return nil
		}
		t := chat.PushTemplate{ID: string(key[len(prefix):]), Default: row.Default, Texts: map[string]chat.PushText{}, Since: row.Since}
		for language, text := range row.Texts {
			t.Texts[language] = chat.PushText{Title: text.Title, Body: text.Body}
		}
		list = append(list, t)
		return nil
	})
	return list, err
}

// PutPushTemplate implements store.PushSettings.
func (s *Store) PutPushTemplate(ctx context.Context, app chat.AppID, t *chat.PushTemplate) error {
	if t.ID == "" || len(t.ID) > maxIDLength {
		return chat.Invalidf("templateId", "1 to %d bytes, got %d", maxIDLength, len(t.ID))
	}
	row := &templateRow{Default: t.Default, Texts: map[string]templateTextRow{}, Since: t.Since}
	for language, text := range t.Texts {
		row.Texts[language] = templateTextRow{text.Title, text.Body}
	}
	return s.writePush(ctx, templateKey(app, t.ID), row)
}

// RemovePushTemplate implements store.PushSettings.
func (s *Store) RemovePushTemplate(ctx context.Context, app chat.AppID, id string) error {
	return s.writePush(ctx, templateKey(app, id), nil)
}

// writePush durably writes a row, or takes it away when there is none.
func (s *Store) writePush(ctx context.Context, key []byte, row any) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Health(); err != nil {
		return err
	}
	b := s.db.NewBatch()
	if row == nil {
		err = b.Delete(key, nil)
	} else {
		err = setJSON(b, key, row)
	}
	if err != nil {
		return fmt.Errorf("push settings: %w", err)
	}
	return s.apply(b, pdb.Sync)
}
