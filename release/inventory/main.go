// Command inventory says what a built program is made of: its modules with
// their licences, which must be known and allowed, and as an SBOM in CycloneDX.
// It is run where the program's go.mod is, with the modules in the cache.
//
//	inventory [-sbom FILE] BINARY
package main

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// allowed are the licences under which a linked module may stand, by SPDX: all
// of them permit use beside Apache-2.0 without conditions but notices.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}

// phrases tell a licence by what only it says, in lower case with single
// blanks. The first that fits counts.
var phrases = []struct{ id, phrase string }{
	{"AGPL-3.0-only", "gnu affero general public license"},
	{"LGPL-3.0-only", "gnu lesser general public license"},
	{"GPL-3.0-only", "gnu general public license"},
	{"MPL-2.0", "mozilla public license"},
	{"Apache-2.0", "apache license version 2.0"},
	{"MIT", "permission is hereby granted, free of charge, to any person obtaining a copy"},
	{"ISC", "permission to use, copy, modify, and/or distribute this software for any purpose"},
	{"BSD-3-Clause", "may be used to endorse or promote products derived"},
	{"BSD-2-Clause", "redistributions in binary form must reproduce the above copyright notice"},
}

// module is one that is linked into the program.
type module struct {
	debug.Module
	licence string // SPDX, or empty where it is not known
}

func main() {
	sbom := flag.String("sbom", "", "write an SBOM to this file")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *sbom, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "inventory:", err)
		os.Exit(1)
	}
}

func run(binary, sbom string, out io.Writer) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	modules, err := inspect(info)
	if err != nil {
		return err
	}
	var faults []error
	for _, m := range modules {
		fmt.Fprintf(out, "%-14s %s %s\n", m.licence, m.Path, m.Version)
		if !slices.Contains(allowed, m.licence) {
			faults = append(faults, fmt.Errorf("%s %s: licence %q, expected one of %s", m.Path, m.Version, m.licence, strings.Join(allowed, ", ")))
		}
	}
	if err := errors.Join(faults...); err != nil || sbom == "" {
		return err
	}
	f, err := os.Create(sbom)
	if err != nil {
		return err
	}
	err = cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).Encode(describe(info, modules))
	return errors.Join(err, f.Close())
}

// inspect finds the licences of the modules, and of Go itself, which is linked
// too.
func inspect(info *buildinfo.BuildInfo) ([]module, error) {
	modules := []module{{Module: debug.Module{Path: "std", Version: info.GoVersion}}}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	if modules[0].licence, err = licenceOf(strings.TrimSpace(string(root))); err != nil {
		return nil, err
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		line, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", m.Path).Output()
		dir := strings.TrimSpace(string(line))
		if err != nil || dir == "" {
			return nil, fmt.Errorf("%s %s is not in the module cache: %w", m.Path, m.Version, err)
		}
		licence, err := licenceOf(dir)
		if err != nil {
			return nil, err
		}
		modules = append(modules, module{*m, licence})
	}
	return modules, nil
}

// licenceOf reads the licence in a folder. Several files that say different
// things are not known.
func licenceOf(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	found := ""
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || !strings.HasPrefix(name, "LICENSE") && !strings.HasPrefix(name, "LICENCE") && !strings.HasPrefix(name, "COPYING") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		id := classify(string(text))
		if found != "" && id != found {
			return "", nil
		}
		found = id
	}
	return found, nil
}

// classify tells a licence by its text; empty where it is none of the phrases'.
func classify(text string) string {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	text = strings.ReplaceAll(text, "apache license, version", "apache license version")
	for _, p := range phrases {
		if strings.Contains(text, p.phrase) {
			return p.id
		}
	}
	return ""
}

// describe is the SBOM. Nothing in it depends on when or where it is made.
func describe(info *buildinfo.BuildInfo, modules []module) *cdx.BOM {
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	bom := cdx.NewBOM()
	main := component(module{Module: debug.Module{Path: info.Main.Path, Version: settings["vcs.revision"]}, licence: "Apache-2.0"})
	main.Type = cdx.ComponentTypeApplication
	var properties []cdx.Property
	for _, key := range []string{"GOOS", "GOARCH", "CGO_ENABLED", "vcs.revision", "vcs.time", "vcs.modified"} {
		properties = append(properties, cdx.Property{Name: "caliperedge:build:" + key, Value: settings[key]})
	}
	main.Properties = &properties
	bom.Metadata = &cdx.Metadata{Component: &main, Timestamp: settings["vcs.time"]}
	var components []cdx.Component
	var refs []string
	for _, m := range modules {
		components = append(components, component(m))
		refs = append(refs, components[len(components)-1].BOMRef)
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	return bom
}

func component(m module) cdx.Component {
	purl := "pkg:golang/" + m.Path + "@" + m.Version
	c := cdx.Component{
		BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: purl,
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: m.licence}}},
	}
	// h1: is the SHA-256 of a list of the module's files.
	if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(sum) > 0 {
		c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
	}
	return c
}
