package automation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/shares"
	"skerry.dev/skerry/coordinator/view"
)

// ServiceName is the micro service's name, as `nats micro ls` shows it.
const ServiceName = "skerry"

const (
	// requestLimit is how long one request may take.
	requestLimit = 30 * time.Second
	// syncLimit is how long a request waits for a coordinator that has just started.
	syncLimit = 2 * time.Second
	// maxAtOnce bounds the requests under work. When it is reached, NATS holds the next ones back; a user who has half of them
	// under work is told to try again, so that they hold back nobody else's.
	maxAtOnce = 64
)

// Writer is the write path: an *objects.Store.
type Writer interface {
	Apply(ctx context.Context, manifest []byte, o objects.WriteOptions) (out runtime.Object, changed bool, err error)
	Delete(ctx context.Context, res *resource.Resource, namespace, name string, o metav1.DeleteOptions) (out runtime.Object, deleted bool, err error)
}

// EndpointsConfig is what Endpoints need. Log and Audit may be nil, all else must be set.
type EndpointsConfig struct {
	Conn    *nats.Conn
	View    *view.View
	Objects Writer
	Callers Callers
	Access  Access
	Audit   Auditor // nil keeps nothing
	Version string  // of the program, a semantic version without "v"; empty means 0.0.0
	Log     *slog.Logger
}

// Endpoints answers requests on skerry.v1.api.
type Endpoints struct {
	EndpointsConfig
	slots  chan struct{} // one token per request under work
	shares *shares.Shares
	work   sync.WaitGroup
}

// NewEndpoints checks the configuration.
func NewEndpoints(c EndpointsConfig) (*Endpoints, error) {
	if c.Conn == nil || c.View == nil || c.Objects == nil || c.Callers == nil || c.Access == nil {
		return nil, errors.New("automation endpoints: Conn, View, Objects, Callers and Access must be set")
	}
	if c.Audit == nil {
		c.Audit = noAudit{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Version == "" {
		c.Version = "0.0.0"
	}
	return &Endpoints{EndpointsConfig: c, slots: make(chan struct{}, maxAtOnce), shares: shares.New("requests", maxAtOnce)}, nil
}

// Run answers requests until ctx ends, and returns when those under work are answered.
func (e *Endpoints) Run(ctx context.Context) error {
	service, err := micro.AddService(e.Conn, micro.Config{
		Name: ServiceName, Version: e.Version, Description: "Objects of a Skerry cluster: get, list, apply and delete",
		Metadata: map[string]string{"kinds": "plural names of the Kubernetes API"},
	})
	if err != nil {
		return fmt.Errorf("start automation service: %w", err)
	}
	err = e.addAll(ctx, service)
	if err == nil {
		<-ctx.Done()
	}
	if stopErr := service.Stop(); stopErr != nil && !errors.Is(stopErr, nats.ErrConnectionClosed) {
		err = errors.Join(err, fmt.Errorf("stop automation service: %w", stopErr))
	}
	e.work.Wait()
	return err
}

func (e *Endpoints) addAll(ctx context.Context, service micro.Service) error {
	for _, s := range served() {
		err := service.AddEndpoint(s.operation(), e.handler(ctx, s.res, s.verb), micro.WithEndpointSubject(s.subject()), micro.WithEndpointMetadata(s.verb.metadata(s.res)))
		if err != nil {
			return fmt.Errorf("add endpoint %s: %w", s.subject(), err)
		}
	}
	return e.addDocument(service)
}

func (e *Endpoints) addDocument(service micro.Service) error {
	body, err := Document(e.Version)
	if err != nil {
		return fmt.Errorf("describe the automation subjects: %w", err)
	}
	answer := micro.HandlerFunc(func(msg micro.Request) {
		if err := msg.Respond(body); err != nil {
			e.Log.Warn("automation reply not sent", "subject", msg.Subject(), "err", err)
		}
	})
	about := micro.WithEndpointMetadata(map[string]string{"request": documentRequest, "response": documentResponse})
	if err := service.AddEndpoint(documentName, answer, micro.WithEndpointSubject(DocumentSubject), about); err != nil {
		return fmt.Errorf("add endpoint %s: %w", DocumentSubject, err)
	}
	return nil
}

// handler takes a request off its subscription at once, so that a slow one does not hold up the next.
func (e *Endpoints) handler(ctx context.Context, res *resource.Resource, v verb) micro.Handler {
	return micro.HandlerFunc(func(msg micro.Request) {
		select {
		case e.slots <- struct{}{}:
		case <-ctx.Done():
			return // the service is stopping; the requester's time-out tells it
		}
		e.work.Go(func() {
			defer func() { <-e.slots }()
			e.answer(ctx, msg, res, v)
		})
	})
}

func (e *Endpoints) answer(ctx context.Context, msg micro.Request, res *resource.Resource, v verb) {
	// A write that has begun is finished though the service stops.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestLimit)
	defer cancel()
	t := trail{subject: msg.Subject(), received: time.Now()}
	body, err := e.perform(ctx, msg, res, v, &t)
	status := metav1.Status{Code: http.StatusOK}
	if err == nil {
		err = msg.Respond(body)
	} else {
		status = e.statusOf(t.subject, err)
		err = fail(msg, status)
	}
	if err != nil {
		e.Log.Warn("automation reply not sent", "subject", t.subject, "err", err)
	}
	e.leave(t, res.GVK.Version, status)
	if v.writes {
		e.Log.Info("api write", "user", t.attributes.User.Name, "verb", v.name, "resource", res.GroupResource().String(),
			"namespace", t.attributes.Namespace, "name", t.attributes.Name, "code", status.Code)
	}
}

// perform does what a request asks, if its sender may, and notes in t what it learns on the way.
func (e *Endpoints) perform(ctx context.Context, msg micro.Request, res *resource.Resource, v verb, t *trail) ([]byte, error) {
	t.attributes = (&request{}).attributes(authn.User{}, res, v)
	if err := e.synced(ctx); err != nil { // who may do what is part of the state
		return nil, err
	}
	from, user, err := e.identify(nats.Header(msg.Headers()))
	t.from, t.attributes.User = from, user
	if err != nil {
		return nil, err
	}
	leave, err := e.shares.Enter(user)
	if err != nil {
		return nil, err
	}
	defer leave()
	req, err := parseRequest(msg.Data(), res)
	if err != nil {
		return nil, err
	}
	t.attributes, t.object = req.attributes(user, res, v), req.Object
	decision := e.Access.Authorize(t.attributes)
	t.decision = &decision
	if err := t.attributes.Refusal(decision); err != nil {
		return nil, err
	}
	body, err := v.run(ctx, e, res, req, t.attributes)
	if err == nil && int64(len(body)) > e.Conn.MaxPayload() {
		err = tooLarge(len(body), e.Conn.MaxPayload())
	}
	return body, err
}

// synced waits for the first complete state: until then an empty list would say that nothing exists.
func (e *Endpoints) synced(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syncLimit)
	defer cancel()
	select {
	case <-e.View.Synced():
		return nil
	case <-ctx.Done():
		return apierrors.NewServiceUnavailable("the state is not read from the store yet")
	}
}
