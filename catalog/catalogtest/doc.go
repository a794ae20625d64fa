// Package catalogtest is the one suite that every catalog.Catalog of Firn passes: the service inside the
// process, the client over HTTP, and whatever implementation comes next.
//
// The suite owns nothing but the names under a namespace of its own for each test, so it can run against a
// catalog that holds other tables. It writes no data: snapshots name manifest lists that do not exist, which
// no catalog may look at.
package catalogtest
