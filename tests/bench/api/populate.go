package api

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/tests/bench/server"
)

// populate creates objects of a kind, numbered from 0 to end-1.
func populate(ctx context.Context, s *server.Server, k kind, end int64) error {
	body, err := newTemplate(server.Protobuf, k.make(placeholderName))
	if err != nil {
		return err
	}
	clients, err := newClients(s, server.Protobuf)
	if err != nil {
		return err
	}
	next := atomic.Int64{}
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range clients {
		defer c.Client.CloseIdleConnections()
		group.Go(func() error {
			for n := next.Add(1) - 1; n < end; n = next.Add(1) - 1 {
				name := nameOf("object", n)
				request := c.Post().Namespace(namespace).Resource(k.plural).SetHeader("Content-Type", server.Protobuf).Body([]byte(body.with(placeholderName, name)))
				if err := request.Do(ctx).Error(); err != nil {
					return fmt.Errorf("create %s %s on %s: %w", k.name, name, s.Name, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// remove deletes what operations have made.
func remove(ctx context.Context, s *server.Server, k kind) error {
	clients, err := newClients(s, server.JSON)
	if err != nil {
		return err
	}
	var list metav1.PartialObjectMetadataList
	data, err := clients[0].Get().Namespace(namespace).Resource(k.plural).Param("labelSelector", madeLabel).
		SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").Do(ctx).Raw()
	if err != nil {
		return fmt.Errorf("list made %s on %s: %w", k.plural, s.Name, err)
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range clients {
		defer c.Client.CloseIdleConnections()
		group.Go(func() error {
			for n := next.Add(1) - 1; n < int64(len(list.Items)); n = next.Add(1) - 1 {
				if err := c.Delete().Namespace(namespace).Resource(k.plural).Name(list.Items[n].Name).Do(ctx).Error(); err != nil {
					return fmt.Errorf("delete %s on %s: %w", list.Items[n].Name, s.Name, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}
