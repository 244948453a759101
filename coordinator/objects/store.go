// Package objects is the one way an object is written: defaults, validation, the rules of each kind, compare-and-set,
// deletion with grace and finalizers, and the allocation of service addresses and pod networks.
//
// The apiserver, the automation endpoints, the controllers' shell and the merger of node reports all write through it,
// so none of them can break a rule that the others keep. It reads the present state from the view, and answers a write
// only when the view has seen it. It serves no protocol and decides nothing that a controller should.
package objects

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/objects/defaults"
	"skerry.dev/skerry/coordinator/objects/ownership"
	"skerry.dev/skerry/coordinator/objects/validation"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging/store"
)

// Storage is what a Store writes to: a store.Store.
type Storage interface {
	Get(ctx context.Context, key store.Key) (store.Entry, error)
	Create(ctx context.Context, key store.Key, value []byte) (uint64, error)
	Update(ctx context.Context, key store.Key, value []byte, revision uint64) (uint64, error)
	Delete(ctx context.Context, key store.Key, revision uint64) (uint64, error)
}

// MaxObjectBytes is how large one object may be as stored, as in etcd.
const MaxObjectBytes = 1536 << 10

// Options configure a Store.
type Options struct {
	ServiceCIDR netip.Prefix     // IPv4, /12 to /28; zero means 10.43.0.0/16
	PodCIDR     netip.Prefix     // IPv4, of the whole cluster; zero means 10.42.0.0/16
	NodeBits    int              // prefix length of one node's share of PodCIDR; zero means 24
	Now         func() time.Time // nil means time.Now; for the timestamps in objects
	Logger      *slog.Logger     // nil logs nothing
	// RootCA is the certificate authority of the API, in PEM. With it namespaces are furnished with it and with a default
	// ServiceAccount, and pods must have an account. nil: neither.
	RootCA []byte
}

// Store writes objects. All methods may be called concurrently. They change no object they are given, and what they
// return is the caller's own. Every error is an *errors.StatusError of apimachinery with upstream's reason, details and
// words. Namespaced objects must come with their namespace set.
//
// Writes to one object queue up: each reads what the one before wrote, so only another coordinator can make them
// conflict.
type Store struct {
	view       *view.View
	to         Storage
	now        func() time.Time
	log        *slog.Logger
	defaults   *defaults.Defaulter
	validator  *validation.Validator
	strategies map[*resource.Resource]*strategy
	locks      *locks
	owners     *ownership.Tracker
	services   *addresses
	nodePorts  *pool
	nodes      *subnets
	charges    charges
	rootCA     []byte
}

// WriteOptions are the options common to writes. The zero value is a plain write.
type WriteOptions struct {
	DryRun       bool         // do everything but the write
	FieldManager string       // who writes, for managed fields
	Track        bool         // a new object's managed fields are kept from its creation, not from the first server-side apply on
	Force        bool         // a server-side apply takes fields from other managers
	Validation   string       // of unknown and duplicate fields in patches: metav1.FieldValidationStrict, Warn or Ignore; empty is Ignore
	Warn         func(string) // takes warnings for the client; nil drops them
	// Admit may refuse what is about to be stored, after defaults and before validation; old is nil for a new object. It
	// is not asked about writes of status. Neither object is its own to keep or to change. nil admits everything.
	Admit func(obj, old runtime.Object) error
}

func (o WriteOptions) admit(obj, old runtime.Object) error {
	if o.Admit == nil {
		return nil
	}
	return o.Admit(obj, old)
}

func (o WriteOptions) warn(texts ...string) {
	if o.Warn == nil {
		return
	}
	for _, t := range texts {
		o.Warn(t)
	}
}

// New makes a Store that reads v and writes to to.
func New(v *view.View, to Storage, o Options) (*Store, error) {
	s := &Store{view: v, to: to, now: o.Now, log: o.Logger, rootCA: o.RootCA, locks: newLocks(), nodePorts: newPool()}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.defaults, err = defaults.New(); err != nil {
		return nil, fmt.Errorf("prepare defaults: %w", err)
	}
	if s.validator, err = validation.New(); err != nil {
		return nil, fmt.Errorf("prepare validation: %w", err)
	}
	if s.services, err = newAddresses(orPrefix(o.ServiceCIDR, "10.43.0.0/16")); err != nil {
		return nil, fmt.Errorf("service network: %w", err)
	}
	if s.nodes, err = newSubnets(orPrefix(o.PodCIDR, "10.42.0.0/16"), o.NodeBits); err != nil {
		return nil, fmt.Errorf("pod network: %w", err)
	}
	s.strategies = s.allStrategies()
	s.owners = ownership.New(ownership.Rules{Default: s.defaults.Set, Reset: s.resetFields})
	return s, nil
}

func orPrefix(p netip.Prefix, fallback string) netip.Prefix {
	if p.IsValid() {
		return p.Masked()
	}
	return netip.MustParsePrefix(fallback)
}

func keyOf(res *resource.Resource, namespace, name string) store.Key {
	return store.Key{Kind: res.StoreKind(), Namespace: namespace, Name: name}
}
