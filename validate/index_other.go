//go:build !amd64

package validate

// hasVectors is false: for this processor there is no indexBlocks.
func hasVectors() bool { return false }

func indexBlocks(*index, *byte, int, uint32) { panic("validate: no vectors") }
