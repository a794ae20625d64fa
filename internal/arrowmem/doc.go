// Package arrowmem tells how much memory Arrow record batches hold, and gives it to them outside of Go's heap.
//
// A batch of events lives for seconds and is then gone as a whole, and everybody who reads it counts a reference to it, as
// Arrow's buffers want it. The garbage collector knows nothing of that: it would let as much again pile up before it looks, and
// clear each buffer before it is filled. A Pool takes such buffers from the system in blocks and has them back with the last
// Release.
//
// So what Arrow's contract asks for matters here: after Release nothing of a batch may be read, also no string or slice that
// was cut from it. Under the race detector a Pool is made to find who does: each buffer is a mapping of its own, filled with
// garbage at first, and a later access to it ends the program.
package arrowmem
