package bench

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"caliperedge/edge/tokenmap"

	"filippo.io/age"
)

// BenchmarkLookup finds tokens in the map that a running endpoint asks, each time another one.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		known, unknown := make([][]byte, n), make([][]byte, n)
		for i := range n {
			known[i] = fmt.Appendf(nil, "LDbzS7lOirWY4FPeoT2RdHq77jfCFPNjDjcjU1JvEDr49UeL1nOI0c94%08d", i)
			unknown[i] = fmt.Appendf(nil, "LDbzS7lOirWY4FPeoT2RdHq77jfCFPNjDjcjU1JvEDr49UeL1nOI0c95%08d", i)
		}
		tokens, err := tokenmap.Watch(writeTokens(b, known), quiet())
		if err != nil {
			b.Fatal(err)
		}
		for _, row := range []struct {
			name   string
			tokens [][]byte
		}{{"yes", known}, {"no", unknown}} {
			b.Run(fmt.Sprintf("tokens=%d/known=%s", n, row.name), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if _, ok := tokens.Lookup(row.tokens[i]); ok != (row.name == "yes") {
						b.Fatalf("token %d: known %v", i, ok)
					}
					if i += 7; i >= n {
						i -= n
					}
				}
			})
		}
		if err := tokens.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// writeTokens makes a token map as somebody does who has thousands of tokens, in one go.
func writeTokens(b *testing.B, tokens [][]byte) tokenmap.File {
	b.Helper()
	dir := b.TempDir()
	f := tokenmap.File{Path: filepath.Join(dir, "tokens.yaml.age"), KeyPath: filepath.Join(dir, "tokens.key")}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(f.KeyPath, []byte(key.String()+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	file, err := os.OpenFile(f.Path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	out, err := age.Encrypt(file, key.Recipient())
	if err != nil {
		b.Fatal(err)
	}
	for i, token := range tokens {
		if _, err := io.WriteString(out, fmt.Sprintf("- id: tool-%d\n  token: %s\n", i, token)); err != nil {
			b.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
	if err := file.Close(); err != nil {
		b.Fatal(err)
	}
	return f
}
