//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Machine is what it was measured on, and what was measured.
type Machine struct {
	Processors int    `json:"processors"`
	CPU        string `json:"cpu"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	Revision   string `json:"revision"`
	// Base is the revision that stands beside it.
	Base string `json:"base,omitempty"`
	// LoadAverage is that of the last 1, 5 and 15 minutes before the first measurement.
	LoadAverage string `json:"load_average"`
	// FileSystem is where the data folders are, SyncMillis the median time of a write of 4 KiB with its fsync there.
	FileSystem string  `json:"file_system"`
	SyncMillis float64 `json:"fsync_4kib_ms"`
}

func (m Machine) String() string {
	revision := m.Revision
	if m.Base != "" {
		revision += ", base " + m.Base
	}
	s := fmt.Sprintf("%d processors, %s, Linux %s, %s; caliper-edge %s\nload average before: %s; data on %s, write and fsync of 4 KiB: %.3f ms",
		m.Processors, m.CPU, m.Kernel, m.Go, revision, m.LoadAverage, m.FileSystem, m.SyncMillis)
	if m.FileSystem == "tmpfs" || m.FileSystem == "ramfs" {
		s += "\nWARNING: this file system is memory, where a sync costs nothing. Say -dir with a folder on a disk."
	}
	return s
}

// describe looks at the machine; folder is where the data folders will be, root the module that was built.
func describe(root, folder string) (m Machine, err error) {
	m.Processors = runtime.NumCPU()
	m.Go = runtime.Version()
	for file, into := range map[string]*string{"/proc/loadavg": &m.LoadAverage, "/proc/sys/kernel/osrelease": &m.Kernel, "/proc/cpuinfo": &m.CPU} {
		text, err := os.ReadFile(file)
		if err != nil {
			return m, err
		}
		*into = string(bytes.TrimSpace(text))
	}
	m.LoadAverage = strings.Join(strings.Fields(m.LoadAverage)[:3], " ")
	_, m.CPU, _ = strings.Cut(m.CPU, "model name") // not on every architecture
	m.CPU, _, _ = strings.Cut(m.CPU, "\n")
	if m.CPU = strings.Trim(m.CPU, "\t: "); m.CPU == "" {
		m.CPU = runtime.GOARCH
	}
	git := exec.Command("git", "describe", "--always", "--dirty")
	git.Dir = root
	revision, err := git.Output()
	if err != nil {
		revision = []byte("of an unknown revision") // no checkout, or no git
	}
	m.Revision = strings.TrimSpace(string(revision))
	if m.FileSystem, err = fileSystem(folder); err != nil {
		return m, err
	}
	m.SyncMillis, err = syncMillis(folder)
	return m, err
}

// fileSystem names the file system of a folder.
func fileSystem(folder string) (string, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(folder, &st); err != nil {
		return "", err
	}
	magic := uint32(st.Type) // as in statfs(2)
	name, known := map[uint32]string{
		0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x2fc12fc1: "zfs", 0x794c7630: "overlayfs",
		0x01021994: "tmpfs", 0x858458f6: "ramfs",
	}[magic]
	if !known {
		name = fmt.Sprintf("file system %#x", magic)
	}
	return name, nil
}

// syncMillis is the median time of appending 4 KiB to a file and syncing it.
func syncMillis(folder string) (float64, error) {
	f, err := os.Create(filepath.Join(folder, "fsync"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var times []float64
	for range 100 {
		begun := time.Now()
		if _, err := f.Write(make([]byte, 4<<10)); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times = append(times, float64(time.Since(begun))/float64(time.Millisecond))
	}
	slices.Sort(times)
	return median(times), nil
}
