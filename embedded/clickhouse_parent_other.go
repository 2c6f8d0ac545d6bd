//go:build !linux

package embedded

import "syscall"

// childAttributes put the child into a process group of its own, so that Ctrl-C reaches only the parent, which then
// stops the child in order. Where the parent has been killed the child notices the end of its standard input.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
