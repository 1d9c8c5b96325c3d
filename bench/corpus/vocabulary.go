package corpus

// eventType is one of the 24 event types and what its events are made of.
type eventType struct {
	name      string
	weight    int // of a thousand events, about
	actions   []string
	objects   []string // types of `object`
	extension string   // of the 1.1 profile that the type comes from; empty for the core
	profile   string   // in 1.2
	generated []string // types of `generated`; none for no such member
}

var eventTypes = [...]eventType{
	{"NavigationEvent", 220, []string{"NavigatedTo"},
		[]string{"Page", "WebPage", "Chapter", "Assessment", "DigitalResource", "SoftwareApplication"}, "", "ReadingProfile", nil},
	{"ViewEvent", 130, []string{"Viewed"},
		[]string{"Page", "Document", "Frame", "DigitalResource", "Result", "Assessment"}, "", "ReadingProfile", nil},
	{"MediaEvent", 140, []string{
		"Started", "Ended", "Paused", "Paused", "Resumed", "Resumed", "Restarted", "ForwardedTo", "JumpedTo", "JumpedTo", "Rewound",
		"ChangedResolution", "ChangedSize", "ChangedSpeed", "ChangedVolume", "EnabledClosedCaptioning",
		"DisabledClosedCaptioning", "EnteredFullScreen", "ExitedFullscreen", "Muted", "Unmuted", "OpenedPopout", "ClosedPopout",
	}, []string{"VideoObject", "VideoObject", "AudioObject"}, "", "MediaProfile", nil},
	{"AssessmentItemEvent", 100, []string{"Started", "Skipped", "Completed", "Completed", "Reviewed", "Viewed"},
		[]string{"AssessmentItem"}, "", "AssessmentProfile",
		[]string{"FillinBlankResponse", "MultipleChoiceResponse", "MultipleResponseResponse", "SelectTextResponse", "TrueFalseResponse"}},
	{"AssessmentEvent", 50, []string{"Started", "Paused", "Resumed", "Restarted", "Reset", "Submitted"},
		[]string{"Assessment"}, "", "AssessmentProfile", []string{"Attempt"}},
	{"AssignableEvent", 50, []string{
		"Activated", "Deactivated", "Started", "Completed", "Submitted", "Submitted", "Reviewed", "Abandoned", "Hid", "Showed",
	}, []string{"AssignableDigitalResource", "Assessment"}, "", "AssignableProfile", []string{"Attempt"}},
	{"ToolUseEvent", 40, []string{"Used"},
		[]string{"SoftwareApplication"}, "ToolUseProfile-extension", "ToolUseProfile", []string{"AggregateMeasureCollection"}},
	{"SessionEvent", 50, []string{"LoggedIn", "LoggedOut", "TimedOut"}, []string{"SoftwareApplication"}, "", "SessionProfile", nil},
	{"GradeEvent", 40, []string{"Graded"}, []string{"Attempt"}, "", "GradingProfile", []string{"Score"}},
	{"OutcomeEvent", 6, []string{"Graded"}, []string{"Attempt"}, "", "GradingProfile", []string{"Result"}},
	{"MessageEvent", 35, []string{"Posted", "Posted", "MarkedAsRead", "MarkedAsUnread", "MarkedAsUnRead"},
		[]string{"Message"}, "", "ForumProfile", nil},
	{"ForumEvent", 12, []string{"Subscribed", "Unsubscribed"}, []string{"Forum"}, "", "ForumProfile", nil},
	{"ThreadEvent", 14, []string{"MarkedAsRead", "MarkedAsUnread"}, []string{"Thread"}, "", "ForumProfile", nil},
	{"AnnotationEvent", 30, []string{
		"Bookmarked", "Highlighted", "Highlighted", "Shared", "Tagged", "Attached", "Classified", "Commented", "Described", "Disliked",
		"Identified", "Liked", "Linked", "Questioned", "Ranked", "Recommended", "Replied", "Subscribed",
	}, []string{"Page", "Document", "Chapter"}, "", "AnnotationProfile",
		[]string{"HighlightAnnotation", "BookmarkAnnotation", "TagAnnotation", "SharedAnnotation"}},
	{"FeedbackEvent", 12, []string{"Commented", "Ranked"},
		[]string{"DigitalResource", "VideoObject"}, "FeedbackProfile-extension", "FeedbackProfile", []string{"Comment", "Rating"}},
	{"SearchEvent", 20, []string{"Searched"},
		[]string{"SoftwareApplication"}, "SearchProfile-extension", "SearchProfile", []string{"SearchResponse"}},
	{"ResourceManagementEvent", 25, []string{
		"Archived", "Copied", "Created", "Deleted", "Described", "Downloaded", "Downloaded", "Modified", "Printed", "Published", "Restored",
		"Retrieved", "Saved", "Unpublished", "Uploaded",
	}, []string{"DigitalResource", "Document", "ImageObject"}, "ResourceManagementProfile-extension", "ResourceManagementProfile", nil},
	{"QuestionnaireEvent", 8, []string{"Started", "Submitted", "Completed"},
		[]string{"Questionnaire"}, "SurveyProfile-extension", "SurveyProfile", nil},
	{"QuestionnaireItemEvent", 20, []string{"Started", "Skipped", "Completed", "Submitted"},
		[]string{"QuestionnaireItem"}, "SurveyProfile-extension", "SurveyProfile",
		[]string{"RatingScaleResponse", "OpenEndedResponse", "MultiselectResponse", "DateTimeResponse"}},
	{"SurveyEvent", 6, []string{"OptedIn", "OptedOut"}, []string{"Survey"}, "SurveyProfile-extension", "SurveyProfile", nil},
	{"SurveyInvitationEvent", 8, []string{"Accepted", "Declined", "Sent"},
		[]string{"SurveyInvitation"}, "SurveyProfile-extension", "SurveyProfile", nil},
	{"ToolLaunchEvent", 24, []string{"Launched", "Returned"},
		[]string{"SoftwareApplication"}, "ToolLaunchProfile-extension", "ToolLaunchProfile", nil},
	{"ReadingEvent", 10, []string{"NavigatedTo", "Searched", "Viewed"},
		[]string{"EpubChapter", "EpubSubChapter"}, "", "ReadingProfile", nil},
	{"Event", 50, []string{
		"Created", "Modified", "Deleted", "Added", "Removed", "Archived", "Accepted", "Published", "Restored", "Used", "Submitted", "Recommended",
	}, []string{"Entity", "Membership", "Group", "DigitalResourceCollection", "Collection"}, "", "GeneralProfile", nil},
}

// describes are the types of entity describes.
var describes = [...]string{
	"Person", "Person", "Person", "CourseOffering", "CourseSection", "CourseSection", "Group", "Membership", "Document", "Page", "Chapter",
	"AssignableDigitalResource", "Assessment", "AssessmentItem", "VideoObject", "SoftwareApplication", "Forum", "Thread", "Survey", "Questionnaire",
	"DigitalResource", "WebPage", "Organization", "Session", "LearningObjective", "Score",
}
