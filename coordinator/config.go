package coordinator

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"time"
)

// Config is the coordinator's settings as configs.Load fills them. DefaultConfig has the defaults; Validate reports every
// fault at once.
type Config struct {
	// StateDir holds the store, the certificate authority and the keys. Losing it is losing the cluster.
	StateDir string        `mapstructure:"state-dir"`
	API      APIConfig     `mapstructure:"api"`
	NATS     NATSConfig    `mapstructure:"nats"`
	Network  NetworkConfig `mapstructure:"network"`
	Nodes    NodesConfig   `mapstructure:"nodes"`
	Audit    AuditConfig   `mapstructure:"audit"`
	Log      LogConfig     `mapstructure:"log"`
}

// APIConfig is the Kubernetes API, with the web page and the image registry on the same address.
type APIConfig struct {
	Listen string   `mapstructure:"listen"` // host:port; port 0 takes a free one
	Names  []string `mapstructure:"names"`  // further DNS names and addresses for the certificate
}

// NATSConfig is the embedded NATS server that nodes and automation connect to.
type NATSConfig struct {
	Listen string   `mapstructure:"listen"`
	Names  []string `mapstructure:"names"`
}

// NetworkConfig are the cluster's address ranges. They cannot be changed once nodes have joined.
type NetworkConfig struct {
	PodCIDR     string `mapstructure:"pod-cidr"`
	ServiceCIDR string `mapstructure:"service-cidr"`
}

// NodesConfig is how nodes are watched.
type NodesConfig struct {
	// Heartbeat is how often a node says that it lives; silent for three of them it is unreachable.
	Heartbeat time.Duration `mapstructure:"heartbeat"`
	// Rebalance says whether load is moved by itself; `skerry rebalance` works either way.
	Rebalance bool `mapstructure:"rebalance"`
}

// AuditConfig is the record of who did what over the API.
type AuditConfig struct {
	Level  string `mapstructure:"level"`    // none, metadata or request
	File   string `mapstructure:"file"`     // empty: audit/audit.log in the state folder
	MaxMiB int    `mapstructure:"max-size"` // of the file, in MiB, before it is rotated
	Keep   int    `mapstructure:"keep"`     // how many rotated files are kept
}

// LogConfig is what is logged, and how.
type LogConfig struct {
	Level  string `mapstructure:"level"`  // debug, info, warn or error
	Format string `mapstructure:"format"` // text or json
}

// DefaultConfig returns settings for one coordinator on one machine: every listener on loopback.
func DefaultConfig() Config {
	return Config{
		StateDir: "/var/lib/skerry/coordinator",
		API:      APIConfig{Listen: "127.0.0.1:6443"},
		NATS:     NATSConfig{Listen: "127.0.0.1:4222"},
		Network:  NetworkConfig{PodCIDR: "10.42.0.0/16", ServiceCIDR: "10.43.0.0/16"},
		Nodes:    NodesConfig{Heartbeat: 10 * time.Second, Rebalance: true},
		Audit:    AuditConfig{Level: "metadata", MaxMiB: 16, Keep: 4},
		Log:      LogConfig{Level: "info", Format: "text"},
	}
}

// Validate returns every fault of the settings, joined, or nil.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(c.StateDir) {
		fault("state-dir %q is not an absolute path", c.StateDir)
	}
	for key, listen := range map[string]string{"api.listen": c.API.Listen, "nats.listen": c.NATS.Listen} {
		if _, _, err := splitListen(listen); err != nil {
			fault("%s: %w", key, err)
		}
	}
	pods, podErr := netip.ParsePrefix(c.Network.PodCIDR)
	services, serviceErr := netip.ParsePrefix(c.Network.ServiceCIDR)
	switch {
	case podErr != nil:
		fault("network.pod-cidr: %w", podErr)
	case serviceErr != nil:
		fault("network.service-cidr: %w", serviceErr)
	case pods.Overlaps(services):
		fault("network.pod-cidr %s and network.service-cidr %s overlap", pods, services)
	case pods.Bits() > 24:
		fault("network.pod-cidr %s is too small: each node takes a /24 of it", pods)
	}
	if c.Nodes.Heartbeat < 100*time.Millisecond || c.Nodes.Heartbeat > 10*time.Minute {
		fault("nodes.heartbeat %s is not between 100ms and 10m", c.Nodes.Heartbeat)
	}
	faults = append(faults, c.Audit.validate())
	if _, err := c.Log.level(); err != nil {
		faults = append(faults, err)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		fault("log.format %q is neither text nor json", c.Log.Format)
	}
	return errors.Join(faults...)
}

// Logger makes the logger that the settings describe, writing to w.
func (l LogConfig) Logger(w io.Writer) (*slog.Logger, error) {
	level, err := l.level()
	if err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return slog.New(slog.NewTextHandler(w, options)), nil
}

func (l LogConfig) level() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return 0, fmt.Errorf("log.level %q is none of debug, info, warn, error", l.Level)
	}
	return level, nil
}

// splitListen reads host:port. The host must be an address or localhost: a name that resolves elsewhere tomorrow is no
// place to listen.
func splitListen(listen string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port: %w", listen, err)
	}
	port, err = net.LookupPort("tcp", text)
	if err != nil {
		return "", 0, fmt.Errorf("%q: port %q is no TCP port", listen, text)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return "", 0, fmt.Errorf("%q: %q is not an IP address; use 127.0.0.1, 0.0.0.0 or one of this machine's", listen, host)
	}
	return host, port, nil
}
