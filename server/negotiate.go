package server

import (
	"cmp"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
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

// accepted is how a client takes an answer.
type accepted struct {
	json   string // the media type of an answer in one piece; "" when the client accepts none that we have
	parts  bool   // of an operation with @defer, as they come. Clients say so by name: a wildcard will not do
	events bool   // server-sent ones, by name too
	html   bool   // a person with a browser
}

// What clients accept is the same in all of their requests, and as long as they like.
const (
	maxAccepts      = 100
	maxAcceptLength = 200 // bytes of what is kept
)

func (s *Server) acceptedBy(h http.Header) accepted {
	accept := strings.Join(h.Values("Accept"), ",")
	known, ok := s.accepts.Get(accept)
	if !ok {
		if known = acceptedFrom(accept); len(accept) <= maxAcceptLength {
			s.accepts.Add(strings.Clone(accept), known) // not all of the header's memory
		}
	}
	return known
}

func acceptedFrom(accept string) accepted {
	ranges := parseAccept(accept)
	a := accepted{json: ranges.choose()}
	for _, r := range ranges {
		if r.quality > 0 {
			a.parts = a.parts || r.name == mixed && cmp.Or(r.parameters["deferspec"], mixedOf) == mixedOf &&
				r.parameters["incrementalspec"] == "" && r.parameters["subscriptionspec"] == ""
			a.events = a.events || r.name == eventStreamType
		}
	}
	if a.json == "" && a.parts {
		a.json = plainJSON // what the parts are made of, for what has none
	}
	match, ok := ranges.match("text/html")
	a.html = ok && match.quality > 0 && match.specificity == 2
	return a
}

// mediaType is that of an answer in one piece, also for who takes only events: of what never becomes an operation.
func (a accepted) mediaType() string { return cmp.Or(a.json, plainJSON) }

// eventsFor says whether an operation is answered as events: a subscription whenever the client takes them, anything else only for a client
// who takes nothing else.
func (a accepted) eventsFor(kind ast.Operation) bool {
	return a.events && (kind == ast.Subscription || a.json == "")
}

// choose is the media type of ours that a client likes best; "" when it accepts none. Whoever says nothing accepts everything.
func (ranges mediaRanges) choose() (best string) {
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
	return best
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
	if strings.TrimSpace(accept) == "" {
		accept = "*/*"
	}
	var ranges mediaRanges
	place := -1
	for part := range strings.SplitSeq(accept, ",") {
		place++
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
