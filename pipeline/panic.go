package pipeline

import (
	"fmt"
	"runtime"
	"strings"
)

// ours begin the texts of panics of this program's own, which name no content.
var ours = []string{"edge: ", "keymap: ", "pipeline: ", "stream: ", "tokenmap: ", "validate: "}

// PanicText is what a log may say of the cause of a panic: what the Go runtime or
// this program says of itself. Of a library's only the type: it could quote an
// event or a token.
func PanicText(cause any) string {
	if err, ok := cause.(runtime.Error); ok {
		return err.Error()
	}
	text, _ := cause.(string)
	for _, prefix := range ours {
		if strings.HasPrefix(text, prefix) {
			return text
		}
	}
	return fmt.Sprintf("a %T, not shown", cause)
}
