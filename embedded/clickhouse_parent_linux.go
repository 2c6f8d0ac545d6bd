package embedded

import "syscall"

// childAttributes put the child into a process group of its own, so that Ctrl-C reaches only the parent, which then
// stops the child in order; and let the kernel kill it when the parent has been killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
