package keepertest

import (
	"bufio"
	"errors"
	"io"
	"os"

	"skerry.dev/skerry/edgeagent/keeper"
)

// attached is one attachment with the caller's ends.
type attached struct {
	*keeper.Session
	in  *os.File // nil without
	out *bufio.Reader
	end *os.File // of out
}

// attach attaches to the input, if wanted, and the output of a container.
func (w *world) attach(id string, input bool) attached {
	w.t.Helper()
	var streams keeper.Streams
	var a attached
	if input {
		var err error
		streams.Stdin, a.in, err = os.Pipe()
		must(w.t, err)
	}
	r, out, err := os.Pipe()
	must(w.t, err)
	streams.Stdout = out
	a.out, a.end = bufio.NewReader(r), r
	a.Session, err = w.client.Attach(w.t.Context(), id, streams)
	must(w.t, err)
	must(w.t, out.Close())
	if input {
		must(w.t, streams.Stdin.Close())
	}
	return a
}

// says types a line and wants others to come out.
func (w *world) says(a attached, in string, out ...string) {
	w.t.Helper()
	if in != "" {
		_, err := a.in.WriteString(in)
		must(w.t, err)
	}
	for _, want := range out {
		if line, err := a.out.ReadString('\n'); err != nil || line != want {
			w.t.Errorf("attached: got %q, %v, want %q", line, err, want)
		}
	}
}

// over waits for the end of the session and of its output.
func (w *world) over(a attached) {
	w.t.Helper()
	code, err := a.Wait(w.t.Context())
	if err != nil || code != 0 {
		w.t.Errorf("wait: got %d, %v", code, err)
	}
	if rest, err := io.ReadAll(a.out); err != nil || len(rest) != 0 {
		w.t.Errorf("rest: got %q, %v", rest, err)
	}
	must(w.t, errors.Join(a.Close(), a.end.Close()))
}

// attach: a standard input that is not for one attachment never ends, outlives the keeper, and each attachment sees the present only.
func attach(w *world) {
	spec := w.spec("c", "echo")
	spec.Stdin = true
	w.run(spec)
	a := w.attach("c", true)
	w.says(a, "one\n", "one\n")
	silent := w.attach("c", false)
	w.says(a, "two\n", "two\n")
	w.says(silent, "", "two\n")
	must(w.t, a.in.Close())
	w.over(a)
	w.crash()
	if _, err := silent.Wait(w.t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
		w.t.Errorf("attached to a keeper that was killed: %v", err)
	}
	must(w.t, errors.Join(silent.Close(), silent.end.Close()))
	b := w.attach("c", true)
	w.says(b, "three\n", "three\n")
	must(w.t, w.client.Kill(w.t.Context(), "c", 9, true))
	w.over(b)
	must(w.t, b.in.Close())
	if log := w.output("c", "three"); len(log) == 0 {
		w.t.Error("what was shown is not in the log")
	}
	_, err := w.client.Attach(w.t.Context(), "c", keeper.Streams{})
	if !errors.Is(err, keeper.ErrConflict) {
		w.t.Errorf("attached to an ended container: %v", err)
	}
}

// attachOnce: the input waits for the first attachment, even if the keeper is killed meanwhile, and ends with it.
func attachOnce(w *world) {
	spec := w.spec("c", "when", "/go", "echo")
	spec.Stdin, spec.StdinOnce = true, true
	w.run(spec)
	w.crash() // nobody reads yet
	must(w.t, os.WriteFile(w.rootfs+"/go", nil, 0o600))
	a := w.attach("c", true)
	w.says(a, "one\n", "one\n")
	must(w.t, a.in.Close())
	w.over(a)
	if e := w.exit("c"); e.Code != 0 && !e.Unknown { // its keeper was killed
		w.t.Errorf("got %+v", e)
	}
	spec = w.spec("gone", "echo")
	spec.Stdin, spec.StdinOnce = true, true
	w.run(spec)
	b := w.attach("gone", true)
	w.says(b, "one\n", "one\n")
	must(w.t, b.Close()) // the agent dies
	if e := w.exit("gone"); e.Code != 0 {
		w.t.Errorf("got %+v", e)
	}
	must(w.t, errors.Join(b.in.Close(), b.end.Close()))
}

func attachTerminal(w *world) {
	spec := w.spec("c", "size")
	spec.Stdin, spec.StdinOnce, spec.Terminal = true, true, true
	must(w.t, w.client.Create(w.t.Context(), spec))
	a := w.attach("c", true)
	must(w.t, w.client.Resize(w.t.Context(), "c", 80, 24))
	must(w.t, w.client.Start(w.t.Context(), "c"))
	w.says(a, "", "80 24\r\n")
	must(w.t, w.client.Resize(w.t.Context(), "c", 91, 17))
	w.says(a, "", "91 17\r\n")
	w.says(a, "hi\n", "hi\r\n") // the terminal's echo
	must(w.t, a.Close())
	must(w.t, errors.Join(a.in.Close(), a.end.Close()))
	b := w.attach("c", true)
	w.says(b, "again\n", "again\r\n")
	w.says(b, "\x03") // the terminal makes a signal of it
	if rest, err := io.ReadAll(b.out); err != nil || string(rest) != "^C" {
		w.t.Errorf("rest: got %q, %v", rest, err)
	}
	w.over(b)
	must(w.t, b.in.Close())
	if e := w.exit("c"); e.Code == 0 {
		w.t.Errorf("got %+v", e)
	}
}
