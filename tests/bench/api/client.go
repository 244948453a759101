package api

import (
	"context"
	"fmt"
	"net"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	corev1 "k8s.io/api/core/v1"
)

// connections is how many clients work at once, each on a connection of its own.
const connections = 16

const namespace = "bench"

// Media types.
const (
	asJSON     = "application/json"
	asProtobuf = runtime.ContentTypeProtobuf
)

// dialTime is long because a thousand watchers dial at once.
const dialTime = 30 * time.Second

// newClient is a client on a connection of its own. It takes answers as bytes: what it would do with them costs the same
// whoever sent them.
func (s *server) newClient(media string, compress bool) (*rest.RESTClient, error) {
	c := rest.CopyConfig(s.config)
	dialer := &net.Dialer{Timeout: dialTime}
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) { // one that is its own is not shared
		return dialer.DialContext(ctx, network, address)
	}
	c.QPS = -1 // no limit
	c.DisableCompression = !compress
	c.APIPath, c.GroupVersion = "/api", &corev1.SchemeGroupVersion
	c.ContentType, c.AcceptContentTypes = media, media
	c.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	return rest.RESTClientFor(c)
}

func (s *server) newClients(media string) ([]*rest.RESTClient, error) {
	clients := make([]*rest.RESTClient, connections)
	for i := range clients {
		var err error
		if clients[i], err = s.newClient(media, false); err != nil {
			return nil, err
		}
	}
	return clients, nil
}

// encode writes an object as a request's body.
func encode(media string, obj runtime.Object) ([]byte, error) {
	gvks, _, err := scheme.Scheme.ObjectKinds(obj)
	if err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(gvks[0])
	var e runtime.Encoder = protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	if media == asJSON {
		e = scheme.Codecs.LegacyCodec(gvks[0].GroupVersion())
	}
	data, err := runtime.Encode(e, obj)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	return data, nil
}

// prepare makes what the objects live in. A real cluster's controllers would make the service account that upstream's
// admission asks for.
func (s *server) prepare(ctx context.Context) error {
	client, err := s.newClient(asJSON, false)
	if err != nil {
		return err
	}
	defer client.Client.CloseIdleConnections()
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := client.Post().Resource("namespaces").Body(space).Do(ctx).Error(); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: namespace}}
	err = client.Post().Namespace(namespace).Resource("serviceaccounts").Body(account).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}
