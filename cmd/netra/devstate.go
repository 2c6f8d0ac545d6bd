package main

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// What `netra dev` keeps in the data directory for itself and for the commands beside it.
const (
	secretFile      = "secret"  // signs bearer tokens unless NETRA_SECRET does
	environmentFile = "dev.env" // how to reach the engines, while they run
)

// devSecret reads the signing key of a data directory, and makes it the first time.
func devSecret(dir string) (string, error) {
	path := filepath.Join(dir, secretFile)
	if secret, err := readSecret(path); !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the data directory: %w", err)
	}
	// It appears under its name all at once, so that two who make it at the same time agree.
	draft, err := os.CreateTemp(dir, secretFile+"-*")
	if err != nil {
		return "", fmt.Errorf("make the secret: %w", err)
	}
	defer os.Remove(draft.Name())
	_, err = draft.WriteString(hex.EncodeToString(raw[:]) + "\n")
	if err = errors.Join(err, draft.Close()); err != nil {
		return "", fmt.Errorf("write the secret: %w", err)
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("keep the secret: %w", err)
	}
	return readSecret(path)
}

func readSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	secret := strings.TrimSpace(string(text))
	return secret, checkSecret(path, secret)
}

// writeEnvironment leaves NAME=value lines for other commands, and for `. .netra/dev.env` in a shell.
func writeEnvironment(dir string, variables []string) (path string, err error) {
	path = filepath.Join(dir, environmentFile)
	var text strings.Builder
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		fmt.Fprintf(&text, "export %s='%s'\n", name, value)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	return path, nil
}

// orDev is cfg with what is missing in it taken from a `netra dev` that runs on the same data directory.
func (c *config) orDev() (*config, error) {
	filled := *c
	fields := map[string]*string{
		"NETRA_DATABASE_URL":       &filled.DatabaseURL,
		"NETRA_OWNER_DATABASE_URL": &filled.OwnerDatabaseURL,
		"NETRA_CLICKHOUSE_URL":     &filled.ClickHouseURL,
	}
	file, err := os.Open(filepath.Join(c.DataDir, environmentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return &filled, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what netra dev left: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, value, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
		if field, known := fields[name]; known && *field == "" {
			*field = strings.Trim(value, "'")
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read what netra dev left: %w", err)
	}
	return &filled, nil
}
