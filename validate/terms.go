package validate

import "encoding/json"

// IsTerm tells whether s is a word of the standard: an event or entity type, an action, a context or a version. It
// allocates.
func IsTerm(s string) bool {
	literal, err := json.Marshal(s)
	if err != nil || len(literal) <= 2 {
		return false
	}
	_, action := findAction(literal)
	return action || findType(literal) != nil || isContext(literal) || isDataVersion(literal)
}
