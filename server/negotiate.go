package server

import (
	"cmp"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// The media types of GraphQL over HTTP. Under the older one every well-formed request is answered with 200.
const (
	responseJSON = "application/graphql-response+json"
	plainJSON    = "application/json"
	// mixed is the format of incremental delivery that the clients' libraries agree on. Others have parameters of their own.
	mixed    = "multipart/mixed"
	mixedOf  = "20220824"
	boundary = "-"
)

// offers are in the order that decides where a client has no preference.
var offers = [...]string{plainJSON, responseJSON}

// negotiate chooses the media type of an answer in one piece; false when the client accepts none that we have.
func negotiate(h http.Header) (string, bool) {
	accept := strings.Join(h.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return plainJSON, true
	}
	ranges := parseAccept(accept)
	var best string
	var chosen mediaRange
	for _, offer := range offers {
		match, ok := ranges.match(offer)
		if !ok || match.quality == 0 {
			continue
		}
		if best == "" || match.quality > chosen.quality || match.quality == chosen.quality && match.place < chosen.place {
			best, chosen = offer, match
		}
	}
	if best == "" && takesParts(h) {
		best = plainJSON // what the parts are made of, for what has none
	}
	return best, best != ""
}

// takesParts tells clients who read the answer to an operation with @defer as it comes. They say so by name: a wildcard will not do.
func takesParts(h http.Header) bool {
	for _, r := range parseAccept(strings.Join(h.Values("Accept"), ",")) {
		if r.name == mixed && r.quality > 0 && cmp.Or(r.parameters["deferspec"], mixedOf) == mixedOf &&
			r.parameters["incrementalspec"] == "" && r.parameters["subscriptionspec"] == "" {
			return true
		}
	}
	return false
}

// acceptsHTML tells a person with a browser.
func acceptsHTML(h http.Header) bool {
	match, ok := parseAccept(strings.Join(h.Values("Accept"), ",")).match("text/html")
	return ok && match.quality > 0 && match.specificity == 2
}

type mediaRange struct {
	name        string
	quality     float64
	specificity int // 0 for */*, 1 for type/*, 2 for type/subtype
	place       int
	parameters  map[string]string
}

type mediaRanges []mediaRange

func parseAccept(accept string) mediaRanges {
	var ranges mediaRanges
	for place, part := range strings.Split(accept, ",") {
		name, parameters, err := parseMediaType(part)
		if err != nil {
			continue
		}
		if charset, given := parameters["charset"]; given && !strings.EqualFold(charset, "utf-8") {
			continue
		}
		r := mediaRange{name: name, quality: 1, specificity: 2 - strings.Count(name, "*"), place: place, parameters: parameters}
		if q, given := parameters["q"]; given {
			if r.quality, err = strconv.ParseFloat(q, 64); err != nil || !(r.quality >= 0 && r.quality <= 1) {
				continue
			}
		}
		ranges = append(ranges, r)
	}
	return ranges
}

// parseMediaType is mime's, of which a type without parameters, as most are, needs little.
func parseMediaType(text string) (name string, parameters map[string]string, err error) {
	if !strings.Contains(text, ";") {
		return strings.ToLower(strings.TrimSpace(text)), nil, nil
	}
	return mime.ParseMediaType(text)
}

// match is the most specific range that holds a media type.
func (ranges mediaRanges) match(mediaType string) (mediaRange, bool) {
	major, _, _ := strings.Cut(mediaType, "/")
	best, found := mediaRange{}, false
	for _, r := range ranges {
		if r.name != mediaType && r.name != major+"/*" && r.name != "*/*" {
			continue
		}
		if !found || r.specificity > best.specificity {
			best, found = r, true
		}
	}
	return best, found
}
