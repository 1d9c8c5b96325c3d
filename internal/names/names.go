// Package names says what tools, topics and the like may be called, so that a
// name is safe as token of a subject, as name of a stream, a consumer and a
// folder, and reads well everywhere.
package names

import "fmt"

const (
	// ToolBytes is the most that the name of a tool or of a kind of identifier has.
	ToolBytes = 64
	// TopicBytes is that of a topic, a prefix and a reader: names of streams and
	// files, which are made of several, stay short on every file system.
	TopicBytes = 32
)

// OK tells whether name is what Rule says.
func OK(name string, most int) bool {
	for i := range len(name) {
		c := name[i]
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return name != "" && len(name) <= most
}

// Rule is what a name of at most so many bytes has to be, in words.
func Rule(most int) string { return fmt.Sprintf("1 to %d of A-Z a-z 0-9 _ -", most) }

// Check returns an error unless name is OK. It begins with what is named, such as
// tool, and quotes the beginning of the name.
func Check(what, name string, most int) error {
	if OK(name, most) {
		return nil
	}
	return fmt.Errorf("%s %.80q, expected %s", what, name, Rule(most))
}
