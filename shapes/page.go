package shapes

import (
	_ "embed"
	"html/template"
	"io"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// WriteHTML writes r as one page that needs nothing else: no script, no font,
// no network.
func (r *Report) WriteHTML(w io.Writer) error { return page.Execute(w, r.shown()) }
