package validate

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Vocabulary is what a tool is granted beyond the vocabulary of Caliper: contexts, and actions for types of events. It
// is never written after it was made. Nil grants nothing.
type Vocabulary struct {
	contexts []string
	pairs    []extraType
}

type extraType struct {
	name    string
	actions []string
}

// maxGranted bounds a name or context of a Vocabulary, so that any spelling of it can be compared.
const maxGranted = maxCompared / 6

// NewVocabulary makes a Vocabulary of contexts, and of actions by the type of event that they are granted for. Types
// and actions may be known to Caliper or not; a type of entity is refused.
func NewVocabulary(contexts []string, actions map[string][]string) (*Vocabulary, error) {
	v := &Vocabulary{contexts: slices.Clone(contexts)}
	for _, c := range contexts {
		if err := checkGranted("context", c); err != nil {
			return nil, err
		}
	}
	for name, list := range actions {
		if err := checkGranted("type", name); err != nil {
			return nil, err
		}
		if t := vocabulary.types[name]; t != nil && t.entity {
			return nil, fmt.Errorf("%s is a type of entity, which has no actions", name)
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("type %s has no actions", name)
		}
		t := extraType{name: name}
		for _, a := range list {
			if err := checkGranted("action of "+name, a); err != nil {
				return nil, err
			}
			if known, ok := vocabulary.actions[a]; ok {
				a = known.name
			}
			t.actions = append(t.actions, a)
		}
		v.pairs = append(v.pairs, t)
	}
	slices.SortFunc(v.pairs, func(a, b extraType) int { return strings.Compare(a.name, b.name) })
	return v, nil
}

// checkGranted holds what is granted to what can be compared, and can stand in a JSON string as it is: so it stands in
// records.
func checkGranted(what, name string) error {
	if name == "" || len(name) > maxGranted {
		return fmt.Errorf("%s: %q has %d bytes, expected 1 to %d", what, name, len(name), maxGranted)
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == '"' || r == '\\' }) {
		return fmt.Errorf("%s: %q has a control character, \" or \\, or is no UTF-8", what, name)
	}
	return nil
}

// Grants tells whether events of that type may have that action, by Caliper's vocabulary or by v. action is in its
// canonical spelling.
func (v *Vocabulary) Grants(eventType, action string) bool {
	if t := vocabulary.types[eventType]; t != nil && !t.entity {
		if a, ok := vocabulary.actions[action]; ok && t.actions.has(a.bit) {
			return true
		}
	}
	if v != nil {
		for _, t := range v.pairs {
			if t.name == eventType && slices.Contains(t.actions, action) {
				return true
			}
		}
	}
	return false
}

// GrantsMore tells whether v grants anything that Caliper's vocabulary does not.
func (v *Vocabulary) GrantsMore() bool {
	caliper := (*Vocabulary)(nil)
	return slices.ContainsFunc(v.contexts, func(c string) bool { return !isContext([]byte(`"` + c + `"`)) }) ||
		slices.ContainsFunc(v.pairs, func(t extraType) bool {
			return slices.ContainsFunc(t.actions, func(a string) bool { return !caliper.Grants(t.name, a) })
		})
}

// KnowsType tells whether there are events of that type.
func (v *Vocabulary) KnowsType(name string) bool {
	t := vocabulary.types[name]
	return t != nil && !t.entity ||
		v != nil && slices.ContainsFunc(v.pairs, func(t extraType) bool { return t.name == name })
}

// KnowsAction tells whether there are events with that action, and its canonical spelling.
func (v *Vocabulary) KnowsAction(name string) (canonical string, known bool) {
	if a, ok := vocabulary.actions[name]; ok {
		return a.name, true
	}
	return name, v != nil && slices.ContainsFunc(v.pairs, func(t extraType) bool { return slices.Contains(t.actions, name) })
}

// IsEntityType tells whether name is a type of entity.
func IsEntityType(name string) bool {
	t := vocabulary.types[name]
	return t != nil && t.entity
}

// pair finds type and action, given as they stand in the item, among those that are granted. What it returns are the
// vocabulary's own strings.
func (v *Vocabulary) pair(eventType, action []byte) (typeName, actionName string, ok bool) {
	if !isString(eventType) || !isString(action) {
		return "", "", false
	}
	for i := range v.pairs {
		t := &v.pairs[i]
		if !isName(eventType[1:len(eventType)-1], t.name) {
			continue
		}
		known, _ := findAction(action)
		for _, a := range t.actions {
			if known.name == a || isName(action[1:len(action)-1], a) {
				return t.name, a, true
			}
		}
	}
	return "", "", false
}

// hasContext tells whether value is, or has in it, a context that is granted.
func (v *Vocabulary) hasContext(value []byte) bool {
	if len(value) > 0 && value[0] == '[' {
		for c := inside(value); ; {
			element, ok := c.element()
			if !ok {
				return false
			}
			if v.isContext(element) {
				return true
			}
		}
	}
	return v.isContext(value)
}

func (v *Vocabulary) isContext(value []byte) bool {
	return isString(value) && slices.ContainsFunc(v.contexts, func(c string) bool { return isName(value[1:len(value)-1], c) })
}

// grant takes back the faults of it that the vocabulary of the options makes none.
func (e *Envelope) grant(it *Item, m *itemMembers) {
	if it.Faults&FaultContext != 0 && e.inGranted {
		it.Faults &^= FaultContext
		it.Extra |= FaultContext
	}
	if it.Faults&FaultAction != 0 {
		if typeName, actionName, ok := e.opt.Vocabulary.pair(m.Type, m.Action); ok {
			it.Type, it.Action = typeName, actionName
			it.Faults &^= FaultAction
			it.Extra |= FaultAction
		}
	}
}

// actionsOf are the actions that are granted for a type, given as it stands in the item.
func (v *Vocabulary) actionsOf(eventType []byte) []string {
	if v != nil && isString(eventType) {
		for i := range v.pairs {
			if isName(eventType[1:len(eventType)-1], v.pairs[i].name) {
				return v.pairs[i].actions
			}
		}
	}
	return nil
}

// Contexts and Actions are what NewVocabulary was given, in canonical spellings. They are the caller's.
func (v *Vocabulary) Contexts() []string { return append([]string{}, v.contexts...) }

// Actions: see Contexts.
func (v *Vocabulary) Actions() map[string][]string {
	all := make(map[string][]string)
	for _, t := range v.pairs {
		all[t.name] = slices.Clone(t.actions)
	}
	return all
}
