package validate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// This file holds the slow twin of the package: the same rules once more, written with encoding/json, maps and
// regular expressions. It shares nothing with the package but the tables of types and actions, which
// TestTablesAreTheVocabulary compares with their source.

// refValid is what contract 1.1, check 8 accepts.
func refValid(body []byte) bool {
	return json.Valid(body) && utf8.Valid(body) && refDepth(body) <= 64
}

func refDepth(body []byte) int {
	depth, deepest := 0, 0
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return deepest
		}
		if err != nil {
			panic(err) // the caller asked json.Valid before
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

type refItem struct {
	faults                Faults
	entity                bool
	kind, action, when    string
	id, actor, edApp, raw string
	oddEdApp              bool
}

type refVerdict struct {
	err    error
	faults Faults
	items  []refItem
}

func refParse(body []byte, opt Options) (v refVerdict) {
	m := refObject(body)
	sensor, sendTime, version, data := m["sensor"], m["sendTime"], m["dataVersion"], m["data"]
	if sensor == nil && sendTime == nil && version == nil && data == nil {
		v.err, v.faults = ErrNotEnvelope, FaultSensor|FaultSendTime|FaultDataVersion|FaultData
		return v
	}
	if s, ok := refString(sensor); !ok || s == "" {
		v.faults |= FaultSensor
	}
	if s, _ := refString(sendTime); refTime(s) == "" {
		v.faults |= FaultSendTime
	}
	if s, _ := refString(version); !refVersion.MatchString(s) {
		v.faults |= FaultDataVersion
	}
	var items []json.RawMessage
	if json.Unmarshal(data, &items) != nil || len(items) == 0 {
		v.faults |= FaultData
	}
	limit := opt.MaxItems
	if limit == 0 {
		limit = 10_000
	}
	tooMany := len(items) > limit
	if tooMany {
		items = nil
	}
	conformant, context := 0, json.RawMessage(nil)
	for _, raw := range items {
		it := refJudge(raw, opt, &context)
		if it.faults == 0 {
			conformant++
		}
		v.items = append(v.items, it)
	}
	switch {
	case v.faults&FaultDataVersion != 0:
		v.err = ErrDataVersion
	case v.faults != 0:
		v.err = ErrEnvelope
	case tooMany:
		v.err = ErrTooManyItems
	case conformant == 0:
		v.err = ErrNoItem
	}
	return v
}

func refJudge(raw json.RawMessage, opt Options, context *json.RawMessage) (it refItem) {
	it.raw = string(raw)
	m := refObject(raw)
	if m == nil {
		it.faults = FaultID | FaultContext | FaultActor | FaultAction | FaultEventTime
		if opt.CheckObject {
			it.faults |= FaultObject
		}
		return it
	}
	it.id, it.actor, it.edApp = refName(m["id"]), refAgent(m["actor"]), refAgent(m["edApp"])
	it.oddEdApp = it.edApp == "" && m["edApp"] != nil
	if it.id == "" {
		it.faults |= FaultID
	}
	if m["@context"] != nil || !opt.InheritContext {
		*context = m["@context"]
	}
	if !refContext(*context) {
		it.faults |= FaultContext
	}
	kind, _ := refString(m["type"])
	if slices.Contains(entityTypes[:], kind) {
		it.kind = kind
		if m["action"] == nil {
			it.entity = true
			return it
		}
	}
	action, _ := refString(m["action"])
	for _, a := range actionAliases {
		if action == a.alias {
			action = a.name
		}
	}
	if slices.Contains(actionNames[:], action) {
		it.action = action
	}
	valid := false
	for _, t := range eventTypes {
		if t.name == kind {
			it.kind = kind
			valid = it.action != "" && (t.name == "Event" || slices.Contains(t.actions, action))
		}
	}
	if !valid {
		it.faults |= FaultAction
	}
	if !refIsAgent(m["actor"]) {
		it.faults |= FaultActor
	}
	s, _ := refString(m["eventTime"])
	if it.when = refTime(s); it.when == "" {
		it.faults |= FaultEventTime
	}
	if opt.CheckObject && !refIsAgent(m["object"]) {
		it.faults |= FaultObject
	}
	return it
}

// refObject is nil for anything but an object; members that are null are left out.
func refObject(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil || m == nil {
		return nil
	}
	for name, value := range m {
		if string(value) == "null" {
			delete(m, name)
		}
	}
	return m
}

func refString(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// refName is raw where it is a non-empty string.
func refName(raw json.RawMessage) string {
	if s, ok := refString(raw); ok && s != "" {
		return string(raw)
	}
	return ""
}

func refAgent(raw json.RawMessage) string {
	if m := refObject(raw); m != nil {
		return refName(m["id"])
	}
	return refName(raw)
}

func refIsAgent(raw json.RawMessage) bool { return refObject(raw) != nil || refName(raw) != "" }

var (
	refVersion   = regexp.MustCompile(`^http://purl\.imsglobal\.org/ctx/caliper/v1p[12]/?\z`)
	refContexts  = regexp.MustCompile(`^https?://purl\.imsglobal\.org/ctx/caliper/(v1p2|v1p1(/(Feedback|ResourceManagement|Search|Survey|ToolLaunch|ToolUse)Profile-extension)?)/?\z`)
	refTimeShape = regexp.MustCompile(`^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):?(\d\d))\z`)
)

func refContext(raw json.RawMessage) bool {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		list = []json.RawMessage{raw}
	}
	return slices.ContainsFunc(list, func(one json.RawMessage) bool {
		s, ok := refString(one)
		return ok && refContexts.MatchString(s)
	})
}

// refTime is rule R8 by way of package time: the time as it is published, or "".
func refTime(s string) string {
	m := refTimeShape.FindStringSubmatch(s)
	if m == nil {
		return ""
	}
	n := make([]int, len(m))
	for i := range m {
		n[i], _ = strconv.Atoi(m[i])
	}
	if n[4] > 23 || n[5] > 59 || n[6] > 60 || n[9] > 23 || n[10] > 59 {
		return ""
	}
	if n[6] == 60 {
		n[6] = 59
	}
	t := time.Date(n[1], time.Month(n[2]), n[3], n[4], n[5], n[6], 0, time.UTC)
	if t.Year() != n[1] || int(t.Month()) != n[2] || t.Day() != n[3] {
		return "" // no such day
	}
	east := time.Duration(n[9])*time.Hour + time.Duration(n[10])*time.Minute
	if m[8] == "-" {
		east = -east
	}
	if t = t.Add(-east); t.Year() < 1 || t.Year() > 9999 {
		return ""
	}
	return fmt.Sprintf("%s.%sZ", t.Format("2006-01-02T15:04:05"), (m[7] + "000")[:3])
}

// difference tells in words where e differs from the reference; empty where it does not.
func difference(e *Envelope, want refVerdict) string {
	if e.Err() != want.err || e.Faults() != want.faults {
		return fmt.Sprintf("envelope: %v, %v; want %v, %v", e.Err(), codes(e.Faults()), want.err, codes(want.faults))
	}
	if len(e.Items()) != len(want.items) {
		return fmt.Sprintf("%d items, want %d", len(e.Items()), len(want.items))
	}
	conformant := 0
	for i, it := range e.Items() {
		got := refItem{it.Faults, it.Entity, it.Type, it.Action, strings.Trim(string(it.Time[:]), "\x00"),
			string(it.ID), string(it.Actor), string(it.EdApp), string(it.Raw), it.OddEdApp}
		if got != want.items[i] {
			return fmt.Sprintf("item %d:\n got %+v\nwant %+v", i, got, want.items[i])
		}
		if it.Faults == 0 {
			conformant++
		}
	}
	if conformant != e.Conformant() {
		return fmt.Sprintf("Conformant() = %d, counted %d", e.Conformant(), conformant)
	}
	return ""
}

// checkExplained fails where violations and faults do not tell the same story.
func checkExplained(t testing.TB, e *Envelope) {
	t.Helper()
	compare := func(where string, f Faults, all []Violation) {
		var got []string
		for _, v := range all {
			got = append(got, v.Code)
			if v.Message == "" || v.Found == "" || !strings.HasPrefix(v.Pointer, "/") || !utf8.ValidString(v.Found) {
				t.Errorf("%s: incomplete violation %+v", where, v)
			}
		}
		if !slices.Equal(got, codes(f)) {
			t.Errorf("%s: violations %v, faults %v", where, got, codes(f))
		}
	}
	compare("envelope", e.Faults(), e.EnvelopeViolations())
	for i, it := range e.Items() {
		compare("item "+strconv.Itoa(i), it.Faults, e.ItemViolations(i))
	}
}

func codes(f Faults) []string { return slices.Collect(f.Codes()) }
