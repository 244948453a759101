package server

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	_ "github.com/opencontainers/cgroups/devices" // device rules fail without it
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // its C constructor joins namespaces before Go starts
	"github.com/sirupsen/logrus"
)

// init is where libcontainer's second stage begins: it runs /proc/self/exe again with the argument "init". It cannot wait for main, and
// it does not return.
func init() { //nolint:gochecknoinits // libcontainer wants it so
	if len(os.Args) > 1 && os.Args[1] == "init" {
		if err := enterStage(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		libcontainer.Init()
	}
}

// adoptLibraryLog sends what libcontainer logs through its global logger to log. Its errors are returned as well, so only warnings matter.
func adoptLibraryLog(log *slog.Logger) {
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.WarnLevel)
	logrus.StandardLogger().ReplaceHooks(logrus.LevelHooks{})
	logrus.AddHook(libraryLog{log})
}

type libraryLog struct{ log *slog.Logger }

// Levels is logrus.Hook's.
func (libraryLog) Levels() []logrus.Level { return logrus.AllLevels }

// Fire is logrus.Hook's.
func (h libraryLog) Fire(e *logrus.Entry) error {
	h.log.Warn("libcontainer", "message", e.Message)
	return nil
}
