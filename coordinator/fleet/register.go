package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging"
)

// Registrar answers what an agent says first on each connection: it makes the node's object when there is none, keeps its
// address and seal key current, and tells it its pod network and whom to obey.
type Registrar struct {
	View    *view.View
	Objects *objects.Store
	// Reply is what is the same for every node: cluster, epoch, signing key, heartbeat.
	Reply messaging.RegisterReply
	Log   *slog.Logger
}

// registerTimeout bounds the writes behind one registration; the agent asks again.
const registerTimeout = 10 * time.Second

// Handle answers one request. It blocks for the writes: give it a goroutine.
func (r *Registrar) Handle(ctx context.Context, msg *nats.Msg) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	node, err := apiNode(msg.Subject)
	reply := r.Reply
	if err == nil {
		reply.PodCIDR, err = r.register(ctx, node, msg.Data)
	}
	if err != nil {
		r.Log.Warn("node not registered", "node", node, "err", err)
		reply = messaging.RegisterReply{Error: err.Error()}
	}
	data, err := json.Marshal(reply)
	if err == nil {
		err = msg.Respond(data)
	}
	if err != nil {
		r.Log.Warn("registration not answered", "node", node, "err", err)
	}
}

func (r *Registrar) register(ctx context.Context, node string, data []byte) (podCIDR string, err error) {
	var req messaging.RegisterRequest
	if err := json.Unmarshal(data, &req); err != nil {
		return "", fmt.Errorf("registration unreadable: %w", err)
	}
	if req.Protocol != messaging.ProtocolVersion {
		return "", versionError(req)
	}
	if !nkeys.IsValidPublicCurveKey(req.SealKey) {
		return "", fmt.Errorf("seal key %q is no public curve key", req.SealKey)
	}
	object, err := r.object(ctx, node)
	if err != nil {
		return "", err
	}
	if err := r.annotate(ctx, object, req); err != nil {
		return "", err
	}
	r.Log.Info("node registered", "node", node, "boot", req.Boot, "address", req.Address, "version", req.Version)
	return object.Spec.PodCIDR, nil
}

// versionError says which side is older.
func versionError(req messaging.RegisterRequest) error {
	advice := "upgrade the agent"
	if req.Protocol > messaging.ProtocolVersion {
		advice = "upgrade the coordinator"
	}
	return fmt.Errorf("agent %s speaks protocol %d, coordinator %s speaks %d: %s",
		req.Version, req.Protocol, api.BuildVersion, messaging.ProtocolVersion, advice)
}

func (r *Registrar) object(ctx context.Context, name string) (*corev1.Node, error) {
	if node, ok := get[*corev1.Node](r.View, "", name); ok {
		return node, nil
	}
	made, err := r.Objects.Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
	}, objects.WriteOptions{FieldManager: api.ComponentAgent})
	if apierrors.IsAlreadyExists(err) {
		if node, ok := get[*corev1.Node](r.View, "", name); ok {
			return node, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make node %s: %w", name, err)
	}
	node, ok := made.(*corev1.Node)
	if !ok {
		return nil, fmt.Errorf("make node %s: got a %T", name, made)
	}
	return node, nil
}

func (r *Registrar) annotate(ctx context.Context, node *corev1.Node, req messaging.RegisterRequest) error {
	if node.Annotations[api.AnnotationSealKey] == req.SealKey && node.Annotations[api.AnnotationNodeAddress] == req.Address {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{
		api.AnnotationSealKey: req.SealKey, api.AnnotationNodeAddress: req.Address,
	}}})
	if err != nil {
		return err
	}
	_, err = r.Objects.Patch(ctx, resource.ForObject(node), "", node.Name, types.MergePatchType, patch, "",
		objects.WriteOptions{FieldManager: api.ComponentAgent})
	return err
}

// apiNode is the node that sent a NodeAPISubject request: its permissions let it use no other subject.
func apiNode(subject string) (string, error) {
	parts := strings.Split(subject, ".")
	if len(parts) < 3 {
		return "", fmt.Errorf("subject %q names no node", subject)
	}
	return messaging.ParseToken(parts[len(parts)-2])
}
