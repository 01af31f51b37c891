package relabel

import (
	"net/netip"
	"slices"
	"strings"
)

// A span is a part of a value that the redaction by its index found.
type span struct{ from, to, by int }

// A detector finds what must not be stored. It is written by hand where there is a
// choice: it runs over every value of every new series, takes a nanosecond or two
// a byte, and knows of what stands around a match what a regular expression of
// Go cannot say. testdata/detectors.txt holds what each must find and must not.
type detector struct {
	need class // of the characters a value must have, or find is not called
	find func(value string, found func(from, to int))
}

// class is a set of kinds of characters.
type class uint16

const (
	isDigit class = 1 << iota
	isLetter
	isHex
	isAt // @ or %, which may begin one that is escaped
	isDot
	isColon
	isDash
	isWord // the underscore
	isUpper
	isSlash
)

var classes = func() (t [256]class) {
	for c := range t {
		switch c := byte(c); {
		case '0' <= c && c <= '9':
			t[c] = isDigit | isHex
		case 'a' <= c && c <= 'f':
			t[c] = isLetter | isHex
		case 'A' <= c && c <= 'F':
			t[c] = isLetter | isHex | isUpper
		case 'a' <= c && c <= 'z':
			t[c] = isLetter
		case 'A' <= c && c <= 'Z':
			t[c] = isLetter | isUpper
		case c == '@', c == '%':
			t[c] = isAt
		case c == '.':
			t[c] = isDot
		case c == ':':
			t[c] = isColon
		case c == '-':
			t[c] = isDash
		case c == '_':
			t[c] = isWord
		case c == '/':
			t[c] = isSlash
		}
	}
	return t
}()

// classify returns the classes of the characters in value.
func classify(value string) class {
	var c class
	for i := range len(value) {
		c |= classes[value[i]]
	}
	return c
}

// is reports whether value[i] exists and is of a class in c.
func is(value string, i int, c class) bool {
	return i >= 0 && i < len(value) && classes[value[i]]&c != 0
}

const alphanumeric = isLetter | isDigit

// run returns the end of the characters of c that begin at from.
func run(value string, from int, c class) int {
	for is(value, from, c) {
		from++
	}
	return from
}

var detectors = map[string]detector{
	"email":  {isAt | isDot, findEmail},
	"card":   {isDigit, findCard},
	"ipv4":   {isDigit | isDot, findIPv4},
	"ipv6":   {isColon | isDigit, findIPv6},
	"uuid":   {isDash | isHex, findUUID},
	"jwt":    {isDot | isLetter, findJWT},
	"secret": {isLetter, findSecret},
}

// unitSuffixes end the names of systemd units, whose instances stand behind an
// at sign: getty@tty1.service. None is a top-level domain of mail.
var unitSuffixes = []string{
	"service", "socket", "timer", "mount", "automount", "slice", "scope", "target", "path", "device", "swap",
}

// findEmail finds addresses by RFC 5321 without quotes, of any script, the at sign
// perhaps escaped as in a URL. The domain has a dot and no number at its end.
func findEmail(value string, found func(from, to int)) {
	for i, end := 0, 0; i < len(value); i++ {
		after := i + 1
		switch {
		case value[i] == '@':
		case value[i] == '%' && strings.HasPrefix(value[i:], "%40"):
			after = i + 3
		default:
			continue
		}
		to := domain(value, after)
		if to < 0 {
			continue // before from is looked for: an escaped at sign may stand in a local part
		}
		from := i
		for from > end && isLocal(value[from-1]) {
			from--
		}
		if from == i {
			continue
		}
		found(from, to)
		i, end = to-1, to
	}
}

// isLocal reports whether c may stand in the local part of an address. Slashes,
// quotes and equals signs may by the letter, but rather stand around it.
func isLocal(c byte) bool {
	return classes[c]&(isLetter|isDigit|isDot|isDash|isWord) != 0 || c >= 0x80 || strings.IndexByte("%+!#$&*^~'", c) >= 0
}

// domain returns the end of the domain name that begins at from, or -1. Labels
// at its end that cannot be a top-level domain are not part of it.
func domain(value string, from int) int {
	to := from
	for to < len(value) && (is(value, to, alphanumeric|isDash|isDot) || value[to] >= 0x80) {
		to++
	}
	name := value[from:to]
	if i := strings.Index(name, ".."); i >= 0 {
		name = name[:i]
	}
	for {
		name = strings.TrimRight(name, ".-")
		dot := strings.LastIndexByte(name, '.')
		if dot < 1 {
			return -1
		}
		if isTop(name[dot+1:]) {
			return from + len(name)
		}
		name = name[:dot]
	}
}

// isTop reports whether mail may be sent to a domain that ends so.
func isTop(s string) bool {
	if len(s) < 2 || is(s, 0, isDigit|isDash) || is(s, len(s)-1, isDigit) && !strings.HasPrefix(s, "xn--") {
		return false
	}
	return !slices.Contains(unitSuffixes, s)
}

// cardGroups are how the digits of cards are grouped, if they are.
var cardGroups = [][]int{{4, 4, 4, 4, 3}, {4, 4, 4, 4}, {4, 6, 5}, {4, 6, 4}}

// findCard finds numbers of payment cards: 13 to 19 digits, whole or in groups as
// they are printed, that begin as an issuer's do and pass Luhn's check. They are
// no part of a longer word or number.
func findCard(value string, found func(from, to int)) {
	var digits [19]byte
	for i := 0; i < len(value); {
		if !is(value, i, isDigit) {
			i++
			continue
		}
		to := run(value, i, isDigit)
		if !is(value, i-1, isLetter) && !decimal(value, i) {
			if n := to - i; n >= 13 && n <= len(digits) && !is(value, to, isLetter) && isCard([]byte(value[i:to])) {
				found(i, to)
			} else if end := grouped(value, i, digits[:0]); end > 0 {
				found(i, end)
				to = end
			}
		}
		i = to
	}
}

// decimal reports whether the digits at i are the fraction of a number.
func decimal(value string, i int) bool {
	return i >= 2 && value[i-1] == '.' && is(value, i-2, isDigit)
}

// grouped returns the end of a card number in groups at from, or 0.
func grouped(value string, from int, digits []byte) int {
next:
	for _, groups := range cardGroups {
		digits, at := digits[:0], from
		var separator byte
		for g, n := range groups {
			if g > 0 {
				if at >= len(value) || strings.IndexByte(" -.+_", value[at]) < 0 || g > 1 && value[at] != separator {
					continue next
				}
				separator = value[at]
				at++
			}
			if run(value, at, isDigit)-at != n {
				continue next
			}
			digits = append(digits, value[at:at+n]...)
			at += n
		}
		if !is(value, at, isLetter) && isCard(digits) {
			return at
		}
	}
	return 0
}

// isCard checks the issuer and Luhn's sum.
func isCard(digits []byte) bool {
	n := len(digits)
	prefix := 0
	for _, d := range digits[:4] {
		prefix = prefix*10 + int(d-'0')
	}
	in := func(from, to int) bool { return prefix >= from && prefix <= to }
	switch {
	case in(4000, 4999): // Visa
		if n != 13 && n != 16 && n != 19 {
			return false
		}
	case in(5100, 5599), in(2221, 2720): // Mastercard
		if n != 16 {
			return false
		}
	case in(3400, 3499), in(3700, 3799): // American Express
		if n != 15 {
			return false
		}
	case in(3000, 3059), in(3095, 3095), in(3600, 3699), in(3800, 3999): // Diners Club
		if n < 14 {
			return false
		}
	case in(3528, 3589), in(6011, 6011), in(6221, 6299), in(6440, 6599), in(6200, 6299), in(8100, 8171), in(2200, 2204): // JCB, Discover, UnionPay, Mir
		if n < 16 {
			return false
		}
	case in(5000, 5099), in(5600, 5899), in(6300, 6399), in(6700, 6799): // Maestro
	default:
		return false
	}
	return luhn(digits)
}

func luhn(digits []byte) bool {
	sum := 0
	for i, d := range digits {
		v := int(d - '0')
		if (len(digits)-i)%2 == 0 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return sum%10 == 0
}

// findIPv4 finds addresses in dotted form that are no part of a longer number
// with dots, as object identifiers are, nor of a word.
func findIPv4(value string, found func(from, to int)) {
	for i := 0; i < len(value); {
		if !is(value, i, isDigit) {
			i++
			continue
		}
		to := run(value, i, isDigit|isDot)
		end := i + len(strings.TrimRight(value[i:to], "."))
		if end-i <= len("111.111.111.111") && !is(value, i-1, alphanumeric) && !is(value, end, isLetter) {
			if a, err := netip.ParseAddr(value[i:end]); err == nil && a.Is4() {
				found(i, end)
			}
		}
		i = to
	}
}

// findIPv6 finds addresses in the form of RFC 4291 that have a digit: without one
// they rather are the names of classes, as in a::b.
func findIPv6(value string, found func(from, to int)) {
	for i := 0; i < len(value); {
		if !is(value, i, isHex|isColon) {
			i++
			continue
		}
		to := run(value, i, isHex|isColon|isDot)
		for from := i; from < to; {
			if end := ipv6(value[:to], from); end > 0 && !is(value, end, alphanumeric) {
				found(from, end)
				from = end
				continue
			}
			// The next group: before it may stand a port, or a word and a colon.
			from = run(value, from, isHex|isDot)
			if is(value, from, isColon) {
				from++
			}
		}
		i = to
	}
}

// ipv6 returns the end of the longest address that begins at from, or 0.
func ipv6(value string, from int) (end int) {
	if is(value, from-1, alphanumeric) || is(value, from-1, isColon) && is(value, from, isColon) {
		return 0
	}
	short := false // :: was seen
	for at, colons := from, 0; colons <= 8; {
		at = run(value, at, isHex|isDot)
		text := strings.TrimRight(value[from:at], ".")
		if short || colons >= 6 {
			if a, err := netip.ParseAddr(text); err == nil && !a.IsUnspecified() && !isEUI64(text) && strings.ContainsAny(text, "0123456789") {
				end = from + len(text)
			}
		}
		if !is(value, at, isColon) {
			break
		}
		short = short || is(value, at+1, isColon)
		at++
		colons++
	}
	return end
}

// isEUI64 recognises eight bytes in hexadecimal, as adapters have them.
func isEUI64(text string) bool {
	if len(text) != 8*3-1 {
		return false
	}
	for i := 2; i < len(text); i += 3 {
		if text[i] != ':' {
			return false
		}
	}
	return true
}

// findUUID finds UUIDs in the form of RFC 9562, of any version and variant, that
// are no part of a longer word.
func findUUID(value string, found func(from, to int)) {
	for i := 0; i+36 <= len(value); {
		to := run(value, i, isHex)
		if to-i == 8 && !is(value, i-1, alphanumeric) {
			if end := uuid(value, i); end > 0 {
				found(i, end)
				to = end
			}
		}
		i = max(to, i+1)
	}
}

func uuid(value string, from int) int {
	at := from
	for g, n := range [...]int{8, 4, 4, 4, 12} {
		if g > 0 {
			if !is(value, at, isDash) {
				return 0
			}
			at++
		}
		if run(value, at, isHex)-at != n {
			return 0
		}
		at += n
	}
	if is(value, at, alphanumeric) {
		return 0
	}
	return at
}
