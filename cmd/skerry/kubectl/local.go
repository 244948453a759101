package kubectl

import (
	"errors"
	"io/fs"
	"os"

	"k8s.io/client-go/tools/clientcmd"
)

// UseLocal makes path the kubeconfig where kubectl would find none: there is no KUBECONFIG, no file home, which is
// ~/.kube/config, and this is no pod. A --kubeconfig wins over it all. A path that is not there, or not ours to read, changes nothing.
func UseLocal(path, home string) error {
	for _, name := range []string{clientcmd.RecommendedConfigPathEnvVar, "KUBERNETES_SERVICE_HOST"} {
		if os.Getenv(name) != "" {
			return nil
		}
	}
	if _, err := os.Stat(home); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	return errors.Join(f.Close(), os.Setenv(clientcmd.RecommendedConfigPathEnvVar, path))
}
