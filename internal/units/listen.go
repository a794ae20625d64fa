package units

import (
	"fmt"
	"net"
	"strconv"
)

// CheckListen reads an address to listen on, host:port with port 0 for any free one, and tells whether only this machine
// can reach it.
func CheckListen(addr string) (local bool, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false, fmt.Errorf("%q is not host:port: %w", addr, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false, fmt.Errorf("%q has no port within 0 to 65535", addr)
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback(), nil
}
