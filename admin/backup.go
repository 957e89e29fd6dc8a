package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Copy is a copy of the records, which is finished before any of it is sent.
type Copy struct {
	io.ReadCloser

	Bytes int64
}

// ErrBusy: a copy is being made or sent, and there is one at a time.
var ErrBusy = errors.New("a backup is under way; try again when it is done")

// sendTime is how long a reader may take for a piece of a copy.
const sendTime = time.Minute

func (s *Server) backupRoutes() []route {
	return []route{{
		method: http.MethodGet, path: "/backup", name: "getBackup", media: "application/octet-stream",
		about: "All records as they are at one moment, in a file that `obolus restore` reads. What is sealed in them stays sealed: the master key is not in it.",
		do: func(ctx context.Context, c call) (answer, error) {
			file, err := s.cfg.Backup(ctx, c.remote)
			return answer{copy: file}, err
		},
	}}
}

// send sends a copy, however long it takes as long as it goes on. A reader that stops is left; it sees by the length that it does
// not have all.
func (s *Server) send(w http.ResponseWriter, rt route, file *Copy) {
	defer func() { _ = file.Close() }()
	h := w.Header()
	h.Set("Content-Type", rt.media)
	h.Set("Content-Length", strconv.FormatInt(file.Bytes, 10))
	h.Set("Content-Disposition", `attachment; filename="obolus.backup"`)
	deadline := http.NewResponseController(w)
	for {
		_ = deadline.SetWriteDeadline(s.cfg.Now().Add(sendTime)) // where there is one
		if n, err := io.CopyN(w, file, 1<<20); n == 0 || err != nil {
			return
		}
	}
}
