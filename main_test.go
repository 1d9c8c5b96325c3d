package main

import (
	"os"
	"testing"
)

// Only what is a terminal gets output that is made visible: a file or a pipe
// gets every byte.
func TestShown(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, as terminals are
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if shown(write) != write || shown(device) == device {
		t.Error("a pipe is taken for a terminal, or a device is not")
	}
}
