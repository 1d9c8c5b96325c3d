package tokenmap

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"time"
)

// usage is when tokens were last used, by fingerprint. On the disk it is a JSON object with times of RFC 3339.
type usage map[string]time.Time

// readUsage reads the file at path; none, or no path, is an empty usage.
func readUsage(path string) (usage, error) {
	if path == "" {
		return nil, nil
	}
	content, err := readBounded(path, maxPlainBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var u usage
	if err := json.Unmarshal(content, &u); err != nil {
		return nil, &Error{Path: path, Reason: "not a JSON object of times by fingerprint; remove it to begin anew"}
	}
	return u, nil
}

// usageOf gathers the uses of a map. Tokens that were never used, or are gone, are left out.
func usageOf(m *Map) usage {
	u := make(usage)
	for p := range m.Principals() {
		if t := p.LastUsed(); t.After(u[p.Fingerprint]) {
			u[p.Fingerprint] = t
		}
	}
	return u
}

func (u usage) equal(v usage) bool { return maps.EqualFunc(u, v, time.Time.Equal) }

func (u usage) write(path string) error {
	content, err := json.MarshalIndent(u, "", " ")
	if err != nil {
		return &Error{Path: path, Reason: "last uses cannot be written as JSON", Err: err}
	}
	return replaceFile(path, append(content, '\n'))
}
