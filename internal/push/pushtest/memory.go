package pushtest

import "sync"

// A memory is of the names that were used lately.
type memory struct {
	mu          sync.Mutex
	now, before map[string]struct{}
}

// maxMemory is how many of the last names are certain to be remembered.
const maxMemory = 100_000

// first reports whether the name was not used before, and remembers it.
func (m *memory) first(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, used := m.now[name]; used {
		return false
	}
	if _, used := m.before[name]; used {
		return false
	}
	if m.now == nil || len(m.now) >= maxMemory {
		m.before, m.now = m.now, map[string]struct{}{}
	}
	m.now[name] = struct{}{}
	return true
}

// A dayCount counts up to a limit a day, as the vendors count it: in China.
type dayCount struct {
	day   int64
	count int
}

// spend reports whether one more fits.
func (d *dayCount) spend(unix int64, limit int) bool {
	if day := (unix + 8*3600) / 86400; day != d.day {
		d.day, d.count = day, 0
	}
	if d.count >= limit {
		return false
	}
	d.count++
	return true
}
