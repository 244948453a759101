package api

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// populate creates objects of a kind, numbered from first to end-1.
func (s *server) populate(ctx context.Context, k kind, first, end int64) error {
	body, err := newTemplate(asProtobuf, k.make(placeholderName))
	if err != nil {
		return err
	}
	clients, err := s.newClients(asProtobuf)
	if err != nil {
		return err
	}
	next := atomic.Int64{}
	next.Store(first)
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range clients {
		defer c.Client.CloseIdleConnections()
		group.Go(func() error {
			for n := next.Add(1) - 1; n < end; n = next.Add(1) - 1 {
				name := nameOf("object", n)
				request := c.Post().Namespace(namespace).Resource(k.plural).SetHeader("Content-Type", asProtobuf).Body([]byte(body.with(placeholderName, name)))
				if err := request.Do(ctx).Error(); err != nil {
					return fmt.Errorf("create %s %s on %s: %w", k.name, name, s.name, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// clear deletes the objects of a kind that operations have created, all but those numbered.
func (s *server) clear(ctx context.Context, k kind) error {
	c, err := s.newClient(asJSON, false)
	if err != nil {
		return err
	}
	defer c.Client.CloseIdleConnections()
	none := int64(0)
	err = c.Delete().Namespace(namespace).Resource(k.plural).Param("labelSelector", "app=bench,made=now").
		Param("gracePeriodSeconds", fmt.Sprint(none)).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("delete created %s on %s: %w", k.plural, s.name, err)
	}
	return nil
}
