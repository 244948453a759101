package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/apiserver/streaming"
	"skerry.dev/skerry/coordinator/resource"
)

// Nodes opens streams to the nodes.
type Nodes interface {
	// OpenLog reads a container's log as o says. The reader ends when the log does, or, when following, with ctx. Errors
	// that are a Status are shown to the client as they are.
	OpenLog(ctx context.Context, node, podUID, container string, o *corev1.PodLogOptions) (io.ReadCloser, error)
	// OpenExec starts a command in the container that o names. The connection carries the frames of messaging/channels
	// and, like those below, does not end with ctx. An error's text is shown to the client.
	OpenExec(ctx context.Context, node, podUID string, o *corev1.PodExecOptions) (net.Conn, error)
	// OpenAttach does that with the container's own process.
	OpenAttach(ctx context.Context, node, podUID string, o *corev1.PodAttachOptions) (net.Conn, error)
	// OpenPort connects to a port in the pod. The connection has a CloseWrite method.
	OpenPort(ctx context.Context, node, podUID string, port uint16) (net.Conn, error)
	// OpenPage reads a page of the node's figures to its end.
	OpenPage(ctx context.Context, node, page string) (io.ReadCloser, error)
}

func (s *Server) getScale(c *call) error {
	if _, err := s.encoder(c, nil); err != nil {
		return err
	}
	scale, err := s.objects.GetScale(c.resource, c.space(), c.name)
	if err != nil {
		return err
	}
	return s.respondObject(c, http.StatusOK, scale)
}

func (s *Server) updateScale(c *call) error {
	o, err := s.writing(c)
	if err != nil {
		return err
	}
	scale := &autoscalingv1.Scale{}
	if err := c.decodeInto(scale, c.sub().GVK); err != nil {
		return err
	}
	if scale.Name == "" {
		scale.Name = c.name
	}
	if scale.Name != c.name {
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", scale.Name, c.name)
	}
	out, err := s.objects.UpdateScale(c.r.Context(), c.resource, c.space(), scale, o)
	if err != nil {
		return err
	}
	return s.respondObject(c, http.StatusOK, out)
}

func (s *Server) bind(c *call) error {
	o, err := s.writing(c)
	if err != nil {
		return err
	}
	b := &corev1.Binding{}
	if err := c.decodeInto(b, c.sub().GVK); err != nil {
		return err
	}
	b.Namespace, b.Name = c.namespace, c.name
	if err := s.objects.Bind(c.r.Context(), c.namespace, b, o); err != nil {
		return err
	}
	return s.respondObject(c, http.StatusCreated, success(http.StatusCreated))
}

func (s *Server) evict(c *call) error {
	o, err := s.writing(c)
	if err != nil {
		return err
	}
	e := &policyv1.Eviction{}
	if err := c.decodeInto(e, c.sub().GVK); err != nil {
		return err
	}
	if e.Name != c.name {
		return badRequest("name in URL does not match name in Eviction object")
	}
	if e.Namespace != "" && e.Namespace != c.namespace {
		return badRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	e.Namespace = c.namespace
	if err := s.objects.Evict(c.r.Context(), e, o); err != nil {
		return err
	}
	return s.respondObject(c, http.StatusCreated, success(http.StatusCreated))
}

func success(code int32) *metav1.Status {
	return &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Code: code}
}

func (s *Server) notImplemented(c *call) error {
	return statusError(http.StatusNotImplemented, metav1.StatusReason("NotImplemented"),
		fmt.Sprintf("%s of pods is not served by this version of skerry", c.subresource))
}

// log streams a container's log as plain text.
func (s *Server) podLog(c *call) error {
	o, err := c.logOptions()
	if err != nil {
		return err
	}
	pod, err := s.pod(c)
	if err != nil {
		return err
	}
	if o.Container, err = chooseContainer(pod, o.Container); err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		return badRequest("container %q in pod %q is waiting: the pod has no node yet", o.Container, pod.Name)
	}
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	defer endWithServer(ctx, cancel)()
	in, err := s.nodes.OpenLog(ctx, pod.Spec.NodeName, string(pod.UID), o.Container, o)
	if err != nil {
		return logError(pod, o.Container, err)
	}
	defer in.Close()
	if streaming.WantsSocket(c.r) {
		return streaming.Log(c.w, c.r, in)
	}
	return s.copyLog(c, in)
}

func (s *Server) pod(c *call) (*corev1.Pod, error) {
	item, ok := s.view.Get(resource.Lookup("", "v1", "pods"), c.namespace, c.name)
	if !ok {
		return nil, c.notFound()
	}
	pod, ok := item.Object.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("pod %s/%s is a %T", c.namespace, c.name, item.Object)
	}
	return pod, nil
}

// chooseContainer finds the container that the client means, with upstream's words when it is not clear which.
func chooseContainer(pod *corev1.Pod, name string) (string, error) {
	var names, inits, later []string
	for _, ct := range pod.Spec.Containers {
		names = append(names, ct.Name)
	}
	for _, ct := range pod.Spec.InitContainers {
		inits = append(inits, ct.Name)
	}
	for _, ct := range pod.Spec.EphemeralContainers {
		later = append(later, ct.Name)
	}
	if name == "" && len(names) == 1 {
		return names[0], nil
	}
	if name != "" {
		if slices.Contains(slices.Concat(names, inits, later), name) {
			return name, nil
		}
		return "", badRequest("container %s is not valid for pod %s", name, pod.Name)
	}
	choice := strings.Join(names, " ")
	if len(inits) > 0 {
		return "", badRequest("a container name must be specified for pod %s, choose one of: [%s] or one of the init containers: [%s]", pod.Name, choice, strings.Join(inits, " "))
	}
	return "", badRequest("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, choice)
}

// logError keeps a Status as it is and words the rest: the node may be cut off, which is no fault of the server's.
func logError(pod *corev1.Pod, container string, err error) error {
	if _, internal := statusOf(err); !internal {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return statusError(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable,
		fmt.Sprintf("the log of container %q in pod %q cannot be read from node %q: %v", container, pod.Name, pod.Spec.NodeName, err))
}

// copyLog passes each piece on at once, and gives up on a client that does not take one in time. The status line is sent
// before the log is read: for a node that is lost meanwhile the connection is broken off, so that no client takes what it
// has for all there is.
func (s *Server) copyLog(c *call, in io.Reader) error {
	c.code = http.StatusOK
	c.w.Header().Set("Content-Type", "text/plain")
	c.w.WriteHeader(http.StatusOK)
	out := s.outflow(c.w)
	buf := make([]byte, 32<<10)
	err := out.send(nil) // a log that is followed may have nothing to say for long
	for err == nil {
		var n int
		n, err = in.Read(buf)
		if n > 0 && out.send(buf[:n]) != nil {
			return nil
		}
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, errGone) && !errors.Is(err, net.ErrClosed) && c.r.Context().Err() == nil {
		s.log.Warn("container log cut off", "namespace", c.namespace, "pod", c.name, "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}
