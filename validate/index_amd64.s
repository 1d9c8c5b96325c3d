#include "go_asm.h"
#include "textflag.h"

// Tables for VPSHUFB, by the low four bits of a byte: the white space, and the structural character with bit 5 set.
DATA ·spaceTable+0(SB)/8, $0x0000000000000020
DATA ·spaceTable+8(SB)/8, $0x00000d00000a0900
GLOBL ·spaceTable(SB), RODATA|NOPTR, $16

DATA ·structureTable+0(SB)/8, $0x0000000000000000
DATA ·structureTable+8(SB)/8, $0x00007d2c7b3a0000
GLOBL ·structureTable(SB), RODATA|NOPTR, $16

// A vector with c in every byte.
#define FILL(c, x, y) MOVL $c, AX; VMOVD AX, x; VPBROADCASTB x, y

// The two vectors a and b of marks as one mask; spoils DX.
#define MASK(a, b, mask) VPMOVMSKB a, mask; VPMOVMSKB b, DX; SHLQ $32, DX; ORQ DX, mask

// One token; AX loses its lowest bit.
#define TOKEN(n) TZCNTQ AX, DX; ADDL R9, DX; MOVL DX, (4*n)(DI); BLSRQ AX, AX

// func indexBlocks(x *index, p *byte, blocks int, base uint32)
//
// R8 x, SI next block, CX blocks left, R9 offset of the block in the body, DI where the next token goes.
// From block to block: R10 all ones within a string, R11 one after a scalar, R12 one where a backslash ended the block,
// Y13 all bytes or-ed together.
TEXT ·indexBlocks(SB), NOSPLIT, $0-28
	MOVQ x+0(FP), R8
	MOVQ p+8(FP), SI
	MOVQ blocks+16(FP), CX
	MOVL base+24(FP), R9
	MOVQ index_n(R8), DI
	LEAQ index_tokens(R8)(DI*4), DI
	MOVQ index_inString(R8), R10
	MOVQ index_inScalar(R8), R11
	MOVQ index_inEscape(R8), R12
	FILL(0x0a, X5, Y5)
	FILL(0x0d, X6, Y6)
	FILL(0x20, X7, Y7)
	FILL(0x22, X8, Y8)
	FILL(0x5c, X9, Y9)
	FILL(0x1f, X10, Y10)
	VBROADCASTI128 ·spaceTable(SB), Y11
	VBROADCASTI128 ·structureTable(SB), Y12
	VPXOR Y13, Y13, Y13
	VPCMPEQB X14, X14, X14

block:
	VMOVDQU (SI), Y0
	VMOVDQU 32(SI), Y1
	VPOR Y0, Y13, Y13
	VPOR Y1, Y13, Y13
	VPCMPEQB Y0, Y8, Y2
	VPCMPEQB Y1, Y8, Y3
	MASK(Y2, Y3, BX)
	VPCMPEQB Y0, Y9, Y2
	VPCMPEQB Y1, Y9, Y3
	MASK(Y2, Y3, AX)
	MOVQ AX, DX
	ORQ R12, DX
	JNZ escapes

quotes: // BX: quotes that are not escaped
	VMOVQ BX, X2
	VPCLMULQDQ $0, X14, X2, X2
	VMOVQ X2, R13
	XORQ R10, R13 // inside strings, opening quotes included
	MOVQ R13, R10
	SARQ $63, R10
	VPMINUB Y0, Y10, Y2
	VPMINUB Y1, Y10, Y3
	VPCMPEQB Y0, Y2, Y2
	VPCMPEQB Y1, Y3, Y3
	MASK(Y2, Y3, AX)
	TESTQ AX, AX
	JNZ controls

tokens:
	VPSHUFB Y0, Y12, Y2
	VPSHUFB Y1, Y12, Y3
	VPOR Y0, Y7, Y4
	VPCMPEQB Y4, Y2, Y2
	VPOR Y1, Y7, Y4
	VPCMPEQB Y4, Y3, Y3
	MASK(Y2, Y3, AX) // structural characters
	VPSHUFB Y0, Y11, Y2
	VPSHUFB Y1, Y11, Y3
	VPCMPEQB Y0, Y2, Y2
	VPCMPEQB Y1, Y3, Y3
	MASK(Y2, Y3, R15) // white space
	ORQ AX, R15
	NOTQ R15 // neither: scalars and quotes
	ANDNQ R15, BX, DX // ~BX & R15, scalars
	XORQ R13, BX // behind the opening quote up to the closing one
	MOVQ DX, R13
	SHLQ $1, R13
	ORQ R11, R13 // behind a byte of a scalar
	SHRQ $63, DX
	MOVQ DX, R11
	ANDNQ R15, R13, R15 // where scalars and strings begin
	ORQ R15, AX
	ANDNQ AX, BX, AX
	POPCNTQ AX, BX
	LEAQ (DI)(BX*4), R15
	TOKEN(0)
	TOKEN(1)
	TOKEN(2)
	TOKEN(3)
	TOKEN(4)
	TOKEN(5)
	TOKEN(6)
	TOKEN(7)
	CMPQ BX, $8
	JLE next
	TOKEN(8)
	TOKEN(9)
	TOKEN(10)
	TOKEN(11)
	TOKEN(12)
	TOKEN(13)
	TOKEN(14)
	TOKEN(15)
	CMPQ BX, $16
	JLE next
	ADDQ $64, DI

many:
	TOKEN(0)
	ADDQ $4, DI
	TESTQ AX, AX
	JNZ many

next:
	MOVQ R15, DI
	ADDQ $64, SI
	ADDL $64, R9
	DECQ CX
	JNZ block

	MOVQ R10, index_inString(R8)
	MOVQ R11, index_inScalar(R8)
	MOVQ R12, index_inEscape(R8)
	LEAQ index_tokens(R8), AX
	SUBQ AX, DI
	SHRQ $2, DI
	MOVQ DI, index_n(R8)
	VPMOVMSKB Y13, AX
	ORQ AX, index_high(R8)
	VZEROUPPER
	RET

// AX: backslashes. Takes escaped quotes out of BX and appends where escape sequences begin. In a row of backslashes,
// the subtraction carries from the first, so that every other one turns out to be escaped.
escapes:
	ANDNQ AX, R12, R13
	LEAQ (R13)(R13*1), R15
	MOVQ $0xaaaaaaaaaaaaaaaa, DX
	ORQ DX, R15
	SUBQ R13, R15
	XORQ DX, R15
	MOVQ AX, R13
	ORQ R12, R13
	XORQ R15, R13 // escaped bytes
	ANDNQ BX, R13, BX
	ANDQ AX, R15 // beginnings
	MOVQ R15, R12
	SHRQ $63, R12
	MOVQ index_escaped(R8), AX
	JMP more

escape:
	TZCNTQ R15, DX
	ADDL R9, DX
	MOVL DX, index_escapes(R8)(AX*4)
	INCQ AX
	BLSRQ R15, R15

more:
	TESTQ R15, R15
	JNZ escape
	MOVQ AX, index_escaped(R8)
	JMP quotes

// AX: control characters.
controls:
	MOVQ AX, DX
	ANDQ R13, DX
	ORQ DX, index_controls(R8)
	ANDNQ AX, R13, AX
	JZ tokens
	VPCMPEQB Y0, Y5, Y2
	VPCMPEQB Y1, Y5, Y3
	VPCMPEQB Y0, Y6, Y4
	VPOR Y4, Y2, Y2
	VPCMPEQB Y1, Y6, Y4
	VPOR Y4, Y3, Y3
	MASK(Y2, Y3, R15)
	ANDQ AX, R15
	ORQ R15, index_breaks(R8)
	JMP tokens
