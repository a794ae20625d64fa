// Package logging makes the process's slog.Logger: text on a terminal, one JSON object a line otherwise, unless the
// configuration says which. Keys are stable words (pipeline, table, topic, partition, offset, snapshot, error); no
// payload field ever stands in a log, and units.Secret values print as <redacted>.
package logging
