#!/bin/bash
# Do documents that user data include come, with Provisioning.Include=y, and become what they ask for? The shipped binary, the translator and this
# machine's curl: a mount namespace and an overlay of this root stand for the VM, a network namespace without a way out and a small server for the
# network. Needs root, curl and python3; without, it says so.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
binary=$PWD/target/release/preroot
translator=$(find "$PWD"/tools/cloud-config/target/*/release -maxdepth 1 -name preroot-cloud-config | head -n 1)
server=$PWD/tests/cloud/include_server.py
python=$(python3 -c 'import sys; print(sys.executable)' 2>/dev/null)

# in_vm CONFIGURATION USER-DATA SCRIPT: applies in a fresh VM, then runs the script, with the VM's root as $root, what apply said as $said, and the
# functions serve (the server), include and scripts.
in_vm() {
    # shellcheck disable=SC2016 # it expands there
    unshare -mnp --fork --kill-child --mount-proc sh -c '
        set -e
        . tests/overlay-vm.sh
        ip link set lo up
        notes=/mnt/notes
        overlay_vm "$2" "$6"
        printf "%s\n" "$5" >$root/etc/preroot.conf && chmod 644 $root/etc/preroot.conf
        cd /
        serve() { "$python" "$server" 8080 $notes & sleep 1; }
        include() { code=0; "$binary" include --root $root --run /mnt/run >>$said 2>&1 || code=$?; echo "include $code"; }
        scripts() { "$binary" scripts --root $root --run /mnt/run >>$said 2>&1 || true; grep " ran" $root/var/log/preroot-scripts.log; }
        binary=$1 python=$3 server=$4
        "$1" apply --root $root --run /mnt/run >$said 2>&1; echo "apply $?"
        eval "$7"
        ! grep -r canary $said $root/var/log /mnt/run/status /mnt/run/timeline $root/dev/console
    ' sh "$binary" "$translator" "$python" "$server" "$@"
}

if [ "$(id -u)" -ne 0 ] || ! unshare -mnp --fork --mount-proc true 2>/dev/null || [ -z "$python" ] || [ ! -x /usr/bin/curl ]; then
    echo 'skipped: needs root, namespaces, /usr/bin/curl and python3'
    exit 0
fi
passed=0 failed=0
check() {
    local text=$1 wanted=$2 got=$3
    if [ "$wanted" = "$got" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED  %s\n--- wanted\n%s\n--- got\n%s\n' "$text" "$wanted" "$got"
    fi
}
url=http://127.0.0.1:8080
outer="#cloud-config-archive
- type: text/cloud-config
  content: |
    write_files:
    - {path: /etc/preroot-test/log, content: once, append: true}
    - {path: /etc/preroot-test/late, content: late, defer: true}
    runcmd:
    - echo outer runcmd ran
- content: |
    #include
"

# shellcheck disable=SC2016 # the VM expands it
check 'what documents add is applied before the scripts run, once, and no secret is seen' "$(cat <<'OUT'
apply 0
91267c52-9f02-4cfe-b1f4-a4da7ebac2cf
700 600 include
no prerootinner
include 0
once inner prerootinner:/srv/inner
/config: curl 65523 clean, preroot 0 clean
/script: curl 65523 clean, preroot 0 clean
/nested: curl 65523 clean, preroot 0 clean
/mime: curl 65523 clean, preroot 0 clean
named script ran
included script ran
outer runcmd ran
inner runcmd ran
late
include 76
OUT
)" "$(in_vm Provisioning.Include=y "$outer    $url/script
    $url/nested?sig=canary
    $url/mime
" '
cat $root/var/lib/preroot/provisioned
echo "$(stat -c %a $root/var/lib/preroot/include) $(stat -c "%a" $root/var/lib/preroot/include/include) include"
grep -q prerootinner $root/etc/passwd || echo no prerootinner
serve; include
echo "$(cat $root/etc/preroot-test/log) $(cat $root/etc/preroot-test/inner) $(sed -n "s/^\(prerootinner\):.*:\(.srv.*\):.*/\1:\2/p" $root/etc/passwd)"
for page in config script nested mime; do grep "^/$page:" $notes; done
scripts
cat $root/etc/preroot-test/late; echo
[ ! -e $root/var/lib/preroot/include ]; [ ! -e /mnt/run/include/seed ]; [ ! -e $root/var/lib/preroot/deferred ]
include')"

# shellcheck disable=SC2016
check 'where the image does not allow it nothing is fetched' "$(cat <<'OUT'
apply 0
#include: nothing is fetched where Provisioning.Include is not y: left out
include 76
OUT
)" "$(in_vm '' "$outer    $url/script
" '
grep -o "#include: .*" $said | head -n 1
serve; include; [ ! -e $notes ]; [ ! -e $root/var/lib/preroot/include ]')"

# shellcheck disable=SC2016
check 'a server that is late is asked again; what leads to files, or is too large, is left out, and the rest counts' "$(cat <<'OUT'
apply 0
include 1
part 2, line 2: #include: not fetched
part 2, line 3: #include: not fetched
included script ran
outer runcmd ran
include 1
2 3
kept
OUT
)" "$(in_vm Provisioning.Include=y "$outer    $url/redirect
    $url/large
    $url/script
" '
(sleep 7; serve) & include
grep -o "part 2, line .: #include: not fetched" $said
scripts; include
echo "$(grep -c /redirect $notes) $(grep -c "/redirect\|/script" $notes)"
! grep -rq root: $root/var/lib/preroot; [ -e $root/var/lib/preroot/include/include ] && echo kept')"

# shellcheck disable=SC2016
check 'a document that comes in a later boot changes what ran' "$(cat <<'OUT'
apply 0
include 1
outer runcmd ran
include 0
outer runcmd ran
inner runcmd ran
once inner
OUT
)" "$(in_vm Provisioning.Include=y "$outer    $url/config?sig=canary
" '
rm $root/usr/bin/curl; include; grep -q "the image has no curl" $said
scripts
cp /usr/bin/curl $root/usr/bin/curl; chmod 755 $root/usr/bin/curl
serve; include; scripts | tail -n 2
echo "$(cat $root/etc/preroot-test/log) $(cat $root/etc/preroot-test/inner)"')"

if [ -n "${SLOW:-}" ]; then
    # shellcheck disable=SC2016
    check 'what is not there is asked for ten times, in five boots' "$(printf '%s\n' 'apply 0' 'include 1' 'include 1' 'include 1' 'include 1' 'include 1' 50 'include 76')" \
        "$(in_vm Provisioning.Include=y "$outer    $url/nothing
" '
serve; for n in 1 2 3 4 5; do include; done; grep -c /nothing $notes; include; [ ! -e $root/var/lib/preroot/include ]')"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
