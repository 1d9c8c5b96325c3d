package stream

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// How the embedded server encrypts: each stream, each block of messages and
// each consumer has random bytes of its own as key, the seed, and beside it a
// file with the seed, sealed by a key made of the configured one. The server can
// change the configured key by itself, but overwrites blocks in place, unsynced,
// so that a crash then loses them; and it gives up consumers. So the seeds are
// sealed anew here, before it starts: a file of 64 bytes each, replaced
// atomically, and no message is touched.
//
// The server also takes a wrong key for a damaged store and deletes the blocks
// that it cannot read. So every file is looked at before it starts.

const (
	// sealedBytes is the length of a sealed seed: nonce, seed, tag. Shorter
	// files are the rest of a crash, and the server's to mend.
	sealedBytes = aes.BlockSize + 32 + 16
	// MinStoreKeyBytes is the shortest key.
	MinStoreKeyBytes = 32
	// storeAccount is the server's account that has the streams.
	storeAccount = "$G"
)

// ReadStoreKey reads a key for the store from a file: one word of at least
// MinStoreKeyBytes.
func ReadStoreKey(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("stream: store key: %w", err)
	}
	key := strings.TrimSpace(string(b))
	if len(strings.Fields(key)) != 1 || len(key) < MinStoreKeyBytes {
		return "", fmt.Errorf("stream: store key %s: expected one word of at least %d characters, such as openssl rand -base64 32 prints", path, MinStoreKeyBytes)
	}
	return key, nil
}

// sealedSeed is a file of the store.
type sealedSeed struct {
	path    string
	context string // goes into the key that seals it
}

// unlockStore sees to it that key opens everything in the store of data folder
// dir: what is under the old key is put under key. An empty key is for a store
// that is not encrypted. Where it fails, nothing was lost, and a further call
// goes on. It returns how many files were put under key. No server may have the
// store open.
func unlockStore(dir, key, old string) (changed int, err error) {
	seeds, plain, err := findSeeds(dir)
	switch {
	case err != nil:
		return 0, fmt.Errorf("stream: look for keys in the store: %w", err)
	case key == "" && len(seeds) > 0:
		return 0, fmt.Errorf("stream: the store of %s is encrypted: set CALIPER_STORE_KEY to its key file", dir)
	case key != "" && plain != "":
		return 0, fmt.Errorf("stream: CALIPER_STORE_KEY is set, but the store of %s is not encrypted (stream %s): let its readers finish and begin an encrypted one in another folder, or leave the key away", dir, plain)
	}
	under := make(map[string][]byte) // what is to be written
	for _, s := range seeds {
		b, err := os.ReadFile(s.path)
		if err != nil {
			return 0, fmt.Errorf("stream: read a key of the store: %w", err)
		}
		if len(b) != sealedBytes {
			continue
		}
		if _, err := s.open(b, key); err == nil {
			continue
		}
		seed, err := s.open(b, old)
		if err != nil || old == "" {
			return 0, fmt.Errorf("stream: CALIPER_STORE_KEY does not open the store of %s (%s), nor does CALIPER_STORE_KEY_OLD; nothing was changed", dir, s.path)
		}
		// The nonce stays: the server makes the key stream of a block from it.
		nonce := b[:aes.BlockSize]
		under[s.path] = s.sealer(key).Seal(nonce[:aes.BlockSize:aes.BlockSize], nonce, seed, nil)
	}
	for path, sealed := range under {
		if err := replaceFile(path, sealed); err != nil {
			return changed, fmt.Errorf("stream: put the store under its new key: %w", err)
		}
		changed++
	}
	return changed, nil
}

// findSeeds lists the sealed seeds of the store, and names a stream that is not
// encrypted where there is one.
func findSeeds(dir string) (seeds []sealedSeed, plain string, err error) {
	streams := filepath.Join(dir, "jetstream", storeAccount, "streams")
	entries, err := os.ReadDir(streams)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	for _, e := range entries {
		name, at := e.Name(), filepath.Join(streams, e.Name())
		if strings.HasPrefix(name, ".") {
			continue // deleted in part
		}
		if exists(filepath.Join(at, "meta.key")) {
			seeds = append(seeds, sealedSeed{filepath.Join(at, "meta.key"), name})
		} else if exists(filepath.Join(at, "meta.inf")) {
			plain = name
		}
		blocks, _ := filepath.Glob(filepath.Join(escapeGlob(at), "msgs", "*.key"))
		for _, path := range blocks {
			seeds = append(seeds, sealedSeed{path, name + ":" + strings.TrimSuffix(filepath.Base(path), ".key")})
		}
		consumers, _ := filepath.Glob(filepath.Join(escapeGlob(at), "obs", "*", "meta.key"))
		for _, path := range consumers {
			seeds = append(seeds, sealedSeed{path, name + "." + filepath.Base(filepath.Dir(path))})
		}
	}
	return seeds, plain, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// escapeGlob makes a path stand for itself in a pattern.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// sealer is the cipher that key seals s with.
func (s sealedSeed) sealer(key string) cipher.AEAD {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(storeAccount + s.context))
	block, err := aes.NewCipher(h.Sum(nil))
	if err != nil {
		panic("stream: " + err.Error()) // the length is right
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, aes.BlockSize)
	if err != nil {
		panic("stream: " + err.Error()) // so is this one
	}
	return gcm
}

func (s sealedSeed) open(sealed []byte, key string) ([]byte, error) {
	return s.sealer(key).Open(nil, sealed[:aes.BlockSize], sealed[aes.BlockSize:], nil)
}
