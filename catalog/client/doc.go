// Package client speaks the Iceberg REST protocol as a client: Client implements catalog.Catalog, catalog.Viewer where
// the server keeps views, and catalog.Historian where it is Firn's own. Other servers work too, without history and without
// the lean answers that keep the cost of a commit apart from the length of the table's history.
//
// What an error says about the server's state is the point of this package:
//
//   - catalog.ErrUnavailable: surely nothing was changed. No connection was made, or the catalog itself said 503.
//   - catalog.ErrUnknownOutcome: a request that changes something was sent, or may have been, and no answer
//     says what became of it: a timeout, a cut connection, 500, 502, 504, a 503 that some proxy wrote, a
//     success that cannot be read.
//   - The other sentinels: the catalog answered, and nothing was changed.
//
// Nothing that may have had an effect is sent twice: retrying belongs to the caller. A request that was answered with 401,
// before anything was done, because the token that the client got for its secret has ended early, is sent again once, with
// a new token.
//
// Config.URI may list the addresses of several processes on one database. A request goes to the one that answered last.
// When that fails (no connection, a cut one, 5xx) the next request begins at another one; and this one goes there too
// where it surely had no effect: it reads, or its error would be ErrUnavailable. An unknown outcome stays one, and goes
// to the caller. Redirects are not followed, so that a token never
// reaches another host. Every answer is bounded in size before it is decoded.
package client
