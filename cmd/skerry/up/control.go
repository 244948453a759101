package up

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// State is what a running `skerry up` says of itself.
type State struct {
	API            string      `json:"api"`        // https://host:port
	Kubeconfig     string      `json:"kubeconfig"` // path of the administrator's
	Page           string      `json:"page"`       // URL of the web page, with the token that opens it
	NATS           string      `json:"nats"`       // URL for nodes and automation
	TokenFile      string      `json:"tokenFile"`  // path of the file with the administrator's token
	CoordinatorPID int         `json:"coordinatorPID"`
	Nodes          []NodeState `json:"nodes"`
}

// NodeState is one node of a local cluster, as the host sees it.
type NodeState struct {
	Name      string `json:"name"`
	Address   string `json:"address"`
	StateDir  string `json:"stateDir"`
	Running   bool   `json:"running"`
	Linked    bool   `json:"linked"`
	InitPID   int    `json:"initPID,omitempty"`
	KeeperPID int    `json:"keeperPID,omitempty"`
	AgentPID  int    `json:"agentPID,omitempty"`
}

// Node returns the node of that name.
func (s State) Node(name string) (NodeState, bool) {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return NodeState{}, false
}

// Verbs of a node's control.
const (
	VerbStop  = "stop"  // power cut: everything on the node dies at once, its disk stays
	VerbStart = "start" // power on
	VerbCut   = "cut"   // link down
	VerbHeal  = "heal"  // link up
)

func socketPath(dataDir string) string { return filepath.Join(dataDir, "up.sock") }

// Control speaks to the `skerry up` that runs on a data folder.
type Control struct {
	dataDir string
	http    *http.Client
}

// NewControl returns a control. It makes no connection.
func NewControl(dataDir string) *Control {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socketPath(dataDir))
	}
	return &Control{dataDir: dataDir, http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: dial}}}
}

// State asks for the cluster's state.
func (c *Control) State(ctx context.Context) (State, error) {
	var s State
	return s, c.do(ctx, http.MethodGet, "/state", &s)
}

// Node does one of the verbs to a node. It returns when it is done, not when the cluster has noticed.
func (c *Control) Node(ctx context.Context, name, verb string) error {
	return c.do(ctx, http.MethodPost, "/nodes/"+name+"/"+verb, nil)
}

func (c *Control) do(ctx context.Context, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://up"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("no `skerry up` runs on %s: %w", c.dataDir, err)
	}
	defer resp.Body.Close()
	var answer struct {
		Error string `json:"error"`
	}
	if resp.StatusCode != http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			return fmt.Errorf("%s: %s", path, resp.Status)
		}
		return errors.New(answer.Error)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// control serves Control's requests on a socket that only this user can open.
func (u *Up) control(ctx context.Context) error {
	path := socketPath(u.options.DataDir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("listen for `skerry local`: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, listener.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) { answer(w, u.state(), nil) })
	mux.HandleFunc("POST /nodes/{name}/{verb}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, u.nodeVerb(r.Context(), r.PathValue("name"), r.PathValue("verb")))
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return ctx.Err()
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		v = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v) // the client left: nobody to tell
}
