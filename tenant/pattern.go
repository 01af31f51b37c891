package tenant

import (
	"regexp"
	"strings"
)

// tenantPlace stands for a tenant id in a pattern, and for the id that was found
// there in the tenants of the credential.
const tenantPlace = "{tenant}"

// pattern is the form of a name: text, in which * stands for anything but a slash,
// and tenantPlace for what becomes the id of a tenant.
type pattern struct {
	text   string
	re     *regexp.Regexp // nil: a name has to be text
	places bool           // whether tenantPlace is in it
}

// match reports whether a name has the form, and which tenant is named in it.
func (p *pattern) match(name string) (tenantID string, ok bool) {
	if p.re == nil {
		return "", name == p.text
	}
	found := p.re.FindStringSubmatch(name)
	switch {
	case found == nil:
		return "", false
	case !p.places:
		return "", true
	}
	return found[1], validateID(found[1]) == nil
}

// pattern compiles text. One name must not be read in two ways, so that nobody who
// may choose a part of a name can choose the tenant: something literal that no
// tenant id has, a slash, is between tenantPlace and any *.
func (c *compiler) pattern(path, text string) pattern {
	before, after, places := strings.Cut(text, tenantPlace)
	switch {
	case text == "":
		c.violation(path, text, "not be empty")
	case strings.ContainsAny(before+after, "{}"):
		c.violation(path, text, "have no braces but those of one %s", tenantPlace)
	case places && (strings.Contains(before[strings.LastIndexByte(before, '/')+1:], "*") || strings.Contains(strings.SplitN(after, "/", 2)[0], "*")):
		c.violation(path, text, "have a / between %s and any *: where one ends has to be clear", tenantPlace)
	}
	if !places && !strings.Contains(text, "*") {
		return pattern{text: text}
	}
	form := regexp.QuoteMeta(text)
	form = strings.ReplaceAll(form, `\*`, `[^/]*`)
	form = strings.Replace(form, regexp.QuoteMeta(tenantPlace), `([^/]+)`, 1)
	return pattern{text, regexp.MustCompile(`^(?s:` + form + `)$`), places}
}

// fill returns the tenants that the templates mean for the ids that were found.
func fill(templates, found []string) []string {
	var all []string
	for _, t := range templates {
		for _, id := range found {
			if filled := strings.Replace(t, tenantPlace, id, 1); validateID(filled) == nil {
				all = append(all, filled)
			}
		}
	}
	return all
}
