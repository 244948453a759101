// Package configs loads the daemons' settings, and its folder holds commented examples of them, each loaded by a test.
//
// A setting comes from the file, then from the environment (SKERRY_ and the key in upper case, dots and dashes as
// underscores: api.listen is SKERRY_API_LISTEN), then from the command line; the later wins. A key that no struct field
// has is an error that names it: a misspelt setting must not be a silent default.
package configs

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Load fills into, a pointer to a struct with mapstructure tags that holds the defaults. file may be empty. Of flags only
// those that were set on the command line count, and only those whose name is a key; flags may be nil.
func Load(into any, file string, flags *pflag.FlagSet) error {
	v := viper.New()
	v.SetEnvPrefix("SKERRY")
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_", "-", "_"))
	v.AutomaticEnv()
	keys, err := defaults(v, into)
	if err != nil {
		return err
	}
	if file != "" {
		if err := readFile(v, file); err != nil {
			return err
		}
	}
	if err := checkKeys(v, keys, file); err != nil {
		return err
	}
	if flags != nil {
		if err := bindFlags(v, keys, flags); err != nil {
			return err
		}
	}
	if err := v.UnmarshalExact(into); err != nil {
		return fmt.Errorf("config %s: %w", describe(file), err)
	}
	return nil
}

// defaults tells viper every key, so that the environment is asked for each.
func defaults(v *viper.Viper, into any) ([]string, error) {
	if k := reflect.ValueOf(into); k.Kind() != reflect.Pointer || k.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("config target %T is no pointer to a struct", into)
	}
	var tree map[string]any
	if err := mapstructure.Decode(into, &tree); err != nil {
		return nil, fmt.Errorf("read defaults of %T: %w", into, err)
	}
	var keys []string
	flatten("", tree, func(key string, value any) {
		keys = append(keys, key)
		v.SetDefault(key, value)
	})
	return keys, nil
}

func flatten(prefix string, tree map[string]any, fn func(string, any)) {
	for name, value := range tree {
		key := strings.ToLower(prefix + name)
		if sub, ok := value.(map[string]any); ok {
			flatten(key+".", sub, fn)
			continue
		}
		fn(key, value)
	}
}

func readFile(v *viper.Viper, file string) error {
	v.SetConfigFile(file)
	v.SetConfigType("yaml")
	err := v.ReadInConfig()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("config %s: no such file", file)
	case err != nil:
		return fmt.Errorf("config %s: %w", file, err)
	}
	return nil
}

func checkKeys(v *viper.Viper, keys []string, file string) error {
	var unknown []string
	for _, key := range v.AllKeys() {
		if !slices.Contains(keys, key) && !slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(key, k+".") }) {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	slices.Sort(keys)
	return fmt.Errorf("config %s: unknown key %q; known keys are %s", describe(file), strings.Join(unknown, `", "`), strings.Join(keys, ", "))
}

func bindFlags(v *viper.Viper, keys []string, flags *pflag.FlagSet) error {
	var errs []error
	flags.Visit(func(f *pflag.Flag) {
		if slices.Contains(keys, f.Name) {
			errs = append(errs, v.BindPFlag(f.Name, f))
		}
	})
	return errors.Join(errs...)
}

func describe(file string) string {
	if file == "" {
		return "(no file)"
	}
	return file
}
