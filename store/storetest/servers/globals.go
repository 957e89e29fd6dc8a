package servers

import (
	"context"
	"time"
)

// What a test process has one of.
var (
	launch launcher      //nolint:gochecknoglobals // the thread that starts servers is one for the process
	shared sharedCluster //nolint:gochecknoglobals // and so is the cluster that its tests share
	ports  portRange     //nolint:gochecknoglobals // and no port is for two of them
)

// noContext is for what belongs to the process and not to a test.
func noContext() context.Context {
	return context.Background() // nothing here is asked by a caller
}

func deadline() time.Time {
	return time.Now().Add(patience) // a socket's deadline is by the wall clock
}
