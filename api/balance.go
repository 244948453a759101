package api

// Balance is what the rebalancer thinks of the fleet: the answer to `skerry rebalance`. It is no stored object.
type Balance struct {
	Imbalance float64        `json:"imbalance"` // standard deviation of the nodes' loads
	Nodes     []NodeBalance  `json:"nodes,omitempty"`
	Moves     []MovePlanSpec `json:"moves,omitempty"`
	Skipped   []PodSkip      `json:"skipped,omitempty"`
	Message   string         `json:"message,omitempty"` // what holds moves back, or what was begun
}

// NodeBalance is one node's load, 0 to 1.
type NodeBalance struct {
	Name     string  `json:"name"`
	Load     float64 `json:"load"`
	Excluded string  `json:"excluded,omitempty"` // why it takes no part
}

// PodSkip is a pod that may not be moved, and why.
type PodSkip struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Why       string `json:"why"`
}
