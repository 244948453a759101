package api

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"skerry.dev/skerry/tests/bench/server"
)

// connections is how many clients work at once, each on a connection of its own.
const connections = 16

const namespace = "bench"

func newClients(s *server.Server, media string) ([]*rest.RESTClient, error) {
	clients := make([]*rest.RESTClient, connections)
	for i := range clients {
		var err error
		if clients[i], err = s.Client(media, false); err != nil {
			return nil, err
		}
	}
	return clients, nil
}

// prepare makes what the objects live in. A real cluster's controllers would make the service account that upstream's
// admission asks for; Skerry's have made it.
func prepare(ctx context.Context, s *server.Server) error {
	client, err := s.Client(server.JSON, false)
	if err != nil {
		return err
	}
	defer client.Client.CloseIdleConnections()
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := client.Post().Resource("namespaces").Body(space).Do(ctx).Error(); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: namespace}}
	err = client.Post().Namespace(namespace).Resource("serviceaccounts").Body(account).Do(ctx).Error()
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}
