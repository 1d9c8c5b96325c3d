package edge

import (
	"encoding/json"
	"slices"
	"testing"

	"caliperedge/internal/fixtures"
	"caliperedge/pipeline"
)

// TestFixtures posts the public fixtures: the status is that of their manifest,
// so are the codes of what is wrong, and what is accepted is stored.
func TestFixtures(t *testing.T) {
	t.Parallel()
	all := fixtures.Load(t)
	s := serve(t, serving{})
	c := dial(t, s)
	for _, f := range all {
		s.store.Purge()
		a := c.exchange(t, string(f.Body))
		if a.StatusCode != f.Status {
			t.Errorf("%s: status %d, want %d: %s", f.File, a.StatusCode, f.Status, a.body)
		}
		stored := len(s.records(t))
		if (stored > 0) != (a.StatusCode == 200 || a.StatusCode == 202) {
			t.Errorf("%s: %d records with status %d", f.File, stored, a.StatusCode)
		}
		if n := len(s.records(t, pipeline.TopicEntities)); stored > 0 && n != f.Entities {
			t.Errorf("%s: %d entity describes are stored, want %d", f.File, n, f.Entities)
		}
		d := c.exchange(t, string(f.Body), "X-DEBUG: TRUE")
		if d.StatusCode != f.Status {
			t.Errorf("%s, in debug: status %d, want %d", f.File, d.StatusCode, f.Status)
		}
		var v DebugAnswer
		if err := json.Unmarshal([]byte(d.body), &v); err != nil {
			t.Fatalf("%s: %v: %s", f.File, err, d.body)
		}
		var codes []string
		for _, e := range v.Errors.Events {
			for _, detail := range e.Details {
				codes = append(codes, detail.Code)
			}
		}
		want := slices.Clone(f.Errors)
		slices.Sort(want)
		slices.Sort(codes)
		if f.Wrap && !slices.Equal(codes, want) {
			t.Errorf("%s: errors %q, want %q", f.File, codes, want)
		}
		if len(v.Accepted) != stored {
			t.Errorf("%s: %d events accepted in debug, %d stored", f.File, len(v.Accepted), stored)
		}
	}
}
