package oci

import (
	"io/fs"
	"syscall"
)

// inode tells hard links of one file from other files.
type inode struct{ dev, ino uint64 }

// inodeOf says which file this is, and whether it has several names.
func inodeOf(info fs.FileInfo) (inode, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, false
	}
	return inode{dev: uint64(st.Dev), ino: st.Ino}, st.Nlink > 1 //nolint:unconvert // 32 bits on some architectures
}
