package server

import (
	"log/slog"
	"net/http"
	"time"
)

// NewDoor is the door before a handler.
func NewDoor(next http.Handler, log *slog.Logger) http.Handler {
	return &door{next: next, log: log, now: time.Now, metrics: newMetrics(""), slots: make(chan struct{}, 1)}
}
