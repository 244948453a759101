package proxy

import (
	"maps"
	"net/netip"
	"slices"
)

// Change is what turns one ruleset into another. Replaced elements are in both the removed and the added lists; the
// kernel takes all of it in one transaction.
type Change struct {
	Base bool // the table itself and its fixed rules must be made anew; the added lists then hold everything

	RemovedServices, AddedServices []Key
	RemovedSlots, AddedSlots       []Slot
	RemovedHairpins, AddedHairpins []netip.Addr
	RemovedPicks, AddedPicks       []Pick
}

// Empty says that there is nothing to do.
func (c Change) Empty() bool {
	return !c.Base && len(c.RemovedServices)+len(c.AddedServices)+len(c.RemovedSlots)+len(c.AddedSlots)+
		len(c.RemovedHairpins)+len(c.AddedHairpins)+len(c.RemovedPicks)+len(c.AddedPicks) == 0
}

// Whole is the change that makes want from whatever there is.
func Whole(want Ruleset) Change {
	c := between(Ruleset{}, want)
	c.Base = true
	return c
}

// wholeFrom is the number of removed slots below which replacing the table is never worth it.
const wholeFrom = 4000

// Between is the change from have to want: the differences when the fixed rules stay, else Whole(want). It is Whole,
// too, when most elements change, because filling a new table is cheaper than emptying and filling the old one.
func Between(have, want Ruleset) Change {
	if have.Settings != want.Settings || have.ServiceCIDR != want.ServiceCIDR || have.ClusterPodCIDR != want.ClusterPodCIDR {
		return Whole(want)
	}
	c := between(have, want)
	if len(c.RemovedSlots) > len(want.Slots)/2 && len(c.RemovedSlots) > wholeFrom {
		return Whole(want)
	}
	return c
}

func between(have, want Ruleset) Change {
	var c Change
	c.RemovedServices, c.AddedServices = differences(have.Services, want.Services, compareKeys)
	c.RemovedSlots, c.AddedSlots = differences(have.Slots, want.Slots, compareSlots)
	c.RemovedHairpins, c.AddedHairpins = differences(have.Hairpins, want.Hairpins, netip.Addr.Compare)
	had, wants := have.Picks(), want.Picks()
	c.RemovedPicks = slices.DeleteFunc(slices.Clone(had), func(p Pick) bool { return slices.Contains(wants, p) })
	c.AddedPicks = slices.DeleteFunc(wants, func(p Pick) bool { return slices.Contains(had, p) })
	return c
}

// differences lists the keys to remove and to add; a key whose value changes is in both.
func differences[K comparable, V comparable](have, want map[K]V, compare func(a, b K) int) (removed, added []K) {
	gone, fresh := maps.Clone(have), maps.Clone(want)
	for k, v := range have {
		if w, ok := want[k]; ok && v == w {
			delete(gone, k)
			delete(fresh, k)
		}
	}
	return sortedKeys(gone, compare), sortedKeys(fresh, compare)
}
