package flight

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/query"
	"github.com/firnlake/firn/query/flight/ipccheck"
)

// A statement's ticket is the statement itself, so that nothing is held for a client between the two calls, the
// statement can be fetched twice, and any replica with the same token can serve it:
//
//	version 1 | HMAC-SHA256 of the rest | expiry, Unix milliseconds, big-endian 8 bytes | JSON
const (
	ticketVersion = 1
	ticketHeader  = 1 + sha256.Size + 8
	// maxInlineParams bounds the bound parameters of one statement; they travel in its ticket.
	maxInlineParams = 1 << 20 // bytes of IPC stream
)

// statement is what a ticket says.
type statement struct {
	Query   string      `json:"q"`
	Options wireOptions `json:"o"`
	Params  []byte      `json:"p,omitempty"` // IPC stream
}

type ticketKey [sha256.Size]byte

// newTicketKey derives the key from the token, so that replicas and a restarted server take each other's tickets.
func newTicketKey(token string) (ticketKey, error) {
	var k ticketKey
	if token == "" {
		_, err := rand.Read(k[:])
		return k, err
	}
	m := hmac.New(sha256.New, []byte(token))
	m.Write([]byte("firn flight ticket v1"))
	copy(k[:], m.Sum(nil))
	return k, nil
}

func (k ticketKey) seal(s statement, expires time.Time) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("%w: ticket: %w", ErrBadRequest, err)
	}
	out := make([]byte, ticketHeader, ticketHeader+len(body))
	out[0] = ticketVersion
	binary.BigEndian.PutUint64(out[1+sha256.Size:], uint64(expires.UnixMilli()))
	out = append(out, body...)
	copy(out[1:], k.mac(out[1+sha256.Size:]))
	return out, nil
}

// open is the inverse of seal; nothing is parsed before the signature holds.
func (k ticketKey) open(b []byte, now time.Time) (statement, error) {
	if len(b) < ticketHeader || b[0] != ticketVersion {
		return statement{}, ErrBadTicket
	}
	signed := b[1+sha256.Size:]
	if subtle.ConstantTimeCompare(b[1:1+sha256.Size], k.mac(signed)) != 1 {
		return statement{}, ErrBadTicket
	}
	if now.UnixMilli() >= int64(binary.BigEndian.Uint64(signed)) {
		return statement{}, ErrBadTicket
	}
	var s statement
	if err := json.Unmarshal(signed[8:], &s); err != nil {
		return statement{}, fmt.Errorf("%w: %w", ErrBadTicket, err)
	}
	return s, nil
}

func (k ticketKey) mac(b []byte) []byte {
	m := hmac.New(sha256.New, k[:])
	m.Write(b)
	return m.Sum(nil)
}

// options of the statement as the engine takes them.
func (s statement) options() (query.Options, error) { return s.Options.apply(query.Options{}) }

// encodeParams is the batches as one IPC stream; nil for none.
func encodeParams(batches []arrow.RecordBatch, mem memory.Allocator) ([]byte, error) {
	if len(batches) == 0 {
		return nil, nil
	}
	var buf bytes.Buffer
	w := ipc.NewWriter(&buf, ipc.WithSchema(batches[0].Schema()), ipc.WithAllocator(mem))
	for _, b := range batches {
		if err := w.Write(b); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: bound parameters: %w", ErrBadRequest, err), w.Close())
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("%w: bound parameters: %w", ErrBadRequest, err)
	}
	if buf.Len() > maxInlineParams {
		return nil, fmt.Errorf("%w: bound parameters of %d bytes, at most %d", query.ErrLimit, buf.Len(), maxInlineParams)
	}
	return buf.Bytes(), nil
}

// decodeParams is the inverse; the caller releases the batches.
func decodeParams(b []byte, mem memory.Allocator) (_ []arrow.RecordBatch, err error) {
	if len(b) == 0 {
		return nil, nil
	}
	if err := ipccheck.Encapsulated(b, paramLimits()); err != nil {
		return nil, err
	}
	r, err := ipc.NewReader(bytes.NewReader(b), ipc.WithAllocator(mem))
	if err != nil {
		return nil, fmt.Errorf("%w: bound parameters: %w", ErrBadTicket, err)
	}
	defer r.Release()
	var out []arrow.RecordBatch
	for r.Next() {
		rec := r.RecordBatch()
		rec.Retain()
		out = append(out, rec)
	}
	if r.Err() != nil {
		releaseAll(out)
		return nil, fmt.Errorf("%w: bound parameters: %w", ErrBadTicket, r.Err())
	}
	return out, nil
}

// paramLimits are those of bound parameters: a few small rows.
func paramLimits() ipccheck.Limits {
	l := ipccheck.DefaultLimits()
	l.MaxHeader, l.MaxRows, l.UTF8 = 1<<20, 1<<22, true
	return l
}

func releaseAll(batches []arrow.RecordBatch) {
	for _, b := range batches {
		b.Release()
	}
}
