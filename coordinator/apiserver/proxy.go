package apiserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"skerry.dev/skerry/coordinator/resource"
)

// proxied is the subresource whose requests are passed on to a program in a pod.
const proxied = "proxy"

// proxies reports whether the request is for a program in a pod. Its verb follows its method.
func (t target) proxies() bool {
	return t.subresource == proxied && t.group == "" && (t.plural == "pods" || t.plural == "services")
}

// backend is the program that a proxied request is for.
type backend struct {
	pod    *corev1.Pod
	port   uint16
	scheme string // http, or https, of which nothing is verified: the stream to the pod is not on any network
}

// podProxy passes the request on to the pod that the name means: NAME, NAME:PORT or SCHEME:NAME:PORT.
func (s *Server) podProxy(c *call) error {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(c.name)
	if !ok {
		return badRequest("invalid pod request %q", c.name)
	}
	of := *c
	of.name = name
	pod, err := s.placed(&of)
	if err != nil {
		return err
	}
	number, err := podPort(pod, port)
	if err != nil {
		return err
	}
	return s.proxy(c, backend{pod, number, orHTTP(scheme)})
}

func orHTTP(scheme string) string {
	if scheme == "" {
		return "http"
	}
	return scheme
}

// podPort is the port asked for, else the first that the pod declares, else 80.
func podPort(pod *corev1.Pod, port string) (uint16, error) {
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return 0, badRequest("invalid port %q", port)
		}
		return uint16(n), nil
	}
	for i := range pod.Spec.Containers {
		if ports := pod.Spec.Containers[i].Ports; len(ports) > 0 {
			return uint16(ports[0].ContainerPort), nil //nolint:gosec // validated
		}
	}
	return 80, nil
}

// serviceProxy passes the request on to one of the service's ready pods, each time to another.
func (s *Server) serviceProxy(c *call) error {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(c.name)
	if !ok {
		return badRequest("invalid service request %q", c.name)
	}
	item, found := s.view.Get(resource.Lookup("", "v1", "services"), c.namespace, name)
	if !found {
		return c.notFound()
	}
	service, ok := item.Object.(*corev1.Service)
	if !ok {
		return fmt.Errorf("service %s/%s is a %T", c.namespace, name, item.Object)
	}
	portName, err := servicePort(service, port)
	if err != nil {
		return err
	}
	candidates := s.backends(service, portName, orHTTP(scheme))
	if len(candidates) == 0 {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", c.name))
	}
	return s.proxy(c, candidates[rand.IntN(len(candidates))])
}

// servicePort finds the name of the port that is meant: by name or number, or the only one.
func servicePort(service *corev1.Service, port string) (string, error) {
	for _, p := range service.Spec.Ports {
		if port == p.Name || port == strconv.Itoa(int(p.Port)) || port == "" && len(service.Spec.Ports) == 1 {
			return p.Name, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", port, service.Name))
}

// backends are the ready pods behind a service's port. Endpoints that are no pods have no node that would reach them.
func (s *Server) backends(service *corev1.Service, portName, scheme string) []backend {
	all, _ := s.view.List(resource.Lookup(discoveryv1.GroupName, "v1", "endpointslices"), service.Namespace)
	var found []backend
	for _, item := range all {
		slice, ok := item.Object.(*discoveryv1.EndpointSlice)
		if !ok || slice.Labels[discoveryv1.LabelServiceName] != service.Name {
			continue
		}
		port := slicePort(slice, portName)
		for i := range slice.Endpoints {
			if pod := s.readyPod(&slice.Endpoints[i], service.Namespace); pod != nil && port != 0 {
				found = append(found, backend{pod, port, scheme})
			}
		}
	}
	return found
}

func slicePort(slice *discoveryv1.EndpointSlice, name string) uint16 {
	i := slices.IndexFunc(slice.Ports, func(p discoveryv1.EndpointPort) bool {
		return p.Port != nil && (p.Name == nil && name == "" || p.Name != nil && *p.Name == name)
	})
	if i < 0 {
		return 0
	}
	return uint16(*slice.Ports[i].Port) //nolint:gosec // validated
}

func (s *Server) readyPod(e *discoveryv1.Endpoint, namespace string) *corev1.Pod {
	if e.TargetRef == nil || e.TargetRef.Kind != "Pod" || e.Conditions.Ready != nil && !*e.Conditions.Ready {
		return nil
	}
	item, ok := s.view.Get(resource.Lookup("", "v1", "pods"), namespace, e.TargetRef.Name)
	if !ok {
		return nil
	}
	pod, ok := item.Object.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" || pod.UID != e.TargetRef.UID {
		return nil
	}
	return pod
}

// proxy passes one request on, upgrades of the connection too.
func (s *Server) proxy(c *call, to backend) error {
	prefix, rest, slash := splitProxied(c.r.URL.EscapedPath())
	if !slash && (c.r.Method == http.MethodGet || c.r.Method == http.MethodHead) {
		return c.redirect(prefix)
	}
	path, err := url.PathUnescape(rest)
	if err != nil {
		return badRequest("%v", err)
	}
	at := &url.URL{Scheme: to.scheme, Host: net.JoinHostPort(to.pod.Status.PodIP, strconv.Itoa(int(to.port))), Path: path, RawPath: rest}
	return s.hold(c, func(ctx context.Context) error {
		transport := s.transport(to)
		defer transport.CloseIdleConnections()
		p := &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { rewrite(r, at) },
			ModifyResponse: func(r *http.Response) error {
				c.code = r.StatusCode
				guard(r, at, prefix)
				return nil
			},
			Transport: transport, FlushInterval: -1,
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
				c.code = s.writeError(w, r, apierrors.NewServiceUnavailable(fmt.Sprintf("error trying to reach service: %v", err)))
			},
		}
		p.ServeHTTP(c.w, c.r.WithContext(ctx))
		return nil
	})
}

// splitProxied divides a path after /proxy; slash says whether anything follows it.
func splitProxied(path string) (prefix, rest string, slash bool) {
	const segments = 8 // /api/v1/namespaces/NS/pods/NAME/proxy has seven slashes
	parts := strings.SplitN(path, "/", segments+1)
	if len(parts) <= segments {
		return strings.TrimSuffix(path, "/"), "/", strings.HasSuffix(path, "/")
	}
	rest = "/" + parts[segments]
	return strings.TrimSuffix(path, rest), rest, true
}

// redirect sends the client to the path with a slash at its end: relative links of the page then lead through here.
func (c *call) redirect(prefix string) error {
	to := prefix + "/"
	if c.r.URL.RawQuery != "" {
		to += "?" + c.r.URL.RawQuery
	}
	c.code = http.StatusMovedPermanently
	http.Redirect(c.w, c.r, to, c.code)
	return nil
}

// answerWait is how long a program may take to begin its answer.
const answerWait = 5 * time.Minute

// transport reaches the backend over a stream to its node.
func (s *Server) transport(to backend) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return s.nodes.OpenPort(ctx, to.pod.Spec.NodeName, string(to.pod.UID), to.port)
		},
		TLSClientConfig:       &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the stream leads to this pod and no other
		DisableCompression:    true,                                  // the client's choice
		ResponseHeaderTimeout: answerWait,
	}
}

// rewrite aims the request at the backend. What shows who the user is stays here.
func rewrite(r *httputil.ProxyRequest, at *url.URL) {
	query := r.In.URL.RawQuery
	*r.Out.URL = *at
	r.Out.URL.RawQuery = query
	r.Out.Host = r.In.Host
	r.Out.Header.Del("Authorization")
	r.Out.Header.Del("Cookie")
	if strings.Contains(r.In.Header.Get("Accept"), "text/html") {
		r.Out.Header.Del("Accept-Encoding") // links in a compressed page would lead nowhere
	}
	r.SetXForwarded()
}

// guard makes the answer fit to be shown under this server's address: redirects and links lead through here again, and a
// browser gives the page no access to what belongs to this server, its cookies first of all.
func guard(r *http.Response, at *url.URL, prefix string) {
	r.Header.Del("Set-Cookie")
	r.Header.Set("Content-Security-Policy", "sandbox allow-scripts allow-forms")
	through := func(link *url.URL) {
		elsewhere := link.Host != "" && link.Host != at.Host && link.Host != r.Request.Host
		if !elsewhere && strings.HasPrefix(link.Path, "/") && !strings.HasPrefix(link.Path, prefix+"/") {
			link.Scheme, link.Host = "", ""
			link.Path, link.RawPath = prefix+link.Path, ""
		}
	}
	if text := r.Header.Get("Location"); text != "" {
		if location, err := url.Parse(text); err == nil { // a program's odd header is the client's affair
			through(location)
			r.Header.Set("Location", location.String())
		}
		return
	}
	rewritePage(r, through)
}
