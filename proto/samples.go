package proto

import (
	"math"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
)

// AppendSamples appends the samples of s to the columns of f. Histograms and
// exemplars are copied out of the buffer. It returns an error when the bytes
// are not valid messages. Exemplars whose labels cannot be read are refused in
// rej, under index series, and not appended.
func (r *Request) AppendSamples(f *Frame, s *Series, series uint32, rej *Rejections) error {
	b := r.buf[:s.rest.end]
	left := s.Floats + s.Histograms + s.Exemplars
	for p := int(s.rest.start); left > 0 && p < len(b); {
		if b[p] == tag(2, wireBytes) {
			left--
			var start int
			if start, p = span(b, p+1); p < 0 {
				return errMalformed
			}
			sample, ok := readFloat(b[start:p], r.version)
			if !ok {
				return errMalformed
			}
			f.Floats = append(f.Floats, sample)
			continue
		}
		var fd field
		if p = fd.next(b, p); p < 0 {
			return errMalformed
		}
		if fd.id != 3 && fd.id != 4 {
			continue
		}
		left--
		if (fd.id == 3) == (r.version == V1) {
			if err := r.appendExemplar(f, fd.val, series, rej); err != nil {
				return err
			}
			continue
		}
		h, ok := readHistogram(fd.val, r.version)
		if !ok {
			return errMalformed
		}
		f.Histograms = append(f.Histograms, h)
	}
	return nil
}

// readFloat reads a Sample: value = 1, timestamp = 2 and, in version 2,
// start_timestamp = 3.
func readFloat(b []byte, v Version) (s Float, ok bool) {
	// As every sender writes it: the value, then the timestamp.
	p := 0
	if len(b) >= 11 && b[0] == tag(1, wireI64) && b[9] == tag(2, wireVarint) {
		s.V = math.Float64frombits(le64(b, 1))
		var t uint64
		if t, p = uvarintLong(b, 10); p < 0 {
			return s, false
		}
		s.T = int64(t)
	}
	for p < len(b) {
		var f field
		if p = f.next(b, p); p < 0 {
			return s, false
		}
		switch {
		case f.id == 1 && f.wire == wireI64:
			s.V = math.Float64frombits(f.num)
		case f.id == 2 && f.wire == wireVarint:
			s.T = int64(f.num)
		case f.id == 3 && f.wire == wireVarint && v == V2:
			s.ST = int64(f.num)
		case f.id <= 2 || f.id == 3 && v == V2:
			return s, false
		}
	}
	return s, true
}

// appendExemplar reads an Exemplar: labels = 1 (messages, or refs in version 2),
// value = 2, timestamp = 3.
func (r *Request) appendExemplar(fr *Frame, b []byte, series uint32, rej *Rejections) error {
	var (
		e      = exemplar.Exemplar{HasTs: true}
		ls     [8]labels.Label
		lbls   = ls[:0]
		refs   []byte
		reason = OK
	)
	for p := 0; p < len(b); {
		var f field
		if p = f.next(b, p); p < 0 {
			return errMalformed
		}
		switch {
		case f.id == 1 && f.wire == wireBytes && r.version == V1:
			l, ok := readLabel(f.val)
			if !ok {
				return errMalformed
			}
			lbls = append(lbls, l)
		case f.id == 1 && f.wire == wireBytes:
			refs = append(refs, f.val...)
		case f.id == 1 && f.wire == wireVarint && r.version == V2:
			refs = appendUvarint(refs, f.num)
		case f.id == 2 && f.wire == wireI64:
			e.Value = math.Float64frombits(f.num)
		case f.id == 3 && f.wire == wireVarint:
			e.Ts = int64(f.num)
		case f.id <= 3:
			return errMalformed
		}
	}
	if r.version == V2 {
		lbls, reason = r.resolve(lbls, refs)
	}
	if reason == OK {
		reason = checkExemplarLabels(lbls)
	}
	if reason != OK {
		rej.Add(ExemplarInvalid, Counts{Exemplars: 1}, series, e.Ts, func() string {
			return "the exemplar's labels are " + reason.ID()
		})
		return nil
	}
	e.Labels = CopyLabels(lbls)
	fr.Exemplars = append(fr.Exemplars, e)
	return nil
}

// checkExemplarLabels accepts what can be stored and shown: UTF-8 text, names
// that are not empty, no name twice, and not more than the TSDB takes.
func checkExemplarLabels(ls []labels.Label) Reason {
	size, characters := 0, 0
	for i, l := range ls {
		if size += len(l.Name) + len(l.Value); size > utf8.UTFMax*exemplar.ExemplarMaxLabelSetLength {
			return LabelValueTooLong
		}
		characters += utf8.RuneCountInString(l.Name) + utf8.RuneCountInString(l.Value)
		if characters > exemplar.ExemplarMaxLabelSetLength {
			return LabelValueTooLong
		}
		if !model.UTF8Validation.IsValidLabelName(l.Name) {
			return LabelNameInvalid
		}
		if !model.LabelValue(l.Value).IsValid() {
			return LabelValueInvalid
		}
		for _, before := range ls[:i] {
			if before.Name == l.Name {
				return LabelNameDuplicate
			}
		}
	}
	return OK
}

func appendUvarint(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// CopyLabels returns sorted labels that share no memory with ls.
func CopyLabels(ls []labels.Label) labels.Labels {
	b := labels.NewScratchBuilder(len(ls))
	for _, l := range ls {
		b.Add(l.Name, l.Value)
	}
	b.Sort()
	return b.Labels()
}

// metricTypes are those of MetricMetadata and of version 2's Metadata, which
// number them alike.
var metricTypes = [...]model.MetricType{
	model.MetricTypeUnknown, model.MetricTypeCounter, model.MetricTypeGauge, model.MetricTypeHistogram,
	model.MetricTypeGaugeHistogram, model.MetricTypeSummary, model.MetricTypeInfo, model.MetricTypeStateset,
}

func metricType(v uint64) model.MetricType {
	if v < uint64(len(metricTypes)) {
		return metricTypes[v]
	}
	return model.MetricTypeUnknown
}

// MetadataCount is the number of metadata messages of a version 1 request, all of
// whose series were read.
func (r *Request) MetadataCount() int { return len(r.metadata) }

// MetadataV1 calls yield for each metadata message of a version 1 request, all
// of whose series were read. The strings are views of the request's buffer.
func (r *Request) MetadataV1(yield func(Metadata)) error {
	for _, m := range r.metadata {
		b := r.buf[m.start:m.end]
		md := Metadata{Metadata: metadata.Metadata{Type: model.MetricTypeUnknown}}
		for p := 0; p < len(b); {
			var f field
			if p = f.next(b, p); p < 0 {
				return errMalformed
			}
			switch {
			case f.id == 1 && f.wire == wireVarint:
				md.Type = metricType(f.num)
			case f.id == 2 && f.wire == wireBytes:
				md.Family = view(f.val)
			case f.id == 4 && f.wire == wireBytes:
				md.Help = view(f.val)
			case f.id == 5 && f.wire == wireBytes:
				md.Unit = view(f.val)
			case f.id <= 5 && f.id != 3:
				return errMalformed
			}
		}
		yield(md)
	}
	return nil
}

// metadataFields reads the metadata message of a version 2 series.
func (r *Request) metadataFields(s *Series) (typ, help, unit uint64, ok bool) {
	b := r.buf[s.meta.start:s.meta.end]
	for p := 0; p >= 0 && p < len(b); {
		switch b[p] {
		case tag(1, wireVarint):
			typ, p = uvarint(b, p+1)
		case tag(3, wireVarint):
			help, p = uvarint(b, p+1)
		case tag(4, wireVarint):
			unit, p = uvarint(b, p+1)
		default:
			var f field
			p = f.next(b, p)
		}
		if p < 0 {
			return 0, 0, 0, false
		}
	}
	return typ, help, unit, help < uint64(len(r.symbols)) && unit < uint64(len(r.symbols))
}

// MetadataHash is 0 when s says nothing of its metric family, else a hash of
// what it says, for telling whether that changed since the last time.
func (r *Request) MetadataHash(s *Series) uint32 {
	if s.meta.start == s.meta.end {
		return 0
	}
	typ, help, unit, ok := r.metadataFields(s)
	if !ok || (typ == 0 && help == 0 && unit == 0) {
		return 0
	}
	h := (r.hashes[help]*0x9e3779b97f4a7c15 + r.hashes[unit] ^ typ) * 0x9e3779b97f4a7c15
	return max(uint32(h>>32), 1)
}

// Metadata returns what s says of the metric family that metric name belongs
// to. The strings are views of the request's buffer.
func (r *Request) Metadata(s *Series, name string) Metadata {
	typ, help, unit, _ := r.metadataFields(s)
	h, _ := r.symbol(help)
	u, _ := r.symbol(unit)
	t := metricType(typ)
	if s.Histograms == 0 { // a native histogram has its family's name
		name = family(name, t)
	}
	return Metadata{Family: name, Metadata: metadata.Metadata{Type: t, Help: h, Unit: u}}
}

// family strips the suffixes that classic histograms and summaries put behind
// their family's name.
func family(name string, t model.MetricType) string {
	var suffixes []string
	switch t {
	case model.MetricTypeHistogram, model.MetricTypeGaugeHistogram:
		suffixes = []string{"_bucket", "_sum", "_count", "_gsum", "_gcount"}
	case model.MetricTypeSummary:
		suffixes = []string{"_sum", "_count"}
	}
	for _, s := range suffixes {
		if base, ok := strings.CutSuffix(name, s); ok && base != "" {
			return base
		}
	}
	return name
}
