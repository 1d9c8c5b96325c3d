package validate

import "testing"

func TestIsTerm(t *testing.T) {
	for s, want := range map[string]bool{
		"Person": true, "NavigationEvent": true, "NavigatedTo": true, "http://purl.imsglobal.org/ctx/caliper/v1p1": true,
		"": false, "Mallory": false, "person": false, "http://purl.imsglobal.org/": false, `"`: false,
	} {
		if IsTerm(s) != want {
			t.Errorf("%q: %v, want %v", s, !want, want)
		}
	}
}
