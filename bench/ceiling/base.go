//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// revision is one that embedded is compared with: as the flag has it, its commit, and what git describe calls it.
type revision struct{ given, commit, name string }

// findRevision looks a revision up in the checkout at root.
func findRevision(root, given string) (r revision, err error) {
	r.given = given
	if r.commit, err = git(root, "rev-parse", "--verify", given+"^{commit}"); err == nil {
		r.name, err = git(root, "describe", "--always", r.commit)
	}
	return r, err
}

// git runs git in a folder and returns what it says.
func git(dir string, args ...string) (string, error) {
	cmd := own(exec.Command("git", args...))
	cmd.Dir = dir
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w\n%s", args[0], err, &complaint)
	}
	return strings.TrimSpace(string(out)), nil
}

// withBase returns the rows with base beside embedded.
func withBase(rows []row) ([]row, error) {
	rows = slices.Clone(rows)
	found := false
	for i := range rows {
		if at := slices.Index(rows[i].subjects, embedded); at >= 0 {
			rows[i].subjects = slices.Insert(slices.Clone(rows[i].subjects), at+1, base)
			found = true
		}
	}
	if !found {
		return nil, errors.New("none of the rows has embedded, which it would stand beside")
	}
	return rows, nil
}

// buildBase builds the endpoint of the other revision and starts it once: a revision that cannot be measured is found
// before all is measured but that. Its source is in a worktree that is there only meanwhile.
func (b *bench) buildBase(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("base %s: %w", b.base.given, err)
		}
	}()
	tree := filepath.Join(b.folder, "base")
	// Not ended by ctx: git would leave half a worktree behind.
	if _, err := git(b.root, "worktree", "add", "--quiet", "--detach", tree, b.base.commit); err != nil {
		return err
	}
	err = b.goBuild(ctx, tree, base.program(), b.endpointBuild()...)
	if _, removed := git(b.root, "worktree", "remove", "--force", tree); err != nil || removed != nil {
		return errors.Join(err, removed)
	}
	dir, err := os.MkdirTemp(b.folder, "data-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	e, err := b.startEdge(base, plainTool, dir)
	if err != nil {
		return err
	}
	return e.stop()
}

// compareBase sets what is relative to base, if base was measured.
func (s sample) compareBase(base sample, r row) {
	if !strings.HasPrefix(r.generator, half) && base[requestRate] > 0 {
		s[baseShare] = s[requestRate] / base[requestRate]
	}
	if base[serversMicros] > 0 { // wrk does not tell
		s[baseMicros] = s[serversMicros] / base[serversMicros]
	}
}
