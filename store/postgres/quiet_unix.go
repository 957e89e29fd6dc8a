//go:build unix

package postgres

import (
	"errors"
	"net"
	"syscall"
)

// quiet says that the other side of a connection on which nothing is under way has neither closed it nor said anything,
// which could only be that it is about to.
func quiet(c net.Conn) bool {
	s, ok := socket(c).(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	// Not raw.Read: that waits for its turn behind a read that is under way, and pgx leaves one behind after a slow write.
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = errors.Is(err, syscall.EAGAIN)
	})
	return silent && err == nil
}
