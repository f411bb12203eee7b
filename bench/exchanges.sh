#!/bin/bash
# How long do a lease, an answer of IMDS and a Ready that is accepted take, from before the first frame on, and how many boots
# get all of it, where frames are lost?
#
#   LOSS="0 1 10 30"   per cent of the frames that are lost, each way, one after the other
#   COUNT=10000        exchanges at each      LANES=8   networks at once      SECONDS_EACH=900   but no longer than that
#   ONLINE_TEST=       the built tests/online.rs
#
# Each network is two namespaces without uplink, joined by a veth: dnsmasq and the fake platform, which answers after 5 to 20 ms. The
# platform's end of the veth drops frames of every kind, as they come and as they go, by chance (nftables' netdev hooks). In
# virtual time, by seeds: cargo test --lib net::loss -- --ignored.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
LOSS=${LOSS:-0 1 10 30} COUNT=${COUNT:-10000} LANES=${LANES:-8} SECONDS_EACH=${SECONDS_EACH:-900}
NAME=bench-exchanges
lab=${PREROOT_LAB:-/run/preroot-lab}
work=$(mktemp -d)
platforms=()
namespace() { sh "$repo/tests/cloud/namespace.sh" "$@"; }

down() {
    local lane
    [ ${#platforms[@]} -eq 0 ] || kill "${platforms[@]}" 2>/dev/null || true
    for ((lane = 0; lane < LANES; lane++)); do namespace down "$NAME-$lane" 2>/dev/null || true; done
    rm -rf "$work"
}
trap down EXIT
for ((lane = 0; lane < LANES; lane++)); do namespace down "$NAME-$lane" 2>/dev/null || true; done # of a run that was interrupted

delays='[{"delay_ms": 5}, {"delay_ms": 20}, {"delay_ms": 10}, {"delay_ms": 15}]'
up() { # lane
    local name=$NAME-$1
    namespace up "$name" veth azure
    python3 -c 'import json, sys; print(json.dumps({"imds": json.loads(sys.argv[1]) * 5000}))' "$delays" >"$lab/$name/script.json"
    namespace cloud "$name" python3 "$repo/tests/cloud/fake_azure.py" --log "$lab/$name/platform.jsonl" --user azureuser --hostname edge-vm-01 \
        --vm-id 91267c52-9f02-4cfe-b1f4-a4da7ebac2cf --disable-password true --key "ssh-ed25519 AAAA bench" \
        --script "$lab/$name/script.json" >"$lab/$name/platform.out" 2>&1 &
    platforms+=($!)
    until grep -qs listening "$lab/$name/platform.out"; do sleep 0.1; done
}

# lose PER-CENT LANE: from now on, both ways; what was counted begins anew.
lose() {
    local rule
    namespace cloud "$NAME-$2" nft delete table netdev loss 2>/dev/null || true
    rule="counter numgen random mod 1000 < $(($1 * 10)) counter drop"
    [ "$1" -gt 0 ] || return 0
    namespace cloud "$NAME-$2" nft -f - <<RULES
table netdev loss {
    chain coming { type filter hook ingress device "cloud0" priority 0; $rule; }
    chain going { type filter hook egress device "cloud0" priority 0; $rule; }
}
RULES
}

# Frames seen and frames dropped, of all lanes.
dropped() {
    local lane
    for ((lane = 0; lane < LANES; lane++)); do
        namespace cloud "$NAME-$lane" nft list table netdev loss 2>/dev/null || true
    done | awk '/counter/ { seen += $3; lost += $(NF - 3) }
        END { if (seen) printf "  frames %d, lost %d (%.2f %%)\n", seen, lost, 100 * lost / seen }'
}

# accepted: Readies that the wireservers took, so far.
accepted() { cat "$lab/$NAME"-*/platform.jsonl | grep -c '"verdict": "ok".*"state": "Ready"' || true; }

exchange() { # per cent
    local lane runs=() before
    before=$(accepted)
    for ((lane = 0; lane < LANES; lane++)); do
        lose "$1" "$lane"
        namespace vm "$NAME-$lane" env PREROOT_EXCHANGES=$(((COUNT + LANES - 1) / LANES)) PREROOT_SECONDS="$SECONDS_EACH" \
            PREROOT_TEST_RUN="$lab/$NAME-$lane" "$test" --ignored --exact inside_many_exchanges --nocapture >"$work/$lane" 2>"$work/$lane.log" &
        runs+=($!)
    done
    for lane in "${runs[@]}"; do wait "$lane" || { cat "$work"/*.log >&2; exit 1; }; done
    echo "$1 % lost each way"
    cat "$work"/[0-9]* | sed -n 's/.*exchange \(no-lease\|no-answer\|no-ready\|ready\) /\1 /p' >"$work/all"
    [ -z "${KEEP:-}" ] || cp "$work/all" "$KEEP-$1"
    sort -g -k4 "$work/all" | awk -v taken=$(($(accepted) - before)) '
        { count[$1]++; if ($5 > longest) longest = $5 }
        $1 == "ready" { time[++n] = $4 }
        function of(p) { return n ? time[int((n - 1) * p / 100) + 1] : 0 }
        END { printf "  %d exchanges: Ready accepted %d, no lease %d, no answer of IMDS %d, no Ready %d; taken by the wireserver %d\n",
                  NR, n, count["no-lease"], count["no-answer"], count["no-ready"], taken
              printf "  to the accepted Ready: P50 %.1f P90 %.1f P99 %.1f most %.1f ms; longest exchange %.1f ms\n",
                  of(50), of(90), of(99), time[n], longest }'
    dropped
    sed -n 's/.*VmHWM:[^0-9]*\([0-9]*\) kB.*/\1/p' "$work"/[0-9] | sort -g | tail -n 1 | sed 's/.*/  most memory & KiB resident (a test program with std)/'
}

command -v nft >/dev/null || { echo "exchanges.sh: needs nftables" >&2; exit 1; }
test=${ONLINE_TEST:-$(cd "$repo" && cargo test --test online --no-run --message-format=json 2>/dev/null | sed -n 's/.*"executable":"\([^"]*online-[^"]*\)".*/\1/p' | tail -1)}
for ((lane = 0; lane < LANES; lane++)); do up "$lane"; done
for loss in $LOSS; do exchange "$loss"; done
