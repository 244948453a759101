package embedded

import (
	"fmt"
	"log/slog"
)

// serverLog turns the server's lines into records. Its notices are about its own start, which is nobody's concern but a
// developer's.
type serverLog struct {
	log   *slog.Logger
	fatal chan<- error
	fault *fault
}

// line is what the server says, without the secrets of users' IDs.
func line(format string, v []any) string {
	return secretPart.ReplaceAllString(fmt.Sprintf(format, v...), "")
}

// Noticef implements server.Logger.
func (l serverLog) Noticef(format string, v ...any) {
	l.log.Debug("nats server", "line", line(format, v))
}

// Debugf implements server.Logger.
func (l serverLog) Debugf(format string, v ...any) {
	l.log.Debug("nats server", "line", line(format, v))
}

// Tracef implements server.Logger.
func (l serverLog) Tracef(format string, v ...any) {
	l.log.Debug("nats server", "line", line(format, v))
}

// Warnf implements server.Logger.
func (l serverLog) Warnf(format string, v ...any) {
	l.log.Warn("nats server", "line", line(format, v))
}

// Errorf implements server.Logger.
func (l serverLog) Errorf(format string, v ...any) {
	l.fault.line(format, v)
	l.log.Error("nats server", "line", line(format, v))
}

// Fatalf implements server.Logger. It is not logged: Run returns it.
func (l serverLog) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Errorf(format, v...):
	default:
	}
}
