package stream

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Files of the data folder that this package keeps, beside jetstream.
const (
	lockName        = "lock"         // held as long as a process has the store open
	accessName      = "nats.json"    // localAccess
	readersName     = "readers.json" // readersFile
	readersLockName = "readers.lock" // held while readers.json is rewritten
)

// ownUser is the user name of the program itself.
const ownUser = "caliper"

var errLocked = errors.New("stream: file is locked by another process")

// localAccess is how the program's own commands reach the embedded server. It
// is a credential to everything in the store and readable by the owner only.
type localAccess struct {
	// URL is where the running server listens, or the last one did. Empty
	// means that it opens no port.
	URL      string `json:"url"`
	User     string `json:"user"`
	Password string `json:"password"`
	// Certificate is the SHA-256, in hex, of the certificate that the server
	// shows, empty without TLS. The program's own commands know the server by
	// it: on this host it is not reached by the name the certificate is for.
	Certificate string `json:"certificate,omitempty"`
}

// certificateSum is the digest of the certificate that conf shows now.
func certificateSum(conf *tls.Config) string {
	if conf == nil {
		return ""
	}
	shown := conf.Certificates
	if conf.GetCertificate != nil {
		if c, err := conf.GetCertificate(&tls.ClientHelloInfo{}); err == nil {
			shown = []tls.Certificate{*c}
		}
	}
	if len(shown) == 0 || len(shown[0].Certificate) == 0 {
		return ""
	}
	sum := sha256.Sum256(shown[0].Certificate[0])
	return hex.EncodeToString(sum[:])
}

// pinned is the client side of a TLS connection to the server that shows the
// certificate of that digest, and to no other.
func pinned(sum string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection is stricter
		VerifyConnection: func(cs tls.ConnectionState) error {
			got := sha256.Sum256(cs.PeerCertificates[0].Raw)
			if hex.EncodeToString(got[:]) != sum {
				return errors.New("stream: the server shows another certificate than the one that nats.json names")
			}
			return nil
		},
	}
}

// ownAccess reads the program's credential of folder dir, or makes one where
// there is none.
func ownAccess(dir string) (localAccess, error) {
	a, err := readAccess(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return localAccess{User: ownUser, Password: newPassword()}, nil
	}
	return a, err
}

func readAccess(dir string) (localAccess, error) {
	var a localAccess
	path := filepath.Join(dir, accessName)
	b, err := os.ReadFile(path)
	if err != nil {
		return a, fmt.Errorf("stream: %w", err)
	}
	// The error of the decoder is left out: it could show the password.
	if json.Unmarshal(b, &a) != nil || a.User != ownUser || a.Password == "" {
		return a, fmt.Errorf("stream: %s is not an object with url, user %q and password; remove it and restart the server to have it made again", path, ownUser)
	}
	return a, nil
}

// newPassword returns 256 random bits, so that a plain digest of it is as good
// as a slow one.
func newPassword() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// checkListen refuses a port that others could listen in on.
func checkListen(listen string, conf *tls.Config) error {
	if listen == "" || conf != nil {
		return nil
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("stream: listen address %q: %w", listen, err)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("stream: listen address %q is reachable from other hosts and needs TLS; use 127.0.0.1 or configure a certificate", listen)
}

// clientURL is where a program on this host finds the server, or empty.
func clientURL(listen string, secure bool) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "nats"
	if secure {
		scheme = "tls"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// Connect connects the program's own commands: to the server at target where it
// is a URL, else to the embedded server of another process, with target as its
// data folder. The caller closes the connection. The error says what to do when
// nothing is running or the server opens no port. After a loss the connection
// is dialled for ever.
func Connect(ctx context.Context, target string) (*nats.Conn, jetstream.JetStream, error) {
	if strings.Contains(target, "://") {
		return ConnectServer(ctx, Server{URL: target})
	}
	a, err := readAccess(target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("stream: no server has been started on data folder %s: run `caliper-edge serve` with it first, or name an external server: %w", target, err)
	}
	if err != nil {
		return nil, nil, err
	}
	if a.URL == "" {
		return nil, nil, fmt.Errorf("stream: the server on data folder %s opens no port: start it with CALIPER_NATS_LISTEN=127.0.0.1:4222", target)
	}
	user := []nats.Option{nats.UserInfo(a.User, a.Password)}
	if a.Certificate != "" {
		user = append(user, nats.Secure(pinned(a.Certificate)))
	}
	nc, js, err := connect(ctx, a.URL, user)
	if err != nil {
		err = fmt.Errorf("stream: no connection to %s, start `caliper-edge serve` on data folder %s: %w", a.URL, target, err)
	}
	return nc, js, err
}

// ConnectServer is Connect for an external server.
func ConnectServer(ctx context.Context, s Server) (*nats.Conn, jetstream.JetStream, error) {
	opts, err := s.options()
	if err != nil {
		return nil, nil, err
	}
	nc, js, err := connect(ctx, s.URL, opts)
	if err != nil {
		err = s.dialError(err)
	}
	return nc, js, err
}

func connect(ctx context.Context, address string, opts []nats.Option) (*nats.Conn, jetstream.JetStream, error) {
	// A command tells of its own errors.
	l, err := dial(ctx, address, slog.New(slog.DiscardHandler), nil, opts...)
	if err != nil {
		return nil, nil, err
	}
	return l.nc, l.js, nil
}

// lockFile opens path and locks it until it is closed or the process ends. With
// wait it blocks until the lock is free, else it fails with errLocked.
func lockFile(path string, wait bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err = syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errLocked
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// writeJSON replaces the file at path by v, readable by the owner only, so that
// a reader and a crash see the old content or the new.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("stream: write %s: %w", path, err)
	}
	return replaceFile(path, append(b, '\n'))
}

// replaceFile is writeJSON for any content.
func replaceFile(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("stream: write %s: %w", path, err)
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
