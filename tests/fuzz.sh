#!/bin/bash
# Does any input break a parser? Builds the fuzz targets on stable Rust and runs each for a while, seeded with the fixtures.
# usage: tests/fuzz.sh [-t SECONDS_EACH] [TARGET...]      findings: fuzz/artifacts/<target>/, see fuzz/README.md
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=60
if [ "${1:-}" = -t ]; then seconds=$2; shift 2; fi

command -v c++ >/dev/null || {
    [ "$(id -u)" -eq 0 ] || { echo "libFuzzer needs a C++ compiler (package g++)" >&2; exit 1; }
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends g++; } >/dev/null
}

# Coverage by LLVM's own pass: no nightly, no cargo-fuzz. An explicit target keeps the flags off build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"

# seeds TARGET: copies of the fixtures that are inputs of it.
seeds() {
    local fixtures=../tests/fixtures
    case $1 in
        xml | ovf) find "$fixtures/ovf" -name input.xml ;;&
        xml | goalstate) find "$fixtures/azure-goalstate" -type f -size -64k ;;
        network_data) find "$fixtures/network/documents" -name '*.json' ;;
        network_seed) find "$fixtures/network/seeds" -name '*.txt' ;;
        json | imds) find "$fixtures/imds" -name input.json -size -64k ;;
        openstack) find "$fixtures/drives" -name meta_data.json ;;
        vendor_data | cloud_config_json) find "$fixtures/drives" -name 'vendor_data*.json' ;;
        dhcp) echo "$fixtures/dhcp/azure-ack.bin" ;;
        online) echo "$fixtures/dhcp/exchange.frames" ;;
        cloud_yaml | cloud_user_data) find "$fixtures/cloud-init" -type f -size -8k ;;&
        cloud_mime | cloud_user_data) find "$fixtures/cloud-init/user_data" -type f ;;
        http) find "$fixtures/http" -name input -size -16k ;;
        nocloud) find "$fixtures/drives" -name meta-data ;;
        fat | iso9660 | ntfs | udf) find "$fixtures/media" -name '*.hex' ;;
    esac
}

targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\([a-z0-9_]*\)"$/\1/p' Cargo.toml)
passed=0 failed=0
for target in "${targets[@]}"; do
    cargo build --quiet --release --locked --target "$host" --bin "$target"
    mkdir -p "corpus/$target" "artifacts/$target"
    # what earlier runs found worth keeping
    [ ! -f "seeds/$target.tar.xz" ] || tar -xJf "seeds/$target.tar.xz" -C "corpus/$target"
    seeds "$target" | while read -r file; do
        cp "$file" "corpus/$target/$(sha1sum <"$file" | cut -c1-16)"
    done
    # -max_len: the parsers keep state between bytes, not size; what is special about size is a limit that unit tests reach.
    # A medium is one only as a whole.
    case $target in fat | iso9660 | udf) most=40960 ;; *) most=8192 ;; esac
    if "target/$host/release/$target" -max_total_time="$seconds" -max_len=$most -timeout=10 -rss_limit_mb=1024 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" "corpus/$target" >"artifacts/$target/log" 2>&1; then
        passed=$((passed + 1))
        printf 'ok      %s, %s inputs\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "artifacts/$target/log")"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s\n' "$target"
        tail -n 30 "artifacts/$target/log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
