// Package program runs the firn program beside a benchmark, so that CPU time and memory are the program's alone.
//
// A Process belongs to who started it, who stops it.
package program
