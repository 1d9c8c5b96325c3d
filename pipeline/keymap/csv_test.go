package keymap

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// read returns the rows and faults of a file, one a line.
func read(text string) (string, error) {
	var b strings.Builder
	err := ReadCSV(strings.NewReader(text),
		func(r Row) error { fmt.Fprintf(&b, "%s|%s|%s|%s\n", r.Tool, r.Kind, r.Value, r.Key); return nil },
		func(f Fault) error { fmt.Fprintln(&b, f); return nil })
	return b.String(), err
}

func TestReadCSV(t *testing.T) {
	const head = "tool,kind,value,key\n"
	long := strings.Repeat("x", MaxNameBytes+1)
	for _, c := range []struct{ text, want string }{
		{head, ""},
		{"\ufeff" + head + "Engage,course,63,C1\n", "Engage|course|63|C1\n"},
		{"tool,kind,value,key\r\nEngage,course,63,C1\r\n", "Engage|course|63|C1\n"},
		{head + "Engage,course,63,", "Engage|course|63|\n"},
		{head + `Engage,course,"a,""b",C1` + "\nEngage,course,64,C2\n", "Engage|course|a,\"b|C1\nEngage|course|64|C2\n"},
		{head + "Engage,course,\"a\r\nb\",C1\nEngage,course,64,C2\n", "line 2: a quote is not closed in its line; nothing is taken of lines 2 to 3\nEngage|course|64|C2\n"},
		{head + "Engage,course,64,C2\nEngage,course,\"a\nb\",C1\n", "Engage|course|64|C2\nline 3: a quote is not closed in its line; nothing is taken of lines 3 to 4\n"},
		{head + "Engage,course,\"a\tb\",C1\n", "line 2: value has a control character, such as a line break\n"},
		{head + "\nEngage,course,,C1\nEngage,course,64,C2\n", "line 3: value is empty\nEngage|course|64|C2\n"},
		{head + "Engage,course,63\n", "line 2: 3 fields, expected 4: tool,kind,value,key\n"},
		{head + "Engage,course,63,C1,\n", "line 2: 5 fields, expected 4: tool,kind,value,key\n"},
		{head + "En gage,course,63,C1\n", "line 2: tool \"En gage\", expected 1 to 64 of A-Z a-z 0-9 _ -\n"},
		{head + "Engage,,63,C1\n", "line 2: kind \"\", expected 1 to 64 of A-Z a-z 0-9 _ -\n"},
		{head + long + ",course,63,C1\n", "line 2: tool \"" + long + "\", expected 1 to 64 of A-Z a-z 0-9 _ -\n"},
		{head + "Engage,course,\xff,C1\n", "line 2: value is not UTF-8\n"},
		{head + "Engage,course,63,\xff\n", "line 2: key is not UTF-8\n"},
		{head + "Engage,course,63,a\\b\n", "line 2: key has a control character, \" or \\\n"},
		{head + "Engage,course,63,\"a\"\"b\"\n", "line 2: key has a control character, \" or \\\n"},
		{head + "Engage,course,63,\"a\nb\"\nEngage,course,64,C2\n", "line 2: a quote is not closed in its line; nothing is taken of lines 2 to 3\nEngage|course|64|C2\n"},
		{head + "Engage,course,\"63,C1\nEngage,course,64,C2\nEngage,course,\"65\",C3\nEngage,course,66,C4\n", "line 2: a quote is not closed in its line; nothing is taken of lines 2 to 4\nEngage|course|66|C4\n"},
		{head + "Engage,course,63,C1\nEngage,course,\"64,C2\r\nEngage,course,65,C3\r\nEngage,course,66,C4\r\n", "Engage|course|63|C1\nline 3: a quote is not closed in its line; nothing is taken of lines 3 to 5\n"},
		{head + "Engage,course,63,\"C1\nEngage,course,64,C2", "line 2: a quote is not closed in its line; nothing is taken of lines 2 to 3\n"},
		{head + "Engage,course,\"63\"x,C1\nEngage,course,64,C2\n", "line 2: extraneous or missing \" in quoted-field\nEngage|course|64|C2\n"},
		{head + "Engage,cour\"se,63,C1\nEngage,course,64,C2\n", "line 2: bare \" in non-quoted-field\nEngage|course|64|C2\n"},
		{head + "Engage,course," + strings.Repeat("v", MaxValueBytes+1) + ",C1\n", "line 2: value has 16385 bytes, expected at most 16384\n"},
		{head + "Engage,course,63," + strings.Repeat("k", MaxKeyBytes+1) + "\n", "line 2: key has 1025 bytes, expected at most 1024\n"},
	} {
		if got, err := read(c.text); got != c.want || err != nil {
			t.Errorf("%.60q reads as %q, %v, want %q", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"", "Engage,course,63,C1\n", "tool,kind,value\n", "tool;kind;value;key\n"} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), "expected tool,kind,value,key") {
			t.Errorf("%q was taken: %v", text, err)
		}
	}
}

func TestReadCSVStopsWhereItIsTold(t *testing.T) {
	stop := errors.New("stop")
	text := "tool,kind,value,key\nEngage,course,63,C1\nEngage\n"
	if err := ReadCSV(strings.NewReader(text), func(Row) error { return stop }, func(Fault) error { return nil }); !errors.Is(err, stop) {
		t.Errorf("stopped at a row: %v", err)
	}
	if err := ReadCSV(strings.NewReader(text), func(Row) error { return nil }, func(f Fault) error { return f }); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("stopped at a fault: %v", err)
	}
}
