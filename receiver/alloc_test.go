package receiver_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// TestAllocations: a request of known series takes no memory per sample, only a
// little for itself, whatever its size, and no more under rules and rates of label
// sets.
func TestAllocations(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would empty the pools
	for _, v := range versions {
		for i, n := range []int{1, 100, 2000, 2000} {
			rules := []string{"", "", "", tenRules}[i]
			t.Run(fmt.Sprintf("version=%s/series=%d/rules=%t", v, n, rules != ""), func(t *testing.T) {
				s := newSetup(t, bounded(100, 1<<30), withRules(t, rules), func(s *setup) { s.ing = discard{} })
				if rules != "" {
					s.Receiver.Settings("a").Limits.LabelSets = tenSets() // before anybody looks
				}
				body := encode(v, 0, n, time.Now().UnixMilli())
				hr := newRequest(v, nil)
				hr.Header.Set(tenant.Header, "a")
				w := &answerWriter{header: http.Header{}}
				send := func() {
					hr.Body, hr.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
					clear(w.header)
					s.ServeHTTP(w, hr)
				}
				for range 3 { // the series become known, the buffers grow
					send()
					require.Equal(t, http.StatusNoContent, w.status)
				}
				got := testing.AllocsPerRun(20, send)
				if raceEnabled {
					// The pool drops some of what it gets, so that races show.
					require.Less(t, got, 200+float64(n)/4)
				} else {
					require.LessOrEqual(t, got, 20.0)
				}
			})
		}
	}
}

// TestAllocationsOfRefusals: a series that is refused again and again costs no
// more than one that is not.
func TestAllocationsOfRefusals(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for _, v := range versions {
		t.Run("version="+v.String(), func(t *testing.T) {
			s := newSetup(t, func(s *setup) { s.ing = discard{} })
			var all []series
			for i := range 2000 {
				all = append(all, series{labels: pairs("job", fmt.Sprint(i)), floats: []proto.Float{{T: 1}}})
			}
			hr := newRequest(v, marshal(v, all...))
			body, err := io.ReadAll(hr.Body)
			require.NoError(t, err)
			w := &answerWriter{header: http.Header{}}
			send := func() {
				setBody(hr, body)
				clear(w.header)
				s.ServeHTTP(w, hr)
			}
			for range 3 {
				send()
				require.Equal(t, http.StatusBadRequest, w.status)
			}
			got := testing.AllocsPerRun(20, send)
			require.Less(t, got, 100.0, "for 2,000 series")
		})
	}
}

// TestAllocationsOfDrops: a series that rules drop again and again costs no more
// than one that they keep, also if what is told of it must be redacted.
func TestAllocationsOfDrops(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for _, v := range versions {
		t.Run("version="+v.String(), func(t *testing.T) {
			s := newSetup(t, withRules(t, tenRules), func(s *setup) { s.ing = discard{} })
			var all []series
			for i := range 2000 {
				all = append(all, series{labels: pairs("__name__", fmt.Sprint("go_gc_", i%400), "i", fmt.Sprint(i)), floats: []proto.Float{{T: time.Now().UnixMilli()}}})
			}
			hr := newRequest(v, marshal(v, all...))
			body, err := io.ReadAll(hr.Body)
			require.NoError(t, err)
			w := &answerWriter{header: http.Header{}}
			send := func() {
				setBody(hr, body)
				clear(w.header)
				s.ServeHTTP(w, hr)
			}
			for range 3 {
				send()
				require.Equal(t, http.StatusNoContent, w.status)
			}
			require.Less(t, testing.AllocsPerRun(20, send), 500.0, "for 2,000 series")
		})
	}
}

// answerWriter takes an answer without memory of its own.
type answerWriter struct {
	header http.Header
	status int
}

func (w *answerWriter) Header() http.Header         { return w.header }
func (w *answerWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *answerWriter) WriteHeader(status int)      { w.status = status }
