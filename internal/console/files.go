package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed static
var static embed.FS

// A file is one of the page's, as it is served.
type file struct {
	mediaType string
	etag      string
	body      []byte
}

// mediaTypes are those of the page's files. The system's own table is not
// asked: it differs from machine to machine, and browsers run a module only
// under its right type.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".mjs":  "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// pageFiles are all that there is, by path below the page's own.
func pageFiles() map[string]*file {
	files := map[string]*file{}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		files[name[len("static/"):]] = &file{
			mediaType: mediaTypes[path.Ext(name)], etag: `"` + hex.EncodeToString(sum[:12]) + `"`, body: b,
		}
		return nil
	})
	if err != nil {
		panic(err) // the files are in the binary: reading them cannot fail
	}
	files[""] = files["index.html"]
	return files
}

func (c *Console) serveFile(w http.ResponseWriter, r *http.Request, name string) {
	f := c.files[name]
	switch {
	case f == nil:
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "There is nothing here. The page is at "+Path, http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "The method must be GET.", http.StatusMethodNotAllowed)
	default:
		h := w.Header()
		h.Set("Content-Type", f.mediaType)
		h.Set("ETag", f.etag)
		// Asked for each time, so that a page and its modules are of one release.
		h.Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
	}
}
