package names

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, name := range []string{"a", "Z", "0", "-", "_", "Engage", "i-Clicker_2", strings.Repeat("x", 32)} {
		if err := Check("topic", name, TopicBytes); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"":                      `topic "", expected 1 to 32 of A-Z a-z 0-9 _ -`,
		"a b":                   `topic "a b", expected 1 to 32 of`,
		strings.Repeat("x", 33): "expected 1 to 32 of",
	} {
		if err := Check("topic", name, TopicBytes); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	for c := range 256 { // each byte by itself and in the middle
		want := strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", rune(c))
		for _, name := range []string{string([]byte{byte(c)}), string([]byte{'a', byte(c), 'a'})} {
			if OK(name, ToolBytes) != want {
				t.Errorf("%q: %v", name, !want)
			}
		}
	}
	if err := Check("tool", strings.Repeat("é", 1<<20), ToolBytes); err == nil || len(err.Error()) > 500 {
		t.Error("a long name is quoted as a whole")
	}
}
