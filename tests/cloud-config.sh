#!/bin/bash
# Is the translator of user data what it says? Its tests, the recorded cases as a table, and the static program itself.
set -uo pipefail
cd "$(dirname "$0")/../tools/cloud-config" || exit 1
CARGO=${CARGO:-cargo}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

code=0
"$CARGO" test --locked -- --nocapture >"$log" 2>&1 || code=1
# one row for each file of cases; whatever failed, whole
grep '^|' "$log"
if [ "$code" -ne 0 ]; then tail -n 100 "$log"; fi
../../tests/oracle/yaml_oracle.py 5000 || code=1
"$CARGO" build --release --locked --quiet || code=1
program=$(find target/*/release -maxdepth 1 -name preroot-cloud-config | head -n 1)
if ! readelf -lW "$program" | grep -q INTERP; then
    printf '%s: %s bytes, static\n' "${program##*/}" "$(stat -c %s "$program")"
else
    echo "$program is not static"
    code=1
fi
awk '/^test result:/ { passed += $4; failed += $6 } END { printf "%d passed, %d failed\n", passed, failed }' "$log"
exit $code
