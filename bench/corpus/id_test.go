package corpus

import (
	"bytes"
	"fmt"
	"regexp"
	"testing"
)

func TestIDs(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	numbers := []uint64{0, 1, 2, 3, 255, 256, 1<<32 - 2, 1<<32 - 1}
	seen := make(map[string]string)
	for _, sender := range numbers {
		for _, n := range append([]uint64{1 << 32, 1<<47 + 12345, MaxCounter}, numbers...) {
			id := make([]byte, IDBytes)
			PutID(id, sender, n)
			pair := fmt.Sprint(sender, " ", n)
			if !form.Match(id) {
				t.Errorf("%s: %s is no version 4 UUID", pair, id)
			}
			if other, ok := seen[string(id)]; ok {
				t.Errorf("%s and %s have the same id", pair, other)
			}
			seen[string(id)] = pair
			for _, text := range []string{string(id), "urn:uuid:" + string(id)} {
				if s, c, ok := ParseID(text); !ok || s != sender || c != n {
					t.Errorf("ParseID(%s) = %d %d %v, want %s", text, s, c, ok, pair)
				}
				if s, c, ok := ParseID([]byte(text)); !ok || s != sender || c != n {
					t.Errorf("ParseID of bytes %s = %d %d %v, want %s", text, s, c, ok, pair)
				}
			}
		}
	}
}

// Ids that somebody else made are not taken for ours, whatever is wrong with them.
func TestForeignIDs(t *testing.T) {
	id := make([]byte, IDBytes)
	PutID(id, 7, 7)
	for i := range id {
		damaged := bytes.Clone(id)
		damaged[i] ^= 1
		if s, n, ok := ParseID(damaged); ok {
			t.Errorf("%s, of %s, is an id of %d %d", damaged, id, s, n)
		}
	}
	for _, foreign := range []string{
		"", "urn:uuid:", "9a73685d-25b0-4f26-aef8-37e6e2dbc17c", "urn:uuid:9a73685d-25b0-4f26-aef8-37e6e2dbc17c", "https://example.edu/events/1",
		string(id[:35]), string(id) + "0", string(bytes.ToUpper(id)), "00000000-0000-4000-8000-000000000000",
	} {
		if s, n, ok := ParseID(foreign); ok {
			t.Errorf("%q is an id of %d %d", foreign, s, n)
		}
	}
}

func TestIDAllocations(t *testing.T) {
	e := New(Engage, 1).Envelope(100, 0)
	if n := testing.AllocsPerRun(10, func() { e.Stamp(3, 1000) }); n != 0 {
		t.Errorf("Stamp allocates %v times, want 0", n)
	}
	id := append([]byte("urn:uuid:"), e.Body[e.IDs[0]:][:IDBytes]...)
	if n := testing.AllocsPerRun(10, func() {
		if _, _, ok := ParseID(id); !ok {
			t.Fatal("not our id")
		}
	}); n != 0 {
		t.Errorf("ParseID allocates %v times, want 0", n)
	}
}

func BenchmarkPutID(b *testing.B) {
	id := make([]byte, IDBytes)
	n := uint64(0)
	for b.Loop() {
		PutID(id, 1, n)
		n++
	}
}
