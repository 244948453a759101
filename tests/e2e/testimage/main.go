// Command testimage is the only program in the end-to-end tests' container image. It shows what a container sees and does
// what containers do: serve, fail, eat memory, ignore signals.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const usage = `testimage COMMAND
  serve [ADDRESS]      answer HTTP (default :8080) until SIGTERM
  show FILE...         print files
  write FILE TEXT      write a file
  print TEXT...        print a line
  complain TEXT...     print a line to stderr
  lines N              print N lines and wait for SIGTERM
  tick                 print a line again and again until SIGTERM
  has FILE             end well if the file is there
  exit CODE            end
  sleep                wait for SIGTERM
  oom                  allocate memory without end
  forks                start processes without end, and wait for SIGTERM
  fill FOLDER [MIB]    write files there without end, or so much, and wait for SIGTERM
  device VAR           open the device that an environment variable names, and wait for SIGTERM
  node PATH MAJOR MINOR make a device node, and open it
  hold MIB             take so much memory, and wait for SIGTERM
  flood                print lines without end
  overwrite            try to write to the program that started this one
A command begins after the time in START_AFTER. SIGTERM ends with the code in TERM_CODE, or is ignored if TERM_CODE is "never".
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(command string, args []string) error {
	terminated := make(chan os.Signal, 1) // the first is enough
	signal.Notify(terminated, syscall.SIGTERM)
	if after, err := time.ParseDuration(os.Getenv("START_AFTER")); err == nil {
		time.Sleep(after)
	}
	switch command {
	case "serve":
		go leave(terminated)
		return serve(args)
	case "show":
		return show(args)
	case "write":
		return os.WriteFile(args[0], []byte(args[1]), 0o644)
	case "print":
		fmt.Println(strings.Join(args, " "))
		return nil
	case "complain":
		fmt.Fprintln(os.Stderr, strings.Join(args, " "))
		return nil
	case "lines":
		return lines(args[0], terminated)
	case "tick":
		go leave(terminated)
		return tick()
	case "has":
		_, err := os.Stat(args[0])
		return err
	case "exit":
		return exit(args[0])
	case "sleep":
		leave(terminated)
	case "oom":
		eat()
	case "forks":
		go forks()
		leave(terminated)
	case "fill":
		if err := fill(args); err != nil {
			return err
		}
		leave(terminated)
	case "device":
		if err := open(os.Getenv(args[0])); err != nil {
			return err
		}
		leave(terminated)
	case "node":
		return node(args)
	case "hold":
		if err := hold(args[0]); err != nil {
			return err
		}
		leave(terminated)
	case "flood":
		flood()
	case "overwrite":
		go leave(terminated)
		overwrite()
	default:
		return fmt.Errorf("unknown command %q\n%s", command, usage)
	}
	return nil
}

// leave ends the process as TERM_CODE says.
func leave(terminated <-chan os.Signal) {
	for range terminated {
		fmt.Println("got SIGTERM")
		if text := os.Getenv("TERM_CODE"); text != "never" {
			code, _ := strconv.Atoi(text) // nothing is 0
			os.Exit(code)
		}
	}
}

func exit(text string) error {
	code, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	fmt.Println("exiting with", code)
	os.Exit(code)
	return nil
}

func show(files []string) error {
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		fmt.Printf("== %s\n%s\n", f, data)
	}
	return nil
}

func lines(text string, terminated <-chan os.Signal) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	for i := range n {
		fmt.Printf("line %d\n", i+1)
	}
	leave(terminated)
	return nil
}

func tick() error {
	for i := 1; ; i++ {
		fmt.Printf("tick %d\n", i)
		time.Sleep(100 * time.Millisecond)
	}
}

func eat() {
	var all [][]byte
	for {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		all = append(all, block)
		runtime.KeepAlive(all)
	}
}

func serve(args []string) error {
	address := ":8080"
	if len(args) > 0 {
		address = args[0]
	}
	mux := http.NewServeMux()
	answer := func(pattern string, do func(r *http.Request) (string, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			text, err := do(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			fmt.Fprint(w, text)
		})
	}
	answer("/", func(*http.Request) (string, error) { return os.Hostname() })
	answer("/env", func(r *http.Request) (string, error) { return os.Getenv(r.FormValue("name")), nil })
	answer("/read", func(r *http.Request) (string, error) {
		data, err := os.ReadFile(r.FormValue("path"))
		return string(data), err
	})
	answer("/write", func(r *http.Request) (string, error) {
		return "written", os.WriteFile(r.FormValue("path"), []byte(r.FormValue("text")), 0o600)
	})
	answer("/remove", func(r *http.Request) (string, error) { return "removed", os.Remove(r.FormValue("path")) })
	answer("/burn", burn())
	answer("/fetch", func(r *http.Request) (string, error) { return fetch(r.FormValue("url")) })
	asker := &api{}
	answer("/api", func(r *http.Request) (string, error) { return asker.get(r.FormValue("path")) })
	answer("/watch", func(r *http.Request) (string, error) { return asker.watch(r.FormValue("path")) })
	answer("/watched", func(*http.Request) (string, error) { return asker.watched(), nil })
	// Health is two files, so that it can be switched over HTTP and outlives nothing.
	answer("/healthz", func(*http.Request) (string, error) { return missing("/ill") })
	answer("/readyz", func(*http.Request) (string, error) { return missing("/busy") })
	fmt.Println("serving on", address)
	return (&http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}).ListenAndServe()
}

// burn keeps a processor busy until as many seconds are over as the last request said; none ends it.
func burn() func(r *http.Request) (string, error) {
	var until atomic.Int64 // Unix nanoseconds
	go func() {
		for {
			if time.Now().UnixNano() > until.Load() {
				time.Sleep(50 * time.Millisecond)
			}
		}
	}()
	return func(r *http.Request) (string, error) {
		seconds, err := strconv.Atoi(r.FormValue("seconds"))
		until.Store(time.Now().Add(time.Duration(seconds) * time.Second).UnixNano())
		return "burning", err
	}
}

func missing(file string) (string, error) {
	if _, err := os.Stat(file); err == nil {
		return "", fmt.Errorf("%s is there", file)
	}
	return "ok", nil
}

func fetch(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return "refused: " + err.Error(), nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
