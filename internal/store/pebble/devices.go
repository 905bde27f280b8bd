package pebble

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// A deviceRow is how a device is stored; the id is in the key.
type deviceRow struct {
	Epoch  string `json:"e"`
	Offset uint64 `json:"o"`
	SeenAt int64  `json:"t"`

	Platform string `json:"p,omitempty"`
}

// Devices implements store.Devices.
func (s *Store) Devices(ctx context.Context, app chat.AppID, user string) ([]store.Device, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(user) > maxIDLength {
		return nil, chat.TooLong("userId", maxIDLength, len(user), "bytes")
	}
	var list []store.Device
	prefix := appendDevicePrefix(nil, app, user)
	err := s.eachRow(prefix, func(key, value []byte) error {
		d, err := decodeDevice(string(key[len(prefix):]), value)
		if err != nil {
			s.passOver("device", key)
			return nil
		}
		list = append(list, d)
		return nil
	})
	slices.SortStableFunc(list, func(a, b store.Device) int { return cmp.Compare(a.SeenAt, b.SeenAt) })
	return list, err
}

func decodeDevice(id string, value []byte) (store.Device, error) {
	var row deviceRow
	if err := json.Unmarshal(value, &row); err != nil {
		return store.Device{}, fmt.Errorf("%w: device: %w", errRow, err)
	}
	return store.Device{ID: id, Epoch: row.Epoch, Offset: row.Offset, SeenAt: row.SeenAt, Platform: row.Platform}, nil
}

// PutDevices implements store.Devices.
func (s *Store) PutDevices(ctx context.Context, devices []store.UserDevice) error {
	if err := s.Health(); err != nil {
		return err
	}
	byUser := map[headID][]store.Device{}
	for _, d := range devices {
		if d.User == "" || len(d.User) > maxIDLength {
			return chat.Invalidf("userId", "1 to %d bytes, got %d", maxIDLength, len(d.User))
		}
		id := headID{d.App, d.User}
		byUser[id] = append(byUser[id], d.Device)
	}
	for id, list := range byUser {
		if err := s.putDevices(ctx, id.app, id.user, list); err != nil {
			return err
		}
	}
	if len(byUser) == 0 {
		return nil
	}
	// Pebble keeps what is not synced in memory until a page of its log is full,
	// which on a quiet server may be never. One sync for all of them bounds what
	// a crash costs to what came since the last call.
	b := s.db.NewBatch()
	if err := b.LogData([]byte("devices"), nil); err != nil {
		return fmt.Errorf("devices: %w", err)
	}
	return s.apply(b, pdb.Sync)
}

func (s *Store) putDevices(ctx context.Context, app chat.AppID, user string, put []store.Device) error {
	defer s.userLocks.lock(app, user)()
	all, err := s.Devices(ctx, app, user)
	if err != nil {
		return err
	}
	changed := map[string]bool{}
	for _, d := range put {
		i := slices.IndexFunc(all, func(o store.Device) bool { return o.ID == d.ID })
		if i < 0 {
			all = append(all, d)
			changed[d.ID] = true
			continue
		}
		if old := all[i]; old.Epoch == d.Epoch {
			d.Offset, d.SeenAt = max(d.Offset, old.Offset), max(d.SeenAt, old.SeenAt)
		}
		if all[i] != d {
			all[i] = d
			changed[d.ID] = true
		}
	}
	slices.SortStableFunc(all, func(a, b store.Device) int { return cmp.Compare(a.SeenAt, b.SeenAt) })
	b := s.db.NewBatch()
	key := appendDevicePrefix(nil, app, user)
	prefix := len(key)
	for i, d := range all {
		key = append(key[:prefix], d.ID...)
		switch {
		case i < len(all)-store.MaxDevices:
			err = b.Delete(key, nil)
		case changed[d.ID]:
			var value []byte
			value, err = json.Marshal(deviceRow{d.Epoch, d.Offset, d.SeenAt, d.Platform})
			if err == nil {
				err = b.Set(key, value, nil)
			}
		}
		if err != nil {
			return fmt.Errorf("device: %w", err)
		}
	}
	return s.apply(b, pdb.NoSync)
}
