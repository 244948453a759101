package controllertest

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden part of script files")

const line = "----\n"

// Command runs one line of a script and returns what to print.
type Command func(args []string) ([]string, error)

// Scripts runs every file that matches pattern in a fresh set of commands. A file holds one command a line, "#" starts a
// comment; below the line of dashes is what the commands printed. With -update the lower part is rewritten.
func Scripts(t *testing.T, pattern string, commands func(t *testing.T) map[string]Command) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no script matches %s (%v)", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)), func(t *testing.T) {
			script(t, file, commands(t))
		})
	}
}

func script(t *testing.T, file string, commands map[string]Command) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	input, want, _ := strings.Cut(string(raw), line)
	got := run(t, file, input, commands)
	if *update {
		if err := os.WriteFile(file, []byte(input+line+got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s: the result differs (rewrite with -update, then review the diff)\n%s", file, compare(want, got))
	}
}

func run(t *testing.T, file, input string, commands map[string]Command) string {
	var out strings.Builder
	scanner := bufio.NewScanner(strings.NewReader(input))
	for number := 1; scanner.Scan(); number++ {
		text, _, _ := strings.Cut(scanner.Text(), "#")
		args := strings.Fields(text)
		if len(args) == 0 {
			continue
		}
		command, known := commands[args[0]]
		if !known {
			t.Fatalf("%s:%d: unknown command %q", file, number, args[0])
		}
		printed, err := command(args[1:])
		if err != nil {
			t.Fatalf("%s:%d: %s: %v", file, number, args[0], err)
		}
		if len(printed) > 0 {
			fmt.Fprintf(&out, "> %s\n%s\n", strings.Join(args, " "), strings.Join(printed, "\n"))
		}
	}
	return out.String()
}

// compare shows the first lines that differ.
func compare(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		a, b := at(w, i), at(g, i)
		if a != b {
			return fmt.Sprintf("result line %d\nwant %s\ngot  %s\n\nwhole result:\n%s", i+1, a, b, got)
		}
	}
	return ""
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end)"
}

// Args parses name=value pairs.
func Args(pairs []string) (map[string]string, error) {
	m := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not name=value", pair)
		}
		m[k] = v
	}
	return m, nil
}
