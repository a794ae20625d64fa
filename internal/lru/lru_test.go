package lru

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestAgainstAModel: after any sequence of calls the cache holds what a list in the order of use holds.
func TestAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(0, 12).Draw(t, "limit")
		c := New[int, int](limit)
		type kept struct {
			k, v   int
			weight int64
		}
		var model []kept // the one used last at the end
		take := func(k int) (kept, bool) {
			i := slices.IndexFunc(model, func(m kept) bool { return m.k == k })
			if i < 0 {
				return kept{}, false
			}
			m := model[i]
			model = slices.Delete(model, i, i+1)
			return m, true
		}
		sum := func() (n int64) {
			for _, m := range model {
				n += m.weight
			}
			return n
		}
		for step := range rapid.IntRange(0, 40).Draw(t, "steps") {
			k, weight := rapid.IntRange(0, 6).Draw(t, "key"), rapid.Int64Range(0, 5).Draw(t, "weight")
			act := rapid.SampledFrom([]string{"get", "add", "put", "unless", "drop"}).Draw(t, "act")
			there := slices.IndexFunc(model, func(m kept) bool { return m.k == k })
			switch act {
			case "get":
				v, ok := c.Get(k)
				m, want := take(k)
				if ok != want || v != m.v {
					t.Fatalf("get %d: %d, %t; want %d, %t", k, v, ok, m.v, want)
				}
				if ok {
					model = append(model, m)
				}
				continue
			case "drop":
				c.Drop(k)
				take(k)
				continue
			case "add":
				c.Add(k, weight, step)
				if there >= 0 {
					continue
				}
			case "put":
				c.Put(k, weight, step)
			case "unless":
				c.PutUnless(k, weight, step, func(v int) bool { return v%2 == 0 })
				if there >= 0 && model[there].v%2 == 0 {
					continue
				}
			}
			take(k)
			if weight <= limit {
				model = append(model, kept{k, step, weight})
			}
			for sum() > limit {
				model = model[1:]
			}
		}
		if c.Len() != len(model) || c.order.Len() != len(model) || c.Weight() != sum() || c.Weight() > limit {
			t.Fatalf("%d values in a list of %d, %d heavy; want %d, %d, at most %d", c.Len(), c.order.Len(), c.Weight(), len(model), sum(), limit)
		}
		for _, m := range model {
			if v, ok := c.Get(m.k); !ok || v != m.v {
				t.Fatalf("%d: %d, %t; want %d", m.k, v, ok, m.v)
			}
		}
	})
}
