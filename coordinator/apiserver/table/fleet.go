package table

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"skerry.dev/skerry/api"
)

var nodeInventoryLayout = layout(nodeInventoryCells,
	name,
	text("Board", "Vendor and product from DMI or the device tree."),
	text("CPU", "Processor model."),
	number("Threads", "Online logical CPUs."),
	text("Memory", "Total memory."),
	text("Disks", "Data disks and their sizes."),
	text("Devices", "Device classes present and how many of each."),
	age,
	wide(text("Arch", "Architecture.")),
	wide(text("Kernel", "Running kernel.")),
	wide(text("Cgroups", "Cgroup version.")),
	wide(text("Links", "Physical network links and their speed.")),
)

func nodeInventoryCells(n *api.NodeInventory, now time.Time) []any {
	inv := &n.Inventory
	return []any{
		n.Name,
		or(strings.TrimSpace(inv.System.Vendor+" "+inv.System.Product), unknown),
		or(inv.CPU.Model, unknown),
		int64(inv.CPU.Threads),
		bytes(inv.Memory.TotalBytes),
		some(disks(inv.Disks)),
		or(devices(inv.Devices), none),
		since(n.CreationTimestamp, now),
		inv.Kernel.Architecture, inv.Kernel.Version, or(inv.Kernel.CgroupVersion, none), some(links(inv.Links)),
	}
}

// bytes rounds a size for people: whole mebibytes below one gibibyte, tenths of gibibytes above.
func bytes(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%dMi", n>>20)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/(1<<30)), ".0") + "Gi"
}

func disks(list []api.Disk) []string {
	out := make([]string, len(list))
	for i, d := range list {
		out[i] = d.Name + "=" + bytes(d.SizeBytes)
	}
	return out
}

func links(list []api.Link) []string {
	var out []string
	for _, l := range list {
		if !l.Physical {
			continue
		}
		state := "down"
		if l.Up {
			state = "up"
		}
		if l.Up && l.SpeedMbps > 0 {
			state = fmt.Sprintf("%dMb/s", l.SpeedMbps)
		}
		out = append(out, l.Name+"="+state)
	}
	return out
}

// devices counts devices by class, in the classes' alphabetical order.
func devices(list []api.Device) string {
	count := map[string]int{}
	for _, d := range list {
		count[d.Class]++
	}
	var out []string
	for class, n := range count {
		out = append(out, fmt.Sprintf("%s=%d", class, n))
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

var movePlanLayout = layout(func(m *api.MovePlan, now time.Time) []any {
	return []any{
		m.Name, m.Spec.Pod.Namespace + "/" + m.Spec.Pod.Name, m.Spec.From, m.Spec.To, or(m.Status.Phase, "Planned"),
		fmt.Sprintf("%.3f", m.Spec.Gain), fmt.Sprintf("%.3f", m.Spec.Cost), since(m.CreationTimestamp, now),
		or(m.Status.Replacement, none), m.Spec.Reason, m.Status.Message,
	}
},
	name,
	text("Pod", "The pod to move."),
	text("From", "Its node."),
	text("To", "Where its replacement starts."),
	text("Phase", "How far the move has come."),
	text("Gain", "Drop of the fleet's imbalance, 0 to 1."),
	text("Cost", "What the move costs, in the unit of gain."),
	age,
	wide(text("Replacement", "The pod that takes over.")),
	wide(text("Reason", "Why.")),
	wide(text("Message", "What happened.")),
)

var enrolmentTokenLayout = layout(func(t *api.EnrolmentToken, now time.Time) []any {
	return []any{t.Name, or(t.Spec.Node, "<any>"), tokenState(t, now), until(t.Spec.Expires.Time, now), since(t.CreationTimestamp, now)}
},
	name,
	text("Node", "The only node that may use it."),
	text("State", "Unused, Used by a node, or Expired."),
	text("Expires", "When it stops working."),
	age,
)

func tokenState(t *api.EnrolmentToken, now time.Time) string {
	switch {
	case t.Status.UsedBy != "":
		return "Used by " + t.Status.UsedBy
	case !t.Spec.Expires.IsZero() && now.After(t.Spec.Expires.Time):
		return "Expired"
	default:
		return "Unused"
	}
}

var nodeCredentialLayout = layout(func(c *api.NodeCredential, now time.Time) []any {
	return []any{c.Name, c.PublicKey, since(c.Enrolled, now), since(c.CreationTimestamp, now)}
}, name, text("Public Key", "The node's key."), text("Enrolled", "When the node joined."), age)

// until is how far away t is; zero means never, the past reads as such.
func until(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "never"
	case t.Before(now):
		return duration.HumanDuration(now.Sub(t)) + " ago"
	default:
		return "in " + duration.HumanDuration(t.Sub(now))
	}
}
