package apiserver

import (
	"encoding/base64"
	"encoding/json"
	"sort"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// A chunked list must look as if made in one go. The view's lists never change once handed out, so what a running
// chunked list needs is only kept from being forgotten, for a while and up to a number. As upstream, using a list does not
// prolong its life: a client that comes too late is told so, and how to go on.
const (
	pageLife = 5 * time.Minute
	maxPages = 128
)

// pages are the lists of running chunked reads.
type pages struct {
	now func() time.Time

	mu   sync.Mutex
	kept map[pageKey]keptPage
}

type pageKey struct {
	resource  *resource.Resource
	namespace string
	revision  uint64
}

type keptPage struct {
	items []*view.Item
	made  time.Time
	used  time.Time
}

func newPages(now func() time.Time) *pages {
	return &pages{now: now, kept: map[pageKey]keptPage{}}
}

func (p *pages) put(k pageKey, items []*view.Item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire()
	if _, ok := p.kept[k]; !ok {
		p.kept[k] = keptPage{items: items, made: p.now(), used: p.now()}
	}
}

func (p *pages) get(k pageKey) ([]*view.Item, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire()
	page, ok := p.kept[k]
	if ok {
		page.used = p.now()
		p.kept[k] = page
	}
	return page.items, ok
}

// expire drops what is too old, and the longest unused when there are too many.
func (p *pages) expire() {
	var oldest pageKey
	for k, page := range p.kept {
		if p.now().Sub(page.made) > pageLife {
			delete(p.kept, k)
		} else if have, ok := p.kept[oldest]; !ok || page.used.Before(have.used) {
			oldest = k
		}
	}
	if len(p.kept) >= maxPages {
		delete(p.kept, oldest)
	}
}

// place is what a continue token holds: where the next chunk starts in the list of which revision. The fields' names are
// upstream's.
type place struct {
	Version   string `json:"v"`
	Revision  int64  `json:"rv"` // anyRevision for the present list, whatever it is
	Namespace string `json:"ns,omitempty"`
	Name      string `json:"start"` // of the last object given out
}

const (
	placeVersion = "skerry.dev/v1"
	anyRevision  = -1 // upstream's number for it
)

func (p place) token() (string, error) {
	data, err := json.Marshal(p)
	return base64.RawURLEncoding.EncodeToString(data), err
}

func parsePlace(token string) (place, error) {
	var p place
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return p, badRequest("invalid continue token: continue key is not valid: %v", err)
	}
	if err := json.Unmarshal(data, &p); err != nil || p.Version != placeVersion {
		return p, badRequest("invalid continue token: continue key is not valid: it was not made by this server")
	}
	return p, nil
}

// page is one chunk, or the whole, of a list.
type page struct {
	items []*view.Item
	meta  metav1.ListMeta
}

func (s *Server) page(c *call, o *internalversion.ListOptions, sel selection) (page, error) {
	items, revision, err := s.base(c, o)
	if err != nil {
		return page{}, err
	}
	whole := items
	if o.Continue != "" {
		p, err := parsePlace(o.Continue)
		if err != nil {
			return page{}, err
		}
		items = after(items, p)
	}
	items = sel.choose(items)
	out := page{items: items, meta: metav1.ListMeta{ResourceVersion: strconv.FormatUint(revision, 10)}}
	if o.Limit <= 0 || int64(len(items)) <= o.Limit {
		return out, nil
	}
	s.pages.put(pageKey{c.resource, c.space(), revision}, whole)
	return out, out.cut(int(o.Limit), revision, sel.everything())
}

// base finds the list that a request reads from: the present one, or an older one that is being read in chunks.
func (s *Server) base(c *call, o *internalversion.ListOptions) ([]*view.Item, uint64, error) {
	if o.Continue != "" {
		if o.ResourceVersion != "" && o.ResourceVersion != "0" {
			return nil, 0, badRequest("specifying resource version is not allowed when using continue")
		}
		p, err := parsePlace(o.Continue)
		if err != nil {
			return nil, 0, err
		}
		return s.continued(c, p)
	}
	revision, err := parseRevision(o.ResourceVersion)
	if err != nil {
		return nil, 0, err
	}
	if err := s.fresh(c.r.Context(), revision); err != nil {
		return nil, 0, err
	}
	items, now := s.view.List(c.resource, c.space())
	exact := o.ResourceVersionMatch == metav1.ResourceVersionMatchExact ||
		o.ResourceVersionMatch == "" && o.Limit > 0 && revision > 0
	if exact && revision != now {
		return s.keptList(c, revision)
	}
	return items, now, nil
}

// continued is the list that a chunked read goes on in. When it is forgotten, the error has a token with which to go on in
// the present one.
func (s *Server) continued(c *call, p place) ([]*view.Item, uint64, error) {
	if p.Revision == anyRevision {
		items, now := s.view.List(c.resource, c.space())
		return items, now, nil
	}
	items, revision, err := s.keptList(c, uint64(max(p.Revision, 0))) //nolint:gosec // not negative
	if err == nil {
		return items, revision, nil
	}
	p.Revision = anyRevision
	token, err := p.token()
	if err != nil {
		return nil, 0, err
	}
	tooOld := apierrors.NewResourceExpired(continueExpired)
	tooOld.ErrStatus.Continue = token
	return nil, 0, tooOld
}

// Upstream's words for lists that are not to be had any more.
const (
	listExpired     = "The resourceVersion for the provided list is too old."
	continueExpired = "The provided continue parameter is too old to display a consistent list result. You can start a new list without " +
		"the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided " +
		"token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned " +
		"and now may show up in the list."
)

func (s *Server) keptList(c *call, revision uint64) ([]*view.Item, uint64, error) {
	if items, ok := s.pages.get(pageKey{c.resource, c.space(), revision}); ok {
		return items, revision, nil
	}
	if items, now := s.view.List(c.resource, c.space()); now == revision {
		return items, now, nil
	}
	return nil, 0, expired(listExpired)
}

// after skips what a chunked read has given out. Lists are sorted by namespace and name.
func after(items []*view.Item, p place) []*view.Item {
	at := sort.Search(len(items), func(i int) bool {
		m := items[i].Meta
		if m.GetNamespace() != p.Namespace {
			return m.GetNamespace() > p.Namespace
		}
		return m.GetName() > p.Name
	})
	return items[at:]
}

// cut shortens the page to limit items. How many remain is said only if no selector hides the true number, as upstream.
func (p *page) cut(limit int, revision uint64, exact bool) error {
	last := p.items[limit-1].Meta
	if exact {
		rest := int64(len(p.items) - limit)
		p.meta.RemainingItemCount = &rest
	}
	var err error
	p.meta.Continue, err = place{placeVersion, int64(revision), last.GetNamespace(), last.GetName()}.token() //nolint:gosec // revisions are far below the limit
	p.items = p.items[:limit]
	return err
}
