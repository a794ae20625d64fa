package engine

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// batchSpan is the trace of one batch: a root of its own, linked to the sampled traces of the events' producers.
type batchSpan struct{ span trace.Span }

// startBatchSpan begins the batch's trace at the time its first stretch arrived. Without a configured exporter
// the spans are no-ops.
func startBatchSpan(ctx context.Context, pipeline string, b *Batch) (context.Context, batchSpan) {
	var links []trace.Link
	for _, id := range b.TraceIDs {
		sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}, Remote: true})
		links = append(links, trace.Link{SpanContext: sc})
	}
	ctx, span := otel.Tracer("firn/engine").Start(ctx, "batch", trace.WithNewRoot(), trace.WithTimestamp(b.Opened), trace.WithLinks(links...),
		trace.WithAttributes(attribute.String("firn.pipeline", pipeline), attribute.String("firn.batch_id", b.ID),
			attribute.Int64("firn.rows", b.RowCount), attribute.Int("firn.dead_letters", len(b.Dead))))
	return ctx, batchSpan{span}
}

func (s batchSpan) finish(snapshotID int64, err error) {
	s.span.SetAttributes(attribute.Int64("firn.snapshot_id", snapshotID))
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}
