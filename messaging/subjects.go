package messaging

import (
	"fmt"
	"strconv"
	"strings"
)

// Streams and key-value buckets. A bucket named x is the JetStream stream KV_x, so the nats CLI's kv commands work on it.
const (
	StreamState  = "KV_state"
	StreamAssign = "KV_assign"
	StreamUp     = "UP"
	StreamEvents = "EVENTS"

	// Broadcast is the pseudo node whose assign keys every node reads. It cannot be a node's name: node names are DNS
	// names and hold no underscore.
	Broadcast = "_all"
)

const root = "skerry.v1."

// Token escapes s to one subject token: letters, digits, "-" and "_" stay, every other byte becomes "=XX". Empty becomes
// "_", the namespace of cluster-scoped objects.
func Token(s string) string {
	if s == "" {
		return "_"
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || (c == '_' && len(s) > 1) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// ParseToken undoes Token. A text has one token only: any other spelling of it is an error, so that two subjects never
// mean the same.
func ParseToken(t string) (string, error) {
	if t == "_" {
		return "", nil
	}
	var b strings.Builder
	for i := 0; i < len(t); i++ {
		if t[i] != '=' {
			b.WriteByte(t[i])
			continue
		}
		if i+2 >= len(t) {
			return "", fmt.Errorf("subject token %q: cut escape", t)
		}
		c, err := strconv.ParseUint(t[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("subject token %q: bad escape %q", t, t[i:i+3])
		}
		b.WriteByte(byte(c))
		i += 2
	}
	if Token(b.String()) != t {
		return "", fmt.Errorf("subject token %q: want %q", t, Token(b.String()))
	}
	return b.String(), nil
}

// HeartbeatSubject is where a node says that it lives (core NATS, never stored). A Heartbeat follows.
func HeartbeatSubject(node string) string { return root + "hb." + Token(node) }

// HeartbeatAll matches every node's heartbeat.
const HeartbeatAll = root + "hb.*"

// AssignKey is the key of stream KV_assign that holds part of a node's desired state: "manifest", "pod.<uid>", or, for
// the Broadcast node, "services".
func AssignKey(node, part string) string { return "$KV.assign." + assignNode(node) + "." + part }

// AssignSubjects is where a node hears its own keys of KV_assign, republished by the server.
func AssignSubjects(node string) string { return root + "assign." + assignNode(node) + ".>" }

// AssignRepublish are source and destination of the stream's republish setting.
const (
	AssignRepublishSource      = "$KV.assign.>"
	AssignRepublishDestination = root + "assign.>"
)

func assignNode(node string) string {
	if node == Broadcast {
		return Broadcast
	}
	return Token(node)
}

// ManifestPart, ServicesPart and PodPart name the parts of AssignKey.
const (
	ManifestPart = "manifest"
	ServicesPart = "services"
)

// PodPart is the part of AssignKey for one pod.
func PodPart(uid string) string { return "pod." + Token(uid) }

// ParsePodPart undoes PodPart.
func ParsePodPart(part string) (uid string, err error) {
	token, ok := strings.CutPrefix(part, "pod.")
	if !ok {
		return "", fmt.Errorf("assign part %q is no pod's", part)
	}
	return ParseToken(token)
}

// UpSubject is where a node's reports go: kind is "pod", "node", "inventory", "volume" or "event", id the
// pod's UID, the volume's name or a reason.
func UpSubject(node, kind, id string) string {
	return root + "up." + Token(node) + "." + kind + "." + Token(id)
}

// UpAll matches every report of every node; it is the subject list of stream UP.
const UpAll = root + "up.>"

// EventSubject names one change of one object for automation (stream EVENTS). verb is added, modified or deleted.
func EventSubject(namespace, kind, name, verb string) string {
	return root + "evt." + Token(namespace) + "." + kind + "." + Token(name) + "." + verb
}

// EventSubjects matches every change of a kind in a namespace. namespace is a Token, or "*" for all; so may kind be.
func EventSubjects(namespace, kind string) string {
	return root + "evt." + namespace + "." + kind + ".>"
}

// EventAll matches every change.
const EventAll = root + "evt.>"

// APIGroup is the micro group under which automation finds <kind>.<verb> endpoints.
const APIGroup = "skerry.v1.api"

// NodeAPISubject is a request from a node to the coordinator; the node is who its subject says, since permissions allow
// it no other. Verbs: register, dial.
func NodeAPISubject(node, verb string) string { return root + "api.node." + Token(node) + "." + verb }

// NodeAPIAll matches every node's requests of one verb.
func NodeAPIAll(verb string) string { return root + "api.node.*." + verb }

// CommandSubject is a signed request from the coordinator to a node. Verbs: ping, open, resync, usage.
func CommandSubject(node, verb string) string { return root + "cmd." + Token(node) + "." + verb }

// StreamSubject is one direction ("in" towards the node, "out" from it) of a byte stream session.
func StreamSubject(node, session, direction string) string {
	return root + "stream." + Token(node) + "." + session + "." + direction
}

// InboxPrefix is the reply prefix that a node's permissions allow.
func InboxPrefix(node string) string { return "_INBOX." + Token(node) }
