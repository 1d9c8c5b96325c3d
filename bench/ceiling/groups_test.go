//go:build linux

package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestGroups: what comes while a group is being stored is the next one, or as many as it takes; all who are in a group are told
// what became of it, and a fresh group has room of its own.
func TestGroups(t *testing.T) {
	refused := errors.New("refused")
	for _, fresh := range []int{0, 64} {
		q := &groups{most: 100, fresh: fresh, wake: make(chan struct{}, 1)}
		begun, stored := make(chan int), make(chan string)
		go q.storeAll(t.Context(), func(bodies []byte) error {
			begun <- cap(bodies)
			text := string(bodies)
			stored <- text
			if strings.HasPrefix(text, "first") {
				return refused
			}
			return nil
		})
		var joined []*group
		join := func(body string) {
			q.mu.Lock()
			g := q.room(len(body))
			g.bodies = append(g.bodies, body...)
			q.mu.Unlock()
			joined = append(joined, g)
		}
		thirty, large := strings.Repeat("x", 30), strings.Repeat("y", 150)
		join("first")
		if room := <-begun; fresh > 0 && room != fresh {
			t.Errorf("room for %d bytes, want %d", room, fresh)
		}
		for _, body := range []string{thirty, thirty, thirty, thirty, large, thirty} {
			join(body)
		}
		got := []string{<-stored}
		for more := true; more; {
			select {
			case <-begun:
				got = append(got, <-stored)
			case <-joined[len(joined)-1].synced:
				more = false
			}
		}
		if want := []string{"first", thirty + thirty + thirty, thirty, large, thirty}; !slices.Equal(got, want) {
			t.Errorf("stored %q, want %q", got, want)
		}
		for i, g := range joined {
			<-g.synced
			if (g.err == refused) != (i == 0) {
				t.Errorf("body %d: %v", i, g.err)
			}
		}
		q.mu.Lock()
		if fresh > 0 && len(q.spare) > 0 {
			t.Errorf("%d buffers kept", len(q.spare))
		}
		q.mu.Unlock()
	}
}
