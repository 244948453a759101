package batch

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// log notes what is stored; its first message waits until open is closed, so that the others meet.
type log struct {
	open chan struct{}

	mu     sync.Mutex
	rounds []string // the messages of one batch, separated by spaces, or a single one with a dot
}

func (l *log) note(round string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rounds = append(l.rounds, round)
}

func (l *log) store() *Rounds[string, string] {
	return &Rounds[string, string]{
		Least: 2,
		One: func(_ context.Context, m string) string {
			if m == "first" {
				<-l.open
			}
			l.note("." + m)
			return "one " + m
		},
		Many: func(_ context.Context, round []*Ticket[string, string]) bool {
			var all []string
			for _, t := range round {
				all = append(all, t.Message)
			}
			if slices.Contains(all, "refused") {
				return false
			}
			l.note(strings.Join(all, " "))
			for _, t := range round {
				t.Settle("many " + t.Message)
			}
			return true
		},
	}
}

// meet has messages wait behind the first, in order, and returns the rounds and what their writers are told. A message
// goes to the subject before its colon and has the size of the part behind it; a writer of "gone" does not wait.
func meet(t *testing.T, messages ...string) (rounds []string, told map[string]string) {
	synctest.Test(t, func(t *testing.T) {
		l := &log{open: make(chan struct{})}
		r := l.store()
		var mu sync.Mutex
		told = map[string]string{}
		var writers sync.WaitGroup
		for _, m := range append([]string{"first"}, messages...) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			subject, data, _ := strings.Cut(m, ":")
			writers.Go(func() {
				result, ok := r.Do(ctx, m, subject, len(data)<<20)
				mu.Lock()
				defer mu.Unlock()
				told[m] = result
				if !ok {
					told[m] = "unknown"
				}
			})
			synctest.Wait()
			if m == "gone" {
				cancel()
				synctest.Wait()
			}
		}
		close(l.open)
		writers.Wait()
		synctest.Wait()
		if r.busy || len(r.waiting) > 0 {
			t.Errorf("busy %v, %d wait, though all have been served", r.busy, len(r.waiting))
		}
		rounds = l.rounds
	})
	return rounds, told
}

func TestRounds(t *testing.T) {
	for _, tt := range []struct{ messages, rounds []string }{
		{nil, []string{".first"}},
		{[]string{"a"}, []string{".first", ".a"}},
		{[]string{"a", "b", "c"}, []string{".first", "a b c"}},
		{[]string{"a:", "b", "a:x", "c"}, []string{".first", "a: b c", ".a:x"}},
		{[]string{"a:x", "b:xx", "c:x"}, []string{".first", "a:x c:x", ".b:xx"}},
		{[]string{"a:xxx", "b"}, []string{".first", ".a:xxx", ".b"}},
		{[]string{"a", "gone", "b"}, []string{".first", "a b"}},
		{[]string{"gone"}, []string{".first"}},
	} {
		rounds, told := meet(t, tt.messages...)
		if !slices.Equal(rounds, tt.rounds) {
			t.Errorf("%v go in rounds %q, want %q", tt.messages, rounds, tt.rounds)
		}
		for _, m := range tt.messages {
			if want := "unknown"; (told[m] == want) != (m == "gone") {
				t.Errorf("the writer of %s is told %q", m, told[m])
			}
		}
	}
}

// What a batch cannot store goes by itself.
func TestRefusedBatch(t *testing.T) {
	rounds, told := meet(t, "a", "refused")
	slices.Sort(rounds)
	if want := []string{".a", ".first", ".refused"}; !slices.Equal(rounds, want) || told["a"] != "one a" || told["refused"] != "one refused" {
		t.Errorf("rounds %q, writers are told %q", rounds, told)
	}
}

// A batch has no more messages than it may.
func TestRoundsAreBounded(t *testing.T) {
	messages := make([]string, MaxMessages+2)
	for i := range messages {
		messages[i] = strconv.Itoa(i)
	}
	rounds, _ := meet(t, messages...)
	if len(rounds) != 3 || len(strings.Fields(rounds[1])) != MaxMessages || rounds[2] != strconv.Itoa(MaxMessages)+" "+strconv.Itoa(MaxMessages+1) {
		t.Errorf("%d rounds: %q", len(rounds), rounds)
	}
}
