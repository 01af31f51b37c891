package api

import (
	"encoding/json"
	"math"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// payload is the data of an answer.
type payload interface {
	encode(e *encoder)
	// size is about the length of what encode writes, in bytes. An answer that is
	// too long is refused by it: once a part is sent there is no way back.
	size() int64
}

const (
	// flushBytes is how much is encoded before it is sent, so that an answer
	// takes its memory once, as values, and not again as text.
	flushBytes = 64 << 10
	// maxPooledBytes is the largest buffer that is kept.
	maxPooledBytes = 4 * flushBytes
)

// encoder writes JSON as Prometheus' API does: samples are [seconds, "value"],
// values are strings because JSON has no NaN and Inf.
type encoder struct {
	buf  []byte
	body *body
	err  error // of the first piece that could not be sent; the rest is dropped
}

var encoders = sync.Pool{New: func() any { return &encoder{buf: make([]byte, 0, flushBytes+flushBytes/4)} }}

// newEncoder returns an encoder whose owner calls finish.
func newEncoder(b *body) *encoder {
	e := encoders.Get().(*encoder)
	e.body = b
	return e
}

// finish sends the rest and gives the encoder back. It returns the first error
// of sending.
func (e *encoder) finish() error {
	e.send(true)
	err := e.err
	if cap(e.buf) <= maxPooledBytes {
		*e = encoder{buf: e.buf[:0]}
		encoders.Put(e)
	}
	return err
}

// rest is called between elements, where the buffer may be emptied.
func (e *encoder) rest() {
	if len(e.buf) >= flushBytes {
		e.send(false)
	}
}

func (e *encoder) send(last bool) {
	if e.err == nil {
		e.err = e.body.write(e.buf, last)
	}
	e.buf = e.buf[:0]
}

// Write implements io.Writer, for encoders of other formats.
func (e *encoder) Write(p []byte) (int, error) {
	e.buf = append(e.buf, p...)
	e.rest()
	return len(p), e.err
}

func (e *encoder) raw(s string) { e.buf = append(e.buf, s...) }

// comma separates element i of a list from the one before.
func (e *encoder) comma(i int) {
	if i > 0 {
		e.buf = append(e.buf, ',')
	}
}

// string writes s as a JSON string, invalid UTF-8 as U+FFFD.
func (e *encoder) string(s string) { e.buf = appendString(e.buf, s) }

// stringsField writes a list as a further field of an object, unless it is empty.
func (e *encoder) stringsField(name string, list []string) {
	if len(list) == 0 {
		return
	}
	e.raw(`,"` + name + `":`)
	stringList(list).encode(e)
}

// marshal writes v by encoding/json; for small and rare objects whose types are
// known to have a JSON form.
func (e *encoder) marshal(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("api: " + err.Error())
	}
	e.buf = append(e.buf, b...)
}

// labels writes labels as an object.
func (e *encoder) labels(ls labels.Labels) {
	e.raw(`{`)
	i := 0
	ls.Range(func(l labels.Label) {
		e.comma(i)
		i++
		e.string(l.Name)
		e.raw(`:`)
		e.string(l.Value)
	})
	e.raw(`}`)
}

// point writes a float sample; t is in milliseconds.
func (e *encoder) point(t int64, v float64) {
	b := append(e.buf, '[')
	b = appendSeconds(b, t)
	b = append(b, ',')
	b = appendValue(b, v)
	e.buf = append(b, ']')
}

// histogramPoint writes a histogram sample; t is in milliseconds.
func (e *encoder) histogramPoint(t int64, h *histogram.FloatHistogram) {
	b := append(e.buf, '[')
	b = appendSeconds(b, t)
	b = append(b, ',')
	b = appendHistogram(b, h)
	e.buf = append(b, ']')
}

// appendSeconds appends a timestamp in milliseconds as seconds.
func appendSeconds(b []byte, ms int64) []byte {
	abs := uint64(ms)
	if ms < 0 {
		b = append(b, '-')
		abs = -abs
	}
	b = strconv.AppendUint(b, abs/1000, 10)
	if fraction := abs % 1000; fraction != 0 {
		b = append(b, '.', byte('0'+fraction/100), byte('0'+fraction/10%10), byte('0'+fraction%10))
	}
	return b
}

// appendValue appends a sample value: a string with the shortest number that
// reads back as v, in exponential form where that is much shorter.
func appendValue(b []byte, v float64) []byte {
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	b = append(b, '"')
	b = strconv.AppendFloat(b, v, format, -1, 64)
	return append(b, '"')
}

// appendHistogram appends a histogram with its buckets that are not empty.
func appendHistogram(b []byte, h *histogram.FloatHistogram) []byte {
	b = append(b, `{"count":`...)
	b = appendValue(b, h.Count)
	b = append(b, `,"sum":`...)
	b = appendValue(b, h.Sum)
	found := false
	for it := h.AllBucketIterator(); it.Next(); {
		bucket := it.At()
		if bucket.Count == 0 {
			continue
		}
		if found {
			b = append(b, ',')
		} else {
			b = append(b, `,"buckets":[`...)
		}
		found = true
		b = append(b, '[', boundaries(bucket), ',')
		b = appendValue(b, bucket.Lower)
		b = append(b, ',')
		b = appendValue(b, bucket.Upper)
		b = append(b, ',')
		b = appendValue(b, bucket.Count)
		b = append(b, ']')
	}
	if found {
		b = append(b, ']')
	}
	return append(b, '}')
}

// boundaries is the digit that says which of a bucket's bounds are in it.
func boundaries(b histogram.Bucket[float64]) byte {
	switch {
	case b.LowerInclusive && b.UpperInclusive:
		return '3'
	case b.LowerInclusive:
		return '1'
	case b.UpperInclusive:
		return '0'
	}
	return '2'
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	done := 0 // s[:done] is appended
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[done:i]...), `\ufffd`...)
				done = i + 1
			}
			i += size
			continue
		}
		b = append(b, s[done:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		done = i
	}
	b = append(b, s[done:]...)
	return append(b, '"')
}
