package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"caliperedge/bench/corpus"
	"caliperedge/validate"
)

// A reader that joins the parts with UUIDs of its own gets the answer that the line names.
func TestLines(t *testing.T) {
	for _, kind := range []corpus.Kind{corpus.Engage, corpus.Mix} {
		var out bytes.Buffer
		if err := write(&out, settings{kind: kind, seed: 4, items: 3, count: 200, faulty: 0.1, broken: 0.25}); err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(out.Bytes(), []byte("\n")); n != 200 {
			t.Errorf("%v: %d lines, want 200", kind, n)
		}
		refused := 0
		for d := json.NewDecoder(&out); ; {
			var l line
			if err := d.Decode(&l); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			body := strings.Join(l.Parts, "11111111-2222-4333-8444-555555555555")
			e, err := validate.Parse([]byte(body), validate.Options{})
			switch {
			case err != nil:
				if refused++; l.Status != 415 {
					t.Errorf("%v: %v, want status %d: %s", kind, err, l.Status, body)
				}
				continue
			case errors.Is(e.Err(), validate.ErrNoItem):
				if l.Status != 400 || l.Rejected != l.Items {
					t.Errorf("%v: no item conforms, want status %d, %d rejected: %s", kind, l.Status, l.Rejected, body)
				}
			case e.Err() != nil:
				if refused++; l.Status != 400 && l.Status != 422 {
					t.Errorf("%v: %v, want status %d: %s", kind, e.Err(), l.Status, body)
				}
			case len(e.Items()) != l.Items || l.Items-e.Conformant() != l.Rejected:
				t.Errorf("%v: %d of %d items conform, want %d rejected of %d", kind, e.Conformant(), len(e.Items()), l.Rejected, l.Items)
			}
			e.Release()
		}
		if refused != 50 {
			t.Errorf("%v: %d bodies are refused as a whole, want 50", kind, refused)
		}
	}
}
