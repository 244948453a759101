package edgeagent

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry.dev/skerry/edgeagent/usage"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/channels"
)

func (w *world) streams() *streams {
	return &streams{node: w.loop.node, loop: w.loop, meter: usage.New(w.loop.node.keeper, slog.New(slog.DiscardHandler))}
}

// open serves a stream and returns the coordinator's end.
func (w *world) open(kind string, params map[string]string) net.Conn {
	w.t.Helper()
	req := messaging.OpenRequest{Session: "s", Kind: kind, Params: params}
	must(w.t, w.streams().check(w.t.Context(), req))
	ours, theirs := net.Pipe()
	go w.streams().serve(w.t.Context(), req, theirs)
	return ours
}

func TestExecStream(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", oneContainer))
		conn := w.open("exec", map[string]string{
			"uid": "u1", "container": "app", "command": `["tr","a-z"]`, "stdin": "true", "stdout": "true", "stderr": "true",
		})
		out, in := channels.NewWriter(conn), channels.NewReader(conn)
		must(t, out.Send(channels.Stdin, []byte("hello ")))
		must(t, out.SendSize(channels.Size{Width: 10, Height: 10})) // no terminal: ignored
		must(t, out.Send(channels.Stdin, []byte("there")))
		must(t, out.SendClose(channels.Stdin))
		got := map[byte]string{}
		for {
			channel, payload, err := in.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				break
			}
			got[channel] += string(payload)
		}
		w.check("output", got, map[byte]string{channels.Stdout: "HELLO THERE", channels.Stderr: "bye", channels.Status: `{"code":7}`})
	})
}

// TestExecEndsWithItsClient: a client that goes away leaves no process and no goroutine behind.
func TestExecEndsWithItsClient(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", oneContainer))
		conn := w.open("exec", map[string]string{"uid": "u1", "container": "app", "command": `["cat"]`, "stdin": "true", "stdout": "true"})
		must(t, channels.NewWriter(conn).Send(channels.Stdin, []byte("x")))
		must(t, conn.Close())
	})
}

func TestStreamsRefuse(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.images.missing["none"] = true
		w.boot()
		w.desire(aPod(t, "u1", oneContainer), aPod(t, "u2", `containers: [{name: app, image: none}]`))
		for want, req := range map[string]messaging.OpenRequest{
			`kind "telnet"`:                  {Kind: "telnet"},
			`pod uid`:                        {Kind: "logs"},
			`pod with uid "u9" is not`:       {Kind: "logs", Params: map[string]string{"uid": "u9", "container": "app"}},
			`container web is not valid`:     {Kind: "logs", Params: map[string]string{"uid": "u1", "container": "web"}},
			`previous terminated container`:  {Kind: "logs", Params: map[string]string{"uid": "u1", "container": "app", "previous": "true"}},
			`waiting to start: ErrImagePull`: {Kind: "logs", Params: map[string]string{"uid": "u2", "container": "app"}},
			`is not a list of words`:         {Kind: "exec", Params: map[string]string{"uid": "u1", "container": "app", "command": "ls"}},
			`container app is not running`:   {Kind: "exec", Params: map[string]string{"uid": "u2", "container": "app", "command": `["ls"]`}},
			`container web is not running`:   {Kind: "attach", Params: map[string]string{"uid": "u1", "container": "web", "stdin": "true"}},
			`port "0"`:                       {Kind: "portforward", Params: map[string]string{"uid": "u1", "port": "0"}},
			`port "http"`:                    {Kind: "portforward", Params: map[string]string{"uid": "u1", "port": "http"}},
		} {
			if err := w.streams().check(t.Context(), req); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %v: error %v, want %q", req.Kind, req.Params, err, want)
			}
		}
	})
}

// TestAttachStream: an attachment carries both ways, tells the terminal its size, and has no exit code but its own.
func TestAttachStream(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", oneContainer))
		conn := w.open("attach", map[string]string{"uid": "u1", "container": "app", "stdin": "true", "stdout": "true"})
		out, in := channels.NewWriter(conn), channels.NewReader(conn)
		must(t, out.SendSize(channels.Size{Width: 91, Height: 17}))
		must(t, out.Send(channels.Stdin, []byte("hello")))
		must(t, out.SendClose(channels.Stdin))
		got := map[byte]string{}
		for channel, payload, err := in.Next(); err == nil; channel, payload, err = in.Next() {
			got[channel] += string(payload)
		}
		w.check("output", got, map[byte]string{channels.Stdout: "HELLO", channels.Status: `{"code":7}`})
		if !slices.Contains(w.keeper.calls, "resize u1-app-0 91x17") {
			t.Errorf("not resized: %v", w.keeper.calls)
		}
	})
}

// TestLogStream: a followed log ends with its container.
func TestLogStream(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", `{restartPolicy: Never, containers: [{name: app, image: web}]}`))
		path := w.keeper.spec("u1-app-0").LogPath
		must(t, os.WriteFile(path, []byte("2026-03-01T12:00:00Z stdout F hello\n"), 0o600))
		ended := make(chan string, 1)
		conn := w.open("logs", map[string]string{"uid": "u1", "container": "app", "follow": "true"})
		go func() { b, err := io.ReadAll(conn); must(t, err); ended <- string(b) }()
		w.settle(time.Minute)
		w.check("while it runs", len(ended), 0)
		w.keeper.exit("u1-app-0", 0)
		w.settle(time.Second)
		w.check("at the end", <-ended, "hello\n")
	})
}

// TestForward: to a server on the node's own network, which a host network pod has.
func TestForward(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, l.Close()) }()
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	ours, theirs := net.Pipe()
	inner, err := target{port: uint16(l.Addr().(*net.TCPAddr).Port)}.dial(t.Context())
	must(t, err)
	go messaging.Join(inner, theirs)
	_, err = ours.Write([]byte("ping"))
	must(t, err)
	b := make([]byte, 4)
	_, err = io.ReadFull(ours, b)
	if err != nil || string(b) != "ping" {
		t.Errorf("%q, %v", b, err)
	}
	must(t, ours.Close())
}

func TestStatusFrame(t *testing.T) {
	var e channels.Exit
	must(t, json.Unmarshal([]byte(`{"code":3}`), &e))
	if e.Code != 3 {
		t.Error("wire format changed")
	}
}

// TestPageStream: a page of figures comes whole and ends; one that there is not is refused before the stream opens.
func TestPageStream(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		page, err := io.ReadAll(w.open("page", map[string]string{"page": "metrics/resource"}))
		must(t, err)
		if !strings.Contains(string(page), "node_cpu_usage_seconds_total ") || !strings.HasSuffix(string(page), "resource_scrape_error 0\n") {
			t.Errorf("got %s", page)
		}
		err = w.streams().check(t.Context(), messaging.OpenRequest{Session: "s", Kind: "page", Params: map[string]string{"page": "../etc"}})
		if err == nil || !strings.Contains(err.Error(), `no page "../etc"`) {
			t.Errorf("got %v", err)
		}
	})
}
