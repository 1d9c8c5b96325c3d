package validate

// parseTime reads a time of rule R8: date, `T`, time with seconds, optionally `.` and one to nine digits, and a zone
// `Z`, `±hh:mm` or `±hhmm`. The calendar is checked. It writes the same instant to out in UTC with three fraction
// digits, further ones cut off, and a leap second folded into second 59. False leaves out in no defined state.
func parseTime(s []byte, out *[24]byte) bool {
	const shape = "0000-00-00T00:00:00"
	if len(s) <= len(shape) || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return false
	}
	century, year := two(s, 0), two(s, 2)
	month, day, hour, minute, second := two(s, 5), two(s, 8), two(s, 11), two(s, 14), two(s, 17)
	if century|year|month|day|hour|minute|second < 0 {
		return false
	}
	year += 100 * century
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 60 {
		return false
	}
	copy(out[:], s[:19])
	copy(out[19:], ".000Z")
	zone := s[19:]
	if zone[0] == '.' {
		n := digits(zone, 1)
		if n < 2 || n > 10 {
			return false
		}
		copy(out[20:23], zone[1:min(n, 4)])
		zone = zone[n:]
	}
	if second == 60 {
		out[17], out[18] = '5', '9'
	}
	if len(zone) == 1 && zone[0] == 'Z' {
		return year > 0
	}
	offset, ok := parseOffset(zone)
	if !ok {
		return false
	}
	return shift(out, year, month, day, hour*60+minute-offset)
}

// parseOffset reads `±hh:mm` or `±hhmm` as minutes east of UTC.
func parseOffset(s []byte) (minutes int, ok bool) {
	switch {
	case len(s) == 6 && s[3] == ':':
		minutes = two(s, 4)
	case len(s) == 5:
		minutes = two(s, 3)
	default:
		return 0, false
	}
	hours := two(s, 1)
	if hours < 0 || hours > 23 || minutes < 0 || minutes > 59 {
		return 0, false
	}
	minutes += 60 * hours
	switch s[0] {
	case '+':
		return minutes, true
	case '-':
		return -minutes, true
	}
	return 0, false
}

// shift writes date, hour and minute anew; minute counts from the start of the day and is at most a day off.
func shift(out *[24]byte, year, month, day, minute int) bool {
	switch {
	case minute < 0:
		minute += 24 * 60
		if day--; day == 0 {
			if month--; month == 0 {
				year, month = year-1, 12
			}
			day = daysIn(year, month)
		}
	case minute >= 24*60:
		minute -= 24 * 60
		if day++; day > daysIn(year, month) {
			day = 1
			if month++; month > 12 {
				year, month = year+1, 1
			}
		}
	}
	if year < 1 || year > 9999 {
		return false
	}
	put(out, 0, year/100)
	put(out, 2, year%100)
	put(out, 5, month)
	put(out, 8, day)
	put(out, 11, minute/60)
	put(out, 14, minute%60)
	return true
}

// two is the number written by two digits at i, negative where they are none.
func two(s []byte, i int) int {
	tens, units := int(s[i])-'0', int(s[i+1])-'0'
	if tens < 0 || tens > 9 || units < 0 || units > 9 {
		return -1
	}
	return 10*tens + units
}

func put(out *[24]byte, i, n int) {
	out[i], out[i+1] = byte('0'+n/10), byte('0'+n%10)
}

// daysIn uses the Gregorian calendar also before its introduction.
func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}
