package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	skerry "skerry.dev/skerry/api"
	"skerry.dev/skerry/tests/bench/process"
)

// Skerry makes a coordinator with its defaults: TLS, every write synced to disk before it is acknowledged,
// controllers, scheduler and web page in the same process. More are further arguments.
func Skerry(more ...string) (_ *Server, err error) {
	path, err := program("bin", "skerry-coordinator")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "skerry-bench-")
	if err != nil {
		return nil, err
	}
	s := &Server{Name: "Skerry", dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	nats, err := freePort()
	if err != nil {
		return nil, err
	}
	s.config = &rest.Config{Host: fmt.Sprintf("https://127.0.0.1:%d", port)}
	s.launch = func() (*process.Process, error) {
		args := []string{
			"--state-dir", filepath.Join(dir, "state"),
			"--api.listen", fmt.Sprintf("127.0.0.1:%d", port), "--nats.listen", fmt.Sprintf("127.0.0.1:%d", nats),
		}
		return process.Start(dir, path, append(args, more...)...)
	}
	s.secure = func(c *rest.Config) error { return secureSkerry(c, filepath.Join(dir, "state")) }
	return s, nil
}

func secureSkerry(c *rest.Config, stateDir string) error {
	made, err := clientcmd.BuildConfigFromFlags("", filepath.Join(stateDir, skerry.AdminKubeconfig))
	if err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(stateDir, skerry.AdminTokenFile))
	if err != nil {
		return err
	}
	c.CAData, c.BearerToken = made.CAData, strings.TrimSpace(string(token))
	return nil
}
