// Package registry serves the OCI distribution protocol from a folder on disk.
//
// Its job is to keep what was pushed, whole and verified, and to hand it out again in ranges. Package oci makes images,
// edgeagent/image pulls them. It must not know about users: whoever mounts the handler authenticates first (Challenge
// helps it to say no), and it must not know about nodes, pods or NATS.
//
// On disk, below Options.Dir:
//
//	blobs/<algorithm>/<2 hex>/<hex>                content, never changed once there
//	repos/<name>/_layers/<algorithm>/<hex>         this repository holds that blob
//	repos/<name>/_manifests/<algorithm>/<hex>      this repository holds that manifest; the file says its media type
//	repos/<name>/_tags/<tag>                       the file says the digest
//	repos/<name>/_referrers/<algorithm>/<hex>/...  manifests whose subject is that digest
//	uploads/<id>/{repo,data}                       uploads under way; they survive a restart
//	tmp/                                           files before their rename; emptied by New
//
// Every file is written to tmp, synced, renamed, and its folder synced, so a power cut leaves the old state or the new
// one. A push becomes visible with its last step, the tag.
package registry
