// Package snapshottest makes what only other engines write: delete files.
package snapshottest
