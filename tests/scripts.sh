#!/bin/bash
# Which further suites belong to `make test`? Runs each and passes its `N passed, N failed` line on.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

code=0
run() {
    printf -- '--- %s\n' "$*"
    "$@" || code=1
}
run python3 tests/cloud/fake_azure_test.py
run python3 tests/oracle/ovf.py
run python3 tests/oracle/imds_network.py
run tests/units.sh
run tests/cloud-config.sh
run tests/cloud-init-shim.sh
if [ "$(id -u)" -eq 0 ]; then
    run tests/cloud-config-apply.sh
    run tests/cloud-config-include.sh
    run python3 tests/oracle/cloud_config_differential.py 12
    run python3 tests/cloud/report_test.py
    run python3 tests/cloud/kvp_test.py
    run tests/vm/scenarios.sh fast
else
    echo 'tests/vm: skipped, network namespaces and root trees need root'
fi
exit $code
