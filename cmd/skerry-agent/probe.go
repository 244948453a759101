package main

import (
	"encoding/json"
	"fmt"
	"io"

	"skerry.dev/skerry/hwprobe"
)

// runProbe prints the machine's inventory.
func runProbe(args []string, out io.Writer) error {
	flags := flagSet("probe", "print what hardware this machine has", out)
	format := flags.StringP("output", "o", "table", "table, json or yaml")
	if err := flags.Parse(args); err != nil {
		return err
	}
	inv, err := hwprobe.Host()
	if err != nil {
		return err
	}
	switch *format {
	case "json":
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(inv)
	case "yaml":
		return writeYAML(out, inv)
	case "table":
		return writeTable(out, inv)
	default:
		return fmt.Errorf("output %q is not one of table, json, yaml", *format)
	}
}
