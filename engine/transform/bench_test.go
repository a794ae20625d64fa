package transform

import (
	"fmt"
	"testing"

	"github.com/firnlake/firn/engine"
)

// BenchmarkDecode is 1,000 events through the decoder alone, and with two masks, a computed column and a filter that keeps
// nine of ten.
func BenchmarkDecode(b *testing.B) {
	events := make([]string, 1000)
	bytes := 0
	for i := range events {
		events[i] = fmt.Sprintf(`{"id":%d,"small":%d,"price":"12.50","ratio":0.5,"ok":true,"at":"2026-06-04T11:01:23.456Z","born":"1990-01-02","email":"user%d@mail.example",`+
			`"tags":["a","b"],"user":{"name":"Name %d","ssn":"123-45-%04d","address":{"city":"Oslo","street":"Street %d"}}}`, i, i%10, i, i, i, i)
		bytes += len(events[i])
	}
	f := fetchOf(events...)
	for name, c := range map[string]Config{"plain": {Filter: ""}, "transform": {Filter: "small > 0", Columns: map[string]string{"city": "upper(user.address.city)"},
		Mask: map[string]Mask{"email": {Method: MethodTokenise, Key: secret(b, testKey)}, "user.ssn": {Method: MethodHMAC, Key: secret(b, testKey)}}}} {
		b.Run(name, func(b *testing.B) {
			_, d := bound(b, nil, c, nil)
			b.SetBytes(int64(bytes))
			b.ReportAllocs()
			for b.Loop() {
				use := engine.Decoder(d)
				if name == "plain" {
					use = d.dec
				}
				o, err := use.Decode(f)
				if err != nil {
					b.Fatal(err)
				}
				o.Rows.Release()
			}
			b.ReportMetric(float64(len(events)*b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkRoutes is a topic that goes to four tables, each of which takes a quarter of the events, in no order; beside the
// same topic in one table.
func BenchmarkRoutes(b *testing.B) {
	events := make([]string, 1000)
	for i := range events {
		events[i] = fmt.Sprintf(`{"id":%d,"small":%d,"price":"12.50","ratio":0.5,"ok":true,"at":"2026-06-04T11:01:23.456Z","born":"1990-01-02","email":"user%d@mail.example",`+
			`"tags":["a","b"],"user":{"name":"Name %d","ssn":"123-45-%04d","address":{"city":"City %d","street":"Street %d"}}}`, i, i%4, i, i, i, i*7%4, i)
	}
	f := fetchOf(events...)
	city := func(n int) string { return fmt.Sprintf("user.address.city = 'City %d'", n) }
	for name, routes := range map[string][]Route{
		"one":  {{Not: []string{"id < 0"}}},
		"four": {{Where: city(0)}, {Where: city(1), Not: []string{city(0)}}, {Where: city(2), Not: []string{city(0), city(1)}}, {Not: []string{city(0), city(1), city(2)}}},
	} {
		b.Run(name, func(b *testing.B) {
			var tables []*Decoder
			for _, r := range routes {
				_, d := bound(b, nil, Config{Route: r}, nil)
				tables = append(tables, d)
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, d := range tables {
					o, err := d.Decode(f)
					if err != nil || o.Rows == nil {
						b.Fatal(o, err)
					}
					o.Rows.Release()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(len(events)*b.N), "ns/event")
		})
	}
}
