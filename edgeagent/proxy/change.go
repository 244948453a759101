package proxy

import (
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

// wholeFrom is the number of removed slots from which on replacing the table is cheaper than emptying it, if most of
// it changes.
const wholeFrom = 4000

// Between is the change from have to want: the differences when the fixed rules stay, else Whole(want). It is Whole,
// too, when most elements change, because filling a new table is cheaper than emptying and filling the old one.
func Between(have, want Ruleset) Change {
	if have.Settings != want.Settings || have.ServiceCIDR != want.ServiceCIDR || have.ClusterPodCIDR != want.ClusterPodCIDR {
		return Whole(want)
	}
	c := between(have, want)
	if len(c.RemovedSlots) >= wholeFrom && 2*len(c.RemovedServices) > len(have.Services) {
		return Whole(want)
	}
	return c
}

func between(have, want Ruleset) Change {
	var c Change
	for _, key := range sortedKeys(have.Services, compareKeys) {
		was, is := have.Services[key], want.Services[key]
		if is.Slots == nil || was.Pick() != is.Pick() {
			c.RemovedServices = append(c.RemovedServices, key)
		}
		c.RemovedSlots = appendUnshared(c.RemovedSlots, key, was.Slots, is.Slots)
	}
	for _, key := range sortedKeys(want.Services, compareKeys) {
		was, is := have.Services[key], want.Services[key]
		if was.Slots == nil || was.Pick() != is.Pick() {
			c.AddedServices = append(c.AddedServices, key)
		}
		c.AddedSlots = appendUnshared(c.AddedSlots, key, is.Slots, was.Slots)
	}
	c.RemovedHairpins = missing(sortedKeys(have.Hairpins, netip.Addr.Compare), want.Hairpins)
	c.AddedHairpins = missing(sortedKeys(want.Hairpins, netip.Addr.Compare), have.Hairpins)
	had, wants := have.Picks(), want.Picks()
	c.RemovedPicks = without(had, wants)
	c.AddedPicks = without(wants, had)
	return c
}

// appendUnshared adds the slots that other does not hold in the same place.
func appendUnshared(list []Slot, key Key, slots, other []netip.AddrPort) []Slot {
	for i, endpoint := range slots {
		if i >= len(other) || other[i] != endpoint {
			list = append(list, Slot{key, uint32(i), endpoint})
		}
	}
	return list
}

func missing[K comparable](keys []K, from map[K]struct{}) []K {
	return slices.DeleteFunc(keys, func(k K) bool {
		_, present := from[k]
		return present
	})
}

func without(picks, others []Pick) []Pick {
	return slices.DeleteFunc(slices.Clone(picks), func(p Pick) bool { return slices.Contains(others, p) })
}
