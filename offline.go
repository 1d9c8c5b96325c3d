package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"caliperedge/edge"
	"caliperedge/internal/visible"
	"caliperedge/pipeline"
	"caliperedge/pipeline/rules"
	"caliperedge/validate"
)

// offlineTool is whose events files hold unless --tool says otherwise. No rule
// and no tool's setting names it.
const offlineTool = "offline"

// offline is the pipeline of the configuration with nothing behind it.
func (c *config) offline() (*pipeline.Pipeline, error) {
	return pipeline.New(pipeline.Config{Topics: c.topicNames(), Rules: c.Rules,
		MaxEnvelopeBytes: 4 * int64(c.MaxBodyBytes), BudgetBytes: int64(c.BudgetBytes)}, nil, slog.New(slog.DiscardHandler))
}

// toolFlag is the tool whose events the files hold.
func (inv *invocation) toolFlag() (string, error) {
	tool, err := inv.flags.GetString("tool")
	if err == nil {
		err = rules.CheckTool(tool)
	}
	if err != nil {
		err = fmt.Errorf("--tool: %w\n%w", err, errUsage)
	}
	return tool, err
}

// eachFile reads the files of the command line; - is stdin.
func (inv *invocation) eachFile(do func(name string, body []byte) error) error {
	for _, name := range inv.args {
		var body []byte
		var err error
		if name == "-" {
			body, err = io.ReadAll(inv.stdin)
		} else {
			body, err = os.ReadFile(name)
		}
		if err != nil {
			return fmt.Errorf("%w\n%w", err, errUsage) // not 1, which is a verdict
		}
		if err := do(name, body); err != nil {
			return err
		}
	}
	return nil
}

// validateFiles gives each file the verdict that the endpoint would give it as
// a body: it is the endpoint that judges, with nothing behind it.
func validateFiles(inv *invocation) error {
	asJSON, err := inv.flags.GetBool("json")
	if err != nil {
		return err
	}
	tool, err := inv.toolFlag()
	if err != nil {
		return err
	}
	p, err := inv.cfg.offline()
	if err != nil {
		return err
	}
	defer p.Drain(inv.ctx)
	cfg := inv.cfg.edge(nil)
	cfg.Terse = false      // the reasons are what is asked for
	cfg.Rate = edge.Rate{} // nobody is sending
	endpoint, err := edge.New(cfg, nil, p, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	conforms := true
	err = inv.eachFile(func(name string, body []byte) error {
		status, answer := endpoint.Judge(tool, body)
		conforms = conforms && status == 200
		if asJSON {
			_, err := fmt.Fprintf(inv.stdout, "%s\n", answer)
			return err
		}
		return report(inv.stdout, name, status, answer)
	})
	if err == nil && !conforms {
		return errNonConformant
	}
	return err
}

// report prints a verdict for people.
func report(w io.Writer, name string, status int, text []byte) error {
	var a edge.DebugAnswer
	if err := json.Unmarshal(text, &a); err != nil {
		return fmt.Errorf("%s: verdict: %w", name, err)
	}
	if a.Message != "" {
		fmt.Fprintf(w, "%s: %d %s\n", name, status, a.Message)
		if a.Detail != nil {
			fmt.Fprintf(w, "  %s\n", visible.Text(a.Detail.String()))
		}
		return nil
	}
	least := ""
	if a.Truncated {
		least = "at least "
	}
	fmt.Fprintf(w, "%s: %d, %s%d conformant, %s%d not\n", name, status, least, len(a.Accepted), least, len(a.Errors.Events))
	for i, message := range a.Errors.Envelope {
		fmt.Fprintf(w, "  envelope: %s\n    %s\n", message, visible.Text(a.Errors.EnvelopeDetails[i].String()))
	}
	for _, e := range a.Errors.Events {
		fmt.Fprintf(w, "  item %d, id %s\n", e.Index, visible.Text(string(e.ID)))
		for i, message := range e.Errors {
			fmt.Fprintf(w, "    %s\n      %s\n", message, visible.Text(e.Details[i].String()))
		}
	}
	if a.Truncated {
		fmt.Fprintln(w, "  and more, not listed")
	}
	return nil
}

// routed is where an item goes, and why.
type routed struct {
	File  string          `json:"file"`
	Index int             `json:"index"`
	ID    json.RawMessage `json:"id"`
	// Topics are none where the item does not conform, and then Faults say why.
	Topics []string `json:"topics"`
	Faults []string `json:"faults,omitempty"`
	pipeline.Explanation
	// Awaits are the kinds whose keys decide between quarantine and enriched:
	// offline nobody knows them.
	Awaits []string `json:"awaits,omitempty"`
}

// routeFiles tells where the events of files would go. A file holds an envelope,
// an event, a list of events, or one event or envelope a line.
func routeFiles(inv *invocation) error {
	asJSON, err := inv.flags.GetBool("json")
	if err != nil {
		return err
	}
	tool, err := inv.toolFlag()
	if err != nil {
		return err
	}
	p, err := inv.cfg.offline()
	if err != nil {
		return err
	}
	defer p.Drain(inv.ctx)
	sensor := offlineTool
	if tied := inv.cfg.Tools[tool].Sensor; tied != nil {
		sensor = tied[0] // an event without an envelope is taken for its tool's
	}
	conforms := true
	err = inv.eachFile(func(name string, body []byte) error {
		index := 0
		for _, envelope := range inv.cfg.envelopesIn(body, sensor) {
			if most := int(inv.cfg.MaxBodyBytes); envelope.own && len(envelope.text) > most {
				return fmt.Errorf("%s:%d: envelope of %d bytes, the endpoint takes at most %d", name, envelope.line, len(envelope.text), most)
			}
			err := inv.cfg.routeEnvelope(p, tool, envelope.text, func(r routed) error {
				r.File, r.Index = name, index
				index++
				conforms = conforms && r.Topics != nil
				if asJSON {
					return json.NewEncoder(inv.stdout).Encode(r)
				}
				return r.print(inv.stdout)
			})
			if err != nil {
				return fmt.Errorf("%s:%d: %w", name, envelope.line, err)
			}
		}
		return nil
	})
	if err == nil && !conforms {
		return errNonConformant
	}
	return err
}

// routeEnvelope calls do with each item of an envelope.
func (c *config) routeEnvelope(p *pipeline.Pipeline, tool string, body []byte, do func(routed) error) error {
	env, err := validate.Parse(body, c.validateOptions(tool))
	if err != nil {
		return err
	}
	defer env.Release()
	if err := env.Err(); err != nil && err != validate.ErrNoItem {
		return err
	}
	receipt, err := p.Route(env, tool, time.Now())
	if err != nil {
		return err
	}
	defer receipt.Release()
	for i := range env.Items() {
		it := &env.Items()[i]
		r := routed{ID: it.ID}
		if it.ID == nil {
			r.ID = json.RawMessage("null")
		}
		for code := range it.Faults.Codes() {
			r.Faults = append(r.Faults, code)
		}
		for place := range receipt.Routes()[i].All {
			r.Topics = append(r.Topics, p.Topics()[place])
		}
		if it.Faults == 0 {
			r.Explanation = p.Explain(env, tool, i)
			var adds struct{ Awaits []string }
			if r.Adds != nil && json.Unmarshal(r.Adds, &adds) == nil {
				r.Awaits = adds.Awaits
			}
		}
		if err := do(r); err != nil {
			return err
		}
	}
	return nil
}

// print tells people.
func (r *routed) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: item %d, id %s: ", r.File, r.Index, visible.Text(string(r.ID)))
	if r.Topics == nil {
		fmt.Fprintf(&b, "not accepted, at fault: %s\n", strings.Join(r.Faults, ", "))
		_, err := io.WriteString(w, b.String())
		return err
	}
	fmt.Fprintln(&b, strings.Join(r.Topics, ", "))
	switch {
	case r.Rule != "":
		fmt.Fprintf(&b, "  by rule %s\n", r.Rule)
	case r.Nearest != "":
		fmt.Fprintf(&b, "  by no rule; nearest is %s, but for: %s\n", r.Nearest, visible.Text(r.Failed))
	case r.Failed != "":
		fmt.Fprintf(&b, "  because it fails: %s\n", visible.Text(r.Failed))
	}
	if r.CopiedBy != nil {
		fmt.Fprintf(&b, "  copied by rule %s\n", strings.Join(r.CopiedBy, ", "))
	}
	if r.Awaits != nil {
		fmt.Fprintf(&b, "  the keymap is not known here: enriched instead of quarantine where it has keys of the kinds %s\n", strings.Join(r.Awaits, ", "))
	}
	if r.Adds != nil {
		fmt.Fprintf(&b, "  its record gains %s\n", visible.Text(string(r.Adds)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
