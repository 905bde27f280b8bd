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
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	MemoryMB   int    `json:"memoryMB,omitempty"`
	System     string `json:"system"`
	Kernel     string `json:"kernel,omitempty"`
	Go         string `json:"go"`
	FileSystem string `json:"fileSystem,omitempty"` // of the data folder
	Folder     string `json:"folder"`
	OpenFiles  int    `json:"openFiles,omitempty"` // limit per process
	Load       string `json:"load,omitempty"`      // average of the last minute before the run
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

// A usage is what a process has used. Where the system does not tell, it is
// zero.
type usage struct {
	cpu time.Duration
	rss int64 // bytes
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
