package bench

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// A Machine is what a run ran on.
type Machine struct {
	CPU        string   `json:"cpu"`
	Cores      int      `json:"cores"`
	MemoryMB   int      `json:"memoryMB,omitempty"`
	System     string   `json:"system"`
	Kernel     string   `json:"kernel,omitempty"`
	Go         string   `json:"go"`
	FileSystem string   `json:"fileSystem,omitempty"` // of the data folder
	Folder     string   `json:"folder"`
	OpenFiles  int      `json:"openFiles,omitempty"` // limit per process
	Sync       *Latency `json:"sync,omitempty"`
	Load       string   `json:"load,omitempty"` // average of the last minute before the run
}

func machine(dir string) Machine {
	m := Machine{
		Cores:  runtime.NumCPU(),
		System: runtime.GOOS + "/" + runtime.GOARCH,
		Go:     runtime.Version(),
		Folder: dir,
	}
	m.describe(dir)
	return m
}

// timeSyncs finds how long the disk takes to make one small write durable: what
// no server on it can be faster than.
func (m *Machine) timeSyncs(dir string, d time.Duration) error {
	f, err := os.CreateTemp(dir, "parley-bench-sync-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var h histogram
	block := make([]byte, 4096)
	for end := time.Now().Add(d); time.Now().Before(end); {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		h.add(time.Since(start))
	}
	m.Sync = h.latency("4 KB append and sync, alone")
	return nil
}

// A usage is what a process has used. Where the system does not tell, it is
// zero.
type usage struct {
	cpu time.Duration
	rss int64 // bytes
}

// A moment is what was used up to then.
type moment struct {
	at     time.Time
	server usage
	own    time.Duration // CPU time of this process
	all    time.Duration // CPU time of all processes
}

func (s *server) now() moment {
	return moment{time.Now(), processUsage(s.pid), processUsage(os.Getpid()).cpu, machineCPU()}
}

// between is what the server used from one moment to another.
func between(from, to moment) Server {
	cores := func(d time.Duration) float64 { return max(0, d.Seconds()/to.at.Sub(from.at).Seconds()) }
	server, own := to.server.cpu-from.server.cpu, to.own-from.own
	return Server{
		CPUSeconds: server.Seconds(),
		RSSBefore:  from.server.rss,
		RSSAfter:   to.server.rss,
		Cores:      cores(server),
		Generator:  cores(own),
		Others:     cores(to.all - from.all - own - server),
	}
}

// diskSize is the room that a folder's files take on disk.
func diskSize(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err == nil {
			sum += allocated(info)
		}
		return ignoreGone(err)
	})
	return sum, err
}

// ignoreGone: a store deletes files while its folder is walked.
func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
