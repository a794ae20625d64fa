package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrRepeated reports that a request with the same idempotency key has been answered already, perhaps at the same
// time by another process. Nothing was written; Receipt has the answer.
var ErrRepeated = errors.New("a request with this idempotency key has been answered before")

// Receipt is the answer to a request that carried an idempotency key.
type Receipt struct {
	Key     string
	Request string // digest of what was asked
	Status  int
	Body    []byte // nil: to be made again from the newest state
}

type receiptKey struct{}

// WithReceipt makes the next change that is written with ctx leave r in the same transaction: the effect and the
// memory of it are one. The change fails with ErrRepeated when the key has a receipt.
func WithReceipt(ctx context.Context, r Receipt) context.Context {
	return context.WithValue(ctx, receiptKey{}, r)
}

// WithoutReceipt undoes WithReceipt, for what is written in more than one transaction.
func WithoutReceipt(ctx context.Context) context.Context {
	return context.WithValue(ctx, receiptKey{}, nil)
}

// receiptOf is what the change that is written with ctx leaves; nil: nothing.
func receiptOf(ctx context.Context) *Receipt {
	if r, ok := ctx.Value(receiptKey{}).(Receipt); ok {
		return &r
	}
	return nil
}

// change is write for what a client asks for.
func (s *Store) change(ctx context.Context, what string, fn func(*tx) error) error {
	return s.write(ctx, what, func(t *tx) error {
		if err := fn(t); err != nil {
			return err
		}
		return t.leave(receiptOf(ctx), s.now())
	})
}

// leave keeps a receipt, if there is one.
func (t *tx) leave(r *Receipt, now time.Time) error {
	if r == nil {
		return nil
	}
	_, err := t.exec("INSERT INTO receipts (key, at_ms, request, status, body) VALUES (?, ?, ?, ?, ?)", r.Key, now.UnixMilli(), r.Request, r.Status, r.Body)
	if t.isUnique(err) {
		return ErrRepeated
	}
	return err
}

// Receipt reads the receipt of a key; ok is false where there is none.
func (s *Store) Receipt(ctx context.Context, key string) (r Receipt, ok bool, err error) {
	err = s.readOne(ctx, "receipt", func(t *tx) error {
		r, ok, err = t.receipt(key)
		return err
	})
	return r, ok, err
}

func (t *tx) receipt(key string) (Receipt, bool, error) {
	r := Receipt{Key: key}
	err := t.row("SELECT request, status, body FROM receipts WHERE key = ?", []any{key}, &r.Request, &r.Status, &r.Body)
	if errors.Is(err, sql.ErrNoRows) {
		return r, false, nil
	}
	return r, err == nil, err
}

// Settle records the answer to a request that had no effect, or completes one whose answer its receipt has not got
// yet. It returns the receipt that counts: when a rival with the same key was answered first, that one.
func (s *Store) Settle(ctx context.Context, r Receipt) (out Receipt, err error) {
	err = s.write(ctx, "receipt", func(t *tx) error {
		have, ok, err := t.receipt(r.Key)
		switch {
		case err != nil:
			return err
		case !ok:
			out = r
			return t.leave(&r, s.now())
		case have.Request == r.Request && have.Status == r.Status && have.Body == nil && r.Body != nil:
			have.Body = r.Body
			_, err = t.exec("UPDATE receipts SET body = ? WHERE key = ?", r.Body, r.Key)
		}
		out = have
		return err
	})
	return out, err
}

// PruneReceipts deletes at most limit receipts from before a time.
func (s *Store) PruneReceipts(ctx context.Context, before time.Time, limit int) (n int64, err error) {
	err = s.readOne(ctx, "receipts", func(t *tx) error { // most often there is nothing to do, and nothing to write
		return t.row("SELECT count(*) FROM (SELECT 1 FROM receipts WHERE at_ms < ? LIMIT 1) AS a", []any{before.UnixMilli()}, &n)
	})
	if err != nil || n == 0 {
		return 0, err
	}
	err = s.write(ctx, "prune receipts", func(t *tx) error {
		n, err = t.exec("DELETE FROM receipts WHERE key IN (SELECT key FROM receipts WHERE at_ms < ? LIMIT ?)", before.UnixMilli(), limit)
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		return nil
	})
	return n, err
}
