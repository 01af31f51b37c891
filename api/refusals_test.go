package api_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/proto"
)

// withRefusals gives the server a ledger: of team-a, in which two senders had
// something refused, and of team-b.
func withRefusals(s *server) {
	l := ledger.New(nil)
	s.deps.Ledger = l
	example := func(job string) func(*ledger.Refused) ([]ledger.Label, string) {
		return func(x *ledger.Refused) ([]ledger.Label, string) {
			return []ledger.Label{{Name: "__name__", Value: x.Metric}, {Name: "job", Value: job}}, "the <detail>"
		}
	}
	newest := time.Now().Add(-3 * time.Second).UnixMilli()
	l.Record(teamA, &ledger.Request{
		Sender: ledger.Sender{Credential: "ci", UserAgent: "Prometheus/3.1.0 (linux)", Address: "10.0.0.1", Protocol: "2.0"}, ID: "r-1",
		Encoding: "snappy", Attempt: 1, Newest: newest, Written: proto.Counts{Samples: 5}, Example: example("a"),
		Refused: []ledger.Refused{{Reason: proto.SampleOutOfOrder, Metric: "requests", Counts: proto.Counts{Samples: 2}, T: 1000}},
	})
	time.Sleep(time.Minute)
	l.Record(teamA, &ledger.Request{
		Sender: ledger.Sender{UserAgent: "vmagent", Address: "10.0.0.2", Protocol: "1.0"}, ID: "r-2",
		Encoding: "zstd", Newest: ledger.NoTime, Err: proto.Errorf(proto.KindTooLarge, "weir-too-many-series", "more than 3 series"),
	})
	l.Record(teamB, &ledger.Request{
		Sender: ledger.Sender{UserAgent: "other", Address: "10.9.9.9", Protocol: "1.0"}, Newest: ledger.NoTime, Example: example("secret"),
		Refused: []ledger.Refused{{Reason: proto.SampleTooOld, Metric: "requests", Counts: proto.Counts{Samples: 2}}},
	})
	time.Sleep(9 * time.Minute)
}

const (
	lateRow = `{"reason":"weir-sample-out-of-order","metric":"requests",
		"sender":{"credential":"ci","userAgent":"Prometheus/3.1.0 (linux)","address":"10.0.0.1","protocol":"2.0"},"requests":1,
		"counts":{"samples":2,"histograms":0,"exemplars":0,"metadata":0},"first":"2000-01-01T00:00:00Z","last":"2000-01-01T00:00:00Z",
		"example":{"labels":[{"name":"__name__","value":"requests"},{"name":"job","value":"a"}],"timestamp":1000,"detail":"the <detail>",
			"requestId":"r-1","at":"2000-01-01T00:00:00Z"}}`
	largeRow = `{"reason":"weir-too-many-series","metric":"",
		"sender":{"userAgent":"vmagent","address":"10.0.0.2","protocol":"1.0"},"requests":1,
		"counts":{"samples":0,"histograms":0,"exemplars":0,"metadata":0},"first":"2000-01-01T00:01:00Z","last":"2000-01-01T00:01:00Z",
		"example":{"detail":"more than 3 series","requestId":"r-2","at":"2000-01-01T00:01:00Z"}}`
)

func TestRejections(t *testing.T) {
	for _, c := range []struct {
		name, query string
		want        string // data
		status      int    // 0: 200
	}{
		{"all, the newest first", "", "[" + largeRow + "," + lateRow + "]", 0},
		{"by reason", "reason=weir-sample-out-of-order&reason=weir-ok", "[" + lateRow + "]", 0},
		{"by metric", "match[]=requests", "[" + lateRow + "]", 0},
		{"by a label of the example", `match[]={job="a"}`, "[" + lateRow + "]", 0},
		{"by a metric whose example is another series", `match[]=requests{job="b"}`, "[" + lateRow + "]", 0},
		{"by another label", `match[]={job="b"}`, "[]", 0},
		{"lately", "since=9m", "[" + largeRow + "]", 0},
		{"not lately", "since=30s", "[]", 0},
		{"some", "limit=1", "[" + largeRow + "]", 0},
		{"a bad duration", "since=x", "", 400},
		{"a negative duration", "since=-1", "", 400},
		{"a bad selector", "match[]={", "", 400},
		{"a selector of everything", `match[]={a=~".*"}`, "", 400},
		{"a bad limit", "limit=-1", "", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, noDBs, withRefusals)
				for _, prefix := range []string{"/api/v1", "/prometheus/api/v1"} {
					form, err := url.ParseQuery(c.query)
					require.NoError(t, err)
					w := s.do(t, http.MethodGet, prefix+"/rejections?"+form.Encode(), nil)
					if c.status != 0 {
						require.Equal(t, c.status, w.Code, w.Body)
						return
					}
					require.Equal(t, http.StatusOK, w.Code, w.Body)
					require.JSONEq(t, `{"status":"success","data":`+c.want+`}`, w.Body.String())
				}
			})
		})
	}
}

func TestSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, noDBs, withRefusals)
		w := s.do(t, http.MethodGet, "/api/v1/senders", nil)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		require.JSONEq(t, `{"status":"success","data":[
			{"userAgent":"vmagent","address":"10.0.0.2","protocol":"1.0","encoding":"zstd","first":"2000-01-01T00:01:00Z","last":"2000-01-01T00:01:00Z",
			 "requests":1,"retries":0,"written":0,"refused":0,"failed":1,"product":"vmagent","version":"","lagSeconds":null,"silentSeconds":540,"missing":true,
			 "lastError":{"id":"weir-too-many-series","detail":"more than 3 series","at":"2000-01-01T00:01:00Z","requestId":"r-2"}},
			{"credential":"ci","userAgent":"Prometheus/3.1.0 (linux)","address":"10.0.0.1","protocol":"2.0","encoding":"snappy",
			 "first":"2000-01-01T00:00:00Z","last":"2000-01-01T00:00:00Z","requests":1,"retries":1,"written":5,"refused":2,"failed":0,
			 "product":"Prometheus","version":"3.1.0","lagSeconds":3,"silentSeconds":600,"missing":true,
			 "lastError":{"id":"weir-sample-out-of-order","detail":"the <detail>","at":"2000-01-01T00:00:00Z","requestId":"r-1"}}
		]}`, w.Body.String())
	})
}

// TestNothingRemembered: lists are empty, not null.
func TestNothingRemembered(t *testing.T) {
	s := newServer(t, noDBs)
	for _, path := range []string{"/api/v1/rejections", "/api/v1/senders"} {
		require.JSONEq(t, `{"status":"success","data":[]}`, s.do(t, http.MethodGet, path, nil).Body.String(), path)
	}
	require.Equal(t, http.StatusUnauthorized, s.do(t, http.MethodGet, "/api/v1/rejections", nil, "X-Scope-OrgID", "").Code)
}

// explained asks why samples of a selector are missing.
func (s *server) explained(t *testing.T, selector string) api.Explanation {
	t.Helper()
	w := s.do(t, http.MethodPost, "/api/v1/explain", url.Values{"match[]": {selector}})
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	var answer struct{ Data []api.Explanation }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	require.Len(t, answer.Data, 1)
	require.Equal(t, selector, answer.Data[0].Selector)
	return answer.Data[0]
}

func causeIDs(e api.Explanation) (ids []string) {
	for _, c := range e.Causes {
		ids = append(ids, c.ID)
	}
	return ids
}

// TestExplainFromTheStore: the test data ended in 1970.
func TestExplainFromTheStore(t *testing.T) {
	s := newServer(t, withSender, func(s *server) {
		s.deps.Admits = func(tenantID string, ls labels.Labels) (proto.Reason, string) {
			if ls.Has("refused") {
				return proto.LabelsTooMany, fmt.Sprintf("%s has %d labels", tenantID, ls.Len())
			}
			return proto.OK, ""
		}
	})
	silent := s.explained(t, `up{job="a"}`)
	require.Equal(t, "silent", silent.Verdict)
	require.Equal(t, 1, silent.Series)
	require.Equal(t, time.UnixMilli(590_000).UTC(), silent.LastSample.Time)
	require.Equal(t, "a", silent.LastSample.Labels.Get("job"))
	require.Equal(t, 2, s.explained(t, `up`).Series)
	require.Equal(t, 1, s.explained(t, `latency`).Series, "histograms")

	never := s.explained(t, `nothing{job="a"}`)
	require.Equal(t, "unknown", never.Verdict)
	require.Equal(t, []string{"never-received"}, causeIDs(never))

	refused := s.explained(t, `up{job="x",refused="yes",other=~".+"}`)
	require.Equal(t, "refused", refused.Verdict)
	require.Equal(t, "weir-labels-too-many", refused.Causes[0].ID)
	require.Contains(t, refused.Causes[0].What, "team-a has 3 labels")

	for _, bad := range []url.Values{nil, {"match[]": {"{"}}, {"match[]": {""}}, {"match[]": make([]string, 11)}} {
		require.Equal(t, http.StatusBadRequest, s.do(t, http.MethodPost, "/api/v1/explain", bad).Code)
	}
}

// withSender gives the server a ledger with a sender who is there.
func withSender(s *server) {
	s.deps.Ledger = ledger.New(nil)
	s.deps.Ledger.Record(teamA, &ledger.Request{Sender: ledger.Sender{UserAgent: "x", Address: "y", Protocol: "1.0"}, Newest: time.Now().UnixMilli()})
}

// TestExplainOneLabelIsWrong: of a metric that is there.
func TestExplainOneLabelIsWrong(t *testing.T) {
	s := newServer(t, withSender, func(s *server) { s.source.dbs = map[string]*tsdb.DB{teamA: freshDB(t)} })
	e := s.explained(t, `up{job="a",env="prod",team="team-a"}`)
	require.Equal(t, "unknown", e.Verdict)
	require.Equal(t, []string{"matcher-selects-nothing"}, causeIDs(e))
	require.Contains(t, e.Causes[0].What, `env="prod"`)

	require.Equal(t, "stored", s.explained(t, `up{job="a"}`).Verdict)
	require.Equal(t, "ended", s.explained(t, `up{job="gone"}`).Verdict)
}

// freshDB has a series that goes on, and one that ended.
func freshDB(t *testing.T) *tsdb.DB {
	t.Helper()
	db, err := tsdb.Open(t.TempDir(), nil, nil, tsdb.DefaultOptions(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	app := db.AppenderV2(t.Context())
	now := time.Now().UnixMilli()
	for _, x := range []struct {
		job string
		v   float64
	}{{"a", 1}, {"gone", math.Float64frombits(value.StaleNaN)}} {
		_, err := app.Append(0, labels.FromStrings("__name__", "up", "job", x.job, "team", teamA), 0, now, x.v, nil, nil, storage.AppendV2Options{})
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
	return db
}
