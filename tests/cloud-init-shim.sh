#!/bin/bash
# Does the cloud-init of packaging/ say what cloud-init says, and do preroot's part? Against a preroot that only repeats its words.
set -uo pipefail
STAGES=
cd "$(dirname "$0")/.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2016 # they expand it
printf '#!/bin/sh\necho "preroot $*" >>%s/calls\n[ "$1" != status ] || printf %%s "$SAYS"\nexit ${CODE:-0}\n' "$work" >"$work/preroot"
# No systemd of this machine. A job waits for as many looks as JOBS has lines.
# shellcheck disable=SC2016
printf '#!/bin/sh\necho "ActiveState=${UNIT:-inactive}"\n[ ! -s "$JOBS" ] || { sed -i 1d "$JOBS" && echo Job=217; }\n' >"$work/systemctl"
mkdir -p "$work/run/systemd/system"
printf '#!/bin/sh\necho reboot >>%s/reboots\n' "$work" >"$work/reboot"
chmod 755 "$work/preroot" "$work/systemctl" "$work/reboot"
passed=0 failed=0
# says STATE CODE WANTED-CODE WANTED ARGUMENTS...
says() {
    local state=$1 code=$2 wanted_code=$3 wanted=$4 got
    shift 4
    : >"$work/calls"
    got=$(PATH=$work:$PATH PREROOT=$work/preroot ROOT=$work CODE=$code \
        SAYS="{\"state\":\"$state\",\"platform\":\"azure\",\"vm_id\":\"id-1\",\"stages\":{$STAGES},\"scripts\":{}}" JOBS=$work/jobs \
        timeout 10 packaging/cloud-init/cloud-init "$@" 2>/dev/null)
    code=$?
    got+=$(grep -v 'preroot status --json$' "$work/calls" | tr '\n' ';')
    if [ "$code" = "$wanted_code" ] && [ "$got" = "$wanted" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED  %s (%s): %s %s, not %s %s\n' "$*" "$state" "$code" "$got" "$wanted_code" "$wanted"
    fi
}
truth() {
    if "${@:2}"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        printf 'FAILED  %s\n' "$1"
    fi
}
says reported 0 0 'status: done' status
says provisioned 0 0 'status: donepreroot status --json --wait;' status --wait
says seeded 0 0 'status: running' status
says failed 1 1 'status: error' status
says not-applicable 76 0 'status: disabled' status
says '' 1 1 'status: error' status
UNIT=failed says reported 0 2 'status: done' status
UNIT=activating says reported 0 0 'status: running' status
# Its turn has not come.
echo >"$work/jobs"
says reported 0 0 'status: running' status
printf '\n\n' >"$work/jobs"
says reported 0 0 'status: donepreroot status --json --wait;preroot status --json --wait;preroot status --json --wait;' status --wait
truth 'it waits for a job no longer than it is there' test ! -s "$work/jobs"
# A VM that waits for its owner longer than preroot waits with it.
says seeded 0 0 'status: runningpreroot status --json --wait;' status --wait
# Without systemd preroot itself knows, where its stage is a service.
rmdir "$work/run/systemd/system"
says reported 0 0 'status: done' status
mkdir -p "$work/etc/runlevels/default" && touch "$work/etc/runlevels/default/preroot-scripts"
mkdir -p "$work/run/preroot" "$work/proc/1" && touch "$work/run/preroot/status" "$work/proc/cmdline"
says reported 0 0 'status: running' status
STAGES='"apply":{"outcome":"done","ms":1},"scripts":{"outcome":"done","ms":1}' says reported 0 0 'status: done' status
STAGES='"scripts":{"outcome":"failed","ms":1}' says reported 0 2 'status: done' status
rm -r "$work/etc/runlevels" && mkdir -p "$work/etc/init.d" && touch "$work/etc/init.d/S99preroot-scripts"
says reported 0 0 'status: running' status
says not-applicable 76 0 'status: disabledpreroot status --json --wait;' status --wait
# Switched off, nobody starts it.
echo 'quiet rd.preroot=0 ro' >"$work/proc/cmdline"
says reported 0 0 'status: donepreroot status --json --wait;' status --wait
echo 'quiet ro' >"$work/proc/cmdline"
# In a runlevel of which nobody has heard for long.
touch -d '20 minutes ago' "$work/run/preroot/status"
says reported 0 0 'status: donepreroot status --json --wait;' status --wait
touch "$work/run/preroot/status"
# begins INIT-SCRIPT: it leaves its process, which runs as long as the stage does.
begins() {
    : >"$work/calls"
    rm -f "$work/run/preroot/scripts.begun"
    { echo 'ebegin() { :; }; eend() { :; }' && sed -e "s,/usr/bin/preroot,$work/preroot,g; s,/run/preroot,$work/run/preroot,g" \
        -e "s,/proc/cmdline,$work/proc/cmdline,g" "$1" && echo "$2"; } >"$work/init" && sh "$work/init" start
    truth "$1 leaves no process to look for" grep -qx '[1-9][0-9]*' "$work/run/preroot/scripts.begun"
    for _ in 1 2 3 4 5; do [ "$(wc -l <"$work/calls")" = 2 ] || sleep 0.2; done
    truth "$1 does not start include and scripts" [ "$(paste -sd ';' "$work/calls")" = 'preroot include;preroot scripts' ]
}
begins packaging/openrc/preroot-scripts start
begins packaging/busybox/S99preroot-scripts ''
# One that is not there any more and has not said how it ended was killed; no ROOT has such a process.
says reported 0 2 'status: donepreroot status --json --wait;' status --wait
mkdir "$work/proc/$(cat "$work/run/preroot/scripts.begun")"
says reported 0 0 'status: running' status
touch -d '20 minutes ago' "$work/run/preroot/status"
says reported 0 0 'status: running' status
# Somebody called a second one beside it, which had to leave.
STAGES='"scripts":{"outcome":"not-applicable","ms":1}' says reported 0 0 'status: running' status
# A process of somebody else's has its number by now.
STAGES='"scripts":{"outcome":"done","ms":1}' says reported 0 0 'status: done' status
rm -r "$work/proc"
STAGES='"scripts":{"outcome":"not-applicable","ms":1}' says reported 0 0 'status: done' status
# Who may not see the processes of others waits until it says how it ended.
mkdir "$work/proc"
says reported 0 0 'status: running' status
STAGES='"scripts":{"outcome":"not-applicable","ms":1}' says reported 0 0 'status: done' status
rm -r "$work/etc/init.d" "$work/run/preroot" "$work/proc" && mkdir -p "$work/run/systemd/system"
# What was to be included could not be had.
STAGES='"include":{"outcome":"failed","ms":1},"scripts":{"outcome":"done","ms":1}' says reported 0 2 'status: done' status
UNIT=activating STAGES='"include":{"outcome":"failed","ms":1}' says reported 0 0 'status: running' status
says reported 0 0 '{"status": "done", "extended_status": "done", "datasource": "azure", "detail": "preroot", "errors": []}' status --format json
says reported 0 0 id-1 query instance_id
says reported 0 0 azure query v1.cloud_name
says reported 0 1 '' query userdata
says reported 76 0 'preroot fetch --offline;' init --local
says reported 76 0 'preroot fetch --online;preroot apply;' init
says reported 76 0 'preroot apply;' modules --mode=config
says reported 0 0 'preroot include;preroot scripts;' modules --mode=final
says reported 1 1 'preroot include;preroot scripts;' modules --mode=final
says reported 0 2 '' collect-logs
says reported 0 2 ''
says reported 0 1 '' query instance
says reported 0 2 '' schema -c
mkdir -p "$work/usr/libexec/preroot"
printf '#!/bin/sh\necho "translator $*"\n' >"$work/usr/libexec/preroot/cloud-config"
chmod 755 "$work/usr/libexec/preroot/cloud-config"
says reported 0 0 'translator check /f' schema --config-file /f
mkdir -p "$work/var/lib/preroot/scripts/user" "$work/var/lib/preroot/scripts/per-boot" && touch "$work/var/lib/preroot/provisioned"
touch "$work/var/lib/preroot/scripts/user/runcmd" "$work/var/lib/preroot/scripts/per-boot/image" "$work/var/lib/preroot/custom-data" \
    "$work/var/lib/preroot/scripts/per-boot/user-data.part-001"
mkdir -p "$work/var/lib/preroot/pending.tmp" "$work/var/lib/preroot/include.tmp" && touch "$work/var/lib/preroot/pending.tmp/password" \
    "$work/var/lib/preroot/include.tmp/custom-data"
mkdir -p "$work/var/log" "$work/etc" "$work/var/lib/preroot/marks-id-1" && touch "$work/var/log/preroot-scripts.log"
says reported 0 2 '' clean --logs --configs all
truth 'clean with a word it does not know does something' test -e "$work/var/lib/preroot/custom-data"
says reported 0 0 '' clean -lr --machine-id
truth 'clean -lr does not reboot' grep -q reboot "$work/reboots"
truth 'clean -lr leaves the log' test ! -e "$work/var/log/preroot-scripts.log"
truth 'clean --machine-id' grep -qx uninitialized "$work/etc/machine-id"
truth "clean leaves $(cd "$work/var/lib/preroot" && find . -type f | sort | paste -sd ' ' -)" \
    test "$(cd "$work/var/lib/preroot" && find . -type f | sort | paste -sd ' ' -)" = './provisioned ./scripts/per-boot/image'
# An image of another VM to the next boot, also where it is the same one: that owned what is there.
truth 'after clean this VM is provisioned' test "$(cat "$work/var/lib/preroot/provisioned")" = cleaned
# What cannot be removed (here, as the place is a file) is no success, and nobody reboots.
rm -rf "$work/var/lib/preroot" "$work/reboots" && mkdir -p "$work/var/lib/preroot/provisioned"
says reported 0 1 '' clean --reboot
truth 'clean that failed reboots' test ! -e "$work/reboots"
# cloud-init-per: once for this disk, once for an instance, always; the code is the command's.
# per INSTANCE WANTED ARGUMENTS...
per() {
    local id=$1 wanted=$2 got
    shift 2
    got=$(STATE=$work/state INSTANCE_ID=$id packaging/cloud-init/cloud-init-per "$@" 2>/dev/null)
    got+=$?
    if [ "$got" = "$wanted" ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        printf 'FAILED  cloud-init-per %s (%s): %s, not %s\n' "$*" "$id" "$got" "$wanted"
    fi
}
per i-1 hi0 once a echo -n hi
per i-2 0 once a echo -n hi
per i-1 hi0 instance b echo -n hi
per i-1 0 instance b echo -n hi
per i-2 hi0 instance b echo -n hi
per i-1 hi0 always c echo -n hi
per i-1 hi0 always c echo -n hi
per i-1 3 once d sh -c 'exit 3'
per i-1 0 once d sh -c 'exit 3'
per i-1 1 once ../../d true
per i-1 hi0 once 'e f' echo -n hi
per i-1 0 once e_f echo -n hi
per i-1 1 never d true
truth 'preroot status takes them for scripts' test ! -e "$work/state/ran"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
