package validate

// memberSpan is where a member of an item is: offsets in the item of its name, quotes included, of the byte behind
// that, and of the value. The name has no escapes.
type memberSpan struct{ name, end, value uint32 }

const (
	// maxNoted is how many members of an item are noted; those of an item with more are not.
	maxNoted = 32
	// maxPooledNotes bounds what an Envelope keeps between requests.
	maxPooledNotes = 16 * maxPooledItems
)

func keptNotes(s []memberSpan) []memberSpan {
	if cap(s) > maxPooledNotes {
		return nil
	}
	return s[:0]
}

// noted is the value of the last of the noted members with that name, or nil.
func (it *Item) noted(name string) []byte {
	for i := len(it.members) - 1; i >= 0; i-- {
		m := &it.members[i]
		if string(it.Raw[m.name+1:m.end-1]) == name {
			end := skipPlain(it.Raw, int(m.value))
			return it.Raw[m.value:end:end]
		}
	}
	return nil
}

// Numbers are those of Type and Action as TypeNumber and ActionNumber tell them; 0 where there is none.
func (it *Item) Numbers() (eventType, action uint8) { return it.typeNumber, it.actionNumber }

// TypeNumber is the number, below 64, of a type of event of Caliper's; 0 where name is none.
func TypeNumber(name string) uint8 {
	if t := vocabulary.types[name]; t != nil {
		return t.number
	}
	return 0
}

// ActionNumber is the number, below 128, of an action of Caliper's by its canonical spelling; 0 where name is none.
func ActionNumber(name string) uint8 {
	if a, ok := vocabulary.actions[name]; ok && a.name == name {
		return a.bit + 1
	}
	return 0
}
