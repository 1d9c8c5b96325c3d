package main

import (
	"context"
	"errors"
	"io"
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

// A read of what nobody writes ends with a signal; else it is what was written.
func TestInterruptible(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	ctx, cancel := context.WithCancel(t.Context())
	in := interruptible{ctx, read}
	if _, err := write.WriteString("abcdef"); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4)
	for _, want := range []string{"abcd", "ef"} {
		if n, err := in.Read(p); string(p[:n]) != want || err != nil {
			t.Errorf("read %q, %v, want %q", p[:n], err, want)
		}
	}
	done := make(chan error)
	go func() {
		_, err := in.Read(p)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a read that is interrupted ends with %v", err)
	}
	write.Close()
	if _, err := (interruptible{t.Context(), read}).Read(p); !errors.Is(err, io.EOF) {
		t.Errorf("a read at the end ends with %v", err)
	}
}
