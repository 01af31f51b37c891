package relabel

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

func find(detector, value string) (spans []span) {
	d := detectors[detector]
	if classify(value)&d.need == d.need {
		d.find(value, func(from, to int) { spans = append(spans, span{from: from, to: to}) })
	}
	return spans
}

// marked returns value with its spans between marks.
func marked(value string, spans []span) string {
	var b strings.Builder
	at := 0
	for _, s := range spans {
		b.WriteString(value[at:s.from] + "«" + value[s.from:s.to] + "»")
		at = s.to
	}
	return b.String() + value[at:]
}

var unmark = strings.NewReplacer("«", "", "»", "")

// corpus is the lines of testdata/detectors.txt: detector and value.
func corpus(tb testing.TB) (lines [][2]string) {
	content, err := os.ReadFile("testdata/detectors.txt")
	require.NoError(tb, err)
	for line := range strings.SplitSeq(strings.TrimSpace(string(content)), "\n") {
		if !strings.HasPrefix(line, "#") {
			detector, value, ok := strings.Cut(line, "\t")
			require.True(tb, ok, line)
			lines = append(lines, [2]string{detector, value})
		}
	}
	return lines
}

// TestDetectors holds every detector to the corpus. What a line marks must be
// found, to the byte; what is found besides must be known.
func TestDetectors(t *testing.T) {
	type score struct{ right, wrong, lines int }
	scores := map[string]*score{}
	for d := range detectors {
		scores[d] = new(score)
	}
	for _, line := range corpus(t) {
		of := []string{line[0]}
		if line[0] == "-" {
			of = slices.Collect(maps.Keys(detectors))
		}
		text, known := strings.CutPrefix(line[1], "~")
		known = known && text != ""
		if !known {
			text = line[1]
		}
		value := unmark.Replace(text)
		for _, d := range of {
			spans := find(d, value)
			require.Equal(t, text, marked(value, spans), d)
			s := scores[d]
			s.lines++
			if known {
				s.wrong += len(spans)
			} else {
				s.right += len(spans)
			}
		}
	}
	for _, d := range slices.Sorted(maps.Keys(scores)) {
		s := scores[d]
		require.Greater(t, s.right, 10, d)
		t.Logf("%-6s %3d values, %2d found, none missed, %d wrong: recall 1.00, precision %.2f",
			d, s.lines, s.right, s.wrong, float64(s.right)/float64(s.right+s.wrong))
	}
}

// TestDetectorsOnNoise measures how much of what telemetry is full of is taken for
// something else.
func TestDetectorsOnNoise(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	letters := func(n int, of string) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = of[random.IntN(len(of))]
		}
		return string(b)
	}
	const digits, hex, base32 = "0123456789", "0123456789abcdef", "abcdefghijklmnopqrstuvwxyz234567"
	const n = 50_000
	for _, c := range []struct {
		name string
		make func() string
		most map[string]float64 // share that may be found, by detector; none when missing
	}{
		{"SHA-256", func() string { return letters(64, hex) }, nil},
		{"trace id", func() string { return letters(32, hex) }, nil},
		{"pod name", func() string { return "app-" + letters(10, base32) + "-" + letters(5, base32) }, nil},
		{"float", func() string { return fmt.Sprint(random.Float64() * 1e3) }, nil},
		{"milliseconds", func() string { return fmt.Sprint(1_500_000_000_000 + random.Int64N(500_000_000_000)) }, nil},
		{"nanoseconds", func() string { return fmt.Sprint(1_500_000_000_000_000_000 + random.Int64N(500_000_000_000_000_000)) }, nil},
		{"time of day", func() string { return fmt.Sprintf("%02d:%02d:%02d", random.IntN(24), random.IntN(60), random.IntN(60)) }, nil},
		{"MAC address", func() string {
			return strings.Join([]string{letters(2, hex), letters(2, hex), letters(2, hex), letters(2, hex), letters(2, hex), letters(2, hex)}, ":")
		}, nil},
		{"version", func() string {
			return fmt.Sprintf("v%d.%d.%d.%d", random.IntN(99), random.IntN(99), random.IntN(99), random.IntN(99))
		}, nil},
		{"base64", func() string { return letters(44, digits+"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/") }, map[string]float64{"secret": 0.0001}},
		{"number of 16 digits", func() string { return letters(16, digits) }, map[string]float64{"card": 0.04}},
		{"number of 18 digits", func() string { return letters(18, digits) }, map[string]float64{"card": 0.02}},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := map[string]int{}
			for range n {
				value := c.make()
				for d := range detectors {
					if len(find(d, value)) > 0 {
						found[d]++
					}
				}
			}
			for d, count := range found {
				share := float64(count) / n
				t.Logf("%s: %.3f %%", d, 100*share)
				require.LessOrEqual(t, share, c.most[d], d)
			}
		})
	}
}

// TestDetectorsInContext puts everything the corpus marks into other surroundings:
// it is found there too, all of it.
func TestDetectorsInContext(t *testing.T) {
	before := []string{"", " ", "x=", "\"", "(", "/", "[", "k: ", "\xff", "é ", "-", "|"}
	after := []string{"", " ", ",", "\"", ")", "/", "]", ";x", "\xff", " é", "|", "\n"}
	checked := 0
	for _, line := range corpus(t) {
		d := line[0]
		if d == "-" || strings.HasPrefix(line[1], "~") || strings.Contains(line[1], "PRIVATE KEY") {
			continue
		}
		for part := range strings.SplitSeq(line[1], "«") {
			what, _, ok := strings.Cut(part, "»")
			if !ok {
				continue
			}
			for _, b := range before {
				for _, a := range after {
					if d == "email" && (b == "-" || b == "\xff" || a == "\xff") {
						continue // belong to the address
					}
					value := b + what + a
					covered := slices.ContainsFunc(find(d, value), func(s span) bool {
						return s.from <= len(b) && s.to >= len(b)+len(what)
					})
					require.True(t, covered, "%s: %q in %q", d, what, value)
					checked++
				}
			}
		}
	}
	require.Greater(t, checked, 10_000)
}

// TestDetectorsAreLinear: no value takes more than its length, whoever made it.
func TestDetectorsAreLinear(t *testing.T) {
	all := maps.Clone(detectors)
	all["regex"] = findRegex(regexp.MustCompile(`z(.*y)?`))
	length := 256 << 10
	if testing.Short() { // under the race detector it takes a hundred times as long
		length = 16 << 10
	}
	for _, text := range []string{
		"%40", "%40a.", "a@", "@a.b", "a.", "a@1.", "1:", "::", ":", "1.", "f:f:", "1234 ", "4111-", "4", "-", "_", "ey-", "ey-.", "eyJ.", "ew_ey.",
		"eyJhbGciOiJub25lIn0-", "AKIA", "ghp_", "glpat-", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "ATATT3", "0000-", "00000000-", "z", "é",
	} {
		value := strings.Repeat(text, length/len(text))
		for d := range all {
			start := time.Now()
			for _, v := range []string{value, value + ".x", "x@" + value} {
				all[d].find(v, func(int, int) {})
			}
			require.Less(t, time.Since(start), 5*time.Second, "%s of %q", d, text)
		}
	}
}

// TestManyMatches: behind the last match that is looked for, all is hidden.
func TestManyMatches(t *testing.T) {
	r := compile(t, "redact: [{detector: regex, regex: 'z', action: mask}]")
	out := r.Apply([]labels.Label{{Name: "a", Value: strings.Repeat("zx", 100)}}, 4096, new(Scratch))
	require.Equal(t, strings.Repeat("[regex]x", 15)+"[regex]", out.Labels[0].Value)
}

// FuzzDetectors: spans are in order and within the value, and hiding them leaves
// nothing of them.
func FuzzDetectors(f *testing.F) {
	for _, line := range corpus(f) {
		f.Add(unmark.Replace(line[1]))
	}
	rules := everything(f, Mask)
	f.Fuzz(func(t *testing.T, value string) {
		for d := range detectors {
			at := 0
			for _, s := range find(d, value) {
				require.GreaterOrEqual(t, s.from, at, d)
				require.Greater(t, s.to, s.from, d)
				require.LessOrEqual(t, s.to, len(value), d)
				at = s.to
			}
		}
		redacted, found, _, _ := rules.redactValue("x", value, new(Scratch))
		require.Equal(t, found.Redacted == 0, redacted == value)
		require.Equal(t, redacted, rules.Hide(value))
	})
}

// everything is rules with every detector.
func everything(tb testing.TB, action Action) *Rules {
	c := Config{}
	for _, d := range slices.Sorted(maps.Keys(detectors)) {
		c.Redact = append(c.Redact, Redaction{Detector: d, Action: action})
	}
	r, errs := Compile(&c, "")
	require.Empty(tb, errs)
	return r
}

// BenchmarkDetectors reads the labels of one series of Kubernetes, and everything
// that the corpus has.
func BenchmarkDetectors(b *testing.B) {
	var values []string
	for _, line := range corpus(b) {
		values = append(values, unmark.Replace(line[1]))
	}
	size := 0
	for _, v := range values {
		size += len(v)
	}
	for d := range detectors {
		b.Run(d, func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				for _, v := range values {
					find(d, v)
				}
			}
		})
	}
}
