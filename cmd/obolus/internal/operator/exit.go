package operator

import (
	"errors"
	"fmt"
	"net/http"

	"obolus/admin"
	"obolus/cmd/obolus/internal/strictyaml"
	"obolus/store"
)

// What the program's exit code says.
const (
	ExitOK          = 0
	ExitRefused     = 1 // refused or failed
	ExitUsage       = 2 // the command line or the configuration is wrong
	ExitNotFound    = 3
	ExitConflict    = 4 // taken, or changed meanwhile
	ExitUnavailable = 5 // no server, or a store does not answer
)

// ErrUsage is what every mistake in the command line is.
var ErrUsage = errors.New("usage")

// Usage makes an error a mistake in the command line. It is told as it is.
func Usage(err error) error { return mistake{err} }

// usage is a mistake that only the command itself can see.
func usage(format string, args ...any) error { return mistake{fmt.Errorf(format, args...)} }

type mistake struct{ error }

// Is makes it one of usage.
func (mistake) Is(target error) bool { return target == ErrUsage }

// Unwrap gives the mistake itself.
func (m mistake) Unwrap() error { return m.error }

// ExitCode is the exit code for the outcome of a command.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	if _, wrong := errors.AsType[strictyaml.Problems](err); wrong || errors.Is(err, ErrUsage) {
		return ExitUsage
	}
	down := errors.Is(err, store.ErrLocked) || errors.Is(err, store.ErrUnavailable)
	p, told := errors.AsType[*admin.Problem](err)
	switch {
	case down:
		return ExitUnavailable
	case told:
		return exitOf(p.Status)
	case errors.Is(err, admin.ErrNoServer):
		return ExitUnavailable
	default:
		return ExitRefused
	}
}

func exitOf(status int) int {
	switch status {
	case http.StatusNotFound:
		return ExitNotFound
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusPreconditionRequired:
		return ExitConflict
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return ExitUnavailable
	case http.StatusBadRequest:
		return ExitUsage
	default:
		return ExitRefused
	}
}
