package e2e

import (
	"context"
	"net/url"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"

	"skerry.dev/skerry/tests/cluster"
)

// registry drives a cluster's image registry with programs that others wrote.
type registry struct {
	c      *cluster.Cluster
	host   string // host:port
	caFile string
	token  string
	config string // folder of crane's credentials
}

// newRegistry logs crane in. dir takes its files.
func newRegistry(c *cluster.Cluster, dir string) (*registry, error) {
	api, err := url.Parse(c.State0.API)
	if err != nil {
		return nil, err
	}
	r := &registry{c: c, host: api.Host, config: filepath.Join(dir, "docker"), caFile: filepath.Join(dir, "ca.crt")}
	if r.token, err = c.Token(); err != nil {
		return nil, err
	}
	if err := writeCA(c, r.caFile); err != nil {
		return nil, err
	}
	_, err = r.crane(context.Background(), "auth", "login", r.host, "-u", "admin", "-p", r.token)
	return r, err
}

// writeCA takes the certificate authority out of the kubeconfig, as a user would.
func writeCA(c *cluster.Cluster, file string) error {
	config, err := clientcmd.LoadFromFile(c.State0.Kubeconfig)
	if err != nil {
		return err
	}
	entry := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
	return os.WriteFile(file, entry.CertificateAuthorityData, 0o600)
}

func (r *registry) crane(ctx context.Context, args ...string) (string, error) {
	env := []string{"SSL_CERT_FILE=" + r.caFile, "DOCKER_CONFIG=" + r.config, r.c.Tool("crane")}
	return r.c.Run(ctx, "", "env", append(env, args...)...)
}
