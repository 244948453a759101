package server

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"

	"skerry.dev/skerry/tests/bench/process"
)

// Kubernetes makes upstream's API server over etcd, both with their defaults but for what two processes need to find
// each other. Its own TLS, its default admission plugins; authorization allows everything, as Skerry's does for its
// administrator.
func Kubernetes() (_ *Server, err error) {
	etcd, err := program(".cache", "bin", "etcd")
	if err != nil {
		return nil, err
	}
	path, err := program(".cache", "bin", "kube-apiserver")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "skerry-bench-")
	if err != nil {
		return nil, err
	}
	s := &Server{Name: "kube-apiserver", dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	client, err := freePort()
	if err != nil {
		return nil, err
	}
	endpoint := fmt.Sprintf("http://127.0.0.1:%d", client)
	if s.store, err = startEtcd(dir, etcd, endpoint); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	args, err := apiserverArguments(dir, endpoint, port)
	if err != nil {
		return nil, err
	}
	s.config = &rest.Config{Host: fmt.Sprintf("https://127.0.0.1:%d", port), BearerToken: token}
	s.launch = func() (*process.Process, error) { return process.Start(dir, path, args...) }
	s.secure = func(c *rest.Config) (err error) { // the certificate is its own CA
		c.CAData, err = os.ReadFile(filepath.Join(dir, "certs", "apiserver.crt"))
		return err
	}
	return s, nil
}

func startEtcd(dir, path, endpoint string) (*process.Process, error) {
	peer, err := freePort()
	if err != nil {
		return nil, err
	}
	peers := fmt.Sprintf("http://127.0.0.1:%d", peer)
	return process.Start(dir, path, "--data-dir", filepath.Join(dir, "etcd"),
		"--listen-client-urls", endpoint, "--advertise-client-urls", endpoint, "--listen-peer-urls", peers,
		"--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers)
}

// token is for a server that lives for some minutes on loopback.
const token = "benchmark"

func apiserverArguments(dir, etcd string, port int) ([]string, error) {
	tokens, key := filepath.Join(dir, "tokens.csv"), filepath.Join(dir, "service-account.key")
	if err := os.WriteFile(tokens, []byte(token+",admin,admin,system:masters\n"), 0o600); err != nil {
		return nil, err
	}
	if err := writeKey(key); err != nil {
		return nil, err
	}
	return []string{
		"--etcd-servers", etcd, "--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(port),
		"--cert-dir", filepath.Join(dir, "certs"), "--token-auth-file", tokens, "--authorization-mode", "AlwaysAllow",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-signing-key-file", key,
		"--service-account-key-file", key, "--service-cluster-ip-range", "10.43.0.0/16",
		"--endpoint-reconciler-type", "none", // it would not announce a loopback address
	}, nil
}

func writeKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return os.WriteFile(path, pem.EncodeToMemory(&block), 0o600)
}
