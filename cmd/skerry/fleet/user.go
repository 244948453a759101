package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/cmd/skerry/client"
	"skerry.dev/skerry/messaging"
)

// NewUserCommand returns `skerry user`.
func NewUserCommand(connect Connect) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Give people and programs a kubeconfig of their own",
		Long: `A user is a name in a client certificate that the cluster has signed; the cluster keeps no list of users. A user may do
what roles allow that are bound to its name or to one of its groups, and nothing else.`,
	}
	cmd.AddCommand(newUserAdd(connect))
	return cmd
}

// user is what `skerry user add` is asked for.
type user struct {
	name    string
	groups  []string
	expires time.Duration
	system  bool
	output  string
	pem     string
}

func newUserAdd(connect Connect) *cobra.Command {
	var u user
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Write a kubeconfig for a user, with a certificate that the cluster signs",
		Long: `Makes a key here, has the cluster sign a certificate for it, and writes both as a kubeconfig: whoever has the file is the
user. Only administrators (system:masters) may.

A certificate CANNOT BE REVOKED. It holds until it expires, so keep that short and run the command again to renew. To take
a user's rights away at once, delete the bindings that name the user or its groups: the certificate is then good for
nothing but to say who it is.

Names and groups that begin with system: have rights that no binding shows and that deleting bindings does not take away
(system:masters may do everything, for ever): they need --system.

Over NATS (skerry.v1.api.KIND.VERB) the same certificate is a login with the same rights: --pem writes it, its key and the
cluster's authority into one file that the nats CLI takes. A user hears of changes (skerry.v1.evt.NAMESPACE.KIND.NAME.VERB)
of what it may watch, and has answers sent to an inbox that begins with its name. Nobody can act for another there (--as).`,
		Example: `  # A program that may deploy in one namespace, by a role bound to its group
  skerry user add ci --group deployers -o ci.kubeconfig
  skerry create rolebinding deployers --clusterrole=edit --group=deployers -n shop
  skerry --kubeconfig ci.kubeconfig get pods -n shop

  # What may it do?
  skerry auth can-i --list --as ci --as-group deployers -n shop

  # The same user over NATS
  skerry user add ci --group deployers -o ci.kubeconfig --pem ci.pem
  nats --server tls://COORDINATOR:4222 --tlsfirst --tlsca ci.pem --tlscert ci.pem --tlskey ci.pem --inbox-prefix _INBOX.ci \
    req skerry.v1.api.pods.list '{"namespace":"shop"}'

  # Take its rights away
  skerry delete rolebinding deployers -n shop`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			u.name = args[0]
			if err := u.validate(); err != nil {
				return err
			}
			c, err := connect()
			if err != nil {
				return err
			}
			return u.add(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&u.groups, "group", nil, "a `group` that the user is in; may be given more than once")
	f.DurationVar(&u.expires, "expires", 7*24*time.Hour, "how long the certificate holds")
	f.BoolVar(&u.system, "system", false, "allow names and groups that begin with system:")
	f.StringVarP(&u.output, "output", "o", "", "`file` to write, which only you can read then; an old one is replaced (default: standard output)")
	f.StringVar(&u.pem, "pem", "", "also write certificate, key and the cluster's authority to this `file`, in PEM, which only you can read then")
	if err := cmd.RegisterFlagCompletionFunc("expires", cobra.FixedCompletions([]string{"24h", "168h", "720h"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was added above
	}
	if err := cmd.RegisterFlagCompletionFunc("group", cobra.NoFileCompletions); err != nil {
		panic(err)
	}
	return cmd
}

func (u user) validate() error {
	if u.expires <= 0 || u.expires > messaging.MaxClientLife {
		return fmt.Errorf("--expires %s: want more than nothing and at most %s", u.expires, messaging.MaxClientLife)
	}
	for _, name := range append([]string{u.name}, u.groups...) {
		if name == "" {
			return errors.New("a user and its groups must have names")
		}
		if strings.HasPrefix(name, "system:") && !u.system {
			return fmt.Errorf("%q is a name of the system, with rights that no binding shows: give --system if you mean it", name)
		}
	}
	return nil
}

func (u user) add(ctx context.Context, c *client.Client, out, notes io.Writer) error {
	request, key, err := messaging.NewClientRequest(u.name, u.groups)
	if err != nil {
		return err
	}
	var signed api.Certificate
	in := api.CertificateRequest{Request: request, ExpiresIn: u.expires.String(), System: u.system}
	if err := c.Post(ctx, api.CertificatePath, in, &signed); err != nil {
		return err
	}
	config, err := u.kubeconfig(c.Server(), signed, key)
	if err != nil {
		return err
	}
	if u.output == "" {
		_, err = out.Write(config)
	} else {
		err = writePrivate(u.output, config)
	}
	if err != nil {
		return err
	}
	if u.pem != "" {
		if err := writePrivate(u.pem, slices.Concat(signed.Certificate, key, signed.Authority)); err != nil {
			return err
		}
	}
	_, err = io.WriteString(notes, u.advice(signed.Expires))
	return err
}

func (u user) kubeconfig(server string, signed api.Certificate, key []byte) ([]byte, error) {
	data, err := yaml.Marshal(clientcmd.Config{
		APIVersion: "v1", Kind: "Config", CurrentContext: u.name,
		Clusters:  []clientcmd.NamedCluster{{Name: "skerry", Cluster: clientcmd.Cluster{Server: server, CertificateAuthorityData: signed.Authority}}},
		AuthInfos: []clientcmd.NamedAuthInfo{{Name: u.name, AuthInfo: clientcmd.AuthInfo{ClientCertificateData: signed.Certificate, ClientKeyData: key}}},
		Contexts:  []clientcmd.NamedContext{{Name: u.name, Context: clientcmd.Context{Cluster: "skerry", AuthInfo: u.name, Namespace: "default"}}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return data, nil
}

// advice says what the file is, and what comes next.
func (u user) advice(expires time.Time) string {
	subject := "--user=" + u.name
	if len(u.groups) > 0 {
		subject = "--group=" + u.groups[0]
	}
	nats := ""
	if u.pem != "" {
		nats = fmt.Sprintf("Over NATS its answers go to an inbox of its own: nats --tlsfirst --tlsca %[1]s --tlscert %[1]s --tlskey %[1]s --inbox-prefix %[2]s\n", u.pem, messaging.InboxPrefix(u.name))
	}
	return fmt.Sprintf(`user %s: the certificate holds until %s and cannot be revoked.
It may do what is bound to it: skerry create rolebinding NAME --clusterrole=edit %s -n NAMESPACE
To take that away, delete the binding.
%s`, u.name, expires.Local().Format(time.RFC1123), subject, nats)
}

// writePrivate writes a file that only its owner reads, whole or not at all.
func writePrivate(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".kubeconfig-*") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}
