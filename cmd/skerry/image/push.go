package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"skerry.dev/skerry/packaging/oci"
)

// pushedImage is what push prints.
type pushedImage struct {
	Name      string  `json:"name"`
	Digest    string  `json:"digest"`
	SentBytes int64   `json:"sentBytes"` // of layers
	Seconds   float64 `json:"seconds"`
}

func newPush(o *options) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "push NAME[:TAG] [TO]",
		Short: "Send an image from the local store to its registry",
		Long: `Send an image to the registry in its name, or under the name TO. Layers that are there already are not sent. When the
link breaks, the push goes on from the byte that arrived; a push that was stopped is repeated and sends what is missing.`,
		Example: `  skerry image push hello:1
  skerry image push hello:1 registry.example/team/hello:1`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: o.completeLocal,
	}
	check := addOutput(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := check(); err != nil {
			return err
		}
		return runPush(cmd, o, args, output)
	}
	return cmd
}

func runPush(cmd *cobra.Command, o *options, args []string, output string) error {
	from, err := o.parse(args[0])
	if err != nil {
		return err
	}
	to, err := o.parse(args[len(args)-1])
	if err != nil {
		return err
	}
	store, err := o.store()
	if err != nil {
		return err
	}
	img, err := store.Image(from.Name())
	if errors.Is(err, oci.ErrNoImage) {
		return fmt.Errorf("%w; build it first: skerry image build PATH -t %s", err, short(from.Name()))
	}
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	e, err := o.endpointOf(to.Context())
	if err != nil {
		return err
	}
	start, p := time.Now(), newProgress(cmd.ErrOrStderr())
	err = oci.Push(cmd.Context(), to, img, oci.PushOptions{Auth: e.auth, Transport: e.transport, Progress: p.layer, Retried: p.retried})
	p.end()
	if err != nil {
		return e.explain(err)
	}
	out := pushedImage{Name: to.Name(), Digest: digest.String(), SentBytes: p.sent, Seconds: time.Since(start).Seconds()}
	if output == "json" {
		return printJSON(cmd.OutOrStdout(), out)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s  %s sent in %.1f s\n", out.Name, out.Digest, bytesText(out.SentBytes), out.Seconds)
	return err
}

// progress tells a person how far a push is: one line that moves on a terminal, a line now and then elsewhere. Pushes
// that take less than a second say nothing.
type progress struct {
	out      io.Writer
	terminal bool
	every    time.Duration
	last     time.Time
	drawn    bool
	current  v1.Hash
	from     int64 // first byte of the current layer that this push sent
	sent     int64
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, every: 10 * time.Second, last: time.Now()}
	if f, ok := out.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.terminal, p.every = true, 200*time.Millisecond
		}
	}
	return p
}

// layer is oci.PushOptions.Progress. A layer that is there already is reported once, complete.
func (p *progress) layer(h v1.Hash, done, total int64) {
	if h != p.current {
		p.current, p.from = h, done
		if done == total {
			return
		}
		p.from = 0
	}
	if done > p.from {
		p.sent += done - p.from
		p.from = done
	}
	if now := time.Now(); now.Sub(p.last) >= p.every {
		p.last = now
		p.line(fmt.Sprintf("layer %.12s  %s of %s (%d %%)", h.Hex, bytesText(done), bytesText(total), done*100/max(total, 1)))
	}
}

// retried is oci.PushOptions.Retried.
func (p *progress) retried(err error) {
	p.end()
	fmt.Fprintf(p.out, "the link broke, going on: %v\n", err)
}

func (p *progress) line(s string) {
	if p.terminal {
		p.drawn = true
		fmt.Fprintf(p.out, "\r\x1b[K%s", s)
		return
	}
	fmt.Fprintln(p.out, s)
}

// end leaves the moving line.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.drawn = false
	}
}
