package coordinator

import (
	"fmt"
	"path/filepath"
	"time"

	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/api"
)

const (
	adminUser  = "skerry-admin"
	adminGroup = "system:masters"
)

// writeKubeconfig makes the administrator's kubeconfig anew on each start: the address may have changed, and the
// certificate in it lasts a year.
func (id *identity) writeKubeconfig(stateDir, server string, now time.Time) (string, error) {
	cert, key, err := id.authority.Client(adminUser, []string{adminGroup}, now)
	if err != nil {
		return "", err
	}
	data, err := yaml.Marshal(clientcmd.Config{
		APIVersion: "v1", Kind: "Config", CurrentContext: "skerry",
		Clusters:  []clientcmd.NamedCluster{{Name: "skerry", Cluster: clientcmd.Cluster{Server: server, CertificateAuthorityData: id.authority.PEM()}}},
		AuthInfos: []clientcmd.NamedAuthInfo{{Name: adminUser, AuthInfo: clientcmd.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}}},
		Contexts:  []clientcmd.NamedContext{{Name: "skerry", Context: clientcmd.Context{Cluster: "skerry", AuthInfo: adminUser, Namespace: "default"}}},
	})
	if err != nil {
		return "", fmt.Errorf("encode kubeconfig: %w", err)
	}
	path := filepath.Join(stateDir, api.AdminKubeconfig)
	return path, writeSecret(path, data)
}
