// Command syncloss shows what ext4 reports of syncs at the moment in which it
// meets an error and becomes read-only: writers append lines to files of a
// filesystem of their own and sync each, an error is triggered, and after fsck the
// lines are counted whose sync had been reported as done and which are missing.
// No part of the endpoint is in it. It needs root, Linux, and a loop device.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

var line = append(bytes.Repeat([]byte("x"), 1999), '\n')

func main() {
	rounds := flag.Int("rounds", 25, "how often")
	files := flag.Int("files", 4, "how many writers")
	flag.Parse()
	dir, err := os.MkdirTemp("", "syncloss")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	hit, lines := 0, 0
	for i := range *rounds {
		n := round(dir, *files, 200*time.Millisecond+time.Duration(i)*7*time.Millisecond)
		lines += n
		if n > 0 {
			hit++
		}
	}
	fmt.Printf("%d lines are missing that were synced, in %d of %d rounds\n", lines, hit, *rounds)
}

// round returns how many synced lines are missing after an error that comes so
// long after the first line.
func round(dir string, files int, after time.Duration) (missing int) {
	image, mnt := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	must(os.MkdirAll(mnt, 0o700))
	must(os.WriteFile(image, nil, 0o600))
	must(os.Truncate(image, 128<<20))
	run("mkfs.ext4", "-q", "-F", image)
	run("mount", "-o", "loop,errors=remount-ro", image, mnt)
	device := filepath.Base(run("findmnt", "-no", "SOURCE", mnt))
	synced := make([]int, files)
	var writers sync.WaitGroup
	for i := range synced {
		writers.Go(func() { synced[i] = appendLines(file(mnt, i)) })
	}
	time.Sleep(after)
	must(os.WriteFile("/sys/fs/ext4/"+device+"/trigger_fs_error", []byte("syncloss"), 0))
	writers.Wait()
	run("umount", mnt)
	exec.Command("fsck.ext4", "-p", image).Run() // its exit code tells that it mended something
	run("mount", "-o", "loop", image, mnt)
	for i, n := range synced {
		text, err := os.ReadFile(file(mnt, i))
		must(err)
		missing += max(n-bytes.Count(text, line), 0)
	}
	run("umount", mnt)
	return missing
}

func file(mnt string, i int) string { return filepath.Join(mnt, fmt.Sprint(i)) }

// appendLines writes and syncs lines until the first error, and returns of how
// many the sync returned without one.
func appendLines(name string) (synced int) {
	f, err := os.Create(name)
	must(err)
	defer f.Close()
	for ; ; synced++ {
		if _, err := f.Write(line); err != nil {
			return synced
		}
		if f.Sync() != nil {
			return synced
		}
	}
}

func run(args ...string) string {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		log.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
