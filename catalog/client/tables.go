package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
)

const (
	// pageSize is how many names a page of a listing is asked to have.
	pageSize = 1000
	// maxPages bounds a listing, so that a server that never ends one cannot hold a caller for ever.
	maxPages = 10_000
)

func (c *Client) namespacePath(ns catalog.Identifier) string {
	return "/namespaces/" + wire.EncodeSegment(strings.Join(ns, c.separator))
}

func (c *Client) tablePath(id catalog.Identifier) string {
	return c.namespacePath(id.Namespace()) + "/tables/" + wire.EncodeSegment(id.Name())
}

// checkName refuses what would become another URL: an empty part leaves the path of something else.
func checkName(id catalog.Identifier, least int) error {
	if len(id) < least {
		return fmt.Errorf("%w: name %q has %d parts, at least %d are needed: write namespace.table", catalog.ErrInvalid, id.String(), len(id), least)
	}
	for _, p := range id {
		if p == "" || strings.ContainsAny(p, wire.Separator+"\x00") || !utf8.ValidString(p) { // JSON would change what is not UTF-8
			return fmt.Errorf("%w: name %q has a part that is empty or not UTF-8, or a NUL or unit separator in one", catalog.ErrInvalid, id.String())
		}
	}
	return nil
}

// pages asks for a listing page by page. each decodes one answer and returns the token of the next page.
func (c *Client) pages(ctx context.Context, o op, each func(op) (*string, error)) error {
	query := url.Values{}
	for k, v := range o.query {
		query[k] = v
	}
	query.Set("pageSize", strconv.Itoa(pageSize))
	query.Set("pageToken", "")
	o.query = query
	for range maxPages {
		next, err := each(o)
		if err != nil {
			return err
		}
		if next == nil || *next == "" {
			return nil
		}
		if *next == query.Get("pageToken") {
			return fmt.Errorf("%s: %w: the catalog gives the same page token again", o, catalog.ErrInvalid)
		}
		query.Set("pageToken", *next)
	}
	return fmt.Errorf("%s: %w: the listing has not ended after %d pages", o, catalog.ErrInvalid, maxPages)
}

// ListNamespaces implements catalog.Catalog.
func (c *Client) ListNamespaces(ctx context.Context, parent catalog.Identifier) (out []catalog.Identifier, err error) {
	if err := checkName(parent, 0); err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	o := op{name: "list_namespaces", method: http.MethodGet, path: "/namespaces", about: parent.String()}
	if len(parent) > 0 {
		o.query = url.Values{"parent": {strings.Join(parent, c.separator)}}
	}
	err = c.pages(ctx, o, func(o op) (*string, error) {
		var page wire.Namespaces
		if _, err := c.call(ctx, o, nil, &page); err != nil {
			return nil, err
		}
		for _, ns := range page.Namespaces {
			out = append(out, ns)
		}
		return page.Next, nil
	})
	return out, err
}

// CreateNamespace implements catalog.Catalog.
func (c *Client) CreateNamespace(ctx context.Context, ns catalog.Identifier, props map[string]string) error {
	if err := checkName(ns, 1); err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	if props == nil {
		props = map[string]string{}
	}
	o := op{name: "create_namespace", method: http.MethodPost, path: "/namespaces", about: ns.String(), kind: changes}
	_, err := c.call(ctx, o, wire.Namespace{Namespace: ns, Properties: props}, nil)
	return err
}

// ListTables implements catalog.Catalog.
func (c *Client) ListTables(ctx context.Context, ns catalog.Identifier) ([]catalog.Identifier, error) {
	if err := checkName(ns, 1); err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return c.names(ctx, op{name: "list_tables", method: http.MethodGet, path: c.namespacePath(ns) + "/tables", about: ns.String()})
}

// names asks for a listing of tables or views.
func (c *Client) names(ctx context.Context, o op) (out []catalog.Identifier, err error) {
	err = c.pages(ctx, o, func(o op) (*string, error) {
		var page wire.Tables
		if _, err := c.call(ctx, o, nil, &page); err != nil {
			return nil, err
		}
		for _, t := range page.Identifiers {
			out = append(out, t.ID())
		}
		return page.Next, nil
	})
	return out, err
}

// CreateTable implements catalog.Catalog.
func (c *Client) CreateTable(ctx context.Context, id catalog.Identifier, req catalog.CreateTable) (*catalog.Table, error) {
	if err := checkName(id, 2); err != nil {
		return nil, fmt.Errorf("create table: %w", err)
	}
	body := wire.CreateTable{Name: id.Name(), Location: req.Location, Schema: req.Schema, Properties: req.Properties}
	if req.Partition != nil {
		body.Partition = &iceberg.UnboundPartitionSpec{PartitionSpec: *req.Partition}
	}
	if req.SortOrder != nil {
		body.WriteOrder = &table.UnboundSortOrder{SortOrder: *req.SortOrder}
	}
	o := op{name: "create_table", method: http.MethodPost, path: c.namespacePath(id.Namespace()) + "/tables", about: id.String(), kind: changes, lean: true}
	return c.table(ctx, o, id, body)
}

// LoadTable implements catalog.Catalog.
func (c *Client) LoadTable(ctx context.Context, id catalog.Identifier, how catalog.Load) (*catalog.Table, error) {
	if err := checkName(id, 2); err != nil {
		return nil, fmt.Errorf("load table: %w", err)
	}
	which := "all"
	if how == catalog.LoadRefs {
		which = "refs"
	}
	return c.table(ctx, op{name: "load_table", method: http.MethodGet, path: c.tablePath(id), about: id.String(),
		query: url.Values{"snapshots": {which}}, lean: true}, id, nil)
}

// CommitTable implements catalog.Catalog.
func (c *Client) CommitTable(ctx context.Context, commit catalog.TableCommit) (*catalog.Table, error) {
	id := commit.Identifier
	if err := checkName(id, 2); err != nil {
		return nil, fmt.Errorf("commit table: %w", err)
	}
	o := op{name: "commit_table", method: http.MethodPost, path: c.tablePath(id), about: id.String(), kind: commits, lean: true}
	return c.table(ctx, o, id, commitBody(commit))
}

func commitBody(c catalog.TableCommit) wire.CommitTable {
	id := wire.NewTableIdentifier(c.Identifier)
	b := wire.CommitTable{Identifier: &id, Requirements: c.Requirements, Updates: c.Updates}
	if b.Requirements == nil {
		b.Requirements = table.Requirements{} // the protocol wants a list, not null
	}
	if b.Updates == nil {
		b.Updates = table.Updates{}
	}
	return b
}

// CommitTransaction implements catalog.Catalog.
func (c *Client) CommitTransaction(ctx context.Context, commits []catalog.TableCommit) error {
	o := op{name: "commit_transaction", method: http.MethodPost, path: "/transactions/commit", kind: transacts}
	body := wire.CommitTransaction{Changes: make([]wire.CommitTable, len(commits))}
	for i, commit := range commits {
		if err := checkName(commit.Identifier, 2); err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
		body.Changes[i] = commitBody(commit)
	}
	switch {
	case len(commits) == 0:
		return fmt.Errorf("%s: %w: it has no tables", o, catalog.ErrInvalid)
	case c.noTx:
		return fmt.Errorf("%s: %w: %s commits one table at a time (or is not Firn's, and catalog.client.trust_transactions is not set)", o, catalog.ErrUnsupported, c.at)
	}
	_, err := c.call(ctx, o, body, nil)
	return err
}

// DropTable implements catalog.Catalog.
func (c *Client) DropTable(ctx context.Context, id catalog.Identifier, purge bool) error {
	if err := checkName(id, 2); err != nil {
		return fmt.Errorf("drop table: %w", err)
	}
	_, err := c.call(ctx, op{name: "drop_table", method: http.MethodDelete, path: c.tablePath(id), about: id.String(), kind: changes,
		query: url.Values{"purgeRequested": {strconv.FormatBool(purge)}}}, nil, nil)
	return err
}

// HistoryAt implements catalog.Historian.
func (c *Client) HistoryAt(ctx context.Context, id catalog.Identifier, at time.Time) (catalog.HistoryEntry, error) {
	var h wire.History
	q := url.Values{"at": {strconv.FormatInt(at.UnixMilli(), 10)}}
	if err := c.historyCall(ctx, op{name: "history", method: http.MethodGet, query: q}, id, &h); err != nil {
		return catalog.HistoryEntry{}, err
	}
	return entryOf(h), nil
}

// ListHistory implements catalog.HistoryKeeper.
func (c *Client) ListHistory(ctx context.Context, id catalog.Identifier, r catalog.HistoryRange) ([]catalog.HistoryEntry, error) {
	q := url.Values{}
	if !r.Since.IsZero() {
		q.Set("since", strconv.FormatInt(r.Since.Add(time.Millisecond-1).UnixMilli(), 10)) // commits have whole milliseconds
	}
	if !r.Until.IsZero() {
		q.Set("until", strconv.FormatInt(r.Until.UnixMilli(), 10))
	}
	if r.Before != 0 {
		q.Set("before", strconv.FormatInt(r.Before, 10))
	}
	if r.Limit > 0 {
		q.Set("limit", strconv.Itoa(r.Limit))
	}
	var page wire.Histories
	if err := c.historyCall(ctx, op{name: "list_history", method: http.MethodGet, query: q}, id, &page); err != nil {
		return nil, err
	}
	out := make([]catalog.HistoryEntry, len(page.Entries))
	for i, h := range page.Entries {
		out[i] = entryOf(h)
	}
	return out, nil
}

// PruneHistory implements catalog.HistoryKeeper.
func (c *Client) PruneHistory(ctx context.Context, id catalog.Identifier, before time.Time, dryRun bool) (int64, error) {
	q := url.Values{"before": {strconv.FormatInt(before.UnixMilli(), 10)}, "dry-run": {strconv.FormatBool(dryRun)}}
	var pruned wire.Pruned
	err := c.historyCall(ctx, op{name: "prune_history", method: http.MethodDelete, query: q, kind: changes}, id, &pruned)
	return pruned.Entries, err
}

// historyCall sends a request about a table's history to a catalog that keeps one.
func (c *Client) historyCall(ctx context.Context, o op, id catalog.Identifier, answer any) error {
	if err := checkName(id, 2); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	if !c.firn {
		return fmt.Errorf("history of table %s: %w: %s keeps no commit history", id, catalog.ErrUnsupported, c.at)
	}
	o.path, o.about = "/firn"+c.tablePath(id)+"/history", id.String()
	_, err := c.call(ctx, o, nil, answer)
	return err
}

func entryOf(h wire.History) catalog.HistoryEntry {
	return catalog.HistoryEntry{Version: h.Version, At: time.UnixMilli(h.AtMS).UTC(), SnapshotID: h.SnapshotID, Offsets: h.Offsets}
}

// table sends a request whose answer carries a table.
func (c *Client) table(ctx context.Context, o op, id catalog.Identifier, body any) (*catalog.Table, error) {
	var answer wire.LoadTable
	header, err := c.call(ctx, o, body, &answer)
	if err != nil {
		return nil, err
	}
	m, err := parse("table", answer.Metadata, table.ParseMetadataBytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o, badAnswer(o, err))
	}
	t := &catalog.Table{Identifier: append(catalog.Identifier{}, id...), Metadata: m}
	if answer.MetadataLocation != nil {
		t.MetadataLocation = *answer.MetadataLocation
	}
	if v := header.Get(wire.VersionHeader); v != "" {
		if t.Version, err = strconv.ParseInt(v, 10, 64); err != nil {
			return nil, fmt.Errorf("%s: %w", o, badAnswer(o, fmt.Errorf("header %s: %q is no number", wire.VersionHeader, v)))
		}
	}
	return t, nil
}

// parse decodes metadata of a table or view, of a server that need not be Firn's; what the decoder cannot stand becomes an error.
func parse[M any](what string, doc []byte, decode func([]byte) (M, error)) (m M, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s metadata cannot be decoded: %v", what, p)
		}
	}()
	if len(doc) == 0 {
		return m, fmt.Errorf("the answer carries no %s metadata", what)
	}
	if m, err = decode(doc); err != nil {
		return m, fmt.Errorf("%s metadata: %w", what, err)
	}
	return m, nil
}
