package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"caliperedge/edge"
	"caliperedge/pipeline/rules"
	"caliperedge/validate"

	"go.yaml.in/yaml/v3"
)

// toolSetting is what the configuration file says of one tool. What it leaves
// out is nil, and then the setting for all tools holds.
type toolSetting struct {
	// Rejected tells whether what is refused of the tool is kept.
	Rejected *bool
	// EdApp and Sensor are the prefixes that the tool is tied to.
	EdApp, Sensor []string
	// Vocabulary is what the tool is granted beyond Caliper's.
	Vocabulary *validate.Vocabulary
	// Rate is what the tool may send; what is zero of it has no bound.
	Rate *edge.Rate
}

// readTools reads the settings of tools.
func (c *config) readTools(n *yaml.Node) error {
	c.Tools = make(map[string]toolSetting)
	return eachKey(n, c.File, "", func(tool, settings *yaml.Node) error {
		var t toolSetting
		if err := rules.CheckTool(tool.Value); err != nil {
			return err
		}
		subject := "tool " + tool.Value
		err := eachKey(settings, c.File, subject, func(key, value *yaml.Node) error {
			if key.Value == "rate" {
				t.Rate = new(edge.Rate)
				return eachKey(value, c.File, subject+": rate", func(part, value *yaml.Node) error { return readRate(t.Rate, part.Value, value.Value) })
			}
			return t.read(key.Value, value)
		})
		c.Tools[tool.Value] = t
		return err
	})
}

// read takes one setting of a tool.
func (t *toolSetting) read(key string, value *yaml.Node) (err error) {
	switch key {
	case "rejected":
		if value.Kind != yaml.ScalarNode {
			return errors.New("expected on or off")
		}
		var keep onOff
		if err := keep.Set(value.Value); err != nil {
			return err
		}
		t.Rejected = (*bool)(&keep)
		return nil
	case "ed_app":
		t.EdApp, err = readPrefixes(value)
		return err
	case "sensor":
		t.Sensor, err = readPrefixes(value)
		return err
	case "vocabulary":
		t.Vocabulary, err = readVocabulary(value)
		return err
	}
	return errUnknownSetting
}

// readRate takes one part of a tool's rate.
func readRate(r *edge.Rate, part, value string) (err error) {
	perSecond := func(to *float64) error {
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !(n >= 0) || math.IsInf(n, 1) {
			return fmt.Errorf("%q, expected a number per second, 0 for no bound", value)
		}
		*to = n
		return nil
	}
	switch part {
	case "requests":
		return perSecond(&r.Requests)
	case "events":
		return perSecond(&r.Events)
	case "burst":
		if r.Burst, err = time.ParseDuration(value); err != nil || r.Burst < time.Second {
			return fmt.Errorf("%q, expected a duration of at least 1s", value)
		}
		return nil
	}
	return errUnknownSetting
}

// rate is what each tool may send that has no rate of its own.
func (c *config) rate() edge.Rate {
	return edge.Rate{Requests: c.RateRequests, Events: c.RateEvents, Burst: c.RateBurst}
}

// rates are those of single tools.
func (c *config) rates() map[string]edge.Rate {
	rates := make(map[string]edge.Rate)
	for name, t := range c.Tools {
		if t.Rate != nil {
			rates[name] = *t.Rate
		}
	}
	return rates
}

// keepsRejected tells whether what is refused of a tool is kept.
func (c *config) keepsRejected(tool string) bool {
	if own := c.Tools[tool].Rejected; own != nil {
		return *own
	}
	return bool(c.Rejected)
}

// printTools prints the settings of tools as the file would have them.
func (c *config) printTools(w io.Writer) {
	if len(c.Tools) > 0 {
		fmt.Fprintln(w, "tools:")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Tools)) {
		t := c.Tools[name]
		var set []string
		if t.Rejected != nil {
			set = append(set, "rejected: "+(*onOff)(t.Rejected).String())
		}
		if r := t.Rate; r != nil {
			rate := fmt.Sprintf("requests: %v, events: %v", r.Requests, r.Events)
			if r.Burst > 0 {
				rate += fmt.Sprintf(", burst: %v", r.Burst)
			}
			set = append(set, "rate: {"+rate+"}")
		}
		set = append(set, t.printRouting()...)
		fmt.Fprintf(w, "  %q: {%s}\n", name, strings.Join(set, ", "))
	}
}
