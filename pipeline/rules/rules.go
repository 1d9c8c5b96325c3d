// Package rules decides where events go, by rules that are data: which tier and
// which further topics take an event, which identifiers and keys its record
// gets, and whether a tool spoke as another.
//
// Read and Compile run at start and explain every fault with file, line and
// rule. Compile specialises the rules for each tool, so that what they say of
// tools costs nothing per event. For, Decide and everything below them allocate
// nothing once a Scratch is warm, and write nothing but that Scratch.
package rules

import (
	"math/bits"
	"slices"

	"caliperedge/validate"
)

// The topics that rules speak of. Tiers are Standard and Enriched: an event
// belongs to exactly one, or waits in Quarantine for its keys.
const (
	Standard   = "standard"
	Enriched   = "enriched"
	Quarantine = "quarantine"
)

// Keys knows the institution's keys.
type Keys interface {
	// Lookup returns the key for the value that a tool uses for a kind of
	// thing, such as the course 63 of Engage. It may be called concurrently,
	// and neither keeps value nor allocates.
	Lookup(tool, kind string, value []byte) (key string, known bool)
}

// Rules are compiled rules. They are never written after Compile, and may be
// used concurrently. Nil has no rules: everything is standard.
type Rules struct {
	standard, quarantine uint64
	tools                map[string]*view
	others               *view // of every tool that no rule and no tie names
	keys                 Keys
	all                  []Rule
}

// view is what the rules say to one tool.
type view struct {
	rules  []compiled
	paths  validate.Paths // of all conditions and extractions
	texts  []string       // of the paths
	apps   []app          // those that rules ask for, each at its bit
	edApps []string       // the tool is tied to these prefixes, where there are any
	sensor []string
}

// app is an edApp, or the beginning of some.
type app struct {
	text   string
	prefix bool
}

// is tells whether text is that edApp, or begins with it. The last byte is looked at
// first: addresses begin alike.
func (a *app) is(text []byte) bool {
	n := len(a.text)
	return len(text) >= n && (a.prefix || len(text) == n) && (n == 0 || text[n-1] == a.text[n-1]) && string(text[:n]) == a.text
}

// compiled is a rule as one tool meets it.
type compiled struct {
	*Rule
	types   wordSet // first, because they are quick to look at
	actions wordSet
	apps    uint64 // any of these; 0 where it does not matter
	when    cond   // the rest of the conditions
	plain   bool   // there is no rest
	topic   uint64 // the tier; 0 where the rule only copies
	also    uint64
	set     *extractor
}

// wordSet is a set of types or of actions: those of Caliper by their numbers,
// those that tools are granted by their names.
type wordSet struct {
	any   bool
	bits  [2]uint64
	names []string
}

func newWordSet(words []string, number func(string) uint8) (w wordSet) {
	for _, word := range words {
		if n := number(word); n != 0 {
			w.bits[n>>6] |= 1 << (n & 63)
		} else {
			w.names = append(w.names, word)
		}
	}
	return w
}

func (w *wordSet) has(number uint8, name string) bool {
	if w.any {
		return true
	}
	if number != 0 {
		return w.bits[number>>6]>>(number&63)&1 != 0
	}
	return slices.Contains(w.names, name)
}

// View is what the rules say to a tool and a sensor. It is valid as long as the
// Rules and the sensor's literal are.
type View struct {
	rules       *Rules
	view        *view
	tool        string
	wrongSensor bool
	sensor      []byte // a JSON string, where it is wrong
}

// For returns the view of a tool whose envelope names sensor, a JSON string
// literal.
func (r *Rules) For(tool string, sensor []byte, s *Scratch) View {
	if r == nil {
		return View{}
	}
	v := r.tools[tool]
	if v == nil {
		v = r.others
	}
	w := View{rules: r, view: v, tool: tool}
	if len(v.sensor) > 0 {
		s.begin(0)
		if w.wrongSensor = !hasPrefix(s.text(sensor), v.sensor); w.wrongSensor {
			w.sensor = sensor
		}
	}
	return w
}

// Decision is where an event goes.
type Decision struct {
	// Topics are its topics, each a bit at its place in Config.Topics.
	Topics uint64
	// Rule is the rule that decided the tier; nil where none did.
	Rule *Rule
	// Mismatch tells that the tool spoke as another.
	Mismatch bool
}

// Decide decides about an event that conforms; Topics is zero where there are
// no rules. The members that its record
// gets are in s.Members until s is used again.
func (v View) Decide(it *validate.Item, s *Scratch) Decision {
	if v.rules == nil {
		s.Members = s.Members[:0]
		return Decision{}
	}
	s.begin(len(v.view.texts))
	s.item, s.paths = it, &v.view.paths
	if v.mismatch(it, s) {
		return Decision{Topics: v.rules.standard, Mismatch: true}
	}
	var d Decision
	eventType, action := it.Numbers()
	for i := range v.view.rules {
		r := &v.view.rules[i]
		if r.topic != 0 && d.Rule != nil || !r.types.has(eventType, it.Type) || !r.actions.has(action, it.Action) ||
			r.apps != 0 && !s.isApp(v.view, r.apps) || !r.plain && !r.when.holds(s) {
			continue
		}
		if r.topic == 0 {
			d.Topics |= r.also
		} else if topic := v.qualify(r, s); topic != 0 {
			d.Rule = r.Rule
			d.Topics |= topic | r.also
		}
	}
	if d.Rule == nil {
		d.Topics |= v.rules.standard
	}
	return d
}

// mismatch tells whether the tool spoke as another, and marks the record.
func (v View) mismatch(it *validate.Item, s *Scratch) bool {
	wrongApp := v.wrongApp(it, s)
	switch {
	case wrongApp && v.wrongSensor:
		s.Members = append(s.Members, `,"mismatch":["edApp","sensor"]`...)
	case wrongApp:
		s.Members = append(s.Members, `,"mismatch":["edApp"]`...)
	case v.wrongSensor:
		s.Members = append(s.Members, `,"mismatch":["sensor"]`...)
	}
	return wrongApp || v.wrongSensor
}

// wrongApp tells whether the event speaks of an application that is not the
// tool's. An edApp that cannot be read may be any.
func (v View) wrongApp(it *validate.Item, s *Scratch) bool {
	switch {
	case len(v.view.edApps) == 0:
		return false
	case it.EdApp == nil:
		return it.OddEdApp
	}
	return !hasPrefix(s.edAppText(), v.view.edApps)
}

// qualify returns the topic of an event that a rule's conditions hold for; 0
// where it lacks an identifier that the rule demands a key for.
func (v View) qualify(r *compiled, s *Scratch) uint64 {
	if r.set == nil {
		return r.topic
	}
	before := len(s.Members)
	s.extract(r.set)
	topic := r.topic
	for _, kind := range r.Keys {
		switch key, state := v.key(r, kind, s); state {
		case keyImpossible:
			s.Members = s.Members[:before]
			s.keys = s.keys[:0]
			return 0
		case keyUnknown:
			topic = v.rules.quarantine
		case keyKnown:
			s.keys = append(s.keys, keyOf{kind, key})
		}
	}
	s.Members = r.set.appendMember(s.Members, s.found)
	if len(r.Keys) > 0 {
		s.appendKeys(r.Keys, topic == v.rules.quarantine)
	}
	return topic
}

// The states of a key that a rule demands.
type keyState int

const (
	keyKnown      keyState = iota
	keyUnknown             // none of the identifiers of that kind has one yet
	keyImpossible          // the event has no identifier of that kind
)

// key asks for the key of the first identifier of a kind that has one.
func (v View) key(r *compiled, kind string, s *Scratch) (key string, state keyState) {
	state = keyImpossible
	at := r.set.kindAt(kind)
	for _, id := range s.found {
		if int(id.kind) != at {
			continue
		}
		state = keyUnknown
		if v.rules.keys == nil {
			continue
		}
		if key, known := v.rules.keys.Lookup(v.tool, kind, id.value); known {
			return key, keyKnown
		}
	}
	return "", state
}

// hasPrefix tells whether text begins with one of the prefixes.
func hasPrefix(text []byte, prefixes []string) bool {
	for _, p := range prefixes {
		if len(text) >= len(p) && string(text[:len(p)]) == p {
			return true
		}
	}
	return false
}

// Scratch is what decisions are made in. The zero value is ready to use; it
// belongs to one goroutine at a time, and to one decision.
type Scratch struct {
	// Members are what the record of the item gets besides its usual members:
	// JSON, each with a comma before it.
	Members []byte

	item     *validate.Item
	paths    *validate.Paths
	values   [][]byte // of paths, once they were looked up
	lookedUp bool
	edApp    []byte // its text, once it was asked for
	apps     uint64 // bits of those of the view that it is
	appsSeen uint64 // of those that it was compared with
	room     []byte // for texts with escapes; views into an outgrown one stay valid
	found    []identifier
	left     allotment // for more of them
	tooLong  uint32    // kinds of which identifiers were left out for their length
	keys     []keyOf
}

type keyOf struct{ kind, key string }

func (s *Scratch) begin(paths int) {
	if cap(s.values) < paths {
		s.values = make([][]byte, paths)
	}
	s.values, s.lookedUp, s.edApp = s.values[:paths], false, nil
	s.apps, s.appsSeen = 0, 0
	s.Members, s.room, s.found, s.keys = s.Members[:0], s.room[:0], s.found[:0], s.keys[:0]
}

// Clear forgets what s points to, and keeps its room within bounds.
func (s *Scratch) Clear() {
	clear(s.values[:cap(s.values)])
	clear(s.found[:cap(s.found)])
	clear(s.keys[:cap(s.keys)])
	s.item, s.paths, s.edApp = nil, nil, nil
	if cap(s.room) > maxRoom {
		s.room = nil
	}
	if cap(s.Members) > maxRoom {
		s.Members = nil
	}
}

const maxRoom = 64 << 10

// value is what the path at that place leads to, or nil.
func (s *Scratch) value(slot int) []byte {
	if !s.lookedUp {
		s.paths.Find(s.item, s.values)
		s.lookedUp = true
	}
	return s.values[slot]
}

// text is the text of a JSON value, nil where it has none.
func (s *Scratch) text(value []byte) []byte {
	if text, ok := validate.PlainText(value); ok {
		return text
	}
	if len(value) == 0 {
		return nil
	}
	start := len(s.room)
	room, ok := validate.AppendText(s.room, value)
	if !ok {
		return nil
	}
	s.room = room
	return room[start:len(room):len(room)]
}

func (s *Scratch) edAppText() []byte {
	if s.edApp == nil && s.item.EdApp != nil {
		s.edApp = s.text(s.item.EdApp)
	}
	return s.edApp
}

// isApp tells whether the edApp is one of those of v with these bits. Each is
// compared once.
func (s *Scratch) isApp(v *view, want uint64) bool {
	if s.item.EdApp == nil {
		return false
	}
	text := s.edAppText()
	for left := want &^ s.appsSeen; left != 0; left &= left - 1 {
		if i := bits.TrailingZeros64(left); v.apps[i].is(text) {
			s.apps |= 1 << i
		}
	}
	s.appsSeen |= want
	return s.apps&want != 0
}

// maxApps are as many as there are bits.
const maxApps = 64

// appendKeys appends the keys that are known; where some are not, also which
// kinds are awaited.
func (s *Scratch) appendKeys(demanded []string, waits bool) {
	if len(s.keys) > 0 {
		s.Members = append(s.Members, `,"keys":{`...)
		for i, k := range s.keys {
			if i > 0 {
				s.Members = append(s.Members, ',')
			}
			s.Members = append(appendString(s.Members, k.kind), ':')
			s.Members = appendString(s.Members, k.key)
		}
		s.Members = append(s.Members, '}')
	}
	if !waits {
		return
	}
	s.Members = append(s.Members, `,"awaits":[`...)
	for i, kind := range demanded {
		if i > 0 {
			s.Members = append(s.Members, ',')
		}
		s.Members = appendString(s.Members, kind)
	}
	s.Members = append(s.Members, ']')
}

// appendString appends s as a JSON string. It is valid UTF-8.
func appendString[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	plain := 0
	for plain < len(s) && s[plain] >= ' ' && s[plain] != '"' && s[plain] != '\\' {
		plain++
	}
	dst = append(dst, s[:plain]...)
	for i := plain; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

func contains(values []string, text []byte) bool {
	for _, v := range values {
		if string(text) == v {
			return true
		}
	}
	return false
}
