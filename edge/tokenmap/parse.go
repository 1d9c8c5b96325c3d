package tokenmap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"

	"caliperedge/internal/names"

	"go.yaml.in/yaml/v3"
)

const (
	minTokenChars = 32 // contract, section 2
	// maxPlainBytes bounds the decrypted map: some 150,000 tokens, far above any use, and a stop before memory ends.
	maxPlainBytes = 16 << 20
)

// Error tells why a token map or its key could not be used. It never holds a token or key material.
type Error struct {
	// Path is the file at fault: the map, the key or the usage file; [IdentityName] for a key that came as text.
	Path string
	// Line is the line in that file, after decryption for a map; 0 where the fault has none.
	Line int
	// Reason is for the operator.
	Reason string
	// Err is the cause where the operating system gave one, so that errors.Is(err, fs.ErrNotExist) works; else nil.
	Err error
}

func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s: line %d: %s", e.Path, e.Line, e.Reason)
	}
	return e.Path + ": " + e.Reason
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

func fault(line int, reason string) *Error { return &Error{Line: line, Reason: reason} }

// systemFault words an error of the operating system without the path it repeats.
func systemFault(path, doing string, err error) *Error {
	reason := err.Error()
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		reason = pe.Err.Error()
	}
	return &Error{Path: path, Reason: doing + ": " + reason, Err: err}
}

// entry is one token as written: plain text, alive only while a map is read or edited.
type entry struct {
	tool, token string
}

// document is a parsed map. Its entries stand in the order of the items of list; an edit changes both.
type document struct {
	root    yaml.Node
	list    *yaml.Node // the sequence within root
	entries []entry
}

// parse reads and checks a decrypted map. Its error is an *Error without Path. No reason quotes what was read, not even
// an unknown key: with a small mistake in the file that may be a token.
func parse(plain []byte) (*document, *Error) {
	if len(plain) > maxPlainBytes {
		return nil, fault(0, fmt.Sprintf("more than %d bytes of YAML", maxPlainBytes))
	}
	if line := unprintableLine(plain); line > 0 {
		return nil, fault(line, "a control character, or not UTF-8")
	}
	doc := new(document)
	dec := yaml.NewDecoder(bytes.NewReader(plain))
	if err := dec.Decode(&doc.root); err == io.EOF {
		// Most likely a pipe that broke before it was encrypted. To accept nobody has to be said.
		return nil, fault(1, "nothing in it; a map without tokens is written []")
	} else if err != nil {
		return nil, syntaxFault(err)
	}
	var next yaml.Node
	if err := dec.Decode(&next); err == nil {
		return nil, fault(next.Line, "a second YAML document; one list is wanted")
	} else if err != io.EOF {
		return nil, syntaxFault(err)
	}
	doc.list = doc.root.Content[0]
	if doc.list.Kind != yaml.SequenceNode {
		return nil, fault(doc.list.Line, "not a list of id and token")
	}
	lines := make(map[string]int, len(doc.list.Content))
	for _, n := range doc.list.Content {
		e, line, err := parseEntry(n)
		if err != nil {
			return nil, err
		}
		if first, twice := lines[e.token]; twice {
			return nil, fault(line, fmt.Sprintf("the same token as in line %d", first))
		}
		lines[e.token] = line
		doc.entries = append(doc.entries, e)
	}
	return doc, nil
}

// parseEntry reads one item of the list, and tells the line its token is on.
func parseEntry(n *yaml.Node) (entry, int, *Error) {
	if n.Kind != yaml.MappingNode {
		return entry{}, 0, fault(n.Line, "not an entry with id and token")
	}
	var id, token *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		var slot **yaml.Node
		switch {
		case key.Kind == yaml.ScalarNode && key.Value == "id":
			slot = &id
		case key.Kind == yaml.ScalarNode && key.Value == "token":
			slot = &token
		default:
			return entry{}, 0, fault(key.Line, "an unknown key; an entry has id and token")
		}
		if *slot != nil {
			return entry{}, 0, fault(key.Line, key.Value+" is there twice")
		}
		// The text of a scalar counts as it is written, also where YAML would see a number or a truth value. A type that
		// is demanded (!!binary) would change the text, and null is a value left out.
		if value.Kind != yaml.ScalarNode || value.Style&yaml.TaggedStyle != 0 || value.ShortTag() == "!!null" {
			return entry{}, 0, fault(value.Line, key.Value+" is not a string")
		}
		*slot = value
	}
	switch {
	case id == nil:
		return entry{}, 0, fault(n.Line, "id is missing")
	case token == nil:
		return entry{}, 0, fault(n.Line, "token is missing")
	}
	if reason := toolFault(id.Value); reason != "" {
		return entry{}, 0, fault(id.Line, reason)
	}
	if reason := tokenFault(token.Value); reason != "" {
		return entry{}, 0, fault(token.Line, reason)
	}
	return entry{tool: id.Value, token: token.Value}, token.Line, nil
}

// toolFault says what is wrong with the name of a tool, without quoting it; "" for nothing.
func toolFault(s string) string {
	if !names.OK(s, names.ToolBytes) {
		return "id must be " + names.Rule(names.ToolBytes)
	}
	return ""
}

// tokenFault says what keeps s from being a b64token (RFC 6750, section 2.1) of good length; "" for nothing.
func tokenFault(s string) string {
	body := strings.TrimRight(s, "=")
	if body == "" || strings.ContainsFunc(body, func(r rune) bool { return !isAlnum(r) && !strings.ContainsRune("-._~+/", r) }) {
		return "token must be one or more of A-Z a-z 0-9 - . _ ~ + /, with = only at its end"
	}
	if len(s) < minTokenChars {
		return fmt.Sprintf("token has %d characters, at least %d are needed", len(s), minTokenChars)
	}
	return ""
}

func isAlnum(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// syntaxFault takes no more than the line from an error of the YAML library, which may quote what it read. The library
// names the line where the construct began that it could not finish, and none for line 1 and for unknown aliases.
func syntaxFault(err error) *Error {
	var line int
	if _, scanErr := fmt.Sscanf(err.Error(), "yaml: line %d:", &line); scanErr == nil {
		return fault(line, "not well-formed YAML here or in the lines that follow")
	}
	if strings.Contains(err.Error(), "anchor") {
		return fault(0, "an alias (*) to nothing; quote values that begin with *")
	}
	return fault(1, "not well-formed YAML here or in the lines that follow")
}

// unprintableLine finds the first line with a character that YAML forbids (YAML 1.2, section 5.1), as the library does
// not name the line of those; 0 for none.
func unprintableLine(plain []byte) int {
	line := 1
	for i := 0; i < len(plain); {
		r, size := utf8.DecodeRune(plain[i:])
		switch {
		case r == '\n':
			line++
		case r == utf8.RuneError && size == 1,
			r < ' ' && r != '\t' && r != '\r', '\x7f' <= r && r < '\u00a0' && r != '\u0085',
			r == '\ufeff' && i > 0, r == '\ufffe', r == '\uffff':
			return line
		}
		i += size
	}
	return 0
}
