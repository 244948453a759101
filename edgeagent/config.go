package edgeagent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/device"
	"skerry.dev/skerry/edgeagent/eviction"
	"skerry.dev/skerry/edgeagent/image"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/messaging"
)

// Config is the agent's settings as configs.Load fills them. DefaultConfig has the defaults; Validate reports every fault
// at once.
type Config struct {
	// Name is the node's name, a DNS name in lower case. Empty takes the host's.
	Name string `mapstructure:"name"`
	// StateDir holds all that the node must not forget: its identity and checkpoint, images, logs and volumes.
	StateDir string `mapstructure:"state-dir"`
	// Servers are the coordinator's NATS addresses, nats://host:port.
	Servers []string `mapstructure:"servers"`
	// JoinToken is needed once, to enrol. JoinTokenFile names a file with it instead.
	JoinToken     string `mapstructure:"join-token"`
	JoinTokenFile string `mapstructure:"join-token-file"`
	// Address is where other nodes reach this one. Empty takes the address that this machine uses towards the first server.
	Address string `mapstructure:"address"`
	// KeeperSocket is where the keeper listens. Empty means run/keeper.sock in the state folder.
	KeeperSocket string `mapstructure:"keeper-socket"`
	// CgroupParent is the group below which all containers are; the keeper must have the same.
	CgroupParent string         `mapstructure:"cgroup-parent"`
	Network      NetworkConfig  `mapstructure:"network"`
	Pods         PodsConfig     `mapstructure:"pods"`
	Reserved     ReservedConfig `mapstructure:"reserved"`
	Eviction     EvictionConfig `mapstructure:"eviction"`
	Images       ImagesConfig   `mapstructure:"images"`
	Devices      DevicesConfig  `mapstructure:"devices"`
	Log          LogConfig      `mapstructure:"log"`
}

// NetworkConfig are the cluster's address ranges, as the coordinator has them.
type NetworkConfig struct {
	PodCIDR     string `mapstructure:"pod-cidr"`
	ServiceCIDR string `mapstructure:"service-cidr"`
	// Masquerade gives pods the node's address when they talk to anything outside the cluster.
	Masquerade bool `mapstructure:"masquerade"`
}

// PodsConfig bounds what pods may use.
type PodsConfig struct {
	Max int64 `mapstructure:"max"` // pods on this node
	// PidsPerContainer is how many processes and threads a container may have; 0 for no limit.
	PidsPerContainer int64 `mapstructure:"pids-per-container"`
	// LogMaxSize is the size at which a container's log is rotated, a Kubernetes quantity; LogMaxFiles counts the current file
	// and the rotated ones.
	LogMaxSize  string `mapstructure:"log-max-size"`
	LogMaxFiles int    `mapstructure:"log-max-files"`
	// AllowedUnsafeSysctls are kernel settings, or beginnings of them that end in "*", that pods may have besides the safe ones.
	AllowedUnsafeSysctls []string `mapstructure:"allowed-unsafe-sysctls"`
}

// EvictionConfig says when the node is short of something. Names, form and defaults are the kubelet's.
type EvictionConfig struct {
	Hard                     string        `mapstructure:"hard"` // signal<quantity or percentage, separated by commas
	Soft                     string        `mapstructure:"soft"`
	SoftGracePeriod          string        `mapstructure:"soft-grace-period"` // signal=time for each soft threshold
	MinimumReclaim           string        `mapstructure:"minimum-reclaim"`   // signal=quantity or percentage
	MaxPodGracePeriod        time.Duration `mapstructure:"max-pod-grace-period"`
	PressureTransitionPeriod time.Duration `mapstructure:"pressure-transition-period"`
}

func (e EvictionConfig) settings() eviction.Settings {
	return eviction.Settings{Hard: e.Hard, Soft: e.Soft, SoftGracePeriod: e.SoftGracePeriod, MinimumReclaim: e.MinimumReclaim}
}

func (e EvictionConfig) validate() error {
	_, err := eviction.Parse(e.settings())
	for key, d := range map[string]time.Duration{"max-pod-grace-period": e.MaxPodGracePeriod, "pressure-transition-period": e.PressureTransitionPeriod} {
		if d < 0 {
			err = errors.Join(err, fmt.Errorf("%s: %s is negative", key, d))
		}
	}
	return err
}

// DevicesConfig says which devices pods may claim; see docs/devices.md.
type DevicesConfig struct {
	// Kinds of hardware that are offered by their own names; of device.BuiltIn.
	Kinds []string `mapstructure:"kinds"`
	// Classes are rules, such as "gps usb=1546:01a8"; they come before the kinds.
	Classes []string `mapstructure:"classes"`
}

// ImagesConfig says when images that nothing uses are removed.
type ImagesConfig struct {
	// HighPercent of the disk in use starts the removal, LowPercent ends it.
	HighPercent int           `mapstructure:"high-percent"`
	LowPercent  int           `mapstructure:"low-percent"`
	MinimumAge  time.Duration `mapstructure:"minimum-age"` // protects what was used a moment ago
	Pinned      []string      `mapstructure:"pinned"`      // images that are never removed
}

func (c ImagesConfig) validate() error {
	var err error
	if c.LowPercent < 1 || c.HighPercent > 100 || c.LowPercent >= c.HighPercent {
		err = fmt.Errorf("low-percent %d and high-percent %d: want 0 < low < high <= 100", c.LowPercent, c.HighPercent)
	}
	if c.MinimumAge < 0 {
		err = errors.Join(err, fmt.Errorf("minimum-age: %s is negative", c.MinimumAge))
	}
	return errors.Join(err, image.ValidateNames(c.Pinned))
}

// ReservedConfig is what pods may not have: it is taken off the node's capacity.
type ReservedConfig struct {
	CPU    string `mapstructure:"cpu"`    // a Kubernetes quantity, such as 100m
	Memory string `mapstructure:"memory"` // a Kubernetes quantity, such as 128Mi
}

// LogConfig is what is logged, and how.
type LogConfig struct {
	Level  string `mapstructure:"level"`  // debug, info, warn or error
	Format string `mapstructure:"format"` // text or json
}

// DefaultConfig returns the settings of a node whose file names only servers and a token.
func DefaultConfig() Config {
	return Config{
		StateDir:     "/var/lib/skerry/node",
		CgroupParent: "/skerry",
		Network:      NetworkConfig{PodCIDR: "10.42.0.0/16", ServiceCIDR: "10.43.0.0/16", Masquerade: true},
		Pods:         PodsConfig{Max: 110, PidsPerContainer: 4096, LogMaxSize: "10Mi", LogMaxFiles: 3, AllowedUnsafeSysctls: []string{}},
		Reserved:     ReservedConfig{CPU: "100m", Memory: "128Mi"},
		Eviction:     EvictionConfig{Hard: eviction.DefaultHard, PressureTransitionPeriod: 5 * time.Minute},
		Images:       ImagesConfig{HighPercent: 85, LowPercent: 80, MinimumAge: 2 * time.Minute, Pinned: []string{}},
		Devices:      DevicesConfig{Kinds: slices.Clone(device.DefaultKinds), Classes: []string{}},
		Log:          LogConfig{Level: "info", Format: "text"},
	}
}

// Complete fills what can be found out: the host's name, the keeper's socket, the token from its file.
func (c *Config) Complete() error {
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("name is not set and the host's is unknown: %w", err)
		}
		c.Name = strings.ToLower(host)
	}
	if c.KeeperSocket == "" {
		c.KeeperSocket = filepath.Join(c.StateDir, "run", "keeper.sock")
	}
	if c.JoinTokenFile == "" {
		return nil
	}
	token, err := os.ReadFile(c.JoinTokenFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil // used up and removed; a node that still needs it will say so
	}
	if err != nil {
		return fmt.Errorf("join-token-file: %w", err)
	}
	c.JoinToken = string(token)
	return nil
}

// Validate returns every fault of the settings, joined, or nil.
func (c Config) Validate() error {
	var faults []error
	check := func(key string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", key, err))
		}
	}
	check("name", dnsName(c.Name))
	check("state-dir", absolute(c.StateDir))
	check("keeper-socket", absolute(c.KeeperSocket))
	check("cgroup-parent", absolute(c.CgroupParent))
	check("servers", someServer(c.Servers))
	if c.JoinToken != "" {
		_, err := messaging.ParseJoinToken(c.JoinToken)
		check("join-token", err)
	}
	if c.Address != "" {
		check("address", ipv4(c.Address))
	}
	check("network.pod-cidr", prefix(c.Network.PodCIDR))
	check("network.service-cidr", prefix(c.Network.ServiceCIDR))
	check("pods.max", positive(c.Pods.Max))
	check("pods.log-max-size", logSize(c.Pods.LogMaxSize))
	check("pods.log-max-files", between(c.Pods.LogMaxFiles, 1, 100))
	check("pods.allowed-unsafe-sysctls", containerspec.ValidateUnsafeSysctls(c.Pods.AllowedUnsafeSysctls))
	check("eviction", c.Eviction.validate())
	check("devices.kinds", device.ValidateKinds(c.Devices.Kinds))
	_, err := device.ParseRules(c.Devices.Classes)
	check("devices.classes", err)
	check("images", c.Images.validate())
	check("reserved.cpu", quantity(c.Reserved.CPU))
	check("reserved.memory", quantity(c.Reserved.Memory))
	_, err = c.Log.level()
	check("log.level", err)
	check("log.format", oneOf(c.Log.Format, "text", "json"))
	return errors.Join(faults...)
}

func dnsName(s string) error {
	if faults := validation.IsDNS1123Subdomain(s); len(faults) > 0 {
		return fmt.Errorf("%q: %s", s, faults[0])
	}
	return nil
}

func absolute(s string) error {
	if !filepath.IsAbs(s) {
		return fmt.Errorf("%q is not an absolute path", s)
	}
	return nil
}

func someServer(servers []string) error {
	if len(servers) == 0 {
		return errors.New("none given; want at least one like nats://coordinator.example:4222")
	}
	for _, s := range servers {
		scheme, host, ok := strings.Cut(s, "://")
		if !ok || host == "" || oneOf(scheme, "nats", "tls", "ws", "wss") != nil {
			return fmt.Errorf("%q is not like nats://host:port", s)
		}
	}
	return nil
}

func ipv4(s string) error {
	if a, err := netip.ParseAddr(s); err != nil || !a.Is4() {
		return fmt.Errorf("%q is not an IPv4 address", s)
	}
	return nil
}

func prefix(s string) error {
	if p, err := netip.ParsePrefix(s); err != nil || !p.Addr().Is4() {
		return fmt.Errorf("%q is not an IPv4 network like 10.42.0.0/16", s)
	}
	return nil
}

func positive(n int64) error {
	if n < 1 {
		return fmt.Errorf("%d is less than 1", n)
	}
	return nil
}

func between(n, least, most int) error {
	if n < least || n > most {
		return fmt.Errorf("%d is not between %d and %d", n, least, most)
	}
	return nil
}

func logSize(s string) error {
	if q, err := resource.ParseQuantity(s); err != nil || q.Value() < keeper.MinLogMaxBytes {
		return fmt.Errorf("%q is not a quantity like 10Mi, of at least %d bytes", s, keeper.MinLogMaxBytes)
	}
	return nil
}

func quantity(s string) error {
	if q, err := resource.ParseQuantity(s); err != nil || q.Sign() < 0 {
		return fmt.Errorf("%q is not a quantity like 100m or 128Mi", s)
	}
	return nil
}

func oneOf(s string, allowed ...string) error {
	if slices.Contains(allowed, s) {
		return nil
	}
	return fmt.Errorf("%q is not one of %s", s, strings.Join(allowed, ", "))
}

func (l LogConfig) level() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return level, fmt.Errorf("%q is not one of debug, info, warn, error", l.Level)
	}
	return level, nil
}

// Logger makes the logger that the settings ask for.
func (l LogConfig) Logger(w *os.File) (*slog.Logger, error) {
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
