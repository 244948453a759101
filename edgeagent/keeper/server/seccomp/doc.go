// Package seccomp turns seccomp profiles into programs for the kernel, in pure Go: the profile of Docker and containerd, or one in
// their JSON form or that of the OCI runtime specification.
//
// It compiles and installs; which container gets which profile, and when, is the keeper's business. It reads no files and keeps no state.
// Nothing in it is initialised at start: the keeper runs itself again for each container, and every table that would be filled then is
// paid for each time.
package seccomp

//go:generate go run gen.go
