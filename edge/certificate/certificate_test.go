package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"caliperedge/internal/journal"
)

// pair makes a self-signed certificate with that serial number, valid for so
// long from now, and its key.
func pair(t *testing.T, serial int64, valid time.Duration) (chain, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"edge.example"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(valid)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func write(t *testing.T, dir string, chain, key []byte) {
	t.Helper()
	for name, content := range map[string][]byte{"tls.crt": chain, "tls.key": key} {
		if content == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// serial is that of the certificate in force.
func serial(t *testing.T, l *Live) int64 {
	t.Helper()
	c, err := l.Config().GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf.SerialNumber.Int64()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// never keeps a Live from looking without a sign of change.
var never = pace{settle: 20 * time.Millisecond, poll: time.Hour}

func start(t *testing.T, dir string, p pace) (l *Live, changes *atomic.Int32, lg *journal.Journal) {
	t.Helper()
	changes, lg = new(atomic.Int32), new(journal.Journal)
	l, err := watch(Files{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}, func() { changes.Add(1) }, lg.Logger(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l, changes, lg
}

func TestFollows(t *testing.T) {
	dir := t.TempDir()
	chain, key := pair(t, 1, time.Hour)
	write(t, dir, chain, key)
	l, changes, lg := start(t, dir, never)
	if serial(t, l) != 1 || changes.Load() != 0 {
		t.Fatalf("certificate %d after %d changes", serial(t, l), changes.Load())
	}
	chain, key = pair(t, 2, 2*time.Hour)
	write(t, dir, chain, key)
	eventually(t, "the second is in force", func() bool { return serial(t, l) == 2 && changes.Load() == 1 })
	if at := l.Status().NotAfter; time.Until(at) < 90*time.Minute {
		t.Errorf("it is said to expire at %v", at)
	}
	if strings.Count(lg.String(), "certificate taken over") != 1 {
		t.Errorf("log: %s", lg)
	}
}

// TestKeepsWhileFilesAreBad: whatever lies on the disk, a good pair stays, and
// each bad content is complained of once, and whenever it is asked for again.
func TestKeepsWhileFilesAreBad(t *testing.T) {
	dir := t.TempDir()
	goodChain, goodKey := pair(t, 1, time.Hour)
	write(t, dir, goodChain, goodKey)
	l, changes, lg := start(t, dir, never)
	_, otherKey := pair(t, 2, time.Hour)
	oldChain, oldKey := pair(t, 3, -time.Hour)
	failures := uint64(0)
	for name, bad := range map[string]func(){
		"key of another": func() { write(t, dir, goodChain, otherKey) },
		"no PEM":         func() { write(t, dir, []byte("nonsense"), goodKey) },
		"empty":          func() { write(t, dir, []byte{}, []byte{}) },
		"expired":        func() { write(t, dir, oldChain, oldKey) },
		"gone":           func() { os.Remove(filepath.Join(dir, "tls.key")) },
	} {
		bad()
		eventually(t, name+" is refused", func() bool { return l.Status().Failures > failures })
		complaints := strings.Count(lg.String(), "the former one stays in force")
		if err := l.Reload(); err == nil || !strings.Contains(err.Error(), "tls.crt") {
			t.Errorf("%s: reload: %v, want an error that names the file", name, err)
		}
		if strings.Count(lg.String(), "the former one stays in force") == complaints {
			t.Errorf("%s: a reload that was asked for says nothing", name)
		}
		failures = l.Status().Failures
		if serial(t, l) != 1 {
			t.Errorf("%s: certificate %d is in force", name, serial(t, l))
		}
		write(t, dir, goodChain, goodKey)
		eventually(t, "the good pair is read", func() bool { return l.Reload() == nil })
		failures = l.Status().Failures
	}
	if n := strings.Count(lg.String(), "the former one stays in force"); n < 5 {
		t.Errorf("%d complaints, want one of each: %s", n, lg)
	}
	if strings.Count(lg.String(), "PRIVATE") > 0 {
		t.Error("the log quotes the key")
	}
	if serial(t, l) != 1 {
		t.Errorf("certificate %d after %d changes", serial(t, l), changes.Load())
	}
}

// TestFollowsKubernetesSwap: a mounted secret is a link to a link to a folder
// that is replaced as a whole.
func TestFollowsKubernetesSwap(t *testing.T) {
	dir := t.TempDir()
	version := func(name string, serial int64) {
		t.Helper()
		chain, key := pair(t, serial, time.Hour)
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), chain, key)
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", 1)
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	l, _, _ := start(t, dir, never)
	version("..2", 2)
	eventually(t, "the second is in force", func() bool { return serial(t, l) == 2 })
	if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
		t.Fatal(err)
	}
	version("..3", 3)
	eventually(t, "the third is in force", func() bool { return serial(t, l) == 3 })
}

// TestFollowsFarLinks: a link in another folder shows no event, and is found by
// looking.
func TestFollowsFarLinks(t *testing.T) {
	far, dir := t.TempDir(), t.TempDir()
	chain, key := pair(t, 1, time.Hour)
	write(t, far, chain, key)
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join(far, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	l, _, _ := start(t, dir, pace{settle: time.Millisecond, poll: 20 * time.Millisecond})
	chain, key = pair(t, 2, time.Hour)
	write(t, far, chain, key)
	eventually(t, "the second is in force", func() bool { return serial(t, l) == 2 })
}

func TestWatchFails(t *testing.T) {
	dir := t.TempDir()
	files := Files{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	if _, err := Watch(files, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), files.Chain) {
		t.Errorf("without files: %v", err)
	}
}
