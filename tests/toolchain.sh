#!/bin/sh
# Is there a Rust that can build this? Says what to do if not.
need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
for tool in cargo rustc; do
    if ! command -v "$tool" >/dev/null; then
        echo "$tool is missing: install Rust $need or later (https://rust-lang.org/tools/install)" >&2
        exit 1
    fi
done
have=$(rustc --version | cut -d' ' -f2 | cut -d- -f1)
if [ "$(printf '%s\n' "$need" "$have" | sort -V | head -n 1)" != "$need" ]; then
    echo "Rust $need or later is needed, this is $have: update it (rustup update stable)" >&2
    exit 1
fi
if ! command -v cc >/dev/null; then
    [ "$(id -u)" -eq 0 ] || { echo "a C compiler driver is needed to link (package gcc)" >&2; exit 1; }
    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qq gcc libc6-dev >/dev/null
fi
