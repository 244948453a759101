package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EnrolmentToken lets one node join. Its name is public; the secret is shown once, when the token is made, and only its
// SHA-256 is stored. Cluster-scoped.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type EnrolmentToken struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitzero"`

	Spec   EnrolmentTokenSpec   `json:"spec"`
	Status EnrolmentTokenStatus `json:"status,omitzero"`
}

// EnrolmentTokenSpec is what the operator asked for.
type EnrolmentTokenSpec struct {
	SecretHash string      `json:"secretHash"` // hex SHA-256 of the secret
	Expires    metav1.Time `json:"expires"`
	Node       string      `json:"node,omitempty"` // when set, only a node of this name may use it
}

// EnrolmentTokenStatus says who used the token. A used token cannot be used again, but by the same key: a node whose
// enrolment was cut off tries once more.
type EnrolmentTokenStatus struct {
	UsedBy    string       `json:"usedBy,omitempty"`
	PublicKey string       `json:"publicKey,omitempty"` // of the node, "U..."
	UsedAt    *metav1.Time `json:"usedAt,omitempty"`
}

// EnrolmentTokenList is a list of tokens.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type EnrolmentTokenList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []EnrolmentToken `json:"items"`
}

// NodeCredential is the public key of an enrolled node. Cluster-scoped, named as the node. Deleting it revokes the node.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type NodeCredential struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitzero"`

	PublicKey string      `json:"publicKey"` // nkeys user key, "U..."
	Enrolled  metav1.Time `json:"enrolled"`
}

// NodeCredentialList is a list of node credentials.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type NodeCredentialList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []NodeCredential `json:"items"`
}

// MovePlan is what the rebalancer would do, or is doing, to one pod: start a replacement on To, and when it is ready
// stop the pod on From. Cluster-scoped.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type MovePlan struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitzero"`

	Spec   MovePlanSpec   `json:"spec"`
	Status MovePlanStatus `json:"status,omitzero"`
}

// MovePlanSpec is the move.
type MovePlanSpec struct {
	Pod    corev1.ObjectReference `json:"pod"`
	From   string                 `json:"from"`
	To     string                 `json:"to"`
	Gain   float64                `json:"gain"` // drop of the fleet's imbalance, 0..1
	Cost   float64                `json:"cost"` // same unit
	Reason string                 `json:"reason"`
}

// MovePlanStatus is how far the move has come.
type MovePlanStatus struct {
	Phase       string       `json:"phase,omitempty"` // Planned, Starting, Stopping, Done, Failed
	Message     string       `json:"message,omitempty"`
	Replacement string       `json:"replacement,omitempty"` // name of the pod that takes over
	Started     *metav1.Time `json:"started,omitempty"`
	Finished    *metav1.Time `json:"finished,omitempty"`
}

// MovePlanList is a list of moves.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type MovePlanList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []MovePlan `json:"items"`
}
