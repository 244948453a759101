package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/embedded"
	"skerry.dev/skerry/messaging/store"
)

// crashFolder makes this test binary the process that is killed: it writes to a store in that folder and prints what was
// acknowledged, and what a watch was told of.
const crashFolder = "SKERRY_TEST_CRASH_FOLDER"

// crashCut makes it cut the power of the disk itself, as soon as a watch hears of changes for the so-manieth time.
const crashCut = "SKERRY_TEST_CRASH_CUT"

func TestMain(m *testing.M) {
	if folder := os.Getenv(crashFolder); folder != "" {
		fmt.Fprintln(os.Stderr, writeForEver(context.Background(), folder))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serve runs a server on a folder while f runs.
func serve(ctx context.Context, folder string, f func(context.Context, *store.Store) error) error {
	server, err := embedded.New(embedded.Options{StoreDir: folder, Port: -1})
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(run) }()
	defer func() {
		stop()
		<-ended
	}()
	select {
	case <-server.Ready():
	case err := <-ended:
		ended <- err
		return err
	}
	nc, err := messaging.Connect(ctx, server.CoordinatorOptions())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, js, store.Options{Stage: server.Stage})
	if err != nil {
		return err
	}
	if _, err := s.OpenEpoch(ctx, "crash test"); err != nil {
		return err
	}
	return f(ctx, s)
}

// writeForEver writes by enough writers for batches.
func writeForEver(ctx context.Context, folder string) error {
	return serve(ctx, folder, func(ctx context.Context, s *store.Store) error {
		group, ctx := errgroup.WithContext(ctx)
		for w := range 12 {
			group.Go(func() error { return writeOn(ctx, s, w) })
		}
		group.Go(func() error { return s.Watch(ctx, store.WatchOptions{}, teller(folder)) })
		return group.Wait()
	})
}

// teller prints what a watch hands on, but for what was there before.
func teller(folder string) func(u store.Update) error {
	cutAt, _ := strconv.Atoi(os.Getenv(crashCut)) // zero, never, when it is not set
	times := 0
	return func(u store.Update) error {
		if u.Complete {
			return nil
		}
		times++
		if times == cutAt {
			if err := cutPower(filepath.Dir(folder)); err != nil {
				return err
			}
		}
		for _, e := range u.Entries {
			if e.Kind == "pods" {
				fmt.Println("heard", e.Namespace, e.Name, e.Revision)
			}
		}
		if times == cutAt {
			os.Exit(1)
		}
		return nil
	}
}

func writeOn(ctx context.Context, s *store.Store, writer int) error {
	for i := 0; ; i++ {
		k := store.Key{Kind: "pods", Namespace: fmt.Sprint(os.Getpid()), Name: fmt.Sprintf("%d.%d", writer, i)}
		rev, err := s.Create(ctx, k, []byte(k.Name))
		if err == nil {
			rev, err = s.Update(ctx, k, []byte("updated "+k.Name), rev)
		}
		if err != nil {
			return err
		}
		fmt.Println("acknowledged", k.Namespace, k.Name, rev) // one write, so lines stay whole
	}
}

// said is what processes have printed before they ended.
type said struct {
	acknowledged map[store.Key]uint64 // the last revision of each object
	heard        map[uint64]store.Key // revisions of which a watch was told
	lines        int
}

func newSaid() *said {
	return &said{acknowledged: map[store.Key]uint64{}, heard: map[uint64]store.Key{}}
}

// A coordinator that is killed at any moment has lost nothing that it acknowledged or told a watch of, again and again on
// one folder.
func TestKilledProcessLosesNothing(t *testing.T) {
	folder, all := t.TempDir(), newSaid()
	for round := range 4 {
		killAfter(t, folder, 400+250*round, all, (*os.Process).Kill)
	}
	all.compare(t, folder)
}

// compare starts a server on the folder and looks whether all that was said is so.
func (s *said) compare(t *testing.T, folder string) {
	t.Helper()
	err := serve(t.Context(), folder, func(ctx context.Context, st *store.Store) error {
		return st.Watch(ctx, store.WatchOptions{}, func(u store.Update) error {
			s.compareWith(t, u.Entries)
			return errEnough
		})
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
}

var errEnough = errors.New("enough")

func (s *said) compareWith(t *testing.T, entries []store.Entry) {
	t.Helper()
	found, last := map[store.Key]store.Entry{}, uint64(0)
	for _, e := range entries {
		if e.Kind != "pods" {
			continue
		}
		found[e.Key] = e
		if e.Revision <= last {
			t.Errorf("%s at %d comes after %d", e.Key, e.Revision, last)
		}
		last = e.Revision
		if v := string(e.Value); v != e.Name && v != "updated "+e.Name {
			t.Errorf("%s at %d is %q, which nobody wrote", e.Key, e.Revision, v)
		}
	}
	for k, rev := range s.acknowledged {
		if e := found[k]; e.Revision != rev || string(e.Value) != "updated "+k.Name {
			t.Errorf("%s was acknowledged at %d, is %q at %d", k, rev, e.Value, e.Revision)
		}
	}
	for rev, k := range s.heard {
		if e := found[k]; e.Revision < rev { // it may have been updated since
			t.Errorf("a watch was told of %s at %d, which is %q at %d", k, rev, e.Value, e.Revision)
		}
	}
}

// killAfter runs the writing process, ends it after some lines and takes what it said.
func killAfter(t *testing.T, folder string, lines int, all *said, end func(*os.Process) error) {
	t.Helper()
	n := listen(t, all, func(cmd *exec.Cmd, n int) {
		if n == lines {
			if err := end(cmd.Process); err != nil {
				t.Fatal(err)
			}
		}
	}, crashFolder+"="+folder)
	if n < lines {
		t.Fatalf("the process ended by itself after %d of %d lines", n, lines)
	}
}

// listen runs the writing process until it ends and takes what it says, line by line.
func listen(t *testing.T, all *said, each func(cmd *exec.Cmd, n int), env ...string) (n int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		all.add(t, scanner.Text())
		n++
		each(cmd, n)
	}
	_ = cmd.Wait() // it was killed
	all.lines += n
	return n
}

func (s *said) add(t *testing.T, line string) {
	t.Helper()
	k, what, rev := store.Key{Kind: "pods"}, "", uint64(0)
	if _, err := fmt.Sscan(line, &what, &k.Namespace, &k.Name, &rev); err != nil {
		t.Fatalf("%q: %v", line, err) // a pipe never has half a line of this size
	}
	switch before, told := s.heard[rev]; {
	case what == "acknowledged":
		s.acknowledged[k] = rev
	case told && before != k:
		t.Errorf("watches were told of %s and of %s at %d", before, k, rev)
	default:
		s.heard[rev] = k
	}
}
