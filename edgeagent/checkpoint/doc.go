// Package checkpoint keeps on disk what a node needs to go on alone: who it is, the last complete set of pods it was
// given, the service table, and what it remembers of each pod across a power cut.
//
// Every file is replaced as a whole (temporary file, fsync, rename, fsync of the folder) and carries a version and a
// checksum. After a crash at any point a reader finds the old state or the new one. Nothing is written unless something
// changed.
//
// It does not judge what it stores: signatures, epochs and clusters are checked by edgeagent/uplink before they get here.
package checkpoint
