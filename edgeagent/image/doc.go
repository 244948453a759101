// Package image fetches container images, keeps them unpacked, and mounts root file systems from them.
//
// It is made for bad links: a layer that was cut off goes on from the byte it reached, also after a power cut; what is
// on the disk is never fetched twice; and what is on the disk can be run without asking anybody. Package oci unpacks
// the layers; the agent says what to pull, mount and remove, and whose credentials to use. It must not know about pods
// and must not start anything.
//
// On disk, below the node's state folder:
//
//	images/parts/<hex>              a compressed layer being fetched, by digest
//	images/layers/<hex>/fs          an unpacked layer, by diff id; layer.json beside it describes it
//	images/parents/<hex>/fs         folders that the layers of one image only imply, with their right owners and modes
//	images/records/<hex>.json       an image whose layers are all there, by manifest digest
//	images/refs/<hex>.json          which digest a name stands for, by hash of the name
//	images/tmp/                     what is being made; emptied by New
//	containers/<id>/{upper,work}    what a container wrote; rootfs.json beside it says which layers are below
//	run/rootfs/<id>                 the mounted root file system
//	run/users/<id>                  that of a container in a user namespace
//	run/pulls/<hex>                 this boot wrote that part: its last bytes are in memory or on disk for certain
//
// Whatever appears under its final name was written elsewhere, synced and renamed.
package image
