// Package coordinator puts the control side together: the embedded NATS server, the store on it, the API's view and write
// path, scheduler and controllers, the fleet's registry, what is published to nodes, and the listeners.
//
// Each part is a subpackage with one job; this one only knows in which order they start, what each is given, and what
// happens when one of them fails: the process ends, and starts again from the store.
package coordinator
