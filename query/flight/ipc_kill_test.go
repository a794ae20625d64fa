package flight

func runChild() bool { return false }
