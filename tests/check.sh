#!/bin/bash
# Does the source keep its rules? Formatting, lints, imports, what the binary may contain, shell scripts, documentation.
# Prints one line per rule, the offending lines below a broken one, and `N passed, N failed`. What runs code is in cargo test.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
CARGO=${CARGO:-cargo}
BINARY=target/release/preroot
# What the binary is meant to have, and what it has today: growth fails, and the difference is printed until it is gone.
BUDGET_BYTES=262144
CEILING_BYTES=861184

passed=0 failed=0 packages=()
# rule TEXT COMMAND...: holds when the command succeeds; its output is shown otherwise.
rule() {
    local text=$1 output
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
        printf 'ok      %s\n' "$text"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s\n%s\n' "$text" "$(printf '%s\n' "$output" | tail -n 40 | sed 's/^/        /')"
    fi
}

# nothing COMMAND...: succeeds when the command prints nothing.
nothing() {
    local lines
    lines=$("$@" 2>/dev/null)
    [ -z "$lines" ] || { printf '%s\n' "$lines"; return 1; }
}

# code FILES...: the lines of Rust files before their tests and without comments, as file:line:text.
code() {
    awk 'FNR == 1 { tests = 0 } /^#\[cfg\(test\)\]/ { tests = 1 }
         !tests && !/^[[:space:]]*\/\// { print FILENAME ":" FNR ":" $0 }' "$@"
}
sources() { find "$@" -name '*.rs' -not -name 'fake*' -not -name 'tests.rs' -not -path '*/fake/*' -not -path '*/tests/*' 2>/dev/null | sort; }
# found PATTERN FILES...: code lines that match; the words in EXCEPT may appear.
found() {
    local pattern=$1
    shift
    [ $# -gt 0 ] || return 0
    code "$@" | grep -E ":[0-9]+:.*($pattern)"
}

# --- the source -------------------------------------------------------------------------------------------
format_imports() {
    # shellcheck disable=SC2046 # file names of ours
    found 'crate::' $(sources src/format) | while IFS= read -r line; do
        # `crate::a::b` and each member of `crate::{a::b, c}`
        printf '%s\n' "$line" | grep -oE 'crate::(\{[^}]*|[a-z_0-9]+)' | sed 's/^crate:://; s/^{//' | tr ',' '\n' |
            sed 's/^ *//; s/::.*//' | grep -vxE 'error|limits|facts|secret|format|' >/dev/null && printf '%s\n' "$line"
    done
    true
}
format_extern() {
    # shellcheck disable=SC2046
    found '\b(rustix|linux_raw_sys|smoltcp|std|alloc)::' $(sources src/format)
}
middle_imports() {
    # shellcheck disable=SC2046
    found 'crate::(stage|cli)\b|\.say\(' $(sources src/source src/apply src/disk src/net src/report src/format)
}
kernel_outside_sys() {
    # shellcheck disable=SC2046
    found '\b(rustix|linux_raw_sys)::|\bunsafe\b' $(sources src | grep -v '^src/sys/') | grep -v 'forbid(unsafe_code)\|deny(unsafe_code)'
}
execve_elsewhere() {
    # shellcheck disable=SC2046
    found '\b(execve(at)?|__NR_execve(at)?|run_program)\(' $(sources src | grep -vE '^src/sys/linux/(process|system)\.rs$')
}
heap() {
    # shellcheck disable=SC2046
    found 'extern crate alloc|\balloc::|global_allocator' $(sources src)
}
allows() { grep -rnE '#!?\[allow\(' src build.rs --include='*.rs'; }
first_lines() {
    local file
    for file in $(sources src); do
        head -n 1 "$file" | grep -q '^//!' || printf '%s: the first line does not say which question the file answers\n' "$file"
    done
}
long_files() {
    local file lines
    for file in $(sources src); do
        lines=$(awk '/^#\[cfg\(test\)\]/ { exit } { n++ } END { print n }' "$file")
        [ "$lines" -le 600 ] || printf '%s: %s lines before its tests (limit 600)\n' "$file" "$lines"
    done
}

# --- the binary -------------------------------------------------------------------------------------------
libc_in_tree() { "$CARGO" tree --locked -e normal,build -i libc 2>/dev/null | grep -v '^nothing to print'; }
dynamic_parts() {
    readelf -lW "$BINARY" | grep -E 'INTERP|DYNAMIC'
    readelf --dyn-syms -W "$BINARY" | grep -E 'UND'
    readelf -sW "$BINARY" | awk '$7 == "UND" && $8 != ""'
    readelf -rW "$BINARY" | grep -E 'R_X86_64'
    readelf -lW "$BINARY" | awk '/GNU_STACK/ && /RWE/ { print "the stack is executable" }'
}
within_ceiling() {
    local bytes
    bytes=$(stat -c %s "$BINARY")
    [ "$bytes" -le "$CEILING_BYTES" ] || { echo "$BINARY has $bytes bytes, more than the ceiling of $CEILING_BYTES"; return 1; }
}
print_sections() {
    printf '        %s: %s bytes, budget %s, %s compressed (zstd -19)\n' "$BINARY" "$(stat -c %s "$BINARY")" "$BUDGET_BYTES" \
        "$(zstd -q -19 -c "$BINARY" 2>/dev/null | wc -c)"
    readelf -SW "$BINARY" | sed -n 's/^ *\[ *[0-9]*\] \(\.[a-z_.]*\) *[A-Z_]* *[0-9a-f]* [0-9a-f]* \([0-9a-f]*\) .*/\1 \2/p' |
        while read -r section size; do printf '        %-12s %8d\n' "$section" "0x$size"; done
}

# --- everything else --------------------------------------------------------------------------------------
shell_scripts() {
    git ls-files | while read -r file; do
        [ -f "$file" ] && head -n 1 "$file" | grep -qE '^#!/bin/(ba)?sh|^# shellcheck shell=' && printf '%s\n' "$file"
    done
}
shellcheck_all() {
    # shellcheck disable=SC2046
    shellcheck -x -P SCRIPTDIR -e SC1091 $(shell_scripts)
}
# Every source, apply module and format has its row in the documentation, every format its fuzz target.
missing_rows() {
    local file name
    for file in src/source/*.rs src/apply/*.rs; do
        name=$(basename "$file" .rs)
        case $name in mod | '*') continue ;; esac
        grep -rqsw -- "$name\|$(printf '%s' "$name" | tr _ -)" docs ARCHITECTURE.md || printf '%s: no row in docs/\n' "$file"
    done
}
missing_fuzz() {
    local file name
    for file in src/format/*.rs; do
        name=$(basename "$file" .rs)
        # utf8: every text target goes through it; field, guid: gpt's does
        case $name in mod | utf8 | field | guid | '*') continue ;; esac
        [ ! -f "fuzz/fuzz_targets/$name.rs" ] || continue
        grep -lqsw -- "format::$name" fuzz/fuzz_targets/*.rs 2>/dev/null ||
            grep -rqsE "format::\{?[^;]*\b$name\b" fuzz/fuzz_targets 2>/dev/null || printf '%s: no fuzz target\n' "$file"
    done
}

# The translator is a workspace of its own, with its own lints.
cloud_config() { (cd tools/cloud-config && "$CARGO" "$@"); }

for pair in shellcheck=shellcheck readelf=binutils zstd=zstd git=git; do
    command -v "${pair%%=*}" >/dev/null || packages+=("${pair#*=}")
done
if [ "${#packages[@]}" -gt 0 ] && [ "$(id -u)" -eq 0 ]; then
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${packages[@]}"; } >/dev/null
fi

rule 'formatted (cargo fmt)' "$CARGO" fmt --check
rule 'no clippy warning' "$CARGO" clippy --quiet --all-targets --locked -- -D warnings
rule 'tools/cloud-config: formatted' cloud_config fmt --check
rule 'tools/cloud-config: no clippy warning' cloud_config clippy --quiet --all-targets --locked -- -D warnings
rule 'format/ imports error, limits, facts, secret, format only' nothing format_imports
rule 'format/ names no kernel and no network crate' nothing format_extern
rule 'only stage/ prints and knows the command line' nothing middle_imports
rule 'rustix, linux_raw_sys and unsafe only in sys/' nothing kernel_outside_sys
rule 'execve only in sys/linux/{process,system}.rs' nothing execve_elsewhere
rule 'no heap' nothing heap
rule 'no allow(): expect(lint, reason)' nothing allows
rule 'every file says which question it answers' nothing first_lines
rule 'no file above 600 lines' nothing long_files
rule 'no libc in the dependency tree' nothing libc_in_tree
rule 'the release binary builds' "$CARGO" build --quiet --release --locked
rule 'static: no interpreter, no dynamic section, nothing undefined' nothing dynamic_parts
rule "at most $CEILING_BYTES bytes (the budget is $BUDGET_BYTES)" within_ceiling
if "$CARGO" deny --version >/dev/null 2>&1; then
    rule 'licences, sources and bans hold (cargo deny)' "$CARGO" deny --offline --log-level warn check licenses sources bans
    rule 'tools/cloud-config: licences and sources (cargo deny)' cloud_config deny --offline --log-level warn check --config ../../deny.toml licenses sources
else
    printf 'skipped licences, sources and bans (cargo deny): cargo-deny is not installed\n'
fi
rule 'shell scripts pass shellcheck' shellcheck_all
rule 'every source and module has its row in docs/' nothing missing_rows
rule 'every format has a fuzz target' nothing missing_fuzz
rule 'every reason the platform may show is in docs/reasons.md' tests/reasons.py
print_sections

printf 'check: %s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
