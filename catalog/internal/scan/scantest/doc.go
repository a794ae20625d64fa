// Package scantest makes tables for tests of scan planning: rows, the metrics and partitions of the data files that
// would hold them, and manifests of such files. There are no data files: planning reads none. Each row stays at hand,
// so that a test can tell which files a plan must name.
package scantest
