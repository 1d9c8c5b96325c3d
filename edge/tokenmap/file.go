package tokenmap

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// IdentityName is what errors call a key that came as text, not as a file.
const IdentityName = "CALIPER_TOKENS_IDENTITY"

const (
	// maxSealedBytes is room for maxPlainBytes after encryption and armor (4/3 and line breaks).
	maxSealedBytes = maxPlainBytes/2*3 + 1<<20
	maxKeyBytes    = 1 << 20
)

// File says where a token map lies and what opens it. It holds no state: every call reads the files anew, and calls may
// run at the same time, in one process or several. All of them block on the disk.
type File struct {
	// Path is the map, an age file, armored or binary. An edit writes it armored, to the recipients of the identities
	// it was opened with and to nobody else.
	Path string
	// KeyPath is the file with the age identities, as age-keygen writes it. Several are allowed, for a change of keys;
	// where post-quantum ones are among them an edit encrypts to those only, as age does not mix the kinds.
	KeyPath string
	// Identity is the text of such a file. Where it is not empty KeyPath is neither read nor made.
	Identity string
	// UsagePath is the JSON file with the last use of each token. Empty: last uses are not kept over restarts.
	UsagePath string
}

// Load reads, decrypts and checks the map. The error is an [*Error]; a missing map or key is fs.ErrNotExist as well.
func (f File) Load() (*Map, error) {
	snap, err := f.snapshot()
	if err != nil {
		return nil, err
	}
	return f.decode(snap)
}

// Info is what can be told of a token.
type Info struct {
	Tool        string
	Fingerprint string
	// LastUsed is in UTC, to the second and some seconds behind a running endpoint; zero means never.
	LastUsed time.Time
}

// List tells of every token, in the order of the map. If only the usage file cannot be read, the list is returned
// without last uses, and the error beside it.
func (f File) List() ([]Info, error) {
	m, err := f.Load()
	if err != nil {
		return nil, err
	}
	used, err := readUsage(f.UsagePath)
	infos := make([]Info, 0, m.Len())
	for p := range m.Principals() {
		infos = append(infos, Info{p.Tool, p.Fingerprint, used[p.Fingerprint]})
	}
	return infos, err
}

// snapshot is what lay on the disk at one time.
type snapshot struct {
	sealed []byte // the map
	key    []byte // the text of the identities
}

// sum tells two snapshots apart without keeping them. Each part is hashed by itself, so that nothing can move between.
func (s snapshot) sum() digest {
	sealed, key := sha256.Sum256(s.sealed), sha256.Sum256(s.key)
	return sha256.Sum256(append(sealed[:], key[:]...))
}

func (f File) snapshot() (snapshot, error) {
	sealed, err := readBounded(f.Path, maxSealedBytes)
	if err != nil {
		return snapshot{}, err
	}
	key, err := f.key()
	return snapshot{sealed, key}, err
}

func (f File) key() ([]byte, error) {
	if f.Identity != "" {
		return []byte(f.Identity), nil
	}
	return readBounded(f.KeyPath, maxKeyBytes)
}

func (f File) decode(s snapshot) (*Map, error) {
	ids, err := f.identities(s.key)
	if err != nil {
		return nil, err
	}
	doc, err := f.open(s.sealed, ids)
	if err != nil {
		return nil, err
	}
	return newMap(doc.entries), nil
}

func (f File) identities(key []byte) ([]age.Identity, error) {
	path := f.KeyPath
	if f.Identity != "" {
		path = IdentityName
	}
	ids, err := age.ParseIdentities(bytes.NewReader(bytes.TrimSpace(key)))
	if err != nil {
		// The library's own words may hold pieces of the key.
		e := &Error{Path: path, Reason: "no age identity (AGE-SECRET-KEY-…) in it"}
		if _, scanErr := fmt.Sscanf(err.Error(), "error at line %d", &e.Line); scanErr == nil {
			e.Reason = "not a good age identity (AGE-SECRET-KEY-…)"
		}
		return nil, e
	}
	return ids, nil
}

// open decrypts and parses a map. Errors of the age library are replaced, as some quote the line they stumble over,
// which is plain text where somebody forgot to encrypt.
func (f File) open(sealed []byte, ids []age.Identity) (*document, error) {
	var src io.Reader = bytes.NewReader(sealed)
	switch {
	case len(bytes.TrimSpace(sealed)) == 0:
		return nil, &Error{Path: f.Path, Reason: "the file is empty"}
	case bytes.HasPrefix(bytes.TrimSpace(sealed), []byte(armor.Header)):
		src = armor.NewReader(src)
	case !bytes.HasPrefix(sealed, []byte("age-encryption.org/")):
		return nil, &Error{Path: f.Path, Reason: "not encrypted with age"}
	}
	plain, err := age.Decrypt(src, ids...)
	if noMatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &noMatch) {
		return nil, &Error{Path: f.Path, Reason: "encrypted to another key"}
	} else if err != nil {
		return nil, &Error{Path: f.Path, Reason: "the age header is damaged or cut off"}
	}
	// One byte more than allowed, for parse to see.
	text, err := io.ReadAll(io.LimitReader(plain, maxPlainBytes+1))
	if err != nil {
		return nil, &Error{Path: f.Path, Reason: "the encrypted part is damaged or cut off"}
	}
	doc, bad := parse(text)
	if bad != nil {
		bad.Path = f.Path
		return nil, bad
	}
	return doc, nil
}

// seal encrypts plain, armored, to everybody who holds one of ids.
func seal(plain []byte, ids []age.Identity) ([]byte, error) {
	var classic, hybrid []age.Recipient
	for _, id := range ids {
		switch id := id.(type) {
		case *age.X25519Identity:
			classic = append(classic, id.Recipient())
		case *age.HybridIdentity:
			hybrid = append(hybrid, id.Recipient())
		}
	}
	to := classic
	if len(hybrid) > 0 {
		to = hybrid
	}
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, to...)
	if err != nil {
		return nil, fmt.Errorf("encrypt token map: %w", err)
	}
	if _, err := w.Write(plain); err != nil {
		return nil, fmt.Errorf("encrypt token map: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypt token map: %w", err)
	}
	if err := armored.Close(); err != nil {
		return nil, fmt.Errorf("encrypt token map: %w", err)
	}
	return out.Bytes(), nil
}

// newKey is a key file with one fresh identity, in the form of age-keygen.
func newKey(now time.Time) ([]byte, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# created: %s\n", now.Format(time.RFC3339))
	fmt.Fprintf(&b, "# public key: %s\n", id.Recipient())
	fmt.Fprintf(&b, "%s\n", id)
	return []byte(b.String()), nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, systemFault(path, "cannot be opened", err)
	}
	defer src.Close()
	content, err := io.ReadAll(io.LimitReader(src, limit+1))
	if err != nil {
		return nil, systemFault(path, "cannot be read", err)
	}
	if int64(len(content)) > limit {
		return nil, &Error{Path: path, Reason: fmt.Sprintf("more than %d bytes", limit)}
	}
	return content, nil
}
