# Short names for what CONTRIBUTING.md describes; each is one command that also works without make.
.PHONY: build test vet lint race integration ci demo compose-up compose-down clean

build:
	go build -o bin/firn ./cmd/firn

test:
	go test ./...

vet lint race integration:
	.ci/run $@

ci:
	.ci/run

demo:
	go run ./cmd/firn up --demo

compose-up:
	scripts/compose-env.sh
	docker compose --profile demo up --build -d

compose-down:
	docker compose --profile demo --profile postgres down

clean:
	rm -rf bin
