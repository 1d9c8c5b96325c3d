package pipeline

import "testing"

// What was needed at once since the last trim stays, and no more.
func TestFreeListKeepsWhatIsNeeded(t *testing.T) {
	made := 0
	l := freeList[int]{fresh: func() int { made++; return made }}
	use := func(n int) {
		var held []int
		for range n {
			held = append(held, l.get())
		}
		for _, v := range held {
			l.put(v)
		}
	}
	use(5)
	l.trim()
	if len(l.free) != 5 {
		t.Errorf("%d are left of 5 that were needed", len(l.free))
	}
	use(2)
	use(3)
	l.trim()
	if len(l.free) != 3 || made != 5 {
		t.Errorf("%d are left of 3 that were needed, %d made", len(l.free), made)
	}
	l.trim()
	if len(l.free) != 0 {
		t.Errorf("%d are left although none was needed", len(l.free))
	}
}
