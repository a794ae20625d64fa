package transform

import (
	"fmt"
	"testing"
)

// A batch costs a number of allocations, however many events it holds: neither masks nor computed columns nor filters
// allocate for an event.
func TestTransformsAllocateNothingPerEvent(t *testing.T) {
	const few, many, most = 100, 1500, 0.02
	events := make([]string, many)
	for i := range events {
		events[i] = fmt.Sprintf(`{"id":%d,"small":%d,"price":"%d.50","ratio":0.5,"ok":true,"at":"2026-06-04T11:01:23.456Z","born":"1990-01-02","email":"user%d@Mail.example",`+
			`"token":"4bf92f35-77b3-4da6-a3ce-929d0e0e%04d","user":{"name":" Name %d","ssn":"123-45-%04d","address":{"city":"Oslo","street":"Street %d"}}}`, i, i%10, i, i, i, i, i, i)
	}
	mask := func(column string, m Mask) Config {
		if m.Method == MethodHMAC || m.Method == MethodTokenise {
			m.Key = secret(t, testKey)
		}
		return Config{Mask: map[string]Mask{column: m}}
	}
	computed := func(expr string) Config { return Config{Columns: map[string]string{"more": expr}} }
	for name, c := range map[string]Config{
		"hmac": mask("user.ssn", Mask{Method: MethodHMAC}), "hmac of a number": mask("id", Mask{Method: MethodHMAC}), "hmac of a decimal": mask("price", Mask{Method: MethodHMAC}),
		"hmac of an instant": mask("at", Mask{Method: MethodHMAC}), "hmac of a uuid": mask("token", Mask{Method: MethodHMAC}), "hmac of a double": mask("ratio", Mask{Method: MethodHMAC}),
		"tokenise": mask("email", Mask{Method: MethodTokenise}), "tokenise with a key's name": mask("email", Mask{Method: MethodTokenise, KeyID: "k1"}),
		"redact": mask("email", Mask{Method: MethodRedact}), "redact a number": mask("id", Mask{Method: MethodRedact}), "truncate": mask("email", Mask{Method: MethodTruncate, Length: 3}),
		"filter": {Filter: "small > 0 and email like '%example' or id in (1, 2, 3)"}, "filter by a cast": {Filter: "cast(price as double) > 10 and user.name is not null"},
		"upper": computed("upper(user.address.city)"), "trim and concat": computed("trim(user.name) || ':' || lower(email)"), "substr": computed("substr(email, 2, 4)"),
		"arithmetic": computed("id * 2 + length(email) % 7"), "case": computed("case when small > 5 then 'big' when small > 2 then user.name else email end"),
		"coalesce": computed("coalesce(user.address.street, email)"), "date_trunc": computed("date_trunc('month', at)"), "extract": computed("extract('week', at)"),
		"cast to a string": computed("cast(id as string) || cast(at as string) || cast(ratio as string) || cast(ok as string) || cast(born as string)"),
		"cast a decimal":   computed("cast(price as string)"), "decimals": computed("cast(cast(price as decimal(12,1)) as long)"),
		"cast from a string": computed("cast(substr(user.ssn, 8, 4) as long)"), "cast to a decimal": computed("cast(substr(user.ssn, 8, 4) as decimal(9,2))"),
		"cast to a uuid": computed("cast(cast(cast(token as string) as uuid) as string)"), "to fewer places": computed("cast(price as decimal(10,1))"),
		"all of them": {Filter: "small > 0", Columns: map[string]string{"city": "upper(user.address.city)", "key": "concat(email, '/', cast(id as string))"},
			Mask: map[string]Mask{"email": {Method: MethodTokenise, Key: secret(t, testKey)}, "user.ssn": {Method: MethodHMAC, Key: secret(t, testKey)}}},
	} {
		_, d := bound(t, nil, c, nil)
		allocs := func(n int) float64 {
			f := fetchOf(events[:n]...)
			return testing.AllocsPerRun(3, func() {
				o, err := d.Decode(f)
				if err != nil || len(o.Dead) > 0 {
					t.Fatal(name, err, o.Dead)
				}
				o.Rows.Release()
			})
		}
		if a, b := allocs(few), allocs(many); (b-a)/(many-few) > most {
			t.Errorf("%s: %v allocations for %d events, %v for %d", name, a, few, b, many)
		}
	}
}
