// Package volume makes a pod's volumes on the node and says how to mount them into its containers: emptyDir, hostPath,
// configMap, secret, downwardAPI and projected, and the files /etc/hosts, /etc/hostname and /etc/resolv.conf.
//
// All of a pod is in one folder, <folder>/<pod UID>. Secrets are written to tmpfs only. Every path that a user can
// influence (keys, items, sub-paths) is resolved below its volume by the kernel, never as text.
package volume
