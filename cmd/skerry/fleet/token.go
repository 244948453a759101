// Package fleet holds the command line's fleet verbs: join tokens, users, nodes and their hardware, and the rebalancer.
package fleet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/cmd/skerry/client"
	"skerry.dev/skerry/messaging"
)

const fleetPath = "/apis/" + api.Group + "/" + api.Version

// Connect makes a client when a command runs, after the flags are read.
type Connect func() (*client.Client, error)

// NewTokenCommand returns `skerry token`.
func NewTokenCommand(connect Connect) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and remove the tokens that let machines join",
		Long: `A join token lets one machine become a node. It holds the hash of the cluster's certificate authority, so that the
machine trusts no other cluster, and a secret that is good once. The cluster keeps only the secret's hash: a token is
shown when it is made and never again.`,
	}
	cmd.AddCommand(newTokenCreate(connect), newTokenList(connect), newTokenRemove(connect))
	return cmd
}

func newTokenCreate(connect Connect) *cobra.Command {
	var node, output string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a join token and print it",
		Example: `  skerry token create                      # good once, within a day
  skerry token create --ttl 720h --node edge-17   # only for edge-17; also replaces its key after a re-flash`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl <= 0 {
				return errors.New("--ttl must be positive")
			}
			c, err := connect()
			if err != nil {
				return err
			}
			token, err := CreateToken(cmd.Context(), c, node, ttl)
			if err != nil {
				return err
			}
			if output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"name": token.Name, "token": token.String()})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "only the node of this `name` may use it")
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long it is good")
	addOutput(cmd, &output)
	return cmd
}

// CreateToken makes a token object and returns the token with its secret. node may be empty.
func CreateToken(ctx context.Context, c *client.Client, node string, ttl time.Duration) (messaging.JoinToken, error) {
	hash, err := messaging.CAHash(c.CAData())
	if err != nil {
		return messaging.JoinToken{}, fmt.Errorf("the kubeconfig has no certificate authority: %w", err)
	}
	random := make([]byte, 5)
	if _, err := rand.Read(random); err != nil {
		return messaging.JoinToken{}, err
	}
	token, err := messaging.NewJoinToken(hash, "join-"+hex.EncodeToString(random))
	if err != nil {
		return messaging.JoinToken{}, err
	}
	object := api.EnrolmentToken{
		TypeMeta:   metav1.TypeMeta{APIVersion: api.SchemeGroupVersion.String(), Kind: "EnrolmentToken"},
		ObjectMeta: metav1.ObjectMeta{Name: token.Name},
		Spec:       api.EnrolmentTokenSpec{SecretHash: messaging.HashSecret(token.Secret), Expires: metav1.NewTime(time.Now().Add(ttl)), Node: node},
	}
	return token, c.Post(ctx, fleetPath+"/enrolmenttokens", object, nil)
}

func newTokenList(connect Connect) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List join tokens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			var list api.EnrolmentTokenList
			if err := c.Get(cmd.Context(), fleetPath+"/enrolmenttokens", &list); err != nil {
				return err
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), list.Items)
			}
			return table(cmd.OutOrStdout(), "NAME\tSTATE\tNODE\tAGE", func(w io.Writer) {
				for _, t := range list.Items {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.Name, tokenState(t, time.Now()), tokenNode(t), age(t.CreationTimestamp))
				}
			})
		},
	}
	addOutput(cmd, &output)
	return cmd
}

func tokenState(t api.EnrolmentToken, now time.Time) string {
	switch {
	case t.Status.UsedBy != "":
		return "used"
	case now.After(t.Spec.Expires.Time):
		return "expired"
	}
	return "good for " + duration.HumanDuration(t.Spec.Expires.Sub(now))
}

func tokenNode(t api.EnrolmentToken) string {
	if t.Status.UsedBy != "" {
		return t.Status.UsedBy
	}
	if t.Spec.Node != "" {
		return t.Spec.Node
	}
	return "<any>"
}

func newTokenRemove(connect Connect) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME...", Aliases: []string{"remove"}, Short: "Remove join tokens; nodes that have joined stay", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := c.Delete(cmd.Context(), fleetPath+"/enrolmenttokens/"+name); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "token %s removed\n", name)
			}
			return nil
		},
	}
}

func addOutput(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "table", "`format`: table or json")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *output != "table" && *output != "json" {
			return fmt.Errorf("--output %q is neither table nor json", *output)
		}
		return nil
	}
	complete := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc("output", complete); err != nil {
		panic(err) // the flag was added two lines up
	}
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func table(out io.Writer, header string, rows func(io.Writer)) error {
	w := tabwriter.NewWriter(out, 0, 4, 3, ' ', 0)
	fmt.Fprintln(w, header)
	rows(w)
	return w.Flush()
}

func age(t metav1.Time) string { return duration.HumanDuration(time.Since(t.Time)) }
