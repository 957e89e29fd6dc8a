package server

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// NewDoor is the door before a handler, with so many places.
func NewDoor(next http.Handler, log *slog.Logger, places int) http.Handler {
	return &door{next: next, log: log, now: time.Now, metrics: newMetrics(""), gate: newGate(places, time.Now)}
}

// Aside is how a request waits for a person.
func Aside(ctx context.Context) (back func(), ok bool) { return aside(ctx) }
