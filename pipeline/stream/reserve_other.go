//go:build !linux

package stream

import "os"

// reserve does nothing where there is no fallocate.
func reserve(*os.File, int64) {}
