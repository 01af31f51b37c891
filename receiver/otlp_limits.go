package receiver

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-metrics/weir/proto"
)

// The decoder of OTLP builds an object for each message, two bytes of which may
// stand for hundreds, and follows nested values as deep as they go. So a body is
// measured before it is decoded: how deep it is, and how much memory its objects
// will take.

// maxDepth is how deep the messages of a request, or the objects and arrays of a
// JSON body, may lie in each other. Without attributes whose values are lists or
// maps there are 9 and 13.
const maxDepth = 64

// maxObjects bounds the memory of a decoded OTLP request. Real requests take up
// to 3 times their size as protocol buffers, 5 times as JSON.
func (c *Config) maxObjects() int { return 8 * c.MaxDecodedBytes }

// message is a protocol buffer message as far as its memory is concerned.
type message struct {
	bytes  int // what an empty one takes, with the pointer to it, about
	fields []messageField
}

// messageField is a field of a message: another message, or numbers that may
// take one byte each on the wire, and take eight in memory.
type messageField struct {
	id      protowire.Number
	message *message
}

var numbers = &message{bytes: 8}

// exportRequest is the ExportMetricsServiceRequest of opentelemetry-proto 1.10.
var exportRequest = newExportRequest()

func newExportRequest() *message {
	value := &message{bytes: 32}
	attribute := &message{40, []messageField{{2, value}}}
	list := &message{40, []messageField{{1, value}}}
	dict := &message{40, []messageField{{1, attribute}}}
	value.fields = []messageField{{5, list}, {6, dict}}

	exemplar := &message{88, []messageField{{7, attribute}}}
	number := &message{112, []messageField{{7, attribute}, {5, exemplar}}}
	histogram := &message{184, []messageField{{9, attribute}, {8, exemplar}}}
	buckets := &message{32, []messageField{{2, numbers}}}
	exponential := &message{248, []messageField{{1, attribute}, {8, buckets}, {9, buckets}, {11, exemplar}}}
	quantile := &message{bytes: 24}
	summary := &message{104, []messageField{{7, attribute}, {6, quantile}}}

	points := func(point *message) *message { return &message{56, []messageField{{1, point}}} }
	metric := &message{112, []messageField{
		{5, points(number)}, {7, points(number)}, {9, points(histogram)}, {10, points(exponential)}, {11, points(summary)}, {12, attribute},
	}}
	scope := &message{80, []messageField{{3, attribute}}}
	scopeMetrics := &message{152, []messageField{{1, scope}, {2, metric}}}
	entity := &message{bytes: 88, fields: []messageField{{3, &message{bytes: 16}}, {4, &message{bytes: 16}}}}
	resource := &message{80, []messageField{{1, attribute}, {3, entity}}}
	resourceMetrics := &message{184, []messageField{{1, resource}, {2, scopeMetrics}, {1000, scopeMetrics}}}
	return &message{0, []messageField{{1, resourceMetrics}}}
}

func (m *message) field(id protowire.Number) *message {
	for i := range m.fields {
		if m.fields[i].id == id {
			return m.fields[i].message
		}
	}
	return nil
}

// measure adds up the memory of a body.
type measure struct {
	bytes, limit int
}

func (me *measure) add(n int) error {
	if me.bytes += n; me.bytes > me.limit {
		return tooLarge("as objects in memory", int64(me.bytes), "8 x max_decoded_bytes", me.limit)
	}
	return nil
}

func tooDeep() error {
	return proto.Errorf(proto.KindBadData, "weir-otlp-too-deep",
		"the request is nested more than %d levels deep; attribute values become label values, keep them flat", maxDepth)
}

// protobuf measures the message m that b holds.
func (me *measure) protobuf(m *message, b []byte, depth int) error {
	if depth > maxDepth {
		return tooDeep()
	}
	for len(b) > 0 {
		id, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return proto.Malformed()
		}
		b = b[n:]
		field := m.field(id)
		if wire != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(id, wire, b); n < 0 {
				return proto.Malformed()
			}
			if field == numbers {
				if err := me.add(field.bytes); err != nil {
					return err
				}
			}
			b = b[n:]
			continue
		}
		content, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return proto.Malformed()
		}
		b = b[n:]
		if err := me.content(field, content, depth); err != nil {
			return err
		}
	}
	return nil
}

// content measures what lies behind a length: a message, numbers, or text.
func (me *measure) content(m *message, b []byte, depth int) error {
	switch {
	case m == nil:
		return me.add(len(b))
	case m == numbers:
		return me.add(numbers.bytes * len(b))
	}
	if err := me.add(m.bytes); err != nil {
		return err
	}
	return me.protobuf(m, b, depth+1)
}

// What an object and a value between commas of a JSON body take, about: it is
// not known which message they are.
const jsonObject, jsonValue = 96, 16

// json measures a JSON body, and wants its brackets to match.
func (me *measure) json(b []byte) error {
	var open [maxDepth]byte
	depth := 0
	for i := 0; i < len(b); i++ {
		cost := 0
		switch c := b[i]; c {
		case '"':
			end := endOfString(b, i+1)
			if end < 0 {
				return notJSON("a string does not end")
			}
			i, cost = end, end-i
		case '{', '[':
			if depth == maxDepth {
				return tooDeep()
			}
			open[depth] = c
			depth++
			cost = jsonValue
			if c == '{' {
				cost = jsonObject
			}
		case '}', ']':
			// The brackets of ASCII lie two apart.
			if depth == 0 || open[depth-1] != c-2 {
				return notJSON("the brackets do not match")
			}
			depth--
		case ',':
			cost = jsonValue
		}
		if err := me.add(cost); err != nil {
			return err
		}
	}
	if depth > 0 {
		return notJSON("the brackets do not match")
	}
	return nil
}

// endOfString is the position of the quote that ends the string whose first byte
// is b[i], or negative.
func endOfString(b []byte, i int) int {
	for ; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

func notJSON(why string) error {
	return proto.Errorf(proto.KindBadData, "weir-otlp-malformed", "the body is not OTLP as JSON: %s", why)
}
