package proto

import (
	"encoding/binary"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/zeebo/xxh3"
)

// Request reads one decoded remote-write request in place, series by series,
// without building objects: it finds the label bytes of a series, hashes them,
// and remembers where its samples lie.
//
// Specifications: Prometheus remote write 1.0 and 2.0-rc.4.
//
// The zero value is ready for Reset. A Request reads the buffer given to Reset
// until the next Reset; it is not for concurrent use.
type Request struct {
	version Version
	buf     []byte
	pos     int
	seed    uint64

	// Of version 2: where each symbol lies, and its hash.
	symbols []byteRange
	hashes  []uint64

	metadata []byteRange // of version 1: messages of WriteRequest.metadata
	gathered []byte      // labels of series whose labels do not lie together
}

// byteRange is a part of the request's buffer.
type byteRange struct{ start, end uint32 }

// Series is one time series of a Request. Its byte ranges point into the
// request's buffer.
type Series struct {
	// Key is the hash of the label bytes as the request spells them, under the
	// seed given to Reset: equal keys mean equal label sets.
	Key Hash
	// Floats, Histograms and Exemplars count the series' samples.
	Floats, Histograms, Exemplars uint32

	labels   byteRange // version 1: Label fields; version 2: packed refs
	rest     byteRange // the fields after the labels
	meta     byteRange // version 2: the metadata message
	gathered bool      // labels is a part of Request.gathered instead
	broken   bool      // version 2: refs odd in number or out of range
}

// Counts of the series' samples by kind.
func (s *Series) Counts() Counts {
	return Counts{Samples: int(s.Floats), Histograms: int(s.Histograms), Exemplars: int(s.Exemplars)}
}

// Cacheable is false when Key does not stand for the series' labels because the
// request's symbol references are broken.
func (s *Series) Cacheable() bool { return !s.broken }

var errMalformed = Errorf(KindBadData, "weir-request-malformed",
	"the request is not a valid protocol buffer message of the announced type; nothing of it was stored")

// Malformed is the error for bytes that are not the announced message.
func Malformed() error { return errMalformed }

// Reset starts reading buf, which must stay as it is until the next Reset.
// maxSymbols bounds the symbol table of version 2.
func (r *Request) Reset(v Version, buf []byte, seed uint64, maxSymbols int) error {
	r.version, r.buf, r.pos, r.seed = v, buf, 0, seed
	r.symbols, r.hashes, r.metadata, r.gathered = r.symbols[:0], r.hashes[:0], r.metadata[:0], r.gathered[:0]
	if uint64(len(buf)) > 1<<31 {
		return Errorf(KindTooLarge, "weir-request-too-large", "the decoded request has %d bytes, the limit is 2 GiB", len(buf))
	}
	if v == V2 {
		return r.readSymbols(maxSymbols)
	}
	return nil
}

// readSymbols finds and hashes every symbol. A sender writes them before the
// series, but protocol buffers allow any order.
func (r *Request) readSymbols(maxSymbols int) error {
	r.pos = len(r.buf)
	for p := 0; p < len(r.buf); {
		if r.buf[p] == tag(5, wireBytes) {
			r.pos = min(r.pos, p) // the first series
			if _, p = span(r.buf, p+1); p < 0 {
				return errMalformed
			}
			continue
		}
		if r.buf[p] != tag(4, wireBytes) {
			var f field
			if p = f.next(r.buf, p); p < 0 || (f.id == 4 || f.id == 5) && f.wire != wireBytes {
				return errMalformed
			}
			continue
		}
		var start int
		if start, p = span(r.buf, p+1); p < 0 {
			return errMalformed
		}
		if len(r.symbols) >= maxSymbols {
			return Errorf(KindTooLarge, "weir-too-many-symbols",
				"the request has more than %d symbols (max_symbols_per_request); lower max_samples_per_send in the sender's queue_config", maxSymbols)
		}
		r.symbols = append(r.symbols, byteRange{uint32(start), uint32(p)})
		r.hashes = append(r.hashes, xxh3.HashSeed(r.buf[start:p], r.seed))
	}
	if len(r.symbols) > 0 && r.symbols[0].start != r.symbols[0].end {
		return Errorf(KindBadData, "weir-request-malformed", "the first symbol of a remote-write 2.0 request must be the empty string")
	}
	return nil
}

// Next reads the next series into s. It reports false at the end, and an error
// when the bytes are not a valid message.
func (r *Request) Next(s *Series) (bool, error) {
	want := tag(1, wireBytes)
	if r.version == V2 {
		want = tag(5, wireBytes)
	}
	for r.pos < len(r.buf) {
		if r.buf[r.pos] == want { // any other spelling of the tag is malformed
			start, end := span(r.buf, r.pos+1)
			if end < 0 {
				return false, errMalformed
			}
			r.pos = end
			return true, r.scan(s, start, end)
		}
		var f field
		if r.pos = f.next(r.buf, r.pos); r.pos < 0 {
			return false, errMalformed
		}
		if f.wire != wireBytes && f.id == int(want>>3) {
			return false, errMalformed
		}
		if r.version == V1 && f.id == 3 && f.wire == wireBytes {
			r.metadata = append(r.metadata, byteRange{uint32(r.pos - len(f.val)), uint32(r.pos)})
		}
	}
	return false, nil
}

// scan reads the time series message at buf[start:end].
func (r *Request) scan(s *Series, start, end int) error {
	b, p := r.buf[:end], start
	*s = Series{}
	if r.version == V1 {
		for p < end && b[p] == tag(1, wireBytes) {
			if _, p = span(b, p+1); p < 0 {
				return errMalformed
			}
		}
		s.labels = byteRange{uint32(start), uint32(p)}
	} else if p < end && b[p] == tag(1, wireBytes) {
		var from int
		if from, p = span(b, p+1); p < 0 {
			return errMalformed
		}
		s.labels = byteRange{uint32(from), uint32(p)}
	}
	s.rest = byteRange{uint32(p), uint32(end)}
	scattered, err := r.scanRest(s, b, p)
	if err != nil {
		return err
	}
	if scattered {
		if err := r.gather(s, start, end); err != nil {
			return err
		}
	}
	if r.version == V1 {
		s.Key = hashBytes(r.labelBytes(s), r.seed)
		return nil
	}
	return r.keyOfRefs(s)
}

// labelBytes are the Label fields of s in version 1, its packed references in
// version 2.
func (r *Request) labelBytes(s *Series) []byte {
	if s.gathered {
		return r.gathered[s.labels.start:s.labels.end]
	}
	return r.buf[s.labels.start:s.labels.end]
}

// scanRest counts what follows the labels; scattered means that more of the
// labels lies there.
func (r *Request) scanRest(s *Series, b []byte, p int) (scattered bool, err error) {
	for p < len(b) {
		if b[p] == tag(2, wireBytes) {
			if _, p = span(b, p+1); p < 0 {
				return false, errMalformed
			}
			s.Floats++
			continue
		}
		if b[p] == tag(5, wireBytes) && r.version == V2 {
			var start int
			if start, p = span(b, p+1); p < 0 {
				return false, errMalformed
			}
			s.meta = byteRange{uint32(start), uint32(p)}
			continue
		}
		var f field
		if p = f.next(b, p); p < 0 {
			return false, errMalformed
		}
		switch {
		case f.id == 1:
			scattered = true
		case f.id > 5 || (f.id == 5 && r.version == V1):
			// Unknown to us, or reserved.
		case f.wire != wireBytes || f.id == 5:
			return false, errMalformed
		case (f.id == 3) == (r.version == V1):
			s.Exemplars++
		default:
			s.Histograms++
		}
	}
	return scattered, nil
}

// gather collects labels that do not lie together, as protocol buffers allow.
// No known sender does this.
func (r *Request) gather(s *Series, start, end int) error {
	s.rest.start = uint32(start)
	out := r.gathered
	s.labels.start = uint32(len(out))
	for p := start; p < end; {
		from := p
		var f field
		p = f.next(r.buf[:end], p)
		switch {
		case f.id != 1:
		case f.wire == wireBytes && r.version == V1:
			out = append(out, r.buf[from:p]...)
		case f.wire == wireBytes:
			out = append(out, f.val...)
		case f.wire == wireVarint && r.version == V2:
			out = binary.AppendUvarint(out, f.num)
		default:
			return errMalformed
		}
	}
	s.labels.end, s.gathered = uint32(len(out)), true
	r.gathered = out
	return nil
}

// keyOfRefs makes the key of a version 2 series from the hashes of the symbols
// that it refers to: two polynomials over the names and two over the values, as
// four chains that the processor multiplies side by side. The symbols' hashes
// are secret, so the polynomials need not be strong: for other symbols they are
// equal by chance only.
func (r *Request) keyOfRefs(s *Series) error {
	const m1, m2 = 0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f
	var a, b, c, d uint64 // a and c take this reference, b and d the one before and after
	refs, hashes := r.labelBytes(s), r.hashes
	n := 0
	for p := 0; p < len(refs); n++ {
		ref := uint64(refs[p])
		p++
		if ref >= 0x80 {
			if p < len(refs) && refs[p] < 0x80 {
				ref = ref&0x7f | uint64(refs[p])<<7
				p++
			} else if ref, p = uvarintLong(refs, p-1); p < 0 {
				return errMalformed
			}
		}
		if ref >= uint64(len(hashes)) {
			s.broken = true
			continue
		}
		h := hashes[ref]
		a, b = b, a*m1+h
		c, d = d, c*m2+h
	}
	s.broken = s.broken || n%2 != 0
	lo := (a*m2 + b) * m1
	s.Key = Hash{Hi: c*m1 + d, Lo: lo ^ lo>>32}
	return nil
}

// LabelCount is the number of labels of s, those without a value included.
func (r *Request) LabelCount(s *Series) int {
	n := 0
	b := r.labelBytes(s)
	if r.version == V2 {
		for _, c := range b {
			if c < 0x80 { // the last byte of a reference
				n++
			}
		}
		return n / 2
	}
	for p := 0; p < len(b); n++ {
		if _, p = span(b, p+1); p < 0 {
			break
		}
	}
	return n
}

// AppendLabels appends the labels of s in the order of the request. The
// strings are views of the request's buffer. It returns a Reason when the
// labels cannot be read.
func (r *Request) AppendLabels(dst []labels.Label, s *Series) ([]labels.Label, Reason) {
	if r.version == V2 {
		if s.broken {
			return dst, SymbolInvalid
		}
		return r.resolve(dst, r.labelBytes(s))
	}
	b := r.labelBytes(s)
	for p := 0; p < len(b); {
		if l, n := usualLabel(b[p:]); n > 0 {
			dst = append(dst, l)
			p += n
			continue
		}
		var f field
		if p = f.next(b, p); p < 0 {
			return dst, LabelsMalformed
		}
		l, ok := readLabel(f.val)
		if !ok {
			return dst, LabelsMalformed
		}
		dst = append(dst, l)
	}
	return dst, OK
}

// usualLabel reads the label that b begins with, and returns the bytes it takes,
// if it lies there as nearly all do: the name, then the value, both shorter than
// 128 bytes.
func usualLabel(b []byte) (l labels.Label, n int) {
	const label, name, value = 1<<3 | wireBytes, 1<<3 | wireBytes, 2<<3 | wireBytes
	if len(b) < 4 || b[0] != label || b[1] >= 0x80 || b[2] != name || b[3] >= 0x80 {
		return l, 0
	}
	end, nameEnd := 2+int(b[1]), 4+int(b[3])
	if end > len(b) || nameEnd+2 > end || b[nameEnd] != value || b[nameEnd+1] >= 0x80 || nameEnd+2+int(b[nameEnd+1]) != end {
		return l, 0
	}
	return labels.Label{Name: view(b[4:nameEnd]), Value: view(b[nameEnd+2 : end])}, end
}

func readLabel(b []byte) (l labels.Label, ok bool) {
	for p := 0; p < len(b); {
		var f field
		if p = f.next(b, p); p < 0 || (f.id <= 2 && f.wire != wireBytes) {
			return l, false
		}
		switch f.id {
		case 1:
			l.Name = view(f.val)
		case 2:
			l.Value = view(f.val)
		}
	}
	return l, true
}

// resolve appends the labels that packed refs stand for.
func (r *Request) resolve(dst []labels.Label, refs []byte) ([]labels.Label, Reason) {
	for p := 0; p < len(refs); {
		var name, value uint64
		if name, p = uvarint(refs, p); p < 0 {
			return dst, SymbolInvalid
		}
		if value, p = uvarint(refs, p); p < 0 {
			return dst, SymbolInvalid
		}
		n, ok1 := r.symbol(name)
		v, ok2 := r.symbol(value)
		if !ok1 || !ok2 {
			return dst, SymbolInvalid
		}
		dst = append(dst, labels.Label{Name: n, Value: v})
	}
	return dst, OK
}

func (r *Request) symbol(ref uint64) (string, bool) {
	if ref >= uint64(len(r.symbols)) {
		return "", false
	}
	s := r.symbols[ref]
	return view(r.buf[s.start:s.end]), true
}

// Identity hashes canonical labels (sorted by name, names unique, no empty
// values) under the tenant's seed.
func Identity(ls []labels.Label, seed uint64, buf []byte) (Hash, []byte) {
	buf = buf[:0]
	for _, l := range ls {
		buf = slices.Grow(buf, len(l.Name)+len(l.Value)+2*binary.MaxVarintLen32)
		buf = binary.AppendUvarint(buf, uint64(len(l.Name)))
		buf = append(buf, l.Name...)
		buf = binary.AppendUvarint(buf, uint64(len(l.Value)))
		buf = append(buf, l.Value...)
	}
	return hashBytes(buf, seed), buf
}
