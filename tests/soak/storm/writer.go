package storm

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"skerry.dev/skerry/tests/cluster"
)

// client speaks to the API and says of each request whether it was answered, refused, or nobody knows.
type client struct {
	base  string
	token string
	http  *http.Client
}

func newClient(c *cluster.Cluster) (*client, error) {
	token, err := c.Token()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // our own cluster on loopback
	return &client{base: c.State0.API, token: token, http: &http.Client{Timeout: 5 * time.Second, Transport: transport}}, nil
}

var errRefused = errors.New("refused")

func (c *client) do(ctx context.Context, method, path string, body, out any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	switch {
	case resp.StatusCode >= 500: // it may have happened all the same
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	case resp.StatusCode >= 400:
		return fmt.Errorf("%w: %s %s: %s: %s", errRefused, method, path, resp.Status, answer)
	case out != nil:
		return json.Unmarshal(answer, out)
	}
	return nil
}

// absent stands for the value of an object that was deleted, or never made.
const absent = -1

// record is what is known of one ConfigMap or Deployment. A value that was acknowledged must be there, unless a later attempt, whose
// answer was lost, has overwritten it.
type record struct {
	acked     int   // newest acknowledged value, or absent
	attempted []int // values tried after it without an answer
}

// writer writes counters to ConfigMaps and replicas to Deployments, and remembers what was acknowledged.
type writer struct {
	client *client
	random *rand.Rand // for run
	chance *rand.Rand // for deploy

	mu      sync.Mutex
	records map[string]*record
	acked   int
	unknown int
	refused int
}

const maps = 40

func newWriter(c *client, seed int64) *writer {
	return &writer{
		client: c, random: rand.New(rand.NewSource(seed + 1)), chance: rand.New(rand.NewSource(seed + 2)), //nolint:gosec // repeatable, not secret
		records: map[string]*record{
			deployments + "/quick": {acked: replicas}, deployments + "/patient": {acked: replicas},
		},
	}
}

func (w *writer) summary() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("writes acknowledged %d, unanswered %d, refused %d", w.acked, w.unknown, w.refused)
}

const configMaps = "/api/v1/namespaces/default/configmaps"

func (w *writer) run(ctx context.Context) error {
	for value := 1; ctx.Err() == nil; value++ {
		name := "soak-" + strconv.Itoa(w.random.Intn(maps))
		if w.random.Intn(12) == 0 {
			value = w.remove(ctx, name, value)
		} else {
			w.write(ctx, name, value)
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (w *writer) remove(ctx context.Context, name string, value int) int {
	err := w.client.do(ctx, http.MethodDelete, configMaps+"/"+name, struct{}{}, nil)
	w.note(configMaps+"/"+name, absent, err)
	return value
}

// write creates or replaces: a PUT without a revision, then a POST when there is nothing to replace.
func (w *writer) write(ctx context.Context, name string, value int) {
	object := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]string{"name": name, "namespace": "default"}, "data": map[string]string{"value": strconv.Itoa(value)}}
	err := w.client.do(ctx, http.MethodPut, configMaps+"/"+name, object, nil)
	if errors.Is(err, errRefused) {
		err = w.client.do(ctx, http.MethodPost, configMaps, object, nil)
	}
	w.note(configMaps+"/"+name, value, err)
}

func (w *writer) note(name string, value int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.records[name]
	if r == nil {
		r = &record{acked: absent}
		w.records[name] = r
	}
	switch {
	case err == nil:
		r.acked, r.attempted = value, nil
		w.acked++
	case errors.Is(err, errRefused): // it did not happen
		w.refused++
	default:
		r.attempted = append(r.attempted, value)
		w.unknown++
	}
}

// verify compares what is there with what was promised.
func (w *writer) verify(ctx context.Context) error {
	have := map[string]int{}
	for _, collection := range []string{configMaps, deployments} {
		if err := w.read(ctx, collection, have); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for path, r := range w.records {
		value, there := have[path]
		if !there {
			value = absent
		}
		if value != r.acked && !slices.Contains(r.attempted, value) {
			errs = append(errs, fmt.Errorf("lost write: %s is %d, acknowledged %d, tried after it %v", path, value, r.acked, r.attempted))
		}
	}
	return errors.Join(errs...)
}

// read takes the values of a collection's objects, by path.
func (w *writer) read(ctx context.Context, collection string, have map[string]int) error {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Data     map[string]string
			Spec     struct{ Replicas *int }
		}
	}
	if err := w.client.do(ctx, http.MethodGet, collection, nil, &list); err != nil {
		return err
	}
	for _, item := range list.Items {
		path := collection + "/" + item.Metadata.Name
		if item.Spec.Replicas != nil {
			have[path] = *item.Spec.Replicas
		} else if value, err := strconv.Atoi(item.Data["value"]); err == nil {
			have[path] = value
		}
	}
	return nil
}
