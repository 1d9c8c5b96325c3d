package keymap

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"caliperedge/internal/names"
)

// header is the first line of a table as CSV.
var header = []string{"tool", "kind", "value", "key"}

// Fault is a line of a file that is no row, or several that a quote makes one.
type Fault struct {
	Line  int // the first
	Lines int // how many
	Err   error
}

func (f Fault) Error() string { return fmt.Sprintf("line %d: %v", f.Line, f.Err) }

// faultOf is a fault from one line to another. Where those are two a quote was
// forgotten, most likely: what it took with it may be rows, and is none.
func faultOf(first, last int, err error) Fault {
	if last > first {
		err = fmt.Errorf("a quote is not closed in its line; nothing is taken of lines %d to %d", first, last)
	}
	return Fault{first, last - first + 1, err}
}

// ReadCSV reads a table with the header tool,kind,value,key and calls each for
// every row, with the number of its line, or faulty for a line that is none. An
// error of either ends it and is returned, as is one of r, or another header.
// The row's strings stay valid.
func ReadCSV(r io.Reader, each func(Row) error, faulty func(Fault) error) error {
	c := csv.NewReader(r)
	c.FieldsPerRecord = -1
	c.ReuseRecord = true
	first, err := c.Read()
	if err == nil {
		first[0] = strings.TrimPrefix(first[0], "\ufeff")
	}
	if errors.Is(err, io.EOF) || err == nil && strings.Join(first, ",") != strings.Join(header, ",") {
		return fmt.Errorf("keymap: the first line is no header, expected %s", strings.Join(header, ","))
	}
	for err == nil {
		var fields []string
		fields, err = c.Read()
		var syntax *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &syntax):
			err = faulty(faultOf(syntax.StartLine, syntax.Line, syntax.Err))
		case err == nil:
			var row Row
			if row, err = rowOf(fields); err == nil {
				err = each(row)
				continue
			}
			first, _ := c.FieldPos(0)
			last, _ := c.FieldPos(len(fields) - 1)
			err = faulty(faultOf(first, last+strings.Count(fields[len(fields)-1], "\n"), err))
		}
	}
	return err
}

func rowOf(fields []string) (Row, error) {
	if len(fields) != len(header) {
		return Row{}, fmt.Errorf("%d fields, expected %d: %s", len(fields), len(header), strings.Join(header, ","))
	}
	r := Row{Tool: fields[0], Kind: fields[1], Value: fields[2], Key: fields[3]}
	return r, r.Check()
}

// Check says what is wrong with a row, or nil.
func (r Row) Check() error {
	if err := names.Check("tool", r.Tool, MaxNameBytes); err != nil {
		return err
	}
	if err := names.Check("kind", r.Kind, MaxNameBytes); err != nil {
		return err
	}
	switch {
	case r.Value == "":
		return errors.New("value is empty")
	case len(r.Value) > MaxValueBytes:
		return fmt.Errorf("value has %d bytes, expected at most %d", len(r.Value), MaxValueBytes)
	case !utf8.ValidString(r.Value):
		return errors.New("value is not UTF-8")
	case strings.ContainsFunc(r.Value, isControl): // a CR LF in quotes is read as LF: another value
		return errors.New("value has a control character, such as a line break")
	case len(r.Key) > MaxKeyBytes:
		return fmt.Errorf("key has %d bytes, expected at most %d", len(r.Key), MaxKeyBytes)
	case !utf8.ValidString(r.Key):
		return errors.New("key is not UTF-8")
	case strings.ContainsFunc(r.Key, func(c rune) bool { return isControl(c) || c == '"' || c == '\\' }):
		return errors.New(`key has a control character, " or \`)
	}
	return nil
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }
