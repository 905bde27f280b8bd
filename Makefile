# make run     start a server here, print a call to paste and a link to open
# make test    everything that must pass before a change goes in (minutes)
# make lint    formatting, vet, staticcheck, the project's own rules
# make soak    many more rounds of killing the server under load, and of the
#              model; a crowd that enters and leaves an open channel for minutes;
#              notifications through crashes and providers in trouble
# make bench   measure a server on this machine
# make docs    write the pages of docs/ that are generated
# make build   the binary, in bin/

GO ?= go
ROUNDS ?= 200
STEPS ?= 200000
CROWD ?= 12000,3m

.PHONY: run test lint soak bench docs build clean

run: build
	exec ./bin/parley serve --banner

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/parley ./cmd/parley

# Nothing is taken from the cache of results: it does not know that the
# end-to-end tests depend on the binary and on scripts. The race detector
# allocates and its stacks are larger, so what is promised of both is tested
# once more without it; and without it the model takes all of its steps. Without
# cgo, as in what is released, the store's memory is in Go's heap.
test:
	scripts/setup
	$(GO) vet ./...
	$(GO) test -race -count=1 -timeout 9m ./...
	$(GO) test -count=1 -run 'Alloc|Stack|Idle|ConnSize|^TestModel$$' ./internal/...
	CGO_ENABLED=0 $(GO) test -count=1 -run '^TestRest$$' ./internal/store/pebble

lint:
	scripts/lint

soak:
	scripts/setup
	$(GO) test -count=1 -timeout 60m -run '^TestKill' -v ./test/e2e -args -rounds=$(ROUNDS)
	PARLEY_MODEL_STEPS=$(STEPS) $(GO) test -count=1 -timeout 60m -run '^TestModel$$' ./internal/node
	PARLEY_CROWD=$(CROWD) $(GO) test -count=1 -timeout 60m -run '^TestCrowd$$' -v ./internal/node
	$(GO) test -count=1 -timeout 10m -parallel 1 -run '^TestPush' -v ./test/e2e -args -push-soak

bench: build
	./bin/parley bench

docs:
	$(GO) run ./cmd/parley doc docs
	$(GO) test ./internal/serverapi -run '^TestCoverage$$' -update

clean:
	rm -rf bin
