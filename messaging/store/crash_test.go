package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/embedded"
	"skerry.dev/skerry/messaging/store"
)

// crashFolder makes this test binary the process that is killed: it writes to a store in that folder and prints what was
// acknowledged.
const crashFolder = "SKERRY_TEST_CRASH_FOLDER"

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
		return group.Wait()
	})
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
		fmt.Println(k.Namespace, k.Name, rev) // one write, so lines stay whole
	}
}

// A coordinator that is killed at any moment has lost nothing that it acknowledged, again and again on one folder.
func TestKilledProcessLosesNothing(t *testing.T) {
	folder := t.TempDir()
	acked := map[store.Key]uint64{}
	for round := range 4 {
		killAfter(t, folder, 200+125*round, acked)
	}
	var once sync.Once
	err := serve(t.Context(), folder, func(ctx context.Context, s *store.Store) error {
		return s.Watch(ctx, store.WatchOptions{}, func(u store.Update) error {
			once.Do(func() { compareAcked(t, acked, u.Entries) })
			return errEnough
		})
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
}

var errEnough = errors.New("enough")

func compareAcked(t *testing.T, acked map[store.Key]uint64, entries []store.Entry) {
	t.Helper()
	found := map[store.Key]store.Entry{}
	for _, e := range entries {
		found[e.Key] = e
	}
	for k, rev := range acked {
		if e := found[k]; e.Revision != rev || string(e.Value) != "updated "+k.Name {
			t.Errorf("%s was acknowledged at %d, is %q at %d", k, rev, e.Value, e.Revision)
		}
	}
}

// killAfter runs the writing process and kills it after some lines.
func killAfter(t *testing.T, folder string, lines int, acked map[store.Key]uint64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashFolder+"="+folder)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(out)
	n := 0
	for scanner.Scan() {
		var k store.Key
		var rev uint64
		k.Kind = "pods"
		if _, err := fmt.Sscan(scanner.Text(), &k.Namespace, &k.Name, &rev); err != nil {
			t.Fatal(err) // a pipe never has half a line of this size
		}
		acked[k] = rev
		if n++; n == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	if n < lines {
		t.Fatalf("the process ended by itself after %d of %d writes", n, lines)
	}
}
