package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
)

const (
	// maxEvent bounds one event of a watch, in bytes.
	maxEvent = 1 << 20
	// watchSilence is how long a stream may say nothing; the server's heartbeat is at most half of it.
	watchSilence = time.Minute
	// watchAgainMin and watchAgainMax bound the pause before a watch connects again; it doubles while nothing is heard.
	watchAgainMin = 50 * time.Millisecond
	watchAgainMax = 5 * time.Second
)

// Watch implements catalog.Watcher. It connects again by itself, from the last event on, when the catalog goes away.
func (c *Client) Watch(ctx context.Context, id catalog.Identifier, after int64, each func(catalog.Event) error) error {
	if err := checkName(id, 2); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	if !c.watch {
		return fmt.Errorf("watch %s: %w: %s tells of no commits", id, catalog.ErrUnsupported, c.at)
	}
	pause := watchAgainMin
	for {
		before, address := after, c.at.current()
		err := c.stream(ctx, c.at.roots[address], id, &after, each)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var own *eachError
		switch {
		case errors.As(err, &own):
			return own.err
		case err != nil && !errors.Is(err, catalog.ErrUnavailable):
			return fmt.Errorf("watch %s: %w", id, err)
		case err != nil:
			c.leave(ctx, address, op{name: "watch"}, err)
		}
		if after != before {
			pause = watchAgainMin
		}
		c.log.Debug("a watch connects again", "table", id.String(), "after", after, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, watchAgainMax)
	}
}

// errSilent ends a stream that says nothing, not even that it lives.
var errSilent = fmt.Errorf("nothing was heard for %s", watchSilence)

// eachError is what the caller of a watch gave back.
type eachError struct{ err error }

func (e *eachError) Error() string { return e.err.Error() }

// stream reads one stream of events. It returns nil when the server asks to connect again.
func (c *Client) stream(ctx context.Context, root string, id catalog.Identifier, after *int64, each func(catalog.Event) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(watchSilence, func() { cancel(errSilent) })
	defer silence.Stop()
	o := op{name: "watch", method: http.MethodGet, path: "/firn" + c.tablePath(id) + "/events", about: id.String()}
	header := http.Header{"Accept": {"text/event-stream"}}
	if *after != 0 {
		header.Set("Last-Event-Id", strconv.FormatInt(*after, 10))
	}
	res, err := c.exchange(ctx, root, o, nil, header)
	var none *noAnswerError
	if errors.As(err, &none) {
		return transportError(o, false, none.err)
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody)) // what there is of it; the status alone says enough
		return answerError(o, res, raw)
	}
	events := bufio.NewScanner(res.Body)
	events.Buffer(nil, maxEvent)
	var kind, data string
	for events.Scan() {
		silence.Reset(watchSilence)
		field, value, _ := strings.Cut(events.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case events.Text() == "":
			if kind != "" {
				if done, err := heard(kind, data, after, each); done || err != nil {
					return err
				}
			}
			kind, data = "", ""
		case field == "event":
			kind = value
		case field == "data":
			data += value
		}
	}
	err = events.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, bufio.ErrTooLong) {
		return badAnswer(o, err)
	}
	return transportError(o, true, err)
}

// heard takes one event; done is true at the end of the stream.
func heard(kind, data string, after *int64, each func(catalog.Event) error) (done bool, err error) {
	var e catalog.Event
	switch kind {
	case wire.EventCommit:
		var h wire.History
		err = json.Unmarshal([]byte(data), &h)
		e = catalog.Event{HistoryEntry: entryOf(h), Head: true}
	case wire.EventChange:
		var c wire.Change
		err = json.Unmarshal([]byte(data), &c)
		e.Version = c.Version
	case wire.EventEnd:
		var end wire.End
		if err := json.Unmarshal([]byte(data), &end); err != nil {
			return true, fmt.Errorf("%w: event %s: %w", catalog.ErrInvalid, kind, err)
		}
		switch end.Reason {
		case wire.EndGone:
			return true, fmt.Errorf("%w: %s", catalog.ErrNoSuchTable, end.Message)
		case wire.EndAnew:
			return true, fmt.Errorf("%w: %s", catalog.ErrWatchEnded, end.Message)
		}
		return true, nil
	default:
		return false, nil // of a newer catalog
	}
	if err != nil {
		return true, fmt.Errorf("%w: event %s: %w", catalog.ErrInvalid, kind, err)
	}
	if err := each(e); err != nil {
		return true, &eachError{err}
	}
	*after = e.Version
	return false, nil
}
