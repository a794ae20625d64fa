package generate

import (
	"math"
	"math/rand/v2"
)

// picker draws from 0 to n-1 by given weights in constant time (Vose's alias method).
type picker struct {
	chance []float32 // of i itself; the rest of its column goes to alias[i]
	alias  []int32
}

func newPicker(weights []float64) picker {
	n := len(weights)
	p := picker{chance: make([]float32, n), alias: make([]int32, n)}
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	scaled := make([]float64, n)
	var small, large []int
	for i, w := range weights {
		scaled[i] = w * float64(n) / sum
		if scaled[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		p.chance[s], p.alias[s] = float32(scaled[s]), int32(l)
		if scaled[l] -= 1 - scaled[s]; scaled[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, i := range append(small, large...) { // 1 but for rounding
		p.chance[i], p.alias[i] = 1, int32(i)
	}
	return p
}

// zipf gives n weights that fall as 1/rank^s.
func zipf(n int, s float64) []float64 {
	w := make([]float64, n)
	for i := range w {
		w[i] = math.Pow(float64(i+1), -s)
	}
	return w
}

func (p picker) pick(rng *rand.Rand) int {
	r := rng.Uint64()
	i := int((r >> 32) * uint64(len(p.chance)) >> 32)
	if float32(uint32(r)>>8)*(1.0/(1<<24)) < p.chance[i] {
		return i
	}
	return int(p.alias[i])
}
