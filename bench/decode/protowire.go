package decode

import (
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

func floatBits(f float64) uint64 { return math.Float64bits(f) }

// eachField walks a message whose fields are varints, doubles and bytes.
func eachField(b []byte, f func(n protowire.Number, u uint64, s []byte) error) error {
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		var u uint64
		var s []byte
		switch typ {
		case protowire.VarintType:
			u, size = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			u, size = protowire.ConsumeFixed64(b)
		default:
			s, size = protowire.ConsumeBytes(b)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		if err := f(n, u, s); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

func text(s []byte) *string { t := string(s); return &t }

func decodeProto(b []byte, e *event) error {
	return eachField(b, func(n protowire.Number, u uint64, s []byte) error {
		switch n {
		case 1:
			e.Version = int32(u)
		case 2:
			e.ID = string(s)
		case 3:
			e.Type = string(s)
		case 4:
			return eachField(s, func(n protowire.Number, _ uint64, s []byte) error {
				if n == 1 {
					e.Key.User = string(s)
				} else {
					e.Key.Session = string(s)
				}
				return nil
			})
		case 5:
			return eachField(s, func(n protowire.Number, u uint64, s []byte) error {
				switch n {
				case 1:
					e.Payload.Page = text(s)
				case 2:
					e.Payload.Referrer = text(s)
				case 3:
					e.Payload.Currency = text(s)
				default:
					f := math.Float64frombits(u)
					e.Payload.Amount = &f
				}
				return nil
			})
		case 6:
			return eachField(s, func(n protowire.Number, _ uint64, s []byte) error { return decodeMetadata(n, s, e) })
		}
		return nil
	})
}

func decodeMetadata(n protowire.Number, s []byte, e *event) error {
	switch n {
	case 1:
		var seconds, nanos int64
		err := eachField(s, func(n protowire.Number, u uint64, _ []byte) error {
			if n == 1 {
				seconds = int64(u)
			} else {
				nanos = int64(u)
			}
			return nil
		})
		e.Metadata.At = time.Unix(seconds, nanos)
		return err
	case 2:
		e.Metadata.Trace = text(s)
	default:
		e.Metadata.Source = text(s)
	}
	return nil
}
