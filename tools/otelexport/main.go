// Command otelexport sends one OTLP metrics message, JSON on standard input,
// through the remote-write exporter of the OpenTelemetry collector, and ends when
// it is delivered. The exporter runs as it does in a collector, with the
// defaults of its configuration; a whole collector would add a receiver, which is
// not what the tests of weir are about.
package main

import (
	"context"
	"flag"
	"io"
	"log"
	"os"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusremotewriteexporter"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/featuregate"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/zap"
)

func main() {
	endpoint := flag.String("endpoint", "", "remote-write URL")
	message := flag.String("message", string(remoteapi.WriteV1MessageType), "protocol buffer message to send")
	flag.Parse()
	if err := export(context.Background(), *endpoint, *message, os.Stdin); err != nil {
		log.Fatal(err)
	}
}

// sendingV2 is the feature gate behind which the exporter keeps remote write 2.0.
const sendingV2 = "exporter.prometheusremotewritexporter.enableSendingRW2"

func export(ctx context.Context, endpoint, message string, in io.Reader) error {
	body, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	metrics, err := (&pmetric.JSONUnmarshaler{}).UnmarshalMetrics(body)
	if err != nil {
		return err
	}
	if err := featuregate.GlobalRegistry().Set(sendingV2, true); err != nil {
		return err
	}
	factory := prometheusremotewriteexporter.NewFactory()
	cfg := factory.CreateDefaultConfig().(*prometheusremotewriteexporter.Config)
	cfg.HTTP.Endpoint = endpoint
	cfg.RemoteWriteProtoMsg = remoteapi.WriteMessageType(message)
	cfg.SendMetadata = true
	cfg.RemoteWriteQueue.Enabled = false // so that failures are returned
	cfg.BackOffConfig.MaxElapsedTime = 10 * time.Second
	if err := cfg.Validate(); err != nil {
		return err
	}
	settings := exportertest.NewNopSettings(factory.Type())
	if settings.Logger, err = zap.NewDevelopment(); err != nil {
		return err
	}
	exporter, err := factory.CreateMetrics(ctx, settings, cfg)
	if err != nil {
		return err
	}
	if err := exporter.Start(ctx, componenttest.NewNopHost()); err != nil {
		return err
	}
	if err := exporter.ConsumeMetrics(ctx, metrics); err != nil {
		return err
	}
	return exporter.Shutdown(ctx)
}
