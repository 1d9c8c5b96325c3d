package validate

// The vocabulary of Caliper 1.0 to 1.2 as this endpoint accepts it, whatever the dataVersion of the envelope.

// contexts are the accepted `@context` strings; each may also begin with https and end with one slash.
var contexts = [...]string{
	"http://purl.imsglobal.org/ctx/caliper/v1p1",
	"http://purl.imsglobal.org/ctx/caliper/v1p2",
	"http://purl.imsglobal.org/ctx/caliper/v1p1/FeedbackProfile-extension",
	"http://purl.imsglobal.org/ctx/caliper/v1p1/ResourceManagementProfile-extension",
	"http://purl.imsglobal.org/ctx/caliper/v1p1/SearchProfile-extension",
	"http://purl.imsglobal.org/ctx/caliper/v1p1/SurveyProfile-extension",
	"http://purl.imsglobal.org/ctx/caliper/v1p1/ToolLaunchProfile-extension",
	"http://purl.imsglobal.org/ctx/caliper/v1p1/ToolUseProfile-extension",
}

// dataVersions are the accepted values of `dataVersion`; each may end with one slash.
var dataVersions = contexts[:2]

// actionNames is every action: 64 of Caliper 1.1, 16 of 1.2, and Replied of 1.0.
var actionNames = [...]string{
	"Abandoned", "Accepted", "Activated", "Added", "Archived", "Attached", "Bookmarked", "ChangedResolution",
	"ChangedSize", "ChangedSpeed", "ChangedVolume", "Classified", "ClosedPopout", "Commented", "Completed",
	"Copied", "Created", "Deactivated", "Declined", "Deleted", "Described", "DisabledClosedCaptioning",
	"Disliked", "Downloaded", "EnabledClosedCaptioning", "Ended", "EnteredFullScreen", "ExitedFullScreen",
	"ForwardedTo", "Graded", "Hid", "Highlighted", "Identified", "JumpedTo", "Launched", "Liked", "Linked",
	"LoggedIn", "LoggedOut", "MarkedAsRead", "MarkedAsUnread", "Modified", "Muted", "NavigatedTo", "OpenedPopout",
	"OptedIn", "OptedOut", "Paused", "Posted", "Printed", "Published", "Questioned", "Ranked", "Recommended",
	"Removed", "Replied", "Reset", "Restarted", "Restored", "Resumed", "Retrieved", "Returned", "Reviewed",
	"Rewound", "Saved", "Searched", "Sent", "Shared", "Showed", "Skipped", "Started", "Submitted", "Subscribed",
	"Tagged", "TimedOut", "Unmuted", "Unpublished", "Unsubscribed", "Uploaded", "Used", "Viewed",
}

// actionAliases are spellings in use for actions of actionNames.
var actionAliases = [...]struct{ alias, name string }{
	{"MarkedAsUnRead", "MarkedAsUnread"},
	{"EnteredFullscreen", "EnteredFullScreen"},
	{"ExitedFullscreen", "ExitedFullScreen"},
	{"EnabledCloseCaptioning", "EnabledClosedCaptioning"},
	{"DisabledCloseCaptioning", "DisabledClosedCaptioning"},
}

// eventTypes lists the actions each event type takes; none listed means any.
var eventTypes = [...]struct {
	name    string
	actions []string
}{
	{"AnnotationEvent", []string{
		"Attached", "Bookmarked", "Classified", "Commented", "Described", "Disliked", "Highlighted", "Identified",
		"Liked", "Linked", "Questioned", "Ranked", "Recommended", "Replied", "Shared", "Subscribed", "Tagged",
	}},
	{"AssessmentEvent", []string{"Paused", "Reset", "Restarted", "Resumed", "Started", "Submitted"}},
	{"AssessmentItemEvent", []string{"Completed", "Reviewed", "Skipped", "Started", "Viewed"}},
	{"AssignableEvent", []string{
		"Abandoned", "Activated", "Completed", "Deactivated", "Hid", "Reviewed", "Showed", "Started", "Submitted",
	}},
	{"Event", nil},
	{"FeedbackEvent", []string{"Commented", "Ranked"}},
	{"ForumEvent", []string{"Subscribed", "Unsubscribed"}},
	{"GradeEvent", []string{"Graded"}},
	{"MediaEvent", []string{
		"ChangedResolution", "ChangedSize", "ChangedSpeed", "ChangedVolume", "ClosedPopout",
		"DisabledClosedCaptioning", "EnabledClosedCaptioning", "Ended", "EnteredFullScreen", "ExitedFullScreen",
		"ForwardedTo", "JumpedTo", "Muted", "OpenedPopout", "Paused", "Restarted", "Resumed", "Rewound", "Started",
		"Unmuted",
	}},
	{"MessageEvent", []string{"MarkedAsRead", "MarkedAsUnread", "Posted"}},
	{"NavigationEvent", []string{"NavigatedTo"}},
	{"OutcomeEvent", []string{"Graded"}},
	{"QuestionnaireEvent", []string{"Completed", "Started", "Submitted"}},
	{"QuestionnaireItemEvent", []string{"Completed", "Skipped", "Started", "Submitted"}},
	{"ReadingEvent", []string{"NavigatedTo", "Searched", "Viewed"}},
	{"ResourceManagementEvent", []string{
		"Archived", "Copied", "Created", "Deleted", "Described", "Downloaded", "Modified", "Printed", "Published",
		"Restored", "Retrieved", "Saved", "Unpublished", "Uploaded",
	}},
	{"SearchEvent", []string{"Searched"}},
	{"SessionEvent", []string{"LoggedIn", "LoggedOut", "TimedOut"}},
	{"SurveyEvent", []string{"OptedIn", "OptedOut"}},
	{"SurveyInvitationEvent", []string{"Accepted", "Declined", "Sent"}},
	{"ThreadEvent", []string{"MarkedAsRead", "MarkedAsUnread"}},
	{"ToolLaunchEvent", []string{"Launched", "Returned"}},
	{"ToolUseEvent", []string{"Used"}},
	{"ViewEvent", []string{"Viewed"}},
}

// entityTypes may stand in `data` as entity describes.
var entityTypes = [...]string{
	"Agent", "AggregateMeasure", "AggregateMeasureCollection", "Annotation", "Assessment", "AssessmentItem",
	"AssignableDigitalResource", "Attempt", "AudioObject", "BookmarkAnnotation", "Chapter", "Collection",
	"Comment", "CourseOffering", "CourseSection", "DateTimeQuestion", "DateTimeResponse", "DigitalResource",
	"DigitalResourceCollection", "Document", "Entity", "EpubChapter", "EpubPart", "EpubSubChapter", "EpubVolume",
	"FillinBlankResponse", "Forum", "Frame", "Group", "HighlightAnnotation", "ImageObject", "LearningObjective",
	"LikertScale", "Link", "LtiLink", "LtiSession", "MediaLocation", "MediaObject", "Membership", "Message",
	"MultipleChoiceResponse", "MultipleResponseResponse", "MultiselectQuestion", "MultiselectResponse",
	"MultiselectScale", "NumericScale", "OpenEndedQuestion", "OpenEndedResponse", "Organization", "Page",
	"Person", "Query", "Question", "Questionnaire", "QuestionnaireItem", "Rating", "RatingScaleQuestion",
	"RatingScaleResponse", "Reading", "Response", "Result", "Scale", "Score", "SearchResponse",
	"SelectTextResponse", "Session", "SharedAnnotation", "SoftwareApplication", "Survey", "SurveyInvitation",
	"SystemIdentifier", "TagAnnotation", "TextPositionSelector", "Thread", "TrueFalseResponse", "VideoObject",
	"WebPage",
}

// actionSet has a bit for each entry of actionNames.
type actionSet [2]uint64

func (s *actionSet) add(bit uint8)      { s[bit>>6] |= 1 << (bit & 63) }
func (s *actionSet) has(bit uint8) bool { return s[bit>>6]>>(bit&63)&1 != 0 }

type itemType struct {
	name    string // the table's own string, safe to keep
	number  uint8  // from 1; 0 for entities
	entity  bool
	actions actionSet // empty for entities
}

type action struct {
	name string // canonical spelling, the table's own string
	bit  uint8
}

// vocabulary is the tables above, ready for lookups. It is never written after start.
var vocabulary = func() (v struct {
	actions map[string]action
	types   map[string]*itemType
}) {
	v.actions = make(map[string]action, len(actionNames)+len(actionAliases))
	for i, name := range actionNames {
		v.actions[name] = action{name, uint8(i)}
	}
	for _, a := range actionAliases {
		v.actions[a.alias] = v.actions[a.name]
	}
	v.types = make(map[string]*itemType, len(eventTypes)+len(entityTypes))
	for i, t := range eventTypes {
		e := &itemType{name: t.name, number: uint8(i + 1)}
		if t.actions == nil {
			t.actions = actionNames[:]
		}
		for _, name := range t.actions {
			e.actions.add(v.actions[name].bit)
		}
		v.types[t.name] = e
	}
	for _, name := range entityTypes {
		v.types[name] = &itemType{name: name, entity: true}
	}
	return v
}()

// findType looks the string literal up; nil where no table knows it.
func findType(literal []byte) *itemType {
	inner := literal[1 : len(literal)-1]
	if t := vocabulary.types[string(inner)]; t != nil {
		return t
	}
	var s scratch
	return vocabulary.types[string(s.unescaped(inner))]
}

// findAction looks the string literal up, aliases included.
func findAction(literal []byte) (action, bool) {
	inner := literal[1 : len(literal)-1]
	if a, ok := vocabulary.actions[string(inner)]; ok {
		return a, true
	}
	var s scratch
	a, ok := vocabulary.actions[string(s.unescaped(inner))]
	return a, ok
}

// isContext tells whether the string literal is an accepted `@context`.
func isContext(literal []byte) bool {
	const core = `"http://purl.imsglobal.org/ctx/caliper/v1p1"`
	if len(literal) == len(core) && string(literal[:len(core)-2]) == core[:len(core)-2] {
		if v := literal[len(core)-2]; v == '1' || v == '2' {
			return true // nearly all there is
		}
	}
	inner := literal[1 : len(literal)-1]
	var s scratch
	if plain := s.unescaped(inner); plain != nil {
		inner = plain
	}
	if len(inner) > 5 && string(inner[:5]) == "https" {
		for _, c := range contexts {
			if string(withoutSlash(inner[5:])) == c[4:] {
				return true
			}
		}
		return false
	}
	inner = withoutSlash(inner)
	for _, c := range contexts {
		if string(inner) == c {
			return true
		}
	}
	return false
}

// isDataVersion tells whether the string literal is an accepted `dataVersion`.
func isDataVersion(literal []byte) bool {
	inner := literal[1 : len(literal)-1]
	var s scratch
	if plain := s.unescaped(inner); plain != nil {
		inner = plain
	}
	inner = withoutSlash(inner)
	for _, v := range dataVersions {
		if string(inner) == v {
			return true
		}
	}
	return false
}

// withoutSlash cuts one trailing slash.
func withoutSlash(s []byte) []byte {
	if n := len(s); n > 0 && s[n-1] == '/' {
		return s[:n-1]
	}
	return s
}
