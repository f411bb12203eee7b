#!/bin/bash
# How long do a lease, an answer of IMDS and a Ready that is accepted take, from the first frame on, and how many boots get
# all of it, where frames are lost?
#
# usage: exchanges.sh   COUNT=10000 exchanges without loss, a tenth of that at 1, 10 and 30 % lost each way; ONLINE_TEST: the
# built tests/online.rs
# Two network namespaces without uplink, dnsmasq and the fake platform, which answers after 10 ms. Loss is netem's, on
# both ends; without netem only the first line is printed. In virtual time: cargo test --lib net::loss -- --ignored.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
COUNT=${COUNT:-10000}
NAME=bench-exchanges
state=${PREROOT_LAB:-/run/preroot-lab}/$NAME
namespace() { sh "$repo/tests/cloud/namespace.sh" "$@"; }

down() {
    [ -z "${platform:-}" ] || kill "$platform" 2>/dev/null || true
    namespace down "$NAME" 2>/dev/null || true
}
trap down EXIT
down # of a run that was interrupted
namespace up "$NAME" veth azure
echo '{"imds": [{"delay_ms": 10}]}' >"$state/script.json"
namespace cloud "$NAME" python3 "$repo/tests/cloud/platform.py" --log "$state/platform.jsonl" --user azureuser --hostname edge-vm-01 \
    --vm-id 91267c52-9f02-4cfe-b1f4-a4da7ebac2cf --disable-password true --key "ssh-ed25519 AAAA bench" --script "$state/script.json" >"$state/platform.out" 2>&1 &
platform=$!
until grep -qs listening "$state/platform.out"; do sleep 0.1; done
test=${ONLINE_TEST:-$(cd "$repo" && cargo test --test online --no-run --message-format=json 2>/dev/null | sed -n 's/.*"executable":"\([^"]*online-[^"]*\)".*/\1/p' | tail -1)}

exchange() { # count
    namespace vm "$NAME" env PREROOT_EXCHANGES="$1" PREROOT_TEST_RUN="$state" "$test" --ignored --exact inside_many_exchanges --nocapture 2>/dev/null |
        grep -E 'exchanges:|VmHWM'
}
echo "no loss"
exchange "$COUNT"
for loss in 1 10 30; do
    namespace vm "$NAME" tc qdisc replace dev eth0 root netem loss "$loss%" 2>/dev/null || { echo "no netem in this kernel"; exit 0; }
    namespace cloud "$NAME" tc qdisc replace dev cloud0 root netem loss "$loss%"
    echo "$loss % lost each way"
    exchange $((COUNT / 10))
done
