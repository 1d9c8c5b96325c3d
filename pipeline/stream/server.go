package stream

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Server is how to reach an external server or cluster. All fields but URL may
// be empty; files are read again at each connection, so that they can be
// replaced while the program runs, but for the seed of another NKey.
type Server struct {
	// URL is one address or several, comma separated, such as
	// nats://user:password@host:4222. The servers of a cluster tell of the others.
	URL string
	// Creds is the path of a credentials file: a user's JWT and the seed of its NKey.
	Creds string
	// NKey is the path of a file with the seed of a user NKey.
	NKey string
	// CA is the path of certificates, PEM, that are trusted instead of the
	// system's. With it, or with Cert, nothing is sent without TLS.
	CA string
	// Cert and Key are the paths of a client certificate and its key, PEM.
	Cert, Key string
}

// options returns the client's options for what s names, or an error that says
// which file is not what it should be.
func (s Server) options() ([]nats.Option, error) {
	if err := CheckURL(s.URL); err != nil {
		return nil, fmt.Errorf("stream: address of the NATS server: %w", err)
	}
	var opts []nats.Option
	if s.Creds != "" {
		if err := checkCreds(s.Creds); err != nil {
			return nil, fmt.Errorf("stream: credentials for the NATS server: %w", err)
		}
		opts = append(opts, userCredentials(s.Creds))
	}
	if s.NKey != "" {
		o, err := nats.NkeyOptionFromSeed(s.NKey)
		if err != nil {
			return nil, fmt.Errorf("stream: NKey seed file %s: %w", s.NKey, err)
		}
		opts = append(opts, o)
	}
	if s.CA != "" {
		o := nats.RootCAs(s.CA)
		if err := o(new(nats.Options)); err != nil {
			return nil, fmt.Errorf("stream: certificates by which the NATS server is known, %s: %w", s.CA, err)
		}
		opts = append(opts, o)
	}
	if s.Cert != "" {
		o := nats.ClientCert(s.Cert, s.Key)
		if err := o(new(nats.Options)); err != nil {
			return nil, fmt.Errorf("stream: client certificate %s with key %s: %w", s.Cert, s.Key, err)
		}
		opts = append(opts, o)
	}
	return opts, nil
}

// userCredentials is nats.UserCredentials, but for a file without a JWT: the client
// would send all of it to the server as one, be it a seed.
func userCredentials(path string) nats.Option {
	return func(c *nats.Options) error {
		if err := nats.UserCredentials(path)(c); err != nil {
			return err
		}
		read := c.UserJWT
		c.UserJWT = func() (string, error) {
			token, err := read()
			if err == nil && strings.Count(token, ".") != 2 {
				err = fmt.Errorf("no JWT in credentials file %s, expected a JWT and the seed of its NKey", path)
			}
			return token, err
		}
		return nil
	}
}

// checkCreds looks into a credentials file.
func checkCreds(path string) error {
	var c nats.Options
	if err := userCredentials(path)(&c); err != nil {
		return err
	}
	if _, err := c.UserJWT(); err != nil {
		return err
	}
	_, err := c.SignatureCB(nil)
	return err
}

// expiry is when the JWT of a credentials file expires; zero for never, and where
// that cannot be told.
func expiry(creds string) time.Time {
	var c nats.Options
	if err := userCredentials(creds)(&c); err != nil {
		return time.Time{}
	}
	token, err := c.UserJWT()
	parts := strings.Split(token, ".")
	if err != nil || len(parts) != 3 {
		return time.Time{}
	}
	var claims struct{ Exp int64 }
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &claims) != nil || claims.Exp == 0 {
		return time.Time{}
	}
	return time.Unix(claims.Exp, 0).UTC()
}

// warnOfOpenFiles tells of secrets that every user of this host can read.
func (s Server) warnOfOpenFiles(lg *slog.Logger) {
	for _, path := range []string{s.Creds, s.NKey, s.Key} {
		if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o007 != 0 {
			lg.Warn("a credential for the NATS server is open to every user of this host", "file", path, "mode", st.Mode().Perm())
		}
	}
}

// dialError says of an error of dial what it is about.
func (s Server) dialError(err error) error {
	switch {
	case isRefusal(err):
		return fmt.Errorf("stream: NATS server %s refuses %s: %w", redact(s.URL), s.credential(), err)
	case refusesCertificate(err):
		certificate := "a client without a certificate"
		if s.Cert != "" {
			certificate = "the client certificate " + s.Cert
		}
		return fmt.Errorf("stream: NATS server %s refuses %s: %w", redact(s.URL), certificate, err)
	}
	return fmt.Errorf("stream: NATS server %s cannot be reached: %w", redact(s.URL), err)
}

// credential is by what s is known to the server, in words.
func (s Server) credential() string {
	switch {
	case s.Creds != "":
		text := "the credentials of " + s.Creds
		if end := expiry(s.Creds); !end.IsZero() && end.Before(time.Now()) {
			text += ", which have expired at " + end.Format(time.RFC3339)
		}
		return text
	case s.NKey != "":
		return "the NKey of " + s.NKey
	case strings.Contains(s.URL, "@"):
		return "user or password of its URL"
	}
	return "a client without a credential"
}

// isRefusal tells whether a server has refused the credential.
func isRefusal(err error) bool {
	return slices.ContainsFunc([]error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired, nats.ErrNkeysNotSupported},
		func(refusal error) bool { return errors.Is(err, refusal) })
}

// refusesCertificate tells whether a server has refused the client's certificate,
// or its lack of one. By TLS 1.3 the client thinks by then that all is well, and
// may find the connection closed before it reads why.
func refusesCertificate(err error) bool {
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" {
		return strings.Contains(alert.Err.Error(), "certificate")
	}
	return errors.Is(err, nats.ErrTLS) && strings.Contains(err.Error(), "closed by remote after TLS handshake")
}

// isAway tells whether err may be over by itself, in contrast to what somebody
// has to mend.
func isAway(err error) bool {
	var (
		permanent   *permanentError
		api         *jetstream.APIError
		certificate *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &permanent), errors.As(err, &certificate), isRefusal(err), refusesCertificate(err),
		errors.Is(err, nats.ErrSecureConnWanted), errors.Is(err, nats.ErrSecureConnRequired):
		return false
	case errors.As(err, &api):
		// As long as a cluster has no leader.
		return api.Code == 503 && api.ErrorCode != jetstream.JSErrCodeJetStreamNotEnabledForAccount
	}
	return true
}

// permanentError is over only when somebody mends something.
type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

// webSchemes are those of NATS over WebSocket.
var webSchemes = []string{"ws", "wss"}

// CheckURL returns an error about addresses, comma separated, that are not those
// of NATS servers. It shows nothing of user, password or host: where an address
// is malformed, what looks like one may be the other.
func CheckURL(addresses string) error {
	list := strings.Split(addresses, ",")
	web := 0
	for i, address := range list {
		scheme, err := checkAddress(strings.TrimSpace(address))
		if err != nil && len(list) > 1 {
			return fmt.Errorf("number %d of %d %w", i+1, len(list), err)
		}
		if err != nil {
			return err
		}
		if slices.Contains(webSchemes, scheme) {
			web++
		}
	}
	if web > 0 && web < len(list) {
		return errors.New("some are of WebSocket (ws://, wss://) and some are not, expected all or none")
	}
	return nil
}

func checkAddress(address string) (scheme string, err error) {
	if address == "" {
		return "", errors.New("is empty, expected an address such as nats://host:4222")
	}
	if !strings.Contains(address, "://") {
		address = "nats://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || strings.HasSuffix(u.Host, ":") || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
		return "", errors.New("is malformed, expected nats://host:4222 or nats://user:password@host:4222, with %2F for / in user or password, %40 for @, %3A for :, %23 for #, %3F for ?, %25 for % and %2C for a comma")
	}
	if u.Scheme != "nats" && u.Scheme != "tls" && !slices.Contains(webSchemes, u.Scheme) {
		return "", fmt.Errorf("begins with %s://, expected nats://, tls://, ws:// or wss://", u.Scheme)
	}
	if n, err := strconv.Atoi(u.Port()); u.Port() != "" && (err != nil || n < 1 || n > 65535) {
		return "", errors.New("has a port that is none, expected 1 to 65535")
	}
	return u.Scheme, nil
}

// redact takes user and password out of addresses that CheckURL has passed.
func redact(addresses string) string {
	list := strings.Split(addresses, ",")
	for i, address := range list {
		scheme, rest := "", strings.TrimSpace(address)
		if before, after, ok := strings.Cut(rest, "://"); ok {
			scheme, rest = before+"://", after
		}
		list[i] = scheme + rest[strings.LastIndexByte(rest, '@')+1:]
	}
	return strings.Join(list, ",")
}
