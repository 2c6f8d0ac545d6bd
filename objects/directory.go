package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// directory keeps an object in a file. What is being written has another name until it is whole.
type directory struct{ root *os.Root } // no key leads out of it

const unfinished = ".part"

func openDirectory(name string) (*directory, error) {
	if err := os.MkdirAll(name, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of objects: %w", err)
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("open the directory of objects: %w", err)
	}
	return &directory{root}, nil
}

func (d *directory) put(_ context.Context, key string, in *inspection) (err error) {
	if err := d.root.MkdirAll(path.Dir(key), 0o700); err != nil {
		return err
	}
	file, err := d.root.OpenFile(key+unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.remove(context.Background(), key))
		}
	}()
	if _, err = io.Copy(file, in); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := d.root.Rename(key+unfinished, key); err != nil {
		return err
	}
	return errors.Join(d.sync(path.Dir(key)), d.sync("."))
}

// sync makes what was done to the names in a directory outlast a crash of the machine.
func (d *directory) sync(name string) error {
	dir, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (d *directory) open(_ context.Context, key string) (io.ReadSeekCloser, error) {
	file, err := d.root.Open(key)
	if err != nil {
		return nil, err // a nil *os.File must not become a reader
	}
	return file, nil
}

func (d *directory) remove(_ context.Context, key string) error {
	var failures []error
	for _, name := range []string{key, key + unfinished} {
		if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func (d *directory) ping(context.Context) error {
	_, err := d.root.Stat(".")
	return err
}
