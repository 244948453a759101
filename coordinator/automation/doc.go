// Package automation offers the coordinator's objects to programs over NATS: request/reply endpoints that read and write
// them, and a stream with every change of them.
//
// Endpoints is a micro service: skerry.v1.api.<kind>.<verb>, with the plural for kind (pods, deployments) and the verbs
// get, list, apply and delete. It reads from coordinator/view and writes through coordinator/objects, so that the same
// rules hold as for the Kubernetes API. Events publishes each revision of coordinator's store to
// skerry.v1.evt.<namespace>.<kind>.<name>.<verb> in the stream EVENTS.
//
// Document describes all of it in AsyncAPI 3, from the same table: on skerry.v1.api.asyncapi, and over HTTP.
//
// Who may use either is decided by NATS permissions, before a message gets here. The package decides nothing about
// workloads and never writes to the store itself.
package automation
