package apiserver_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestScripts runs each testdata/*.txt: requests, each with the answer below it. A request is a line "> METHOD path", an
// optional header line "> Name: value", then the body, up to a line "<". What follows, up to the next request, is the
// answer: code, headers worth seeing, body. UIDs, times and cluster addresses are masked.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c := start(t)
			if filepath.Base(file) == "access.txt" {
				c.roles()
			}
			got := runScript(c, script, writeAnswer)
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(strings.Split(string(script), "\n"), strings.Split(string(got), "\n")); diff != "" {
				t.Errorf("answers differ; run with -update and read the diff (- want, + got):\n%s", diff)
			}
		})
	}
}

func runScript(c *cluster, script []byte, write func(*bytes.Buffer, answer)) []byte {
	var out bytes.Buffer
	var head []string
	var body strings.Builder
	state := "answer"
	scanner := bufio.NewScanner(bytes.NewReader(script))
	for scanner.Scan() {
		line := scanner.Text()
		switch {
		case strings.HasPrefix(line, "#") && state == "answer":
			fmt.Fprintln(&out, line)
		case strings.HasPrefix(line, "> "):
			if state == "answer" {
				head, state = nil, "request"
				body.Reset()
			}
			head = append(head, line[2:])
			fmt.Fprintln(&out, line)
		case state == "request" && line == "<":
			state = "answer"
			fmt.Fprintln(&out, line)
			write(&out, send(c, head, body.String()))
		case state == "request":
			body.WriteString(line + "\n")
			fmt.Fprintln(&out, line)
		}
	}
	return out.Bytes()
}

func send(c *cluster, head []string, body string) answer {
	method, path, _ := strings.Cut(head[0], " ")
	headers := header{}
	for _, h := range head[1:] {
		name, value, _ := strings.Cut(h, ": ")
		headers[name] = value
	}
	return c.do(method, path, body, headers)
}

func writeAnswer(out *bytes.Buffer, a answer) {
	fmt.Fprintln(out, a.code, a.header.Get("Content-Type"))
	for _, name := range []string{"Warning", "Retry-After", "Allow", "WWW-Authenticate"} {
		for _, v := range a.header.Values(name) {
			fmt.Fprintf(out, "%s: %s\n", name, v)
		}
	}
	text := a.body
	var indented bytes.Buffer
	if json.Indent(&indented, a.body, "", "  ") == nil {
		text = indented.Bytes()
	}
	fmt.Fprintf(out, "%s\n\n", strings.TrimSpace(mask(string(text))))
}

var masks = map[*regexp.Regexp]string{
	regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`): "UID",
	regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`):                      "TIME",
	regexp.MustCompile(`10\.43\.\d+\.\d+`):                                             "CLUSTER-IP",
	regexp.MustCompile(`"\d+s"`):                                                       `"AGE"`,
	regexp.MustCompile(`"description": ".*"`):                                          `"description": "..."`,
}

func mask(s string) string {
	for re, with := range masks {
		s = re.ReplaceAllString(s, with)
	}
	return s
}
