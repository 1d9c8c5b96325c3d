package e2e_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Some tests need what not every machine has. They are skipped where it is
// lacking, in silence unless somebody reads on; with CALIPERTEST_NOSKIP=1 they
// fail, so that what is said to be tested is. With CALIPERTEST_NOSKIP=tools only
// a tool that is not installed is a failure, for machines on which nobody may
// mount a disk.
var noSkip = os.Getenv("CALIPERTEST_NOSKIP")

// needsTools is for a test of which a tool is a part.
func needsTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if noSkip != "" {
				t.Fatalf("needs %s, which is not installed", tool)
			}
			t.Skipf("needs %s, which is not installed", tool)
		}
	}
}

// lacking is for a test that found that this machine, its kernel or this user
// cannot do what it needs.
func lacking(t *testing.T, format string, args ...any) {
	t.Helper()
	if noSkip != "" && noSkip != "tools" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// needsRoot is for a test that mounts a disk of its own.
func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		lacking(t, "needs root")
	}
}

// needsFiles is for a test with so many open files. Go raises its own limit to
// the hard one, here and in the endpoint.
func needsFiles(t *testing.T, files uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < files {
		lacking(t, "a process may have %d open files, and %d are needed: raise the hard limit", limit.Max, files)
	}
}
