//go:build !linux

package stream

import (
	"errors"
	"os"
)

// reserve does nothing where there is no fallocate.
func reserve(*os.File, int64) error { return errors.ErrUnsupported }
