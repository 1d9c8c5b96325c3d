package corpus

import (
	"fmt"
	"strings"
)

// engageItem is the event of Engage's documents: a page was turned to, or looked at for ten seconds. Their example has
// the same members in the same order; what differs from event to event here is who reads which page of what, and when.
func (g *Generator) engageItem(t *tool) object {
	book := g.below(len(books))
	course := 1 + g.below(400)
	section := course*4 + g.below(4)
	page := 1 + g.below(640)
	customer := "urn:unizin:engage:" + t.customer + ":prod:"
	user := fmt.Sprintf("%suser:%d", customer, 1+g.below(48_000))
	offering := fmt.Sprintf("%sterm:%d:course:%d", customer, 11+g.below(3), course)
	material := fmt.Sprintf("%s:section:%d:class_material:%d", offering, section, 1000+course*3+book%3)
	subject, courseNumber, _ := strings.Cut(books[book].course, " ")
	kind, action := "NavigationEvent", "NavigatedTo"
	if g.chance(0.4) {
		kind, action = "ViewEvent", "Viewed"
	}
	person := object{{"id", user}, {"type", "Person"}}
	return object{
		{"@context", contextV1p1},
		{"id", token{}},
		{"action", action},
		{"actor", person},
		{"eventTime", stamp(g.tick(), 3, "Z")},
		{"federatedSession", object{{"id", "urn:session-id-localized:None"}, {"type", "LtiSession"}, {"user", person}}},
		{"group", object{
			{"academicSession", subject},
			{"courseNumber", courseNumber},
			{"id", fmt.Sprintf("%s:section:%d", offering, section)},
			{"subOrganizationOf", object{
				{"courseNumber", books[book].course}, {"id", offering}, {"type", "CourseOffering"},
			}},
			{"type", "CourseSection"},
		}},
		{"object", object{
			{"dateCreated", stamp(g.before(90), 3, "Z")},
			{"id", fmt.Sprintf("%s:page:%d", material, page)},
			{"isPartOf", object{{"id", material}, {"name", books[book].title}, {"type", "Document"}}},
			{"name", fmt.Sprintf("Page %d", page)},
			{"type", "Page"},
		}},
		{"type", kind},
	}
}

// books are what Engage's customers read, with the course.
var books = [...]struct{ title, course string }{
	{"Introduction to Biology", "BIO 101"},
	{"Principles of Microeconomics", "ECON 2010"},
	{"Organic Chemistry: Structure and Function", "CHEM 245"},
	{"Calculus: Early Transcendentals", "MATH 115"},
	{"University Physics with Modern Physics", "PHYS 160"},
	{"A History of Western Art", "ARTH 1100"},
	{"Statistics for the Behavioral Sciences", "PSY 250"},
	{"Español en Marcha: Gramática y Vocabulario", "SPAN 103"},
	{"Financial Accounting, 11th Edition", "ACCT 211"},
	{"Discrete Mathematics and Its Applications", "CS 2214"},
	{"Campbell's Anatomy & Physiology", "NURS 320"},
	{"Reading \"Ulysses\": A Companion", "ENGL 418"},
}
