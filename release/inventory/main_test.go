package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func TestClassify(t *testing.T) {
	for text, want := range map[string]string{
		"Permission is hereby granted, free of charge,\n  to any person obtaining a copy of":                                                                      "MIT",
		"                  Apache License\n            Version 2.0, January 2004":                                                                                 "Apache-2.0",
		"Licensed under the Apache License, Version 2.0 (the \"License\")":                                                                                        "Apache-2.0",
		"Redistributions in binary form must reproduce the above copyright notice. Neither the name of Google may be used to endorse or promote products derived": "BSD-3-Clause",
		"Redistributions in binary form must reproduce the above copyright notice":                                                                                "BSD-2-Clause",
		"GNU AFFERO GENERAL PUBLIC LICENSE":                                                                                                                       "AGPL-3.0-only",
		"All rights reserved.":                                                                                                                                    "",
	} {
		if got := classify(text); got != want {
			t.Errorf("%.60q is %q, want %q", text, got, want)
		}
	}
}

// build builds a program that is linked with CycloneDX's library, and moves to
// where its go.mod is.
func build(t *testing.T) (binary string) {
	t.Helper()
	t.Chdir("..")
	binary = filepath.Join(t.TempDir(), "inventory")
	if out, err := exec.Command("go", "build", "-o", binary, "./inventory").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

func TestRun(t *testing.T) {
	binary := build(t)
	sbom := filepath.Join(t.TempDir(), "sbom.json")
	var out bytes.Buffer
	if err := run(binary, sbom, &out); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Apache-2.0     github.com/CycloneDX/cyclonedx-go v", "BSD-3-Clause   std go1."} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no line %q in\n%s", line, &out)
		}
	}
	f, err := os.Open(sbom)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(f, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.Metadata.Component.Name != "caliperedge/release" || len(*bom.Components) != 2 {
		t.Errorf("SBOM of %s with %d components", bom.Metadata.Component.Name, len(*bom.Components))
	}
	for _, c := range *bom.Components {
		if len(*c.Licenses) != 1 || !strings.HasPrefix(c.PackageURL, "pkg:golang/") || c.Name != "std" && c.Hashes == nil {
			t.Errorf("component %+v", c)
		}
	}
}

func TestForbiddenLicence(t *testing.T) {
	binary := build(t)
	saved := allowed
	defer func() { allowed = saved }()
	allowed = []string{"BSD-3-Clause"}
	err := run(binary, "", new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), `cyclonedx-go v0.12.0: licence "Apache-2.0"`) {
		t.Errorf("a licence that is not allowed: %v", err)
	}
}
