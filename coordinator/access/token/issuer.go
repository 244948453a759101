package token

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"

	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// IssuerName is the iss of all tokens, and the audience of those for the API.
const IssuerName = "https://kubernetes.default.svc.cluster.local"

// Lifetimes, upstream's.
const (
	minSeconds     = 10 * 60
	maxSeconds     = 1 << 32
	defaultSeconds = 60 * 60
	// mountedSeconds is what the volume that every pod gets asks for. Such a token lives for extendedLife, so that a
	// program that reads it only once, or a node that is cut off, keeps working.
	mountedSeconds = 60*60 + 7
	extendedLife   = 365 * 24 * time.Hour
	// leeway is for clocks that differ.
	leeway = time.Minute
)

// claims are the content of a token. The private ones have upstream's names.
type claims struct {
	jwt.Claims
	Audience   audience `json:"aud,omitempty"` // goes before that of Claims
	Kubernetes bound    `json:"kubernetes.io"`
	legacy     legacy   // of a token that is kept in a Secret, which has these instead
}

// audience is written as a list even when it has one element, as upstream's is, which not all who read tokens take as a
// single text.
type audience []string

// UnmarshalJSON implements json.Unmarshaler. It also takes a single text.
func (a *audience) UnmarshalJSON(data []byte) error { return (*jwt.Audience)(a).UnmarshalJSON(data) }

type bound struct {
	Namespace string           `json:"namespace"`
	Account   ref              `json:"serviceaccount"`
	Pod       *ref             `json:"pod,omitempty"`
	Secret    *ref             `json:"secret,omitempty"`
	Node      *ref             `json:"node,omitempty"`
	WarnAfter *jwt.NumericDate `json:"warnafter,omitempty"`
}

type ref struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
}

// Objects is where accounts and what tokens are bound to are looked up: a view.View.
type Objects interface {
	Get(res *resource.Resource, namespace, name string) (*view.Item, bool)
}

// Issuer makes tokens and says whose they are. Its methods may be called concurrently. Use New.
type Issuer struct {
	keys    *Keys
	objects Objects
	now     func() time.Time
}

// New makes an Issuer. now is the clock, time.Now outside tests.
func New(keys *Keys, objects Objects, now func() time.Time) *Issuer {
	return &Issuer{keys: keys, objects: objects, now: now}
}

// The kinds that are looked up.
var (
	accounts = resource.ForObject((*corev1.ServiceAccount)(nil))
	pods     = resource.ForObject((*corev1.Pod)(nil))
	secrets  = resource.ForObject((*corev1.Secret)(nil))
	nodes    = resource.ForObject((*corev1.Node)(nil))
)

func get[T runtime.Object](from Objects, res *resource.Resource, namespace, name string) (T, bool) {
	var none T
	item, ok := from.Get(res, namespace, name)
	if !ok {
		return none, false
	}
	obj, ok := item.Object.(T)
	return obj, ok
}

// order is what a token is to say.
type order struct {
	account   *corev1.ServiceAccount
	pod       *corev1.Pod
	secret    *corev1.Secret
	node      *corev1.Node
	audiences []string
	issued    time.Time
	seconds   int64
}

func (i *Issuer) make(o order) (string, error) {
	c := claims{
		Claims: jwt.Claims{
			Issuer: IssuerName, Subject: authn.ServiceAccountName(o.account.Namespace, o.account.Name),
			IssuedAt: jwt.NewNumericDate(o.issued), NotBefore: jwt.NewNumericDate(o.issued), ID: string(uuid.NewUUID()),
		},
		Audience:   o.audiences,
		Kubernetes: bound{Namespace: o.account.Namespace, Account: *refOf(o.account)},
	}
	life := time.Duration(o.seconds) * time.Second
	if o.pod != nil && o.seconds == mountedSeconds && slices.Equal(o.audiences, []string{IssuerName}) {
		c.Kubernetes.WarnAfter = jwt.NewNumericDate(o.issued.Add(life))
		life = extendedLife
	}
	c.Expiry = jwt.NewNumericDate(o.issued.Add(life))
	if o.pod != nil {
		c.Kubernetes.Pod = refOf(o.pod)
	}
	if o.secret != nil {
		c.Kubernetes.Secret = refOf(o.secret)
	}
	if o.node != nil {
		c.Kubernetes.Node = refOf(o.node)
	}
	return i.keys.sign(c)
}

func refOf(m metav1.Object) *ref { return &ref{Name: m.GetName(), UID: string(m.GetUID())} }

// errNoAccount says that a pod's account is not there.
var errNoAccount = errors.New("its service account does not exist")

// ForPod makes the token that a projected volume of the pod asks for, as if at issued. An empty audience is the API's;
// zero seconds are an hour.
func (i *Issuer) ForPod(pod *corev1.Pod, audience string, seconds int64, issued time.Time) (string, error) {
	account, ok := get[*corev1.ServiceAccount](i.objects, accounts, pod.Namespace, pod.Spec.ServiceAccountName)
	if !ok {
		return "", fmt.Errorf("token for pod %s/%s as %q: %w", pod.Namespace, pod.Name, pod.Spec.ServiceAccountName, errNoAccount)
	}
	if audience == "" {
		audience = IssuerName
	}
	if seconds == 0 {
		seconds = defaultSeconds
	}
	return i.make(order{account: account, pod: pod, node: i.nodeOf(pod), audiences: []string{audience}, issued: issued, seconds: seconds})
}

// nodeOf is the pod's node; nil when it has none, and one without UID when that is not there any more.
func (i *Issuer) nodeOf(pod *corev1.Pod) *corev1.Node {
	if pod.Spec.NodeName == "" {
		return nil
	}
	if node, ok := get[*corev1.Node](i.objects, nodes, "", pod.Spec.NodeName); ok {
		return node
	}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: pod.Spec.NodeName}}
}

// AccountUID is the UID of an account, empty when there is none.
func (i *Issuer) AccountUID(namespace, name string) string {
	account, ok := get[*corev1.ServiceAccount](i.objects, accounts, namespace, name)
	if !ok {
		return ""
	}
	return string(account.UID)
}
