#!/usr/bin/env bash
# demo.sh: a real Prometheus scrapes itself, weir and a made-up shop and writes to
# weir, first by remote write 2.0, then by 1.0; then weir is asked what arrived. It
# needs bin/weir, bin/prometheus and bin/shop (make demo builds them), keeps
# everything in demo-data/, uses the loopback ports 19009, 19080 and 19090, and
# fails when an answer is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

weir=http://127.0.0.1:19009
prometheus=http://127.0.0.1:19090
seconds=${DEMO_SECONDS:-30} # of each protocol
weir_pid=
shop_pid=
prometheus_pid=
missing=0

stop() { # pid
  if [ -n "$1" ]; then
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
  fi
}

trap 'stop "$prometheus_pid"; stop "$shop_pid"; stop "$weir_pid"' EXIT
trap 'exit 130' INT TERM

wait_ready() { # name, url, pid, log
  for _ in $(seq 300); do
    if curl -fs -o demo-data/ready "$2"; then return; fi
    if ! kill -0 "$3" 2>/dev/null; then break; fi
    sleep 0.1
  done
  echo "$1 does not become ready; the end of $4:" >&2
  tail -n 20 "$4" >&2
  exit 1
}

count() { # protocol; answers the number of its series
  curl -fsG "$weir/prometheus/api/v1/query" --data-urlencode "query=count({via=\"$1\"})" |
    grep -oE '"[0-9]+"\]' | tr -d '"]' || echo none
}

write_by() { # protocol
  echo
  echo "Prometheus writes by ${1/rw/remote write }.0 for $seconds s"
  bin/prometheus --config.file="deploy/demo/prometheus-$1.yml" \
    --storage.tsdb.path=demo-data/prometheus --web.listen-address=127.0.0.1:19090 \
    --enable-feature=exemplar-storage,metadata-wal-records \
    >>demo-data/prometheus.log 2>&1 &
  prometheus_pid=$!
  wait_ready Prometheus "$prometheus/-/ready" "$prometheus_pid" demo-data/prometheus.log
  for ((left = seconds; left > 0; left -= 5)); do
    sleep 5
    printf '  series that weir has of %s: %s\n' "$1" "$(count "$1")"
  done
  stop "$prometheus_pid"
  prometheus_pid=
}

ask() { # title, pattern that the answer must have, path, parameters...
  local title=$1 pattern=$2 url="$weir/prometheus/api/v1/$3" answer
  local command=(curl -sG "$url")
  shift 3
  printf '\n%s\n  curl -sG %s' "$title" "$url"
  for parameter in "$@"; do
    printf " --data-urlencode '%s'" "$parameter"
    command+=(--data-urlencode "$parameter")
  done
  answer=$("${command[@]}" || true)
  printf '\n  %s\n' "${answer:0:600}"
  if ! grep -qE "$pattern" <<<"$answer"; then
    echo "  MISSING: nothing here matches $pattern"
    missing=$((missing + 1))
  fi
}

rm -rf demo-data
mkdir demo-data
echo "starting weir at $weir"
bin/weir -data.dir=demo-data/weir -http.listen=127.0.0.1:19009 -admin.listen= \
  >demo-data/weir.log 2>&1 &
weir_pid=$!
wait_ready weir "$weir/ready" "$weir_pid" demo-data/weir.log
bin/shop -listen=127.0.0.1:19080 >demo-data/shop.log 2>&1 &
shop_pid=$!
wait_ready "the shop" http://127.0.0.1:19080/metrics "$shop_pid" demo-data/shop.log

started=$(date +%s)
write_by rw2
write_by rw1

ask "Series by protocol" '"rw1".*"rw2"|"rw2".*"rw1"' query 'query=count by (via) ({via!=""})'
for protocol in rw2 rw1; do
  echo
  echo "== what came by ${protocol/rw/remote write }.0"
  ask "Samples of each target's up" '"job":"weir"[^]]*"[1-9][0-9]*"\]' query \
    "query=sum by (job) (count_over_time(up{via=\"$protocol\"}[5m]))"
  ask "A quantile of a native histogram" '"[0-9.e-]+"\]' query \
    "query=histogram_quantile(0.9, sum(increase(shop_request_duration_seconds{via=\"$protocol\"}[5m])))"
  ask "Exemplars" '"trace_id"' query_exemplars \
    "query=shop_request_duration_seconds{via=\"$protocol\"}" "start=$started" "end=$(date +%s)"
done
ask "Metadata" 'Time to answer a customer' metadata "metric=shop_request_duration_seconds"

echo
if [ "$missing" -gt 0 ]; then
  echo "$missing answers are missing; logs are in demo-data/" >&2
  exit 1
fi
echo "all answers are there; the data is in demo-data/"
