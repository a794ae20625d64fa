package transform

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/google/uuid"
)

// Decimals are divided and written as math/big does it.
func TestDecimalsAreThoseOfMathBig(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	most := decimal128.GetScaleMultiplier(38)
	one := decimal128.FromU64(1)
	values := []decimal128.Num{{}, one, one.Negate(), most.Sub(one), most.Sub(one).Negate(), decimal128.New(0, 1<<63), decimal128.New(1, 0), decimal128.New(-1, 0)}
	for range 20_000 {
		n := new(big.Int).SetUint64(r.Uint64())
		n.Mod(n.Add(n.Lsh(n, 64), new(big.Int).SetUint64(r.Uint64())), most.BigInt())
		n.Rsh(n, r.UintN(127))
		if r.IntN(2) == 0 {
			n.Neg(n)
		}
		values = append(values, decimal128.FromBigInt(n))
	}
	for i, d := range values {
		by := pow10(i % 39)
		q, rest := divided(d, by)
		wantQ, wantRest := new(big.Int).QuoRem(d.BigInt(), by.BigInt(), new(big.Int))
		if q.BigInt().Cmp(wantQ) != 0 || rest.BigInt().Cmp(wantRest) != 0 {
			t.Fatalf("seed %d: %v / %v = %v rest %v, want %v rest %v", seed, d.BigInt(), by.BigInt(), q.BigInt(), rest.BigInt(), wantQ, wantRest)
		}
		if scale := i % 39; string(appendDecimal(nil, d, scale)) != d.ToString(int32(scale)) {
			t.Fatalf("seed %d: %v with scale %d is %s, want %s", seed, d.BigInt(), scale, appendDecimal(nil, d, scale), d.ToString(int32(scale)))
		}
	}
	for range 100 {
		u := uuid.New()
		if got := string(appendUUID(nil, string(u[:]))); got != u.String() {
			t.Fatalf("%s, want %s", got, u)
		}
	}
}
