package pipeline

// annotations are further members of the records of an envelope, such as
// identifiers and keys, for those of its items that have any. Where none has,
// they cost nothing.
type annotations struct {
	text  []byte
	spans []span // by item; empty where no item has any
}

// span is where the members of an item are in the text.
type span struct{ start, end int }

// of returns the members of item i as its records hold them: each with a comma
// before it.
func (a *annotations) of(i int) []byte {
	if len(a.spans) == 0 {
		return nil
	}
	return a.text[a.spans[i].start:a.spans[i].end]
}

// add adds members to those of item i, of so many items. It keeps nothing of
// members.
func (a *annotations) add(i, items int, members []byte) {
	if len(a.spans) == 0 {
		if cap(a.spans) < items {
			a.spans = make([]span, items)
		}
		a.spans = a.spans[:items]
		clear(a.spans)
	}
	s := &a.spans[i]
	if s.end != len(a.text) || s.end == s.start { // others have been added since
		old := a.text[s.start:s.end]
		s.start = len(a.text)
		a.text = append(a.text, old...)
	}
	a.text = append(a.text, members...)
	s.end = len(a.text)
}

// bytes is what the annotations take.
func (a *annotations) bytes() int64 { return int64(len(a.text) + len(a.spans)*spanBytes) }

const (
	spanBytes = 16
	// maxPooledText bounds what a pooled receipt keeps.
	maxPooledText = 256 << 10
)

// reset forgets everything, but keeps the room for it.
func (a *annotations) reset() {
	a.text, a.spans = a.text[:0], a.spans[:0]
	if cap(a.text) > maxPooledText || cap(a.spans) > maxPooledRoutes {
		*a = annotations{}
	}
}

// annotate adds members to the records of item i: valid JSON members of names
// that records do not have yet, each with a comma before it, such as
// `,"conflict":true`. It is called between Route and Submit, or while either
// runs but before bytes are appended. Nothing of members is kept.
func (r *Receipt) annotate(i int, members []byte) {
	if len(members) == 0 {
		return
	}
	r.notes.add(i, len(r.env.Items()), members)
	if i >= len(r.routes) {
		return // its records are not reckoned yet
	}
	for place := range r.routes[i].All {
		r.share[place].bytes += len(members)
		r.bytes += int64(len(members))
	}
}
