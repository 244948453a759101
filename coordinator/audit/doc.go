// Package audit keeps the record of who did what: one JSON line per request, in the shape of audit.k8s.io/v1's Event, in a
// file that is rotated by size.
//
// The API server and the NATS endpoints make the events, each asking LevelOf how much is to be kept; the package decides
// nothing else about a request, and no request waits for it: what does not fit its queue is dropped, counted and said in
// the coordinator's log. Lines are not synced one by one, so a power cut may take the last of them.
package audit
