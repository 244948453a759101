package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// disk is the folder that the store lives in; tests replace it by one that fails and forgets.
type disk interface {
	create(name string) (file, error)
	read(name string) ([]byte, error)
	rename(from, to string) error
	remove(name string) error
	list() ([]string, error)
	sync() error // makes renames and removals durable
}

type file interface {
	io.WriteCloser
	Sync() error
}

// folder is a disk on a real folder. The root keeps every name inside it.
type folder struct{ root *os.Root }

func openFolder(dir string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folder{root: root}, nil
}

func (f *folder) create(name string) (file, error) {
	return f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (f *folder) read(name string) ([]byte, error) { return f.root.ReadFile(name) }
func (f *folder) rename(from, to string) error     { return f.root.Rename(from, to) }
func (f *folder) remove(name string) error         { return f.root.Remove(name) }
func (f *folder) withDir(fn func(*os.File) error) error {
	d, err := f.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(fn(d), d.Close())
}

func (f *folder) list() (names []string, err error) {
	err = f.withDir(func(d *os.File) error {
		names, err = d.Readdirnames(-1)
		return err
	})
	return names, err
}

func (f *folder) sync() error { return f.withDir((*os.File).Sync) }

const temporary = ".tmp"

// put replaces one file, durably but for its name: the caller syncs the folder.
func put(d disk, name string, v any) error {
	data, err := encode(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	if err := write(d, name+temporary, data); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := d.rename(name+temporary, name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func write(d disk, name string, data []byte) error {
	f, err := d.create(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

func get(d disk, name string, v any) error {
	data, err := d.read(name)
	if err != nil {
		return err
	}
	if err := decode(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
