# Short names for what CONTRIBUTING.md describes; each is one command that also works without make.
.PHONY: build test vet lint race integration faults interop ci demo compose-up compose-down clean

build:
	go build -o bin/firn ./cmd/firn

test:
	go test ./...

vet lint race integration:
	.ci/run $@

# The tests of real processes under fault for as long as it takes to trust them: about 25 minutes on 2 cores.
faults:
	go test -tags=integration -timeout 60m -count 1 -v -run 'TestKilled|TestZombies|TestRequests|TestOutages|TestTopicAgain|TestManyTopics|TestRetention|TestTransactions' \
		./internal/integration -args -kills 200 -history 1000 -takeovers 20 -rounds 3 -hold 60s

# Spark 3.5, Trino 476, DuckDB and PyIceberg at tables that Firn writes, and PyIceberg beside it each second for a minute; real
# serializers at a schema registry, and Debezium, before it.
interop:
	go test -tags=integration,interop -timeout 60m -count 1 -v ./internal/interop -args -beside 60s

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
