package server

import (
	"context"
	"fmt"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// Media types.
const (
	JSON     = "application/json"
	Protobuf = runtime.ContentTypeProtobuf
)

// dialTime is long because a thousand watchers dial at once.
const dialTime = 30 * time.Second

// Client is a client on a connection of its own. It takes answers as bytes: what it would do with them costs the same
// whoever sent them.
func (s *Server) Client(media string, compress bool) (*rest.RESTClient, error) {
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

// Encode writes an object as a request's body.
func Encode(media string, obj runtime.Object) ([]byte, error) {
	gvks, _, err := scheme.Scheme.ObjectKinds(obj)
	if err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(gvks[0])
	var e runtime.Encoder = protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	if media == JSON {
		e = scheme.Codecs.LegacyCodec(gvks[0].GroupVersion())
	}
	data, err := runtime.Encode(e, obj)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	return data, nil
}
