package corpus

import "fmt"

func (s *scene) person() object {
	id := fmt.Sprintf("%s/users/%d", s.base, s.user)
	if s.app.host == "canvas" {
		id = fmt.Sprintf("urn:instructure:canvas:user:%d", 100_000_000_000_000+s.user)
	}
	return object{{"id", id}, {"type", "Person"}}
}

func (s *scene) sectionID() string {
	return fmt.Sprintf("%s/courses/%d/sections/%d", s.base, s.course, s.section)
}

// entity is an entity of a type, with the members that matter for it.
func (s *scene) entity(kind string) object {
	id := fmt.Sprintf("%s/courses/%d/%s/%d", s.base, s.course, path(kind), 1+s.below(20_000))
	e := object{{"id", id}, {"type", kind}}
	switch kind {
	case "Person":
		return append(s.person(), member{"name", s.name()}, member{"dateCreated", stamp(s.before(900), 3, "Z")})
	case "CourseSection":
		e.set("id", s.sectionID())
		e.set("courseNumber", fmt.Sprintf("%s %d-%02d", subjects[s.course%len(subjects)], 100+s.course%400, s.section))
		e.set("academicSession", "Fall 2026")
		e.set("name", s.title())
	case "SoftwareApplication":
		e = object{{"id", s.base}, {"type", kind}, {"name", s.app.name}, {"version", "2026." + s.count(12)}}
	case "Session":
		e.set("user", s.person())
		e.set("startedAtTime", stamp(s.before(1), 3, "Z"))
	case "Membership":
		e.set("member", s.person().get("id"))
		e.set("organization", s.sectionID())
		e.set("roles", list{"Learner"})
		e.set("status", "Active")
	case "VideoObject", "AudioObject":
		e.set("name", s.title())
		e.set("mediaType", map[string]string{"VideoObject": "video/mp4", "AudioObject": "audio/ogg"}[kind])
		e.set("duration", s.duration())
		e.set("version", "1."+s.count(9))
	case "Assessment", "AssignableDigitalResource", "Questionnaire", "Survey", "SurveyInvitation":
		e.set("name", s.title())
		e.set("dateToActivate", stamp(s.before(20), 3, "Z"))
		e.set("dateToSubmit", stamp(s.clock.AddDate(0, 0, 7), 3, "Z"))
		e.set("maxAttempts", 1+s.below(3))
		e.set("maxScore", s.decimal(100, 1))
	case "AssessmentItem", "QuestionnaireItem":
		e.set("name", s.title())
		e.set("isPartOf", s.base+"/assessments/"+s.count(4000))
		e.set("maxScore", s.decimal(5, 1))
		e.set("isTimeDependent", s.chance(0.2))
	default:
		s.more(&e, kind)
	}
	return e
}

// more has the types that events make, and the plain ones.
func (s *scene) more(e *object, kind string) {
	attempt := object{
		{"id", s.base + "/attempts/" + s.hex(24)}, {"type", "Attempt"}, {"assignee", s.person().get("id")},
		{"count", 1 + s.below(3)}, {"startedAtTime", stamp(s.before(1), 3, "Z")},
	}
	switch kind {
	case "Attempt":
		*e = append(attempt, member{"assignable", s.base + "/assessments/" + s.count(4000)})
	case "Score", "Result":
		e.set("attempt", attempt)
		e.set("maxScore", number("15.0"))
		e.set("scoreGiven", s.decimal(15, 2))
		e.set("comment", s.sentences(1))
		e.set("scoredBy", s.base+"/autograder?v="+s.count(9))
	case "FillinBlankResponse", "MultipleResponseResponse", "MultiselectResponse", "MultipleChoiceResponse", "SelectTextResponse",
		"TrueFalseResponse", "OpenEndedResponse", "RatingScaleResponse", "DateTimeResponse":
		e.set("attempt", attempt)
		e.set("values", list{s.word(), s.word()})
		e.set("dateCreated", stamp(s.clock, 3, "Z"))
	case "Message", "Comment":
		e.set("creators", list{s.person()})
		e.set("body", s.sentences(1+s.below(3)))
		e.set("isPartOf", object{{"id", s.base + "/threads/" + s.count(5000)}, {"type", "Thread"}, {"name", s.title()}})
	case "HighlightAnnotation", "BookmarkAnnotation", "TagAnnotation", "SharedAnnotation":
		start := s.below(4000)
		e.set("annotator", s.person().get("id"))
		e.set("selection", object{{"type", "TextPositionSelector"}, {"start", start}, {"end", start + s.below(200)}})
		e.set("selectionText", s.sentences(1))
		e.set("tags", list{s.word(), s.word()})
	case "Rating":
		e.set("selections", list{s.count(5)})
		e.set("ratingComment", s.sentences(1))
	case "SearchResponse":
		e.set("searchProvider", s.base)
		e.set("query", object{
			{"id", s.base + "/queries/" + s.hex(12)}, {"type", "Query"},
			{"searchTerms", s.word() + " AND \"" + s.word() + "\""},
		})
		e.set("searchResultsItemCount", s.below(4000))
	case "AggregateMeasureCollection":
		e.set("items", list{
			object{{"type", "AggregateMeasure"}, {"metric", "MinutesOnTask"}, {"metricValue", s.decimal(600, 4)}},
			object{{"type", "AggregateMeasure"}, {"metric", "UnitsCompleted"}, {"metricValue", s.below(40)}, {"metricValueMax", 40}},
		})
	default:
		e.set("name", s.title())
		e.set("dateModified", stamp(s.before(200), 3, "Z"))
		e.set("isPartOf", object{{"id", s.base + "/materials/" + s.hex(10)}, {"type", "Document"}, {"name", s.title()}})
	}
}

// path is the plural of a type in small letters, as it stands in ids.
func path(kind string) string {
	out := []byte(kind)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return string(out) + "s"
}

// launch is the session of an LTI launch with its parameters, which may be numbers as well as strings.
func (s *scene) launch() object {
	user := s.fixed("user", s.user, 40)
	return object{
		{"id", "urn:uuid:" + s.hex(8) + "-" + s.hex(4) + "-4" + s.hex(3) + "-a" + s.hex(3) + "-" + s.hex(12)},
		{"type", "LtiSession"},
		{"user", s.person()},
		{"dateCreated", stamp(s.before(1), 3, "Z")},
		{"messageParameters", object{
			{"lti_message_type", "basic-lti-launch-request"},
			{"lti_version", "LTI-1p0"},
			{"context_id", s.fixed("course", s.course, 40)},
			{"context_label", fmt.Sprintf("%s %d", subjects[s.course%len(subjects)], 100+s.course%400)},
			{"context_title", s.title()},
			{"resource_link_id", s.fixed("link", s.course*8+s.below(8), 40)},
			{"resource_link_title", s.title()},
			{"user_id", user},
			{"roles", "Learner,urn:lti:instrole:ims/lis/Student"},
			{"lis_person_name_full", s.name()},
			{"lis_course_offering_sourcedid", fmt.Sprintf("%s:2026F:%d", s.customer, s.course)},
			{"lis_result_sourcedid", fmt.Sprintf("%d-%d-%d-%s", s.course, s.section, s.user, s.hex(40))},
			{"launch_presentation_locale", s.locale},
			{"launch_presentation_document_target", "iframe"},
			{"launch_presentation_return_url", fmt.Sprintf(
				"https://%s.example.edu/courses/%d/external_content/success/external_tool_redirect", s.customer, s.course)},
			{"custom_canvas_course_id", s.course},
			{"custom_canvas_user_id", fmt.Sprint(s.user)},
			{"oauth_nonce", s.hex(32)},
			{"oauth_timestamp", number(fmt.Sprint(s.clock.Unix()))},
			{"tool_consumer_instance_guid", s.fixed("instance", 0, 32) + "." + s.customer},
		}},
	}
}

// extension is something that vendors add to events.
func (s *scene) extension() member {
	switch s.below(11) {
	case 0:
		return member{"request", object{
			{"client_ip", fmt.Sprintf("%d.%d.%d.%d", 24+s.below(180), s.below(256), s.below(256), s.below(256))},
			{"hostname", fmt.Sprintf("app%03d.%s.example.edu", s.below(400), s.customer)},
			{"request_id", s.hex(8) + "-" + s.hex(4) + "-4" + s.hex(3) + "-9" + s.hex(3) + "-" + s.hex(12)},
			{"request_url", fmt.Sprintf("%s/courses/%d/pages/%s?module_item_id=%d", s.base, s.course, s.hex(10), s.below(900_000))},
			{"user_agent", oneOf(s.Generator, userAgents[:]...)},
		}}
	case 1:
		return member{"account", object{
			{"entity_id", fmt.Sprint(100_000_000_000_000 + s.user)}, {"root_account_uuid", s.fixed("account", 0, 40)},
			{"user_login", "u" + s.fixed("login", s.user, 6) + "@" + s.customer + ".example.edu"},
			{"user_sis_id", s.count(99_999_999)}, {"real_user_id", nil},
		}}
	case 2:
		readings := make(list, 3+s.below(20))
		for i := range readings {
			readings[i] = s.decimal(1, 3+s.below(5))
		}
		return member{"progress", object{{"percent", s.decimal(100, 2)}, {"seconds", s.below(100_000)}, {"attention", readings}}}
	case 3:
		return member{"measures", object{
			{"serial", number(fmt.Sprint(9_007_199_254_740_993 + int64(s.below(1<<40))))},
			{"drift", number("-" + string(s.decimal(9, 6)) + "e-07")},
			{"offset", -s.below(720)}, {"ratio", number("1E+3")},
		}}
	case 4:
		return member{"device", object{
			{"os", oneOf(s.Generator, "Windows 11", "macOS 15.2", "iOS 19.1", "Android 16", "ChromeOS 130")},
			{"locale", s.locale},
			{"screen", object{{"width", 320 + 8*s.below(400)}, {"height", 480 + 8*s.below(200)}, {"scale", s.decimal(3, 1)}}},
			{"touch", s.chance(0.5)},
		}}
	case 5:
		return member{"tags", list{s.word(), s.word(), s.word()}}
	case 6:
		return member{"note", s.sentences(1)}
	case 7:
		return member{"description", s.sentences(1 + s.below(2))}
	case 8:
		return member{"html", "<p class=\"note\">" + s.sentences(1) +
			"</p>\n\t<a href=\"" + s.base + "/x?a=1&b=" + s.hex(4) + "\">\\" + s.word() + "</a>"}
	case 9:
		return member{"empty", object{{"selection", nil}, {"items", list{}}, {"meta", object{}}, {"title", ""}}}
	default:
		return member{"signature", s.hex(64)}
	}
}
