package validate

import (
	"testing"
	"time"
)

// Every day of four hundred years, both ends of what a time can be, and every
// field of a time are what package time makes of them.
func TestUnixMilli(t *testing.T) {
	f := func(want time.Time) {
		t.Helper()
		var it Item
		text := want.UTC().Format("2006-01-02T15:04:05.000Z")
		if !parseTime([]byte(text), &it.Time) {
			t.Fatalf("%s is no time", text)
		}
		if got := it.UnixMilli(); got != want.UnixMilli() {
			t.Errorf("%s: %d, want %d", text, got, want.UnixMilli())
		}
	}
	for day := time.Date(1799, 12, 31, 23, 59, 59, 999e6, time.UTC); day.Year() < 2201; day = day.AddDate(0, 0, 1) {
		f(day)
	}
	f(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC))
	f(time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC))
	f(time.Date(2026, 11, 25, 4, 5, 6, 78e6, time.UTC))
}

func TestUnixMilliDoesNotAllocate(t *testing.T) {
	var it Item
	copy(it.Time[:], "2026-11-25T04:05:06.078Z")
	if n := testing.AllocsPerRun(100, func() { it.UnixMilli() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
