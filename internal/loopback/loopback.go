// Package loopback finds addresses of this host for servers that come back to them, in tests and measurements.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken from below those that Linux gives to who asks for any, as each connection does: between the search and the
// server one of them might get it.
const (
	firstPort = 12_000
	endPort   = 32_000 // not one of them; Linux begins at 32,768 unless told otherwise
)

// Free returns n addresses, all different, on which nobody listens just now.
func Free(n int) (free []string, err error) {
	for tries := 0; len(free) < n; tries++ {
		var ln net.Listener
		ln, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(endPort-firstPort)))
		switch {
		case err == nil:
			defer ln.Close() // after all are found, so that they differ
			free = append(free, ln.Addr().String())
		case tries == 100*n:
			return nil, fmt.Errorf("loopback: %d addresses found, want %d: %w", len(free), n, err)
		}
	}
	return free, nil
}
