// Package integration starts real processes and speaks HTTP with them, as
// anybody could.
//
//	compliance_test.go  the remote-write receiver suite of prometheus/compliance
//	promqltest_test.go  the PromQL scripts of Prometheus, by remote write and over HTTP
//	roundtrip_*_test.go every kind of sample, by both protocols, read back exactly
//	remoteread_test.go  the same by remote read, and by a Prometheus that reads so
//	promtool_test.go    every promtool query
//	apiclient_test.go   every method of client_golang's API client
//	agent_test.go       a Prometheus agent scrapes a target and writes
//	otelexport_test.go  the remote-write exporter of the OpenTelemetry collector
//	answers_test.go     requests that are refused as a whole
//	isolation_test.go   tenants that ask for what others have
//	bench_test.go       the load generator and the benchmark still work
//	kill_test.go        kill -9 under load: nothing acknowledged is lost
//	sigterm_test.go     a graceful stop under load: nor then
//	writer_test.go, ledger_test.go  the load of both, and what it was promised
//
// The folders below: server runs processes, harness is what tests use of it,
// promqlscript reads PromQL scripts and judges answers, loadgen and bench are
// the benchmark, cmd their programs. Package harness says which environment
// variables choose the server under test.
package integration
