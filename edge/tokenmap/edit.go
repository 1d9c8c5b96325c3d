package tokenmap

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

const (
	// lockWait is how long an edit waits for others; one edit takes milliseconds.
	lockWait = 10 * time.Second
	// tokenChars is the length of a generated token: 64 of 62 characters are 381 bits.
	tokenChars = 64
)

// Create makes what is missing of folders (0700), key and map (0600); the new map is empty. What exists is left as it
// is and is not checked. A map without its key is an error, as a new key could not open it.
func (f File) Create() error {
	return f.locked(true, func(path string) error {
		if err := f.ensureKey(path); err != nil {
			return err
		}
		if there, err := exists(path); there || err != nil {
			return err
		}
		return f.change(path, func(*document) error { return nil })
	})
}

// Add generates a token for tool, adds it to the map and returns it. It makes what [File.Create] would. The returned
// token is the only plain copy.
func (f File) Add(tool string) (token string, err error) {
	if reason := toolFault(tool); reason != "" {
		return "", errors.New("tool: " + reason)
	}
	err = f.locked(true, func(path string) error {
		if err := f.ensureKey(path); err != nil {
			return err
		}
		return f.change(path, func(doc *document) error {
			token = doc.add(tool)
			return nil
		})
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// Rotate adds a token for a tool that has one already, and returns it. The old ones stay in force until they are
// revoked, so that a sensor can be changed over in between.
func (f File) Rotate(tool string) (token string, err error) {
	err = f.locked(false, func(path string) error {
		return f.change(path, func(doc *document) error {
			if !slices.ContainsFunc(doc.entries, func(e entry) bool { return e.tool == tool }) {
				return fmt.Errorf("tool %q has no token in %s", tool, f.Path)
			}
			token = doc.add(tool)
			return nil
		})
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// Revoke removes the token with this fingerprint (8 hex digits, any case) and returns the tool it belonged to. A
// fingerprint that fits two tokens is refused: which of them is meant, only an edit by hand can say.
func (f File) Revoke(fingerprint string) (tool string, err error) {
	want := strings.ToLower(fingerprint)
	if len(want) != fingerprintDigits || strings.Trim(want, "0123456789abcdef") != "" {
		// Not quoted: a token given by mistake must not end up in a terminal log.
		return "", fmt.Errorf("a fingerprint is %d hex digits", fingerprintDigits)
	}
	err = f.locked(false, func(path string) error {
		return f.change(path, func(doc *document) error {
			i, err := doc.find(want)
			if err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
			tool = doc.entries[i].tool
			doc.remove(i)
			return nil
		})
	})
	if err != nil {
		return "", err
	}
	return tool, nil
}

func (d *document) find(want string) (int, error) {
	found := -1
	for i, e := range d.entries {
		if fingerprint(sha256.Sum256([]byte(e.token))) != want {
			continue
		}
		if found >= 0 {
			return 0, fmt.Errorf("fingerprint %s fits two tokens, of %s and of %s; edit the map by hand",
				want, d.entries[found].tool, e.tool)
		}
		found = i
	}
	if found < 0 {
		return 0, fmt.Errorf("no token has the fingerprint %s", want)
	}
	return found, nil
}

func (d *document) add(tool string) (token string) {
	taken := make(map[string]bool, len(d.entries))
	for _, e := range d.entries {
		taken[fingerprint(sha256.Sum256([]byte(e.token)))] = true
	}
	for token = newToken(); taken[fingerprint(sha256.Sum256([]byte(token)))]; token = newToken() {
	}
	item := &yaml.Node{Kind: yaml.MappingNode}
	for _, text := range []string{"id", tool, "token", token} {
		scalar := new(yaml.Node)
		scalar.SetString(text)
		item.Content = append(item.Content, scalar)
	}
	if len(d.list.Content) == 0 {
		d.list.Style &^= yaml.FlowStyle // an empty list can only be written as []
	}
	d.list.Content = append(d.list.Content, item)
	d.entries = append(d.entries, entry{tool, token})
	return token
}

// remove takes the comments of an entry away with it: those inside, and the one directly above.
func (d *document) remove(i int) {
	d.list.Content = slices.Delete(d.list.Content, i, i+1)
	d.entries = slices.Delete(d.entries, i, i+1)
}

// liftHeader gives to the file what an empty line sets off from the first entry. Behind a --- the YAML library hangs it
// on that entry, where it would first lose its empty line and then go with the entry.
func (d *document) liftHeader() {
	if d.root.HeadComment != "" || len(d.list.Content) == 0 {
		return
	}
	first := d.list.Content[0]
	if end := strings.LastIndex("\n"+first.HeadComment+"\n", "\n\n"); end > 0 {
		d.root.HeadComment, first.HeadComment = first.HeadComment[:end-1], strings.Trim(first.HeadComment[end-1:], "\n")
	}
}

// newToken draws from A-Z a-z 0-9, each as likely as the other.
func newToken() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	const fair = 256 / len(alphabet) * len(alphabet) // bytes from here on would favour the first letters
	token := make([]byte, 0, tokenChars)
	var draw [2 * tokenChars]byte
	for {
		rand.Read(draw[:]) // never fails, see its documentation
		for _, b := range draw {
			if int(b) < fair {
				token = append(token, alphabet[int(b)%len(alphabet)])
			}
			if len(token) == tokenChars {
				return string(token)
			}
		}
	}
}

// change opens the map at path, or an empty one where there is none, lets edit work on it and puts it back. On any
// error the old file stays. The caller holds the lock.
func (f File) change(path string, edit func(*document) error) error {
	key, err := f.key()
	if err != nil {
		return err
	}
	ids, err := f.identities(key)
	if err != nil {
		return err
	}
	doc, err := f.openOrEmpty(path, ids)
	if err != nil {
		return err
	}
	doc.liftHeader()
	if err := edit(doc); err != nil {
		return err
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc.root); err != nil {
		return &Error{Path: f.Path, Reason: "the edited map cannot be written as YAML"}
	}
	// Read again before it counts: neither the limits nor a fault in carrying over comments may cost the map.
	if again, bad := parse(out.Bytes()); bad != nil {
		return &Error{Path: f.Path, Reason: "left as it was; the edited map would be bad: " + bad.Reason}
	} else if !slices.Equal(again.entries, doc.entries) {
		return &Error{Path: f.Path, Reason: "left as it was; the edited map would not read the same"}
	}
	sealed, err := seal(out.Bytes(), ids)
	if err != nil {
		return err
	}
	return replaceFile(path, sealed)
}

func (f File) openOrEmpty(path string, ids []age.Identity) (*document, error) {
	sealed, err := readBounded(path, maxSealedBytes)
	if errors.Is(err, fs.ErrNotExist) {
		doc, bad := parse([]byte("[]\n"))
		if bad != nil {
			panic("tokenmap: empty list not accepted")
		}
		return doc, nil
	} else if err != nil {
		return nil, err
	}
	return f.open(sealed, ids)
}

// ensureKey makes a key where there is neither key nor map. The caller holds the lock.
func (f File) ensureKey(path string) error {
	if f.Identity != "" {
		return nil
	}
	if there, err := exists(f.KeyPath); there || err != nil {
		return err
	}
	if there, err := exists(path); err != nil {
		return err
	} else if there {
		return &Error{Path: f.KeyPath, Err: fs.ErrNotExist,
			Reason: "the key is missing, but its map " + f.Path + " exists; bring back the key that opens it"}
	}
	key, err := newKey(time.Now())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.KeyPath), 0o700); err != nil {
		return systemFault(f.KeyPath, "folder cannot be made", err)
	}
	return createFile(f.KeyPath, key)
}

func exists(path string) (bool, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, systemFault(path, "cannot be looked at", err)
	}
	return true, nil
}

// locked runs do while no other edit of this map runs, here or in another process. It hands it the path of the map
// behind symbolic links, so that a link stays one. With create the folder and later the map may come into being.
func (f File) locked(create bool, do func(path string) error) error {
	path, err := filepath.EvalSymlinks(f.Path)
	if err != nil {
		if _, lerr := os.Lstat(f.Path); !create || !errors.Is(lerr, fs.ErrNotExist) {
			return systemFault(f.Path, "cannot be opened", err)
		}
		path = f.Path
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return systemFault(path, "folder cannot be made", err)
		}
	}
	// A file of its own, which stays: the map is replaced by every edit, and a lock would go with the replaced one.
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return systemFault(path+".lock", "cannot be opened", err)
	}
	defer lock.Close() // and so unlock
	for deadline := time.Now().Add(lockWait); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return do(path)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return systemFault(path+".lock", "cannot be locked", err)
		}
		if time.Now().After(deadline) {
			return &Error{Path: path + ".lock", Reason: fmt.Sprintf("held by another edit for %v", lockWait), Err: err}
		}
	}
}

// createFile never replaces a file: with a lost key its maps are lost.
func createFile(path string, content []byte) (err error) {
	dst, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return systemFault(path, "cannot be created", err)
	}
	_, err = dst.Write(content)
	if err = errors.Join(err, dst.Sync(), dst.Close()); err != nil {
		os.Remove(path)
		return systemFault(path, "cannot be written", err)
	}
	return syncFolder(path)
}

// replaceFile puts content at path atomically and durably. A new file gets 0600; one that is replaced keeps its mode
// and, where we may, its owner, so that an edit by root does not lock out the endpoint's user.
func replaceFile(path string, content []byte) error {
	dst, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return systemFault(path, "no new file beside it", err)
	}
	defer os.Remove(dst.Name()) // does nothing after the rename
	if old, err := os.Stat(path); err == nil {
		_ = dst.Chmod(old.Mode().Perm())
		if st, ok := old.Sys().(*syscall.Stat_t); ok {
			_ = dst.Chown(int(st.Uid), int(st.Gid))
		}
	}
	_, err = dst.Write(content)
	if err = errors.Join(err, dst.Sync(), dst.Close()); err != nil {
		return systemFault(path, "cannot be written", err)
	}
	if err := os.Rename(dst.Name(), path); err != nil {
		return systemFault(path, "cannot be replaced", err)
	}
	return syncFolder(path)
}

// syncFolder makes the name of a new file as durable as its bytes.
func syncFolder(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return systemFault(path, "folder cannot be opened", err)
	}
	err = errors.Join(dir.Sync(), dir.Close())
	if err != nil {
		return systemFault(path, "folder cannot be synced", err)
	}
	return nil
}
