// Package logs reads the log files that the keeper writes for each container, in CRI format and rotated, for people who
// ask for them: the last lines, from a time on, or followed.
//
// The files are <folder>/<pod UID>/<container>/<restart count>.log, with .1, .2 ... for older parts of the same. Names in a
// request are checked, and opened below the folder only. Nothing here writes.
package logs
