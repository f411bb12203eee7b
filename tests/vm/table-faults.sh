# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the worlds' variables are scenarios.sh's
# Does each of these faults reach the host by every way there is, and does the boot go on? Rows of src/stage/faults, on a real kernel.
# (sourced by scenarios.sh)
#
# Nothing here asks by KVP, which Hyper-V alone has: what it would read are the records, in memory first, on the root in the end.

# --- what the host learned --------------------------------------------------------------------------------

# told CONSOLE RECORD WIRESERVER: the fault is on the serial console, in the report's record and its words among the events, and
# with the wireserver: `Ready`, a reason, or `-` where no way leads there. Patterns, but for the reason.
told() {
    local line
    console_says "[]] preroot [a-z-]*: .*$1"
    grep -aqE "VM-kvp PROVISIONING_REPORT: $2" "$console" ||
        problem "KVP has '$(sed -n 's/.*VM-kvp PROVISIONING_REPORT: //p' "$console")', expected $2"
    while read -r line; do
        case $line in report:* | kvp:*) continue ;; esac
        grep -a 'VM-kvp [0-9]*: ' "$console" | grep -qF -- "$line" || problem "KVP has no event: $line"
    done < <(sed -n 's/^.*VM-timeline *[0-9.]* s  *\([a-z-]*\) *\(warning\|ERROR\) \(.*\)$/\1: \3/p' "$console")
    case $3 in
        Ready) expect_reports Ready 1; expect_reports NotReady 0 ;;
        -) expect_reports Ready 0; expect_reports NotReady 0 ;;
        *)
            expect_reports Ready 0
            expect_reports NotReady 1
            grep '"state": "NotReady"' "$LAB/platform.jsonl" | grep -qF -- "result=error|reason=$3" ||
                problem "the wireserver did not hear: $3" ;;
    esac
    # the boot went on
    root_grown 450000000
    expect exit-apply-.* '.*'
}
# when PATTERN: the kernel's seconds when the console said so first.
when() { sed -nE "s/^ *[0-9.]+ \[ *([0-9.]+)\] $1.*/\1/p" "$console" | head -n 1; }
# told_at_once: a verdict of the initrd could be read, and was with the wireserver, a second after it was found and a lease was
# there. An emulated machine gets five.
told_at_once() {
    local verdict lease readable heard
    verdict=$(when 'preroot [a-z-]*: .*this VM is not provisioned')
    lease=$(when 'preroot [a-z-]*: lease of')
    readable=$(when 'VM kvp-readable')
    heard=$(when 'preroot [a-z-]*: the platform knows: provisioning failed')
    if [ -z "$verdict" ] || [ -z "$readable" ] || [ -z "$heard" ]; then
        problem "in the initrd: verdict at '$verdict', readable at '$readable', heard at '$heard'"
        return
    fi
    awk -v verdict="$verdict" -v lease="${lease:-0}" -v readable="$readable" -v heard="$heard" 'BEGIN {
        later = verdict > lease ? verdict : lease
        printf "        readable after %d ms, the wireserver heard after %d ms\n", (readable - verdict) * 1000, (heard - later) * 1000
        exit !(readable < verdict + 5 && heard < later + 5) }' || problem 'a fatal verdict took its time'
}
LOST='result=error\|reason='
FOUND='result=success\|'

# --- the medium -------------------------------------------------------------------------------------------

# Name, keys and user come from IMDS then; there is no password.
no_drive() { medium=none; boot no-drive; person_from_imds; told 'no optical drive' "${FOUND}warning=failure to read customData" Ready; }
no_medium() { medium=empty; boot no-medium; person_from_imds; told 'no provisioning medium' "${FOUND}warning=failure to read customData" Ready; }
not_ovf() { medium=not-ovf; boot not-ovf; person_from_imds; told 'medium without ovf-env' "${FOUND}(agent|warning)" Ready; }
malformed() { medium=malformed; boot malformed; person_from_imds; told malformed "${FOUND}warning=error parsing ovf-env.xml" Ready; }
malformed_alone() {
    medium=malformed script='{"imds": ["403"]}'
    boot malformed-alone
    nobody_was_made
    told malformed "${LOST}error parsing ovf-env.xml" 'error parsing ovf-env.xml'
    told_at_once
}
pool_type() {
    export VM_POOL=Whatever
    boot pool-type
    unset VM_POOL
    nobody_was_made
    told 'not provisioned' "${LOST}unsupported pps_type" 'unsupported pps_type'
    told_at_once
}
scenario no-drive fast no_drive
scenario no-medium fast no_medium
scenario not-ovf fast not_ovf
scenario malformed fast malformed
scenario malformed-alone fast malformed_alone
scenario pool-type fast pool_type

# --- the network ------------------------------------------------------------------------------------------

no_nic() { network=none; boot no-nic; person_is_complete; told '(interface|network|link)' "${FOUND}warning=failure to find DHCP interface" -; }
no_dhcp() { network=silent; boot no-dhcp; person_is_complete; told 'DHCP|lease' "${FOUND}warning=failure to obtain DHCP lease" -; }
# Whether the lease's deadline or the mount's patience with fetch ends first is the machine's.
no_dhcp_alone() {
    network=silent medium=none append=rd.preroot.imds=5
    boot no-dhcp-alone
    nobody_was_made
    told 'DHCP|lease|fetch has not ended' "$LOST(failure to obtain DHCP lease|no provisioning data before the boot went on)" -
}
scenario no-nic fast no_nic
scenario no-dhcp fast no_dhcp
scenario no-dhcp-alone fast no_dhcp_alone

# --- IMDS -------------------------------------------------------------------------------------------------

imds_silent() { script='{"imds": ["never"]}'; boot imds-silent; person_is_complete; told 'IMDS' "${FOUND}warning=read timeout querying IMDS" Ready; }
imds_500_twice() { script='{"imds": ["500", "500", "good"]}'; medium=empty; boot imds-500; person_from_imds; expect_reports Ready 1; }
# imds_alone NAME ANSWER REASON: there is nothing else. What another try may mend is asked again in the real root, so long.
imds_alone() {
    medium=none script="{\"imds\": [$2]}" append=rd.preroot.imds=5
    boot "$1"
    nobody_was_made
    told 'IMDS' "$LOST$3" "$3"
}
# Asked again in the real root, as long as the command line says; then told.
nothing_known() {
    imds_alone nothing-known '"never"' 'read timeout querying IMDS'
    console_says 'preroot imds: .*waiting for IMDS'
}
# Longer than the initrd asks, and nothing else says who this is.
imds_late() {
    script='{"imds": [{"status": 429, "times": 25}, "good"]}' medium=empty
    boot imds-late
    person_from_imds
    expect_reports Ready 1
    expect_reports NotReady 0
    console_says 'preroot imds: .*waiting for IMDS'
}
imds_forbidden() { imds_alone imds-forbidden '"403"' 'http error 403 querying IMDS'; told_at_once; }
imds_half() { imds_alone imds-half '"truncated"' 'HTTP response cut short'; }
imds_refused() { platform=(--imds none); imds_alone imds-refused '"good"' 'connection'; }
imds_others() { platform=(--vm-id 11111111-2222-3333-4444-555555555555); imds_alone imds-others '"good"' 'invalid IMDS metadata for key=compute.vmId'; told_at_once; }
scenario imds-silent fast imds_silent
scenario imds-500 fast imds_500_twice
scenario imds-late fast imds_late
scenario nothing-known fast nothing_known
scenario imds-forbidden fast imds_forbidden
scenario imds-half fast imds_half
scenario imds-refused fast imds_refused
scenario imds-others fast imds_others

# --- the wireserver ---------------------------------------------------------------------------------------

wireserver_xml() {
    script='{"health-json": ["refuse-json"]}'
    boot wireserver-xml
    person_is_complete
    expect_reports Ready 1
    grep -q '"endpoint": "health-xml"' "$LAB/platform.jsonl" || problem 'no XML health report arrived'
}
wireserver_silent() { script=$NEVER_READY; boot wireserver-silent; person_is_complete; told 'wireserver' "${FOUND}agent" -; }
wireserver_fails() { script='{"health-json": ["500"], "goalstate": ["500"]}'; boot wireserver-fails; person_is_complete; told 'wireserver' "${FOUND}agent" -; }
scenario wireserver-xml fast wireserver_xml
scenario wireserver-silent fast wireserver_silent
scenario wireserver-fails fast wireserver_fails

# --- ourselves, and the root ------------------------------------------------------------------------------

# The network's half of fetch dies when it has a lease; another process tells.
fetch_killed() {
    medium=none script='{"imds": ["never"]}' append='vm.kill=lease' lost=fetch
    boot fetch-killed
    nobody_was_made
    told 'was killed' "${LOST}unhandled exception" 'unhandled exception'
    told_at_once
}
# The image has an account of that name.
somebodys_name() {
    own_disk
    printf 'root:x:0:0:root:/root:/bin/sh\n%s:x:1:1::/:/bin/sh\n' "$VM_USER" | plant /etc/passwd 644
    boot somebodys-name
    told 'users: failed' "${LOST}users: " 'users: '
}
scenario fetch-killed fast fetch_killed
scenario somebodys-name fast somebodys_name
