package validate

// Faults is a set of rules that an envelope or an item breaks. The zero value means conformant.
type Faults uint16

// The rules, in the order of the contract's table of messages (contract 1.5).
const (
	FaultSensor Faults = 1 << iota
	FaultSendTime
	FaultDataVersion
	FaultData
	FaultID
	FaultContext
	FaultActor
	FaultAction
	FaultEventTime
	FaultObject // only with Options.CheckObject

	faultsEnd
)

const (
	allOfEnvelope = FaultSensor | FaultSendTime | FaultDataVersion | FaultData
	allOfEvent    = FaultID | FaultContext | FaultActor | FaultAction | FaultEventTime
)

// check judges what decode has found: the items first, because they are reported also for a faulty envelope.
func (e *Envelope) check() {
	if e.err == ErrNotEnvelope {
		e.faults = allOfEnvelope
		return
	}
	if !isString(e.outer.Sensor) {
		e.faults |= FaultSensor
	}
	var t [24]byte
	if !isTime(e.outer.SendTime, &t) {
		e.faults |= FaultSendTime
	}
	if v := e.DataVersion(); v == nil || !isDataVersion(v) {
		e.faults |= FaultDataVersion
	}
	tooMany := e.err == ErrTooManyItems
	if len(e.items) == 0 && !tooMany {
		e.faults |= FaultData
	}
	switch {
	case e.faults&FaultDataVersion != 0:
		e.err = ErrDataVersion
	case e.faults != 0:
		e.err = ErrEnvelope
	case tooMany:
		e.err = ErrTooManyItems
	case e.conformant == 0:
		e.err = ErrNoItem
	}
}

// checkItem judges one item by its members (rules R2 to R9).
func (e *Envelope) checkItem(it *Item, value []byte, m *itemMembers) {
	it.Raw = value
	isObject := value[0] == '{'
	if isObject {
		e.checkMembers(it, m)
		if it.Faults&(FaultContext|FaultAction) != 0 && e.opt.Vocabulary != nil {
			e.grant(it, m)
		}
	} else {
		it.Faults = allOfEvent
	}
	if e.opt.CheckObject && !it.Entity && !(isObject && isAgent(lastMember(value, "object"))) {
		it.Faults |= FaultObject
	}
	if it.Faults == 0 {
		e.conformant++
	}
}

func (e *Envelope) checkMembers(it *Item, m *itemMembers) {
	it.ID, it.Actor, it.EdApp = identifier(m.ID), agent(m.Actor), agent(m.EdApp)
	it.OddEdApp = it.EdApp == nil && isPresent(m.EdApp)
	if it.ID == nil {
		it.Faults |= FaultID
	}
	if isPresent(m.Context) || !e.opt.InheritContext {
		e.inContext = hasContext(m.Context)
		e.inGranted = !e.inContext && e.opt.Vocabulary != nil && e.opt.Vocabulary.hasContext(m.Context)
	}
	if !e.inContext {
		it.Faults |= FaultContext
	}
	t := typeOf(m.Type)
	if t != nil {
		it.Type, it.typeNumber = t.name, t.number
		if t.entity && !isPresent(m.Action) {
			it.Entity = true
			return
		}
	}
	if !isAgent(m.Actor) {
		it.Faults |= FaultActor
	}
	a, known := actionOf(m.Action)
	it.Action = a.name
	if known {
		it.actionNumber = a.bit + 1
	}
	if !known || t == nil || !t.actions.has(a.bit) {
		it.Faults |= FaultAction
	}
	if !isTime(m.EventTime, &it.Time) {
		it.Faults |= FaultEventTime
		it.Time = [24]byte{}
	}
}

// isPresent tells whether a member is there at all; null counts as absent (contract 1.5).
func isPresent(value []byte) bool { return len(value) > 0 && value[0] != 'n' }

// isString tells whether value is a string with at least one character.
func isString(value []byte) bool { return len(value) > 2 && value[0] == '"' }

// isAgent tells whether value is an object or a non-empty string (rules R6 and R7).
func isAgent(value []byte) bool { return isString(value) || len(value) > 0 && value[0] == '{' }

// identifier is value where it is a non-empty string, else nil (rule R5).
func identifier(value []byte) []byte {
	if isString(value) {
		return value
	}
	return nil
}

// agent is the identifier of an entity given as a string or as an object with an `id`, else nil.
func agent(value []byte) []byte {
	if len(value) > 0 && value[0] == '{' {
		value = lastMember(value, "id")
	}
	return identifier(value)
}

// hasContext is rule R4: an accepted string, or an array with at least one.
func hasContext(value []byte) bool {
	switch {
	case isString(value):
		return isContext(value)
	case len(value) > 0 && value[0] == '[':
		for c := inside(value); ; {
			element, ok := c.element()
			if !ok {
				return false
			}
			if isString(element) && isContext(element) {
				return true
			}
		}
	}
	return false
}

func typeOf(value []byte) *itemType {
	if !isString(value) {
		return nil
	}
	return findType(value)
}

func actionOf(value []byte) (a action, known bool) {
	if !isString(value) {
		return a, false
	}
	return findAction(value)
}

// isTime is rule R8; see parseTime for out.
func isTime(value []byte, out *[24]byte) bool {
	if !isString(value) {
		return false
	}
	inner := value[1 : len(value)-1]
	if parseTime(inner, out) {
		return true
	}
	var s scratch
	return parseTime(s.unescaped(inner), out)
}
