package edge

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSensors posts bodies written as real sensors write theirs. What is lifted
// out of an event is what it says; the event is kept byte for byte but for line
// breaks.
func TestSensors(t *testing.T) {
	t.Parallel()
	cases := sensorCases()
	files, err := filepath.Glob("testdata/sensors/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if cases[filepath.Base(file)] == nil {
			t.Errorf("%s: no case", file)
		}
	}
	for name, wants := range cases {
		body, err := os.ReadFile(filepath.Join("testdata", "sensors", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range wants {
			t.Run(fmt.Sprintf("%s, %d", name, w.status), func(t *testing.T) {
				t.Parallel()
				cfg := Config{}
				cfg.Validate.InheritContext = w.inherit
				s := serve(t, serving{Config: cfg})
				conn := dial(t, s)
				text := request(testToken, string(body))
				if w.media != "" {
					text = strings.Replace(text, "application/json", w.media, 1)
				}
				if _, err := conn.Write([]byte(text)); err != nil {
					t.Fatal(err)
				}
				a, err := conn.read("POST")
				if err != nil {
					t.Fatal(err)
				}
				if a.StatusCode != w.status {
					t.Errorf("status %d, want %d: %s", a.StatusCode, w.status, a.body)
				}
				checkSensorRecords(t, s.records(t), w.records, body)
			})
		}
	}
}

// sensorCase is what a file of testdata/sensors should get.
type sensorCase struct {
	media   string // Content-Type, application/json where empty
	inherit bool   // Config.Validate.InheritContext
	status  int
	records []string // topic, id, action, eventTime, actor and edApp, - where absent
}

func sensorCases() map[string][]sensorCase {
	return map[string][]sensorCase{
		"php.json": {{status: 200, records: []string{
			"standard urn:uuid:6f6a2e3c-1f0b-4a55-9d5e-0d6f1c7b8a01 EnteredFullScreen 2024-03-05T08:15:29.987Z https://videos.example.edu/users/554433 https://videos.example.edu",
		}}},
		"python.json": {{status: 200, records: []string{
			"standard urn:uuid:0f3a9c52-8a0e-4a5f-8a2d-6b7f0f6f4b02 Submitted 2024-03-05T08:15:29.000Z https://quiz.example.edu/users/12 https://quiz.example.edu",
			"entities https://quiz.example.edu/users/12 - - - -",
		}}},
		"net.json": {
			{media: "application/json; charset=utf-8", status: 202, records: []string{
				"standard urn:uuid:a8d3b7a1-3f0e-4a3c-8f4b-5d0c9b1e0c03 LoggedIn 2024-03-05T08:15:29.765Z https://reader.example.edu/users/31 -",
			}},
			{media: "application/json; charset=utf-8", inherit: true, status: 200, records: []string{
				"standard urn:uuid:a8d3b7a1-3f0e-4a3c-8f4b-5d0c9b1e0c03 LoggedIn 2024-03-05T08:15:29.765Z https://reader.example.edu/users/31 -",
				"standard urn:uuid:a8d3b7a1-3f0e-4a3c-8f4b-5d0c9b1e0c04 Viewed 2024-03-05T08:15:30.000Z https://reader.example.edu/users/31 -",
			}},
		},
		"js.json": {{status: 200, records: []string{
			"standard urn:uuid:3c1f5f7e-93b4-4f6a-a1c9-7e5b2d9f0a05 MarkedAsUnread 2024-03-05T09:15:30.546Z https://forum.example.edu/users/8 https://forum.example.edu",
		}}},
		"ruby.json": {{status: 200, records: []string{
			"standard urn:uuid:11b0d4c7-0f6e-4a2f-9c55-2f6f6a5b7c06 Bookmarked 2024-03-05T08:15:29.000Z https://notes.example.edu/users/2 -",
		}}},
		"blackboard.json": {{status: 202, records: []string{
			"standard 5d1ac0f29b3e4f7ea7d9c1b2a3948507 NavigatedTo 2024-03-05T08:15:29.321Z https://learn.example.edu/users/_91_1 -",
		}}},
		"engage-navigated.json": {{status: 200, records: []string{
			"standard urn:uuid:2f0c3a7d-8b11-4c2e-9d57-61a0e4b9c508 NavigatedTo 2018-10-03T18:21:08.897Z urn:unizin:engage:customer:prod:user:1 -",
		}}},
		"engage-viewed.json": {{status: 200, records: []string{
			"standard urn:uuid:7a6b1c0e-5d42-4be9-8f60-92d3c7e5a109 Viewed 2018-10-03T18:21:18.900Z urn:unizin:engage:customer:prod:user:1 -",
		}}},
		"canvas.json": {{status: 200, records: []string{
			"standard urn:uuid:8d0a4f1b-6c3e-4f8d-9b27-3e1a5c7d9e10 Graded 2024-03-05T08:15:29.900Z urn:instructure:canvas:user:100000000000021 https://canvas.example.edu/",
		}}},
		"strings.json": {{status: 200, records: []string{
			"standard urn:campus:capture:uuid:42 Paused 2024-03-05T08:15:29.999Z https://campus.example/people/#profile:null https://campus.example/capture",
			"standard grade-1 Graded 2024-03-05T08:15:29.999Z a_b_c -",
		}}},
		"extensions.json": {{status: 202, records: []string{
			"standard urn:uuid:5b0e0f8a-2f63-4a8e-8a10-9c1f4d2b6e13 Ranked 2024-03-05T08:15:29.001Z https://survey.example.edu/u/1 -",
			"standard urn:uuid:5b0e0f8a-2f63-4a8e-8a10-9c1f4d2b6e14 Accepted 2024-03-05T08:15:29.002Z https://survey.example.edu/u/1 -",
			"standard urn:uuid:5b0e0f8a-2f63-4a8e-8a10-9c1f4d2b6e15 Modified 2024-03-05T08:15:29.003Z https://survey.example.edu/u/1 -",
		}}},
		"js-quoted-twice.json": {{status: 415}},
		"moodle.json":          {{status: 422}},
	}
}

func checkSensorRecords(t *testing.T, records []record, want []string, body []byte) {
	t.Helper()
	var got []string
	oneLine := []byte(strings.NewReplacer("\n", " ", "\r", " ").Replace(string(body)))
	for _, r := range records {
		fields := []string{r.Topic, r.ID, r.Action, r.EventTime, r.Actor, r.EdApp}
		for i := range fields {
			if fields[i] = strings.ReplaceAll(fields[i], " ", "_"); fields[i] == "" {
				fields[i] = "-"
			}
		}
		got = append(got, strings.Join(fields, " "))
		if !bytes.Contains(oneLine, r.Event) {
			t.Errorf("the stored event is not what was sent: %s", r.Event)
		}
		if r.Tool != testTool {
			t.Errorf("tool %q, want %q", r.Tool, testTool)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("stored\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
