package apiserver

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"skerry.dev/skerry/coordinator/resource"
)

// discovery answers what the server serves. All documents are made once: what is served does not change at run time.
type discovery struct {
	docs       map[string]document // by path
	aggregated map[string]document // the same paths in the aggregated form; only /api and /apis
}

type document struct {
	contentType string
	body        []byte
	etag        string
}

const typeAggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// reviews are the kinds that are asked, not kept.
var reviews = []*resource.Resource{
	review(authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview"), "selfsubjectreviews", false),
	review(authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), "tokenreviews", false),
	review(authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"), "selfsubjectaccessreviews", false),
	review(authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectRulesReview"), "selfsubjectrulesreviews", false),
	review(authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview"), "subjectaccessreviews", false),
	review(authorizationv1.SchemeGroupVersion.WithKind("LocalSubjectAccessReview"), "localsubjectaccessreviews", true),
}

func review(gvk schema.GroupVersionKind, plural string, namespaced bool) *resource.Resource {
	return &resource.Resource{
		GVK: gvk, Plural: plural, Singular: strings.ToLower(gvk.Kind), Namespaced: namespaced, Verbs: []string{"create"},
	}
}

func newDiscovery(served []*resource.Resource) (*discovery, error) {
	d := &discovery{docs: map[string]document{}, aggregated: map[string]document{}}
	versions := byVersion(slices.Concat(served, reviews, measured))
	docs := map[string]any{
		"/api":    &metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}, ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{}},
		"/apis":   groupList(versions),
		"/api/v1": resourceList(schema.GroupVersion{Version: "v1"}, versions[schema.GroupVersion{Version: "v1"}]),
	}
	for gv, list := range versions {
		if gv.Group != "" {
			docs["/apis/"+gv.String()] = resourceList(gv, list)
		}
	}
	for _, group := range groupsOf(versions) {
		group.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
		docs["/apis/"+group.Name] = group
	}
	for path, doc := range docs {
		if err := add(d.docs, path, typeJSON, doc); err != nil {
			return nil, err
		}
	}
	for _, path := range []string{"/api", "/apis"} {
		if err := add(d.aggregated, path, typeAggregated, aggregate(versions, path == "/api")); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func add(docs map[string]document, path, contentType string, doc any) error {
	body, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode discovery document %s: %w", path, err)
	}
	sum := sha256.Sum256(body)
	docs[path] = document{contentType: contentType, body: body, etag: `"` + hex.EncodeToString(sum[:]) + `"`}
	return nil
}

// ServeHTTP answers one of the discovery paths.
func (d *discovery) serve(w http.ResponseWriter, r *http.Request) bool {
	path := strings.TrimSuffix(r.URL.Path, "/")
	doc, ok := d.docs[path]
	if !ok {
		return false
	}
	if aggregated, ok := d.aggregated[path]; ok && wantsAggregated(r) {
		doc = aggregated
	}
	w.Header().Set("Vary", "Accept")
	doc.serve(w, r)
	return true
}

func (doc document) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", doc.etag)
	if r.Header.Get("If-None-Match") == doc.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", doc.contentType)
	writeBody(w, http.StatusOK, doc.body)
}

// wantsAggregated takes the client's first wish that is either form.
func wantsAggregated(r *http.Request) bool {
	for _, w := range wishes(r.Header.Values("Accept")) {
		if w.media != typeJSON && w.media != "*/*" && w.media != "application/*" {
			continue
		}
		if w.params["as"] == "" {
			return false
		}
		if w.params["as"] == "APIGroupDiscoveryList" && w.params["g"] == "apidiscovery.k8s.io" && w.params["v"] == "v2" {
			return true
		}
	}
	return false
}

func byVersion(list []*resource.Resource) map[schema.GroupVersion][]*resource.Resource {
	out := map[schema.GroupVersion][]*resource.Resource{}
	for _, r := range list {
		out[r.GVK.GroupVersion()] = append(out[r.GVK.GroupVersion()], r)
	}
	return out
}

// sortedVersions orders groups by name, and the versions of each as upstream does: the newest first.
func sortedVersions(versions map[schema.GroupVersion][]*resource.Resource) []schema.GroupVersion {
	var list []schema.GroupVersion
	for gv := range versions {
		list = append(list, gv)
	}
	slices.SortFunc(list, func(a, b schema.GroupVersion) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), version.CompareKubeAwareVersionStrings(b.Version, a.Version))
	})
	return list
}

// groupsOf lists all groups but the core one. A group's first version is the one that clients should use.
func groupsOf(versions map[schema.GroupVersion][]*resource.Resource) []metav1.APIGroup {
	var groups []metav1.APIGroup
	for _, gv := range sortedVersions(versions) {
		v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
		switch n := len(groups); {
		case gv.Group == "":
		case n > 0 && groups[n-1].Name == gv.Group:
			groups[n-1].Versions = append(groups[n-1].Versions, v)
		default:
			groups = append(groups, metav1.APIGroup{Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v})
		}
	}
	return groups
}

func groupList(versions map[schema.GroupVersion][]*resource.Resource) *metav1.APIGroupList {
	return &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: groupsOf(versions)}
}

func resourceList(gv schema.GroupVersion, list []*resource.Resource) *metav1.APIResourceList {
	out := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	for _, r := range list {
		out.APIResources = append(out.APIResources, metav1.APIResource{
			Name: r.Plural, SingularName: r.Singular, Namespaced: r.Namespaced, Kind: r.GVK.Kind,
			Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories,
		})
		for _, sub := range r.Subresources {
			out.APIResources = append(out.APIResources, oldSubresource(r, sub))
		}
	}
	return out
}

// oldSubresource names group and version of a subresource only when they are not those of its resource.
func oldSubresource(r *resource.Resource, sub resource.Subresource) metav1.APIResource {
	out := metav1.APIResource{Name: r.Plural + "/" + sub.Name, Namespaced: r.Namespaced, Kind: sub.GVK.Kind, Verbs: sub.Verbs}
	if sub.GVK.GroupVersion() != r.GVK.GroupVersion() {
		out.Group, out.Version = sub.GVK.Group, sub.GVK.Version
	}
	return out
}

// aggregate makes the document of /api (the core group) or of /apis (all others).
func aggregate(versions map[schema.GroupVersion][]*resource.Resource, core bool) *apidiscovery.APIGroupDiscoveryList {
	out := &apidiscovery.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: apidiscovery.SchemeGroupVersion.String()},
	}
	for _, gv := range sortedVersions(versions) {
		if (gv.Group == "") != core {
			continue
		}
		served := apidiscovery.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscovery.DiscoveryFreshnessCurrent}
		for _, r := range versions[gv] {
			served.Resources = append(served.Resources, aggregatedResource(r))
		}
		if n := len(out.Items); n > 0 && out.Items[n-1].Name == gv.Group {
			out.Items[n-1].Versions = append(out.Items[n-1].Versions, served)
			continue
		}
		out.Items = append(out.Items, apidiscovery.APIGroupDiscovery{
			ObjectMeta: metav1.ObjectMeta{Name: gv.Group}, Versions: []apidiscovery.APIVersionDiscovery{served},
		})
	}
	return out
}

func aggregatedResource(r *resource.Resource) apidiscovery.APIResourceDiscovery {
	out := apidiscovery.APIResourceDiscovery{
		Resource: r.Plural, SingularResource: r.Singular, ResponseKind: kindOf(r.GVK), Scope: apidiscovery.ScopeCluster,
		Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories,
	}
	if r.Namespaced {
		out.Scope = apidiscovery.ScopeNamespace
	}
	for _, sub := range r.Subresources {
		out.Subresources = append(out.Subresources, apidiscovery.APISubresourceDiscovery{
			Subresource: sub.Name, ResponseKind: kindOf(sub.GVK), Verbs: sub.Verbs,
		})
	}
	return out
}

func kindOf(gvk schema.GroupVersionKind) *metav1.GroupVersionKind {
	return &metav1.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind}
}
