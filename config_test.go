package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// README's table has every setting with its default, and none that is not one.
func TestReadmeTable(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string) // variable → default
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); strings.HasPrefix(line, "| `CALIPER_") && len(cells) == 5 {
			rows[strings.Trim(cells[1], "` ")] = strings.Trim(cells[2], "` ")
		}
	}
	fs := new(config).settings()
	fs.VisitAll(func(f *pflag.Flag) {
		def, ok := rows[envName(f.Name)]
		delete(rows, envName(f.Name))
		want := f.Value.String()
		if list, isList := f.Value.(pflag.SliceValue); isList {
			want = strings.Join(list.GetSlice(), ",")
		}
		if f.Name == "tokens" || f.Name == "tokens-key" || f.Name == "store-bytes" || f.Name == "spool-bytes" {
			return // the default depends on other things
		}
		if !ok || def != want {
			t.Errorf("README.md has %s with default %q (%v), the program %q", envName(f.Name), def, ok, want)
		}
	})
	for name := range rows {
		t.Errorf("README.md has %s, which is no setting", name)
	}
}

func load(t *testing.T, args, environ []string, file string) (*config, []string, error) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "caliper.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	c, _, strangers, err := loadConfig(args, environ, nil)
	return c, strangers, err
}

// manyTopics are so many further topics, a line each.
func manyTopics(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  t%d: {max_bytes: 1MiB}\n", i)
	}
	return b.String()
}

func TestPrecedence(t *testing.T) {
	const file = "listen: 127.0.0.1:3\ndata_dir: from-file\nprefix: from-file\npaths: [/a, /b]\nmax_body_bytes: 1MiB\ntopics:\n  standard: {max_age: 1h, max_bytes: 10%}\n"
	c, strangers, err := load(t,
		[]string{"--listen", "127.0.0.1:1", "rest"},
		[]string{"CALIPER_LISTEN=127.0.0.1:2", "CALIPER_DATA_DIR=from-env", "CALIPER_REQUEST_TIMEOUT=7s", "CALIPER_LISTN=x", "PATH=/bin"}, file)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ name, got, want string }{
		{"flag over variable over file", c.Listen, "127.0.0.1:1"},
		{"variable over file", c.DataDir, "from-env"},
		{"file", c.Prefix, "from-file"},
		{"list in the file", strings.Join(c.Paths, " "), "/a /b"},
		{"duration", c.RequestTimeout.String(), "7s"},
		{"unit", c.MaxBodyBytes.String(), "1MiB"},
		{"default that depends on another setting", c.Tokens, filepath.Join("from-env", "tokens.yaml.age")},
	} {
		if f.got != f.want {
			t.Errorf("%s: %q, want %q", f.name, f.got, f.want)
		}
	}
	if !slices.Equal(strangers, []string{"CALIPER_LISTN"}) {
		t.Errorf("strangers are %q", strangers)
	}
	if c, _, err := load(t, nil, nil, "nats_url: [nats://a:1, nats://b:2]"); err != nil || c.NATSURL != "nats://a:1,nats://b:2" {
		t.Errorf("several addresses: %v", err)
	}
	if c, _, err := load(t, nil, nil, "---\nprefix: a\n---\n"); err != nil || c.Prefix != "a" {
		t.Errorf("an empty document behind: %v", err)
	}
	if set := c.Topics["standard"]; set.MaxAge != time.Hour || set.MaxBytes != "10%" {
		t.Errorf("topic is %+v", set)
	}
}

func TestBadConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		args, environ []string
		file, want    string
	}{
		"flag":              {args: []string{"--budget-bytes", "many"}, want: "budget-bytes"},
		"unknown flag":      {args: []string{"--bugdet"}, want: "bugdet"},
		"variable":          {environ: []string{"CALIPER_DEBUG=perhaps"}, want: `CALIPER_DEBUG: "perhaps", expected on or off`},
		"key":               {file: "\nlisten: 127.0.0.1:1\nbudget_bytes: many", want: `caliper.yaml:3: budget_bytes: "many", expected bytes`},
		"unknown key":       {file: "listne: x", want: "caliper.yaml:1: listne: unknown setting"},
		"flag's spelling":   {file: "data-dir: x", want: "caliper.yaml:1: data-dir: unknown setting"},
		"no mapping":        {file: "- a", want: "expected a mapping"},
		"no YAML, at once":  {file: "a: b: c", want: "caliper.yaml:1: mapping values"},
		"no text":           {file: "a: \x01", want: "caliper.yaml: control characters"},
		"no YAML":           {file: "a: b\nc: [", want: "caliper.yaml:2: did not find"},
		"value is a map":    {file: "listen: {a: b}", want: "caliper.yaml:1: listen: expected a value"},
		"topic's member":    {file: "topics:\n  standard: {max_agee: 1h}", want: "caliper.yaml:2: topic standard: max_agee: unknown setting"},
		"topic's age":       {file: "topics:\n  standard: {max_age: 1ms}", want: `caliper.yaml:2: topic standard: max_age: "1ms", expected a duration of at least 1s`},
		"topic's share":     {file: "topics:\n  standard:\n    max_bytes: 0%", want: `caliper.yaml:3: topic standard: max_bytes: "0%", expected a share`},
		"topic of nothing":  {file: "topics:\n  standard: {max_bytes: 0}", want: `caliper.yaml:2: topic standard: max_bytes: "0", expected more than nothing`},
		"topic, no limit":   {file: "topics:\n  standard: {}\n  live: {max_age: 1h}", want: "caliper.yaml:3: topic live: max_bytes is missing; only standard, enriched,"},
		"topic's name":      {file: "topics:\n  a.b: {max_bytes: 1%}", want: `caliper.yaml:2: a.b: topic "a.b", expected 1 to 32 of A-Z a-z 0-9 _ -`},
		"topic, no mapping": {file: "topics:\n  standard: 1h", want: "caliper.yaml:2: topic standard: expected a mapping"},
		"many topics":       {file: "prefix: a\ntopics:\n" + manyTopics(60), want: "caliper.yaml:2: topics: 65 with those that are always there, expected at most 64"},
		"prefix":            {file: "debug: on\nprefix: a.b", want: `caliper.yaml:2: prefix: "a.b", expected 1 to 32 of A-Z a-z 0-9 _ -`},
		"small budget":      {file: "debug: on\nbudget_bytes: 1MiB", want: "caliper.yaml:2: budget_bytes: 1MiB, expected at least "},
		"budget for bodies": {environ: []string{"CALIPER_MAX_BODY_BYTES=64MiB"}, want: "--budget-bytes: 256MiB, expected at least "},
		"list for one":      {file: "data_dir: [a, b]", want: "caliper.yaml:1: data_dir: expected a value, found a list"},
		"granted name":      {file: "tools:\n  Engage:\n    vocabulary: {actions: {\"A\\nB\": [Done]}}", want: `caliper.yaml:3: tool Engage: vocabulary: type: "A\nB" has a control character`},
		"two documents":     {file: "prefix: a\n---\nprefix: b", want: "caliper.yaml:3: a second document begins here, expected one"},
		"second no YAML":    {file: "prefix: a\n---\nprefix: [", want: "caliper.yaml:3: did not find"},
		"alias":             {file: "paths: &p [/a]\ncors_origins: *p", want: "caliper.yaml:2: *p: aliases are not taken"},
		"rule's alias":      {file: "rules:\n  - {name: a, when: &w {tool: A}, topic: enriched}\n  - {name: b,\n    when: *w, topic: standard}", want: "caliper.yaml:4: *w: aliases are not taken"},
		"tool's member":     {file: "tools:\n  Engage:\n    rejectet: on", want: "caliper.yaml:3: tool Engage: rejectet: unknown setting"},
		"tool's value":      {file: "tools:\n  Engage: {rejected: perhaps}", want: `caliper.yaml:2: tool Engage: rejected: "perhaps", expected on or off`},
		"tool's rate":       {file: "tools:\n  Engage:\n    rate: {requests: fast}", want: `caliper.yaml:3: tool Engage: rate: requests: "fast", expected a number per second`},
		"rate's part":       {file: "tools:\n  Engage:\n    rate: {bursts: 5s}", want: "tool Engage: rate: bursts: unknown setting"},
		"tool twice":        {file: "tools:\n  Engage: {rejected: on}\n  Engage: {rejected: off}", want: "caliper.yaml:3: Engage: set twice"},
		"tool's tie":        {file: "tools:\n  Engage: {ed_app: []}", want: "caliper.yaml:2: tool Engage: ed_app: expected a prefix or a list of them"},
		"tool's sensor":     {file: "tools:\n  Engage: {sensor: {a: b}}", want: "tool Engage: sensor: expected a prefix"},
		"tool's vocabulary": {file: "tools:\n  Engage:\n    vocabulary: {actions: {Person: [Viewed]}}", want: "caliper.yaml:3: tool Engage: vocabulary: Person is a type of entity"},
		"vocabulary's key":  {file: "tools:\n  Engage:\n    vocabulary: {action: {}}", want: "caliper.yaml:3: tool Engage: vocabulary: action: unknown setting, expected contexts or actions"},
		"empty vocabulary":  {file: "tools:\n  Engage:\n    vocabulary: {}", want: "vocabulary: grants nothing"},
		"rule":              {file: "rules:\n  - {name: a, when: {present: id}, also: live}", want: `caliper.yaml:2: rule a: also: unknown topic "live"`},
		"rule's member":     {file: "\nrules:\n  - {name: a, wen: {}}", want: "caliper.yaml:3: rule a: wen: unknown setting"},
		"tie that is null":  {file: "tools:\n  Engage: {ed_app: null}", want: "caliper.yaml:2: tool Engage: ed_app: null, expected a value; leave the key out"},
		"tie that is ~":     {file: "tools:\n  Engage:\n    sensor: ~", want: "caliper.yaml:3: tool Engage: sensor: ~, expected a value"},
		"tie that is empty": {file: "tools:\n  Engage:\n    ed_app:", want: "caliper.yaml:3: tool Engage: ed_app: expected a prefix"},
		"tie with a null":   {file: "tools:\n  Engage: {ed_app: [\"https://a\", null]}", want: "caliper.yaml:2: tool Engage: ed_app: a null in it"},
		"null rate":         {file: "tools:\n  Engage: {rate: null}", want: "caliper.yaml:2: tool Engage: rate: null, expected a value"},
		"null in a rate":    {file: "tools:\n  Engage: {rate: {events: null}}", want: "caliper.yaml:2: tool Engage: rate: events: null, expected a value"},
		"null vocabulary":   {file: "tools:\n  Engage:\n    vocabulary:\n      actions: {OwnEvent: [Viewed]}\n      contexts:", want: "caliper.yaml:5: tool Engage: vocabulary: a null in it"},
		"null action":       {file: "tools:\n  Engage: {vocabulary: {actions: {OwnEvent: [Viewed, null]}}}", want: "caliper.yaml:2: tool Engage: vocabulary: a null in it"},
		"null path":         {file: "paths: [/a, null]", want: "caliper.yaml:1: paths: expected a list of words"},
		"null tool":         {file: "tools:\n  Engage: null", want: "caliper.yaml:2: Engage: null, expected a value"},
		"null tools":        {file: "tools: null", want: "caliper.yaml:1: tools: null, expected a value"},
		"null rules":        {file: "rules: null", want: "caliper.yaml:1: rules: null, expected a value"},
		"null topic":        {file: "topics:\n  standard: ~", want: "caliper.yaml:2: standard: ~, expected a value"},
		"null folder":       {file: "data_dir: null", want: "caliper.yaml:1: data_dir: null, expected a value"},
		"tool's name":       {file: "tools:\n  a b: {rejected: on}", want: `caliper.yaml:2: a b: tool "a b", expected 1 to 64 of A-Z a-z 0-9 _ -`},
		"rule's tool":       {file: "rules:\n  - {name: a, when: {tool: a b}, topic: enriched}", want: `caliper.yaml:2: rule a: tool: tool "a b", expected 1 to 64`},
		"Caliper's own":     {file: "tools:\n  Engage:\n    vocabulary: {contexts: [http://purl.imsglobal.org/ctx/caliper/v1p1/], actions: {ViewEvent: [Viewed]}}", want: "caliper.yaml:3: tool Engage: vocabulary: grants nothing: all of it is Caliper's already"},
		"identifiers":       {file: "identifiers:\n  lti: [{path: a, kind: b}]", want: "caliper.yaml:2: identifiers lti: a set of that name ships with the program"},
		"tools no mapping":  {file: "tools: [Engage]", want: "caliper.yaml:1: expected a mapping"},
		"address":           {environ: []string{"CALIPER_LISTEN=8080"}, want: `CALIPER_LISTEN: "8080", expected host:port`},
		"half of TLS":       {environ: []string{"CALIPER_TLS_CERT=x"}, want: "CALIPER_TLS_CERT: set, but tls-key is not"},
		"NATS scheme":       {environ: []string{"CALIPER_NATS_URL=http://joe:hush@n1:4222"}, want: "CALIPER_NATS_URL: begins with http://, expected nats://, tls://, ws:// or wss://"},
		"NATS password":     {environ: []string{"CALIPER_NATS_URL=nats://n1:4222,nats://joe:hush/word@n2:4222"}, want: "CALIPER_NATS_URL: number 2 of 2 is malformed, expected"},
		"encoding":          {environ: []string{"CALIPER_CONTENT_ENCODING=lz4"}, want: "expected none, snappy or zstd"},
		"replicas embedded": {environ: []string{"CALIPER_REPLICAS=3"}, want: "set nats-url"},
		"path":              {environ: []string{"CALIPER_PATHS=events"}, want: `"events"`},
		"no path":           {environ: []string{"CALIPER_PATHS="}, want: "CALIPER_PATHS: expected at least one path"},
		"no time":           {environ: []string{"CALIPER_REQUEST_TIMEOUT=0"}, want: "CALIPER_REQUEST_TIMEOUT: 0s, expected 500ms to 1m0s"},
		"too much time":     {environ: []string{"CALIPER_REQUEST_TIMEOUT=10m"}, want: "expected 500ms to 1m0s"},
		"negative time":     {environ: []string{"CALIPER_BODY_TIMEOUT=-1s"}, want: "CALIPER_BODY_TIMEOUT: -1s"},
		"no body":           {environ: []string{"CALIPER_MAX_BODY_BYTES=0"}, want: "CALIPER_MAX_BODY_BYTES: 0, expected 1KiB to 1GiB"},
		"tiny store":        {environ: []string{"CALIPER_STORE_BYTES=5"}, want: "CALIPER_STORE_BYTES: 5, expected at least 1MiB"},
		"spool embedded":    {environ: []string{"CALIPER_SPOOL_DIR=x"}, want: "CALIPER_SPOOL_DIR: set, but nats-url is not"},
		"spool in data":     {environ: []string{"CALIPER_NATS_URL=x", "CALIPER_SPOOL_DIR=./data"}, want: `CALIPER_SPOOL_DIR: "./data" is the data folder`},
		"tiny spool":        {environ: []string{"CALIPER_NATS_URL=x", "CALIPER_SPOOL_BYTES=5"}, want: "CALIPER_SPOOL_BYTES: 5, expected at least 16MiB"},
		"streams":           {environ: []string{"CALIPER_NATS_URL=x", "CALIPER_STREAMS=adopt"}, want: `CALIPER_STREAMS: "adopt", expected create or verify`},
		"two credentials":   {environ: []string{"CALIPER_NATS_URL=x", "CALIPER_NATS_CREDS=a", "CALIPER_NATS_NKEY=b"}, want: "CALIPER_NATS_NKEY: set beside nats-creds"},
		"half of client":    {environ: []string{"CALIPER_NATS_URL=x", "CALIPER_NATS_CERT=a"}, want: "CALIPER_NATS_CERT: set, but nats-key is not"},
		"creds embedded":    {environ: []string{"CALIPER_NATS_CREDS=a"}, want: "CALIPER_NATS_CREDS: set, but nats-url is not"},
		"missing file":      {environ: []string{"CALIPER_CONFIG=/nonexistent/x.yaml"}, want: "/nonexistent/x.yaml"},
	} {
		if _, _, err := load(t, c.args, c.environ, c.file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, c.want)
		} else if c.file != "" && !strings.HasPrefix(err.Error(), "/") {
			t.Errorf("%s: words before the file's name: %v", name, err)
		}
	}
}

// What is printed of tools is read as the same again, whatever was left out.
func TestPrintedTools(t *testing.T) {
	const file = `tools:
  A: {vocabulary: {actions: {OwnEvent: [Viewed]}}}
  B: {vocabulary: {contexts: ["https://x"]}, ed_app: ["a\"b", c], sensor: s}
  C: {rate: {}}
  D: {rate: {events: 0.5, burst: 2s}, rejected: off}
  E: {}
`
	var printed [2]strings.Builder
	text := file
	for i := range printed {
		c, _, err := load(t, nil, nil, text)
		if err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		c.printTools(&printed[i])
		text = printed[i].String()
	}
	if printed[0].String() != printed[1].String() {
		t.Errorf("printed\n%s, then\n%s", &printed[0], &printed[1])
	}
}

// A tool's own setting wins over the one for all.
func TestKeepsRejected(t *testing.T) {
	const file = "tools:\n  Silent: {rejected: off}\n  Loud: {rejected: on}\n"
	for variable, want := range map[string]map[string]bool{
		"":                     {"Silent": false, "Loud": true, "Other": true},
		"CALIPER_REJECTED=off": {"Silent": false, "Loud": true, "Other": false},
	} {
		c, _, err := load(t, nil, []string{variable}, file)
		if err != nil {
			t.Fatal(err)
		}
		for tool, keeps := range want {
			if got := c.keepsRejected(tool); got != keeps {
				t.Errorf("%s: keeps what is refused of %s: %v, want %v", variable, tool, got, keeps)
			}
		}
	}
}

func TestLayout(t *testing.T) {
	c := &config{Prefix: "caliper", Replicas: 1, Topics: map[string]topicSetting{
		"standard": {MaxBytes: "40%"}, "urgent": {MaxBytes: "1MiB", MaxAge: time.Hour}}}
	l, err := c.layout(1000 << 20)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, topic := range l.Topics {
		names = append(names, topic.Name)
		if topic.DiscardOld != (topic.Name == "rejected") {
			t.Errorf("%s: DiscardOld %v", topic.Name, topic.DiscardOld)
		}
	}
	if got := strings.Join(names, " "); got != "standard enriched quarantine entities rejected urgent" {
		t.Errorf("topics are %s", got)
	}
	if l.Topics[0].MaxBytes != 400<<20 || l.Topics[0].MaxAge != 30*24*time.Hour || l.Topics[5].MaxAge != time.Hour {
		t.Errorf("layout is %+v", l.Topics)
	}
	for name, c := range map[string]struct {
		topics map[string]topicSetting
		want   string
	}{
		"too much":  {map[string]topicSetting{"standard": {MaxBytes: "60%"}}, "caliper.yaml:7: topics: their byte limits together are 1101004800, expected at most 996147200, 95 % of the store limit of 1048576000: standard 629145600, enriched 262144000,"},
		"bad share": {map[string]topicSetting{"standard": {MaxBytes: "0%"}}, "expected a share"},
		"bad name":  {map[string]topicSetting{"a.b": {MaxBytes: "1KiB"}}, "a.b"},
	} {
		cfg := &config{Prefix: "caliper", Replicas: 1, Topics: c.topics, origin: map[string]string{"topics": "caliper.yaml:7: topics"}}
		if _, err := cfg.layout(1000 << 20); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, c.want)
		}
	}
}

func TestByteSize(t *testing.T) {
	f := func(in string, want int64, text string) {
		t.Helper()
		var v byteSize
		if err := v.Set(in); err != nil || int64(v) != want || v.String() != text {
			t.Errorf("Set(%q) = %v: %d, %s; want %d, %s", in, err, int64(v), &v, want, text)
		}
	}
	f("0", 0, "0")
	f("1000", 1000, "1000")
	f("1024", 1024, "1KiB")
	f("1536KiB", 1536<<10, "1536KiB")
	f("3 GiB", 3<<30, "3GiB")
	f("4TiB", 4<<40, "4TiB")
	for _, bad := range []string{"", "x", "-1", "1.5MiB", "5MB", "99999999TiB"} {
		if err := new(byteSize).Set(bad); err == nil {
			t.Errorf("Set(%q) is accepted", bad)
		}
	}
}
