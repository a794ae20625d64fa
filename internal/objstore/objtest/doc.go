// Package objtest is the suite that every object store passes.
package objtest
