package containerspec

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/keeper"
)

// maxTable bounds what is read of an image's user tables.
const maxTable = 1 << 20

// LookUpUser returns who a container's process runs as: runAsUser and runAsGroup if set, otherwise the image's user, a
// number or a name in the image's own /etc/passwd and /etc/group. rootfs is the mounted image.
func LookUpUser(p *corev1.Pod, c *corev1.Container, imageUser, rootfs string) (keeper.User, error) {
	tables, err := readTables(rootfs)
	if err != nil {
		return keeper.User{}, err
	}
	user, group := override(p, c)
	if user == "" {
		var imageGroup string
		user, imageGroup, _ = strings.Cut(imageUser, ":")
		if group == "" {
			group = imageGroup
		}
	}
	u, err := tables.user(user)
	if err != nil {
		return keeper.User{}, err
	}
	out := keeper.User{UID: u.uid, GID: u.gid}
	if group != "" {
		if out.GID, err = tables.group(group); err != nil {
			return keeper.User{}, err
		}
	}
	out.AdditionalGIDs = additional(p, u, tables)
	return out, nil
}

// override is the numbers that the spec sets, as text.
func override(p *corev1.Pod, c *corev1.Container) (user, group string) {
	set := func(id *int64, into *string) {
		if id != nil {
			*into = strconv.FormatInt(*id, 10)
		}
	}
	if s := p.Spec.SecurityContext; s != nil {
		set(s.RunAsUser, &user)
		set(s.RunAsGroup, &group)
	}
	if s := c.SecurityContext; s != nil {
		set(s.RunAsUser, &user)
		set(s.RunAsGroup, &group)
	}
	return user, group
}

// additional are the pod's groups and those that the image gives the user, sorted.
func additional(p *corev1.Pod, u account, tables tables) []uint32 {
	var out []uint32
	merge := true
	if s := p.Spec.SecurityContext; s != nil {
		for _, g := range s.SupplementalGroups {
			out = append(out, uint32(g)) //nolint:gosec // validated by the API: 0 to 2^31-1
		}
		if s.FSGroup != nil {
			out = append(out, uint32(*s.FSGroup)) //nolint:gosec // likewise
		}
		merge = s.SupplementalGroupsPolicy == nil || *s.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyMerge
	}
	if merge && u.name != "" {
		for _, g := range tables.groups {
			if slices.Contains(g.members, u.name) {
				out = append(out, g.gid)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

type account struct {
	name     string
	uid, gid uint32
}

type groupEntry struct {
	name    string
	gid     uint32
	members []string
}

type tables struct {
	accounts []account
	groups   []groupEntry
}

// readTables reads the image's tables without following a link out of it. An image without them (a static binary) has no names.
func readTables(rootfs string) (tables, error) {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return tables{}, fmt.Errorf("open image: %w", err)
	}
	defer func() { _ = root.Close() }() // a descriptor of a folder
	var t tables
	err = errors.Join(
		eachLine(root, "etc/passwd", func(f []string) {
			if uid, gid, ok := twoIDs(f, 2, 3); ok {
				t.accounts = append(t.accounts, account{f[0], uid, gid})
			}
		}),
		eachLine(root, "etc/group", func(f []string) {
			if gid, _, ok := twoIDs(f, 2, 2); ok {
				g := groupEntry{name: f[0], gid: gid}
				if len(f) > 3 {
					g.members = strings.Split(f[3], ",")
				}
				t.groups = append(t.groups, g)
			}
		}),
	)
	return t, err
}

func eachLine(root *os.Root, name string, f func(fields []string)) error {
	file, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s of the image: %w", name, err)
	}
	s := bufio.NewScanner(io.LimitReader(file, maxTable))
	for s.Scan() {
		f(strings.Split(s.Text(), ":"))
	}
	return errors.Join(s.Err(), file.Close())
}

func twoIDs(f []string, i, j int) (a, b uint32, ok bool) {
	if len(f) <= max(i, j) {
		return 0, 0, false
	}
	x, err1 := strconv.ParseUint(f[i], 10, 32)
	y, err2 := strconv.ParseUint(f[j], 10, 32)
	return uint32(x), uint32(y), err1 == nil && err2 == nil
}

// user finds a name or a number; empty means root. A number need not be in the table.
func (t tables) user(s string) (account, error) {
	if s == "" {
		s = "0"
	}
	number, err := strconv.ParseUint(s, 10, 31)
	for _, a := range t.accounts {
		if a.name == s || (err == nil && a.uid == uint32(number)) {
			return a, nil
		}
	}
	if err != nil {
		return account{}, fmt.Errorf("user %q is neither a number nor in the image's /etc/passwd", s)
	}
	return account{uid: uint32(number)}, nil
}

func (t tables) group(s string) (uint32, error) {
	if number, err := strconv.ParseUint(s, 10, 31); err == nil {
		return uint32(number), nil
	}
	for _, g := range t.groups {
		if g.name == s {
			return g.gid, nil
		}
	}
	return 0, fmt.Errorf("group %q is neither a number nor in the image's /etc/group", s)
}
