package pipeline

import (
	"errors"
	"strings"
	"testing"
)

func TestPanicText(t *testing.T) {
	const secret = "urn:uuid:of-an-event"
	caught := func(f func()) (text string) {
		defer func() { text = PanicText(recover()) }()
		f()
		return
	}
	var none []int
	for _, c := range []struct {
		f    func()
		want string
	}{
		{func() { _ = none[len(secret)] }, "index out of range"},
		{func() { panic("pipeline: receipt settled twice") }, "pipeline: receipt settled twice"},
		{func() { panic("cannot decode " + secret) }, "a string, not shown"},
		{func() { panic(errors.New(secret)) }, "a *errors.errorString, not shown"},
	} {
		if got := caught(c.f); !strings.Contains(got, c.want) || strings.Contains(got, secret) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
