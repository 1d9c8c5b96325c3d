package validate

import "hash/maphash"

// Shape tells items of different type, action or names of members at the top apart: two that agree in these have the
// same shape, in whatever order the members come. It means something to this process alone. It reads the item once, and
// does not allocate. The item must be an object.
func (it *Item) Shape() uint64 {
	shape := maphash.String(shapeSeed, it.Type) ^ maphash.String(shapeSeed, it.Action)<<1
	for i := 1; ; {
		start, end := nextName(it.Raw, i)
		if start < 0 {
			return shape
		}
		shape += maphash.Bytes(shapeSeed, it.Raw[start:end])
		i = skipPlain(it.Raw, skipSeparators(it.Raw, end))
	}
}

var shapeSeed = maphash.MakeSeed()
