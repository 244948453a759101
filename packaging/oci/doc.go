// Package oci makes container images and takes them apart.
//
// Build turns a folder, a tarball or a static binary into an image whose digest depends only on what is in it. Unpack
// writes one layer into a folder of its own, in the form that overlayfs stacks, trusting nothing in it. Store keeps
// images in an OCI layout for the command line. Push sends them to a registry and goes on where a bad link broke off.
//
// Neighbours: package registry serves images, edgeagent/image pulls and mounts them, cmd/skerry/image is the command
// line over this package. It must not run anything from an image, and must not write outside the folders it is given.
package oci
