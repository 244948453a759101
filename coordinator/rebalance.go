package coordinator

import (
	"encoding/json"
	"net/http"
	"time"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/rebalance"
)

// rebalancing answers `skerry rebalance`: GET says what would be moved and changes nothing, POST begins the first move
// now. The controller carries moves out, this only asks for one.
type rebalancing struct {
	source  *source
	writer  controller.Writer
	options rebalance.Options
}

const rebalancePath = "/skerry/v1/rebalance"

// rebalanceOptions follow the heartbeat: a node that has been heard for five of them is back for good, and one passes
// between moves.
func (c Config) rebalanceOptions() rebalance.Options {
	return rebalance.Options{Disabled: !c.Nodes.Rebalance, Settle: 5 * c.Nodes.Heartbeat, CoolDown: c.Nodes.Heartbeat}
}

// ServeHTTP lets administrators in only: a move stops a pod.
func (h *rebalancing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user := authn.FromContext(r.Context())
	switch {
	case !user.In(authn.GroupMasters):
		http.Error(w, "only administrators may rebalance", http.StatusForbidden)
	case r.URL.Path != rebalancePath:
		http.NotFound(w, r)
	case r.Method == http.MethodGet:
		h.answer(w, api.Balance{}, h.options)
	case r.Method == http.MethodPost && !user.Cookie:
		h.begin(w, r)
	default:
		http.Error(w, "want GET or POST", http.StatusMethodNotAllowed)
	}
}

func (h *rebalancing) begin(w http.ResponseWriter, r *http.Request) {
	move, why := rebalance.First(h.source.Snapshot(), time.Now(), h.options.Hasty())
	if move == nil {
		h.answer(w, api.Balance{Message: why}, h.options.Hasty())
		return
	}
	if _, err := h.writer.Perform(r.Context(), controller.Change{Verb: controller.Create, Object: move}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, api.Balance{Message: "begun", Moves: []api.MovePlanSpec{move.Spec}})
}

func (h *rebalancing) answer(w http.ResponseWriter, b api.Balance, o rebalance.Options) {
	report := rebalance.Propose(h.source.Snapshot(), time.Now(), o)
	b.Imbalance, b.Moves = report.Imbalance, report.Moves
	if b.Message == "" {
		b.Message = report.Held
	}
	for _, n := range report.Nodes {
		b.Nodes = append(b.Nodes, api.NodeBalance{Name: n.Name, Load: n.Load, Excluded: n.Excluded})
	}
	for _, s := range report.Skipped {
		b.Skipped = append(b.Skipped, api.PodSkip{Namespace: s.Namespace, Pod: s.Pod, Why: s.Why})
	}
	write(w, b)
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has left: nobody to tell
}
