package operator

import (
	"fmt"
	"io"
	"os"
	"time"
)

// meter shows how far long work has come, to a person at a terminal.
type meter struct {
	to    io.Writer // nil: nobody looks
	now   func() time.Time
	what  string
	unit  string // what is counted
	shown time.Time
}

const meterEvery = 200 * time.Millisecond

func (s Stage) meter(what string) *meter {
	m := &meter{now: s.Now, what: what, unit: "records"}
	if f, ok := s.Err.(*os.File); ok && terminal(f) {
		m.to = f
	}
	return m
}

// events is a meter that counts events of the ledger.
func (s Stage) events(what string) *meter {
	m := s.meter(what)
	m.unit = "events"
	return m
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (m *meter) tell(records uint64) {
	if m.to == nil || m.now().Sub(m.shown) < meterEvery {
		return
	}
	m.shown = m.now()
	fmt.Fprintf(m.to, "\r%s: %d %s", m.what, records, m.unit)
}

// done leaves the line to what comes next.
func (m *meter) done() {
	if m.to != nil && !m.shown.IsZero() {
		fmt.Fprint(m.to, "\r\x1b[K")
	}
}
