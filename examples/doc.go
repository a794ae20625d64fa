// Package examples holds runnable examples; its tests run each of them against a Firn of their own.
package examples
