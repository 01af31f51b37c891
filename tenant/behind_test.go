package tenant_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// TestBehind: what a reason names is a limit there is, with its value.
func TestBehind(t *testing.T) {
	lim := tenant.DefaultLimits()
	values := map[string]any{}
	v := reflect.ValueOf(lim)
	for i := range v.NumField() {
		value := v.Field(i).Interface()
		if d, ok := value.(time.Duration); ok {
			value = d.String()
		}
		values["limits."+v.Type().Field(i).Tag.Get("yaml")] = value
	}
	named := 0
	for r := range proto.Reasons {
		path, value := lim.Behind(r)
		if path == "" {
			require.Nil(t, value)
			require.False(t, strings.HasSuffix(r.ID(), "-too-long") || strings.HasSuffix(r.ID(), "-too-many"), "%s names no limit", r.ID())
			continue
		}
		named++
		require.Contains(t, values, path)
		if r != proto.LabelSetSeriesLimit && r != proto.LabelSetRate {
			require.Equal(t, values[path], value)
		}
	}
	require.GreaterOrEqual(t, named, 10)
}

// TestBehindRequest: each rate has an id, which leads to its value.
func TestBehindRequest(t *testing.T) {
	lim := tenant.Limits{IngestionRate: 1, RequestRate: 2, IngestionBytesRate: 3, NativeHistogramBucketsRate: 4, ExemplarsRate: 5}
	want := [tenant.Resources]int{tenant.Samples: 1, tenant.Requests: 2, tenant.Bytes: 3, tenant.Buckets: 4, tenant.Exemplars: 5}
	for r := range tenant.Resources {
		path, value := lim.BehindRequest(r.ID())
		require.Equal(t, "limits."+r.Setting(), path)
		require.Equal(t, want[r], value)
	}
	path, value := lim.BehindRequest("weir-overloaded")
	require.Empty(t, path)
	require.Nil(t, value)
}
