package loopback

import (
	"net"
	"testing"
)

func TestFree(t *testing.T) {
	addresses, err := Free(50)
	if err != nil || len(addresses) != 50 {
		t.Fatalf("%v, %v", addresses, err)
	}
	for _, a := range addresses {
		ln, err := net.Listen("tcp", a)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		defer ln.Close() // one that is there twice cannot be listened to again
	}
}
