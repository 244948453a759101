//go:build !linux

package messaging

import (
	"net"
	"time"
)

// linkDialer is the plain dialer: only Linux can bound how long sent bytes stay unacknowledged.
func linkDialer(timeout time.Duration) *net.Dialer { return &net.Dialer{Timeout: timeout} }
