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
// The same users with the same roles ask here as over HTTP. Who sent a request the NATS server says (messaging.Caller); what
// it may do RBAC says, by the verbs get, list, patch and delete, and create for what an apply makes; it leaves the same line
// in the audit log. One user has at most half of what is under work at once. Nobody acts for another here. Which changes one may hear, Hearing says: NATS permissions, made at login
// and made anew when they change, hold users to it. Whoever reads the stream EVENTS itself, and not what passes by, reads all
// of it, so that is for administrators.
//
// The package decides nothing about workloads and never writes to the store itself.
package automation
