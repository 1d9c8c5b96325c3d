package validate

import "golang.org/x/sys/cpu"

// hasVectors tells whether this processor has the instructions of indexBlocks.
func hasVectors() bool {
	return cpu.X86.HasAVX2 && cpu.X86.HasBMI1 && cpu.X86.HasPOPCNT && cpu.X86.HasPCLMULQDQ
}

// indexBlocks adds to x what so many blocks at p hold, the first of which stands at base in the body.
//
//go:noescape
func indexBlocks(x *index, p *byte, blocks int, base uint32)
