package streaming

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/messaging/channels"
)

// Want says which streams of a process a client asks for. With TTY there is no Stderr.
type Want struct {
	Stdin, Stdout, Stderr, TTY bool

	Node string // where the process is: people are told when it is lost
}

const (
	// lingerTime is how long a client gets to read the end of its session before the connection is closed.
	lingerTime = 5 * time.Second
	// signInterval is how often a client hears that we live, and we hear that it is gone: while a process does not read its
	// input, nothing is read from the client either. Kubectl gives up after a minute without a sign.
	signInterval = 15 * time.Second
)

// client is one end of a session, as its protocol has it.
type client interface {
	// input carries what the client sends until its connection ends. When w fails, it reads on and drops.
	input(w *channels.Writer)
	// output passes on a piece of a stream that the client asked for.
	output(channel byte, payload []byte) error
	// sign shows the client that we live, where its protocol lets us. Its error means that the client is gone.
	sign() error
	// end says how the session ended and that nothing more will come.
	end(s *metav1.Status)
	// close closes the connection, which ends all of the above. It may be called at any time, and again.
	close()
}

// Session upgrades the request and carries a session between its client and the process that open reaches, in the frames
// of messaging/channels, until either side or ctx ends. The process is only reached when the client is ready for it: then
// an error of open is shown to the client. Session returns an error when the request cannot be upgraded and nothing was
// answered.
func Session(ctx context.Context, w http.ResponseWriter, r *http.Request, want Want, open func(context.Context) (net.Conn, error)) error {
	c, err := accept(ctx, w, r, want)
	if err != nil || c == nil {
		return err
	}
	defer c.close()
	node, err := open(ctx)
	if err != nil {
		node = refusal(err)
	}
	run(ctx, c, node, want)
	return nil
}

// accept returns nil without an error when the client went away during the upgrade.
func accept(ctx context.Context, w http.ResponseWriter, r *http.Request, want Want) (client, error) {
	if wants(r, "websocket") {
		return acceptWebsocket(w, r)
	}
	return acceptSPDY(ctx, w, r, want)
}

// refusal is a process that was not reached.
func refusal(err error) net.Conn {
	ours, theirs := net.Pipe()
	go func() { // ends when the status is read, or the session ends
		_ = channels.NewWriter(theirs).SendExit(channels.Exit{Error: err.Error()})
		_ = theirs.Close()
	}()
	return ours
}

func run(ctx context.Context, c client, node net.Conn, want Want) {
	stop := context.AfterFunc(ctx, func() {
		_ = node.Close() // ends the session
		time.AfterFunc(lingerTime, c.close)
	})
	defer stop()
	gone := make(chan struct{})
	go func() { // ends with the client's connection
		defer close(gone)
		c.input(channels.NewWriter(node))
		_ = node.Close() // nobody is left to see more
	}()
	go signs(c, node, gone)
	status := carry(c, channels.NewReader(node), want)
	_ = node.Close() // read to its end
	if ctx.Err() != nil {
		status = failure("the coordinator is stopping: the session is cut")
	}
	c.end(status)
	linger := time.AfterFunc(lingerTime, c.close)
	defer linger.Stop()
	<-gone
}

// signs runs until the client is gone.
func signs(c client, node net.Conn, gone <-chan struct{}) {
	tick := time.NewTicker(signInterval)
	defer tick.Stop()
	for {
		select {
		case <-gone:
			return
		case <-tick.C:
		}
		if c.sign() != nil {
			_ = node.Close() // nobody is left to see more
			c.close()
		}
	}
}

// carry passes on what the process writes, and returns how it ended.
func carry(c client, in *channels.Reader, want Want) *metav1.Status {
	for {
		channel, payload, err := in.Next()
		switch {
		case err != nil:
			return cut(want.Node, err)
		case channel == channels.Status:
			return ended(payload)
		case channel == channels.Stdout && want.Stdout, channel == channels.Stderr && want.Stderr:
			if err := c.output(channel, payload); err != nil {
				return failure(err.Error()) // to nobody: the client is gone
			}
		}
	}
}

func cut(node string, err error) *metav1.Status {
	if errors.Is(err, io.EOF) {
		return failure("the node ended the session without saying how the process ended")
	}
	return failure(fmt.Sprintf("the connection to node %s was lost: %v", node, err))
}

// ended translates the last frame.
func ended(payload []byte) *metav1.Status {
	var e channels.Exit
	if err := json.Unmarshal(payload, &e); err != nil {
		return failure(fmt.Sprintf("the node said in a way not understood how the process ended: %v", err))
	}
	switch {
	case e.Error != "":
		return failure(e.Error)
	case e.Code == 0:
		return &metav1.Status{Status: metav1.StatusSuccess}
	}
	return &metav1.Status{
		Status: metav1.StatusFailure, Reason: "NonZeroExitCode",
		Message: fmt.Sprintf("command terminated with non-zero exit code: %d", e.Code),
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: "ExitCode", Message: strconv.Itoa(e.Code)}}},
	}
}

func failure(message string) *metav1.Status {
	return &metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError, Message: message,
	}
}
