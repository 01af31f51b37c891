package receiver_test

import (
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// TestHistogramIndexes: buckets from the smallest to the largest number there is
// are stored. Those beyond are refused: to add them up, as queries do, panics.
func TestHistogramIndexes(t *testing.T) {
	now := time.Now().UnixMilli()
	for _, c := range []struct {
		schema, offset int32
		ok             bool
	}{
		{0, 1024, true}, {0, -1074, true}, {8, 1024 << 8, true}, {8, -1074 << 8, true}, {-4, 65, true}, {-4, -68, true},
		{20, 1024 << 20, true}, {20, -1074 << 20, true}, // reduced to 8
		{0, 2000, false}, {0, -2000, false}, {8, 1 << 20, false}, {-4, 1 << 20, false},
		{0, math.MaxInt32, false}, {0, math.MinInt32, false}, {52, math.MaxInt32, false},
	} {
		for _, v := range versions {
			for _, negative := range []bool{false, true} {
				t.Run(fmt.Sprintf("version=%s/schema=%d/offset=%d/negative=%t", v, c.schema, c.offset, negative), func(t *testing.T) {
					h := &histogram.Histogram{Schema: c.schema, Count: 1, Sum: 1}
					spans, buckets := []histogram.Span{{Offset: c.offset, Length: 1}}, []int64{1}
					if negative {
						h.NegativeSpans, h.NegativeBuckets = spans, buckets
					} else {
						h.PositiveSpans, h.PositiveBuckets = spans, buckets
					}
					w := newSetup(t).send(v, marshal(v,
						series{labels: pairs("__name__", "h"), histograms: []proto.Histogram{{T: now, H: h}, {T: now + 1, FH: h.ToFloat(nil)}}}))
					if c.ok {
						require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
						return
					}
					require.Equal(t, http.StatusBadRequest, w.Code)
					require.Contains(t, w.Body.String(), "weir-histogram-invalid: refused 2 ")
					require.Contains(t, w.Body.String(), "which no number can be in")
				})
			}
		}
	}
}
