// Package rbac evaluates the objects of rbac.authorization.k8s.io: who may do what, what a user may do in all, and
// whether a write of a role or binding would give more than its writer has.
//
// It reads the objects from coordinator/view and keeps an index of them by subject, made anew when one of them changed: a
// decision looks only at the bindings of its user. The index is built by the request that first needs it, so a role that
// was written is in force for the next request. It writes nothing; the roles that every cluster has are in
// access/bootstrap, and aggregated roles are filled in by coordinator/controller/clusterrole.
package rbac
