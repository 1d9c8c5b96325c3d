package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"caliperedge/pipeline"
	"caliperedge/validate"

	"github.com/valyala/fasthttp"
)

// errorBodies is the table of the contract, section 1.2.
var errorBodies = []struct {
	status   int
	phrase   string
	messages []string
}{
	{400, "Bad Request", []string{"Caliper envelope is non-conformant.", "No event in the Caliper envelope is conformant.", "Body is not a Caliper envelope.", "Malformed HTTP request."}},
	{401, "Unauthorized", []string{"Bearer token missing or not recognized"}},
	{404, "Not Found", []string{"No endpoint at this path."}},
	{405, "Method Not Allowed", []string{"Events are sent by POST."}},
	{408, "Request Timeout", []string{"Request timed out."}},
	{413, "Content Too Large", []string{"Body exceeds N bytes.", "Event at index I exceeds N bytes.", "Envelope exceeds N items.", "Records of this envelope exceed N bytes."}},
	{415, "Unsupported Media Type", []string{"application/json payload expected."}},
	{422, "Unprocessable Content", []string{"Caliper envelope dataVersion is non-conformant."}},
	{429, "Too Many Requests", []string{"Rate limit of this tool exceeded."}},
	{431, "Request Header Fields Too Large", []string{"Request header too large."}},
	{500, "Internal Server Error", []string{"Unexpected error."}},
	{503, "Service Unavailable", []string{"Events cannot be stored now.", "Store is full.", "Shutting down.", "Too much in flight."}},
}

// TestRefusals compares the one table of answers with the contract: every
// constant has a row, every row is in the contract, and the other way round.
func TestRefusals(t *testing.T) {
	t.Parallel()
	constants := constantsOf(t, "answer.go", "refusal")
	if len(constants) != len(refusals) {
		t.Fatalf("%d constants of type refusal and %d rows: %v", len(constants), len(refusals), constants)
	}
	used := map[string]bool{}
	reasons := map[string]string{}
	for r := accepted + 1; int(r) < len(refusals); r++ {
		row, name := refusals[r], constants[r]
		i := slices.IndexFunc(errorBodies, func(b struct {
			status   int
			phrase   string
			messages []string
		}) bool {
			return b.status == row.status && b.phrase == row.phrase && slices.Contains(b.messages, row.message)
		})
		if i < 0 {
			t.Errorf("%s: %d %q %q is not in the contract", name, row.status, row.phrase, row.message)
		}
		used[fmt.Sprint(row.status, row.message)] = true
		if row.retry != (row.status == 503 || row.status == 429) {
			t.Errorf("%s: Retry-After %v", name, row.retry)
		}
		if other := reasons[row.reason]; other != "" || row.reason == "" {
			t.Errorf("%s: reason %q is that of %q too", name, row.reason, other)
		}
		reasons[row.reason] = name
		checkRefusal(t, r, name)
	}
	for _, b := range errorBodies {
		for _, message := range b.messages {
			if !used[fmt.Sprint(b.status, message)] {
				t.Errorf("no row for %d %q", b.status, message)
			}
		}
	}
}

// checkRefusal writes the answer of a row.
func checkRefusal(t *testing.T, r refusal, name string) {
	var ctx fasthttp.RequestCtx
	writeRefusal(&ctx, refused{refusal: r, limit: 12, index: 3}, []byte(`{"code":"c"}`))
	row := refusals[r]
	var body struct {
		Error, Message string
		Detail         struct{ Code string }
	}
	if err := json.Unmarshal(ctx.Response.Body(), &body); err != nil {
		t.Fatalf("%s: %v: %s", name, err, ctx.Response.Body())
	}
	message := strings.NewReplacer(" N ", " 12 ", " I ", " 3 ").Replace(row.message)
	if ctx.Response.StatusCode() != row.status || body.Error != row.phrase || body.Message != message || body.Detail.Code != "c" {
		t.Errorf("%s: %d %s", name, ctx.Response.StatusCode(), ctx.Response.Body())
	}
	if line, want := string(ctx.Response.Header.Header()), fmt.Sprintf("HTTP/1.1 %d %s\r\n", row.status, row.phrase); !strings.HasPrefix(line, want) {
		t.Errorf("%s: status line %q, want %q", name, line[:min(len(line), 50)], want)
	}
	if retry := len(ctx.Response.Header.Peek("Retry-After")) > 0; retry != row.retry {
		t.Errorf("%s: Retry-After %v", name, retry)
	}
}

// TestRefusalOf knows the answer to every error of package validate and
// pipeline. A new one fails the test until it is decided what to answer.
func TestRefusalOf(t *testing.T) {
	t.Parallel()
	want := map[string]struct {
		err error
		refusal
	}{
		"validate.ErrNotEnvelope":    {validate.ErrNotEnvelope, notEnvelope},
		"validate.ErrDataVersion":    {validate.ErrDataVersion, badDataVersion},
		"validate.ErrEnvelope":       {validate.ErrEnvelope, badEnvelope},
		"validate.ErrTooManyItems":   {validate.ErrTooManyItems, tooManyItems},
		"validate.ErrNoItem":         {validate.ErrNoItem, noConformantItem},
		"pipeline.ErrStoreFull":      {pipeline.ErrStoreFull, storeFull},
		"pipeline.ErrRefused":        {pipeline.ErrRefused, unavailable},
		"pipeline.ErrUnavailable":    {pipeline.ErrUnavailable, unavailable},
		"pipeline.ErrUnacknowledged": {pipeline.ErrUnacknowledged, unavailable},
		"pipeline.ErrFrozen":         {pipeline.ErrFrozen, unavailable},
		"pipeline.ErrBusy":           {pipeline.ErrBusy, tooMuchInFlight},
		"pipeline.ErrClosed":         {pipeline.ErrClosed, shuttingDown},
	}
	found := append(sentinelsOf(t, "validate"), sentinelsOf(t, "pipeline")...)
	for _, name := range found {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is new: decide in answer.go what to answer, and tell it to this test", name)
		}
	}
	if len(found) < len(want) {
		t.Errorf("found only %v", found)
	}
	for name, w := range want {
		if got := refusalOf(w.err); got != w.refusal {
			t.Errorf("%s: %q, want %q", name, refusals[got].reason, refusals[w.refusal].reason)
		}
		if strings.HasPrefix(name, "pipeline.") {
			if got := refusalOf(fmt.Errorf("topic standard: %w: %w", w.err, errors.New("cause"))); got != w.refusal {
				t.Errorf("%s, wrapped: %q, want %q", name, refusals[got].reason, refusals[w.refusal].reason)
			}
		}
	}
	for _, c := range []struct {
		err  error
		want refusal
	}{
		{nil, accepted},
		{&pipeline.TooLargeError{Index: 0, Limit: 1}, recordTooLarge},
		{&pipeline.TooLargeError{Index: -1, Limit: 1}, recordsTooLarge},
		{errors.New("pipeline: store is full"), unexpected}, // not the error of that text
	} {
		if got := refusalOf(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, refusals[got].reason, refusals[c.want].reason)
		}
	}
	if status := refusals[unexpected].status; status != 500 {
		t.Errorf("an unknown error is answered %d", status)
	}
}

// sentinelsOf lists the exported errors of a package of this module: variables
// whose names begin with Err.
func sentinelsOf(t *testing.T, pkg string) []string {
	t.Helper()
	var names []string
	for _, file := range parseFolder(t, filepath.Join("..", pkg)) {
		for _, decl := range file.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.VAR {
				continue
			}
			for _, spec := range d.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, pkg+"."+name.Name)
					}
				}
			}
		}
	}
	return names
}

func parseFolder(t *testing.T, folder string) []*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no Go files in %s: %v", folder, errors.Join(err, fs.ErrNotExist))
	}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// constantsOf lists, in order, the constants of the block of file whose first
// one has the type.
func constantsOf(t *testing.T, file, typeName string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range f.Decls {
		d, ok := decl.(*ast.GenDecl)
		if !ok || d.Tok != token.CONST {
			continue
		}
		if ident, ok := d.Specs[0].(*ast.ValueSpec).Type.(*ast.Ident); !ok || ident.Name != typeName {
			continue
		}
		var names []string
		for _, spec := range d.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				names = append(names, name.Name)
			}
		}
		return names
	}
	t.Fatalf("no constants of type %s in %s", typeName, file)
	return nil
}

// TestJudge gives offline the answer that the same body gets in debug.
func TestJudge(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{Config: Config{MaxBodyBytes: 8192}})
	c := dial(t, s)
	for _, body := range []string{
		envelope(event(1)), envelope(event(1), badEvent(2), entity(3)), envelope(badEvent(1)), envelope(),
		`{}`, `[]`, ``, `{"sensor":`, envelope(events(30)...), `{"dataVersion":"v0"}`,
	} {
		online := c.exchange(t, body, "X-DEBUG: TRUE")
		status, answer := s.Judge(testTool, []byte(body))
		if status != online.StatusCode || string(answer) != online.body {
			t.Errorf("%.60s: offline %d %s\nonline %d %s", body, status, answer, online.StatusCode, online.body)
		}
	}
	if n := len(s.records(t)); n != 0 {
		t.Errorf("%d records are stored", n)
	}
}

// TestDebugLists stops listing at 100 faulty and 1,000 accepted events.
func TestDebugLists(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{})
	c := dial(t, s)
	for _, n := range []struct{ faulty, conformant int }{{100, 1000}, {101, 1}, {0, 1001}, {100, 1001}, {101, 0}, {3000, 3000}} {
		var items []string
		for i := range max(n.faulty, n.conformant) {
			if i < n.faulty {
				items = append(items, badEvent(i))
			}
			if i < n.conformant {
				items = append(items, event(i))
			}
		}
		a := c.exchange(t, envelope(items...), "X-DEBUG: TRUE")
		var v DebugAnswer
		if err := json.Unmarshal([]byte(a.body), &v); err != nil {
			t.Fatal(err)
		}
		truncated := n.faulty > 100 || n.conformant > 1000
		if len(v.Errors.Events) != min(n.faulty, 100) || len(v.Accepted) != min(n.conformant, 1000) || v.Truncated != truncated {
			t.Errorf("%+v: %d faulty and %d accepted events listed, truncated %v", n, len(v.Errors.Events), len(v.Accepted), v.Truncated)
		}
		if !truncated && strings.Contains(a.body, "truncated") {
			t.Errorf("%+v: %.100s", n, a.body)
		}
	}
}
