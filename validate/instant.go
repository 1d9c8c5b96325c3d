package validate

// UnixMilli is Time in milliseconds since 1970-01-01 UTC. It is of no meaning where Time is all zero. It costs a few
// nanoseconds and does not allocate.
func (it *Item) UnixMilli() int64 {
	t := it.Time[:]
	year := 100*two(t, 0) + two(t, 2)
	seconds := daysBefore(year, two(t, 5), two(t, 8))*86_400 + int64(two(t, 11)*3600+two(t, 14)*60+two(t, 17))
	return 1000*seconds + int64(100*int(t[20]-'0')+two(t, 21))
}

// daysBefore is the number of days from 1970-01-01 to a day of the Gregorian calendar. Years begin in March here, so
// that a leap day is the last of its year.
func daysBefore(year, month, day int) int64 {
	if month -= 3; month < 0 {
		month += 12
		year--
	}
	// (153·m+2)/5 are the days of the months before m, counted from March.
	ofYear := (153*month+2)/5 + day - 1
	return int64(365*year+year/4-year/100+year/400+ofYear) - 719_468
}
