// Package apiserver speaks the Kubernetes REST dialect over the coordinator's objects, so that kubectl, helm and
// client-go work unmodified: discovery, OpenAPI, verbs, patches, tables, watches, subresources, authentication.
//
// Reads come from coordinator/view, writes go through coordinator/objects; what is served is the table of
// coordinator/resource. It holds no state of its own but web sessions and the pages of running chunked lists, takes no
// scheduling or workload decision, and never reads the store.
package apiserver
