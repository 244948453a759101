package view

import "time"

// historyLife is how long a change is kept for watches to resume from. A client whose connection broke is back sooner; who
// stays away for longer lists again.
const historyLife = 5 * time.Minute

// Tidy drops what can be done without: history that is older than a few minutes, and JSON that nobody has asked for since
// the last call. Whoever holds the view calls it about once a minute.
func (v *View) Tidy(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, t := range v.tables {
		t.ring.trim(now.Add(-historyLife))
		for _, i := range t.sorted {
			i.forgetUnasked()
		}
		for p := t.ring.start(); p < t.ring.end; p++ {
			t.tidyPast(t.ring.at(p).Item)
			t.tidyPast(t.ring.at(p).Previous)
		}
	}
}

// tidyPast drops the JSON of an item that has been replaced: whoever still comes for it is the last one.
func (t *table) tidyPast(i *Item) {
	if i != nil && t.items[i.key()] != i {
		i.asked.Store(false)
		i.forgetUnasked()
	}
}
