package tokenmap

import (
	"fmt"
	"io/fs"
)

// Reveal returns a token of tool, the last one in the map, for a first try with a fresh installation. It needs the key
// like any other reading of the map; fs.ErrNotExist where the tool has no token.
func (f File) Reveal(tool string) (token string, err error) {
	snap, err := f.snapshot()
	if err != nil {
		return "", err
	}
	ids, err := f.identities(snap.key)
	if err != nil {
		return "", err
	}
	doc, err := f.open(snap.sealed, ids)
	if err != nil {
		return "", err
	}
	for _, e := range doc.entries {
		if e.tool == tool {
			token = e.token
		}
	}
	if token == "" {
		return "", fmt.Errorf("tokenmap: no token of tool %s: %w", tool, fs.ErrNotExist)
	}
	return token, nil
}
