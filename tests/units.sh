#!/bin/bash
# Do the units of the real root order without a circle, even where /home comes over the network? Prints `N passed, N failed`.
# systemd's own verdict on a tree made of this machine's units and ours; nothing is started.
set -euo pipefail
TOP=$(cd "$(dirname "$0")/.." && pwd)
passed=0 failed=0
verdict() { # verdict TEXT COMMAND...
    if "${@:2}"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $1"
    fi
}

# cloud-init itself stays what it is.
foreign=$(mktemp -d)
mkdir -p "$foreign/usr/bin"
printf '#!/usr/bin/python3\n# EASY-INSTALL\n' >"$foreign/usr/bin/cloud-init"
install() { make -s -C "$TOP" -f packaging/install.mk install-cloud-init PREFIX=/usr DESTDIR="$foreign" UNITDIR=/units PRESETDIR=/presets; }
verdict "cloud-init is replaced" [ "$(install >/dev/null 2>&1; echo $?) $(find "$foreign" -type f | wc -l)" = '2 1' ]
rm "$foreign/usr/bin/cloud-init"
verdict "the shim is not installed, or not again" [ "$(install >/dev/null && install >/dev/null; echo $?)" = 0 ]
rm -rf "$foreign"
unset -f install

if ! command -v systemd-analyze >/dev/null || [ ! -e /usr/lib/systemd/system/multi-user.target ]; then
    echo "no systemd on this machine"
    echo "$passed passed, $failed failed"
    exit "$failed"
fi
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
units=$tree/usr/lib/systemd/system
enabled=$tree/etc/systemd/system
mkdir -p "$units" "$enabled/multi-user.target.wants" "$enabled/remote-fs.target.wants" "$tree/usr/bin"
ln -s usr/bin "$tree/bin"
ln -s usr/lib "$tree/lib"
cp -r /usr/lib/systemd/system/. "$units"
cp "$TOP"/packaging/systemd/*.service "$TOP"/packaging/systemd/*.path "$units"
# The stages by cloud-init's names, for images that have no cloud-init.
rm -f "$units"/cloud-*
cp "$TOP"/packaging/cloud-init/*.service "$TOP"/packaging/cloud-init/*.target "$units"
ln -s /usr/lib/systemd/system/cloud-init.target "$enabled/multi-user.target.wants/"
for program in preroot cloud-init; do install -m 755 /dev/null "$tree/usr/bin/$program"; done
# GuestProxyAgent's unit, as it orders itself.
printf '%s\n' '[Unit]' After=local-fs.target Before=network-pre.target Wants=network-pre.target '[Service]' Type=simple \
    ExecStart=/usr/bin/preroot '[Install]' WantedBy=multi-user.target >"$units/azure-proxy-agent.service"
ln -s /usr/lib/systemd/system/azure-proxy-agent.service "$enabled/multi-user.target.wants/"
# An agent of a family whose cloud-final.service does not wait for multi-user.target, as Amazon's ECS has it.
printf '%s\n' '[Unit]' After=cloud-final.service '[Service]' ExecStart=/usr/bin/preroot >"$units/ecs.service"
ln -s /usr/lib/systemd/system/ecs.service "$enabled/multi-user.target.wants/"
while read -r _ unit; do # the preset's lines, as `systemctl preset` follows them
    target=$(sed -n 's/^WantedBy=//p' "$units/$unit")
    verdict "$unit is wanted by $target, which ordinary units pull in again and again" [ "$target" = multi-user.target ]
    ln -sf "/usr/lib/systemd/system/$unit" "$enabled/multi-user.target.wants/"
done <"$TOP/packaging/systemd/90-preroot.preset"
ln -s /usr/lib/systemd/system/systemd-networkd.service "$enabled/multi-user.target.wants/"
ln -s ../home.mount "$enabled/remote-fs.target.wants/"
printf '%s\n' '[Unit]' Wants=network-online.target 'After=network-online.target network.target remote-fs-pre.target' \
    Before=remote-fs.target '[Mount]' What=server:/home Where=/home Type=nfs Options=_netdev >"$enabled/home.mount"

said=$(systemd-analyze --root="$tree" --man=no verify multi-user.target 2>&1) || true
# A target is behind what it wants, but for units without default dependencies.
verdict "multi-user.target waits for scripts" grep -q '^DefaultDependencies=no$' "$units/preroot-scripts.service"
verdict "multi-user.target waits for documents that user data include" grep -q '^DefaultDependencies=no$' "$units/preroot-include.service"
verdict "scripts come before what user data include" grep -q '^After=.* preroot-include.service' "$units/preroot-scripts.service"
verdict "scripts are ordered behind multi-user.target" [ -z "$(grep '^After=.*multi-user.target' "$units"/preroot-scripts.service \
    "$units"/cloud-final.service)" ]
# They wait for the rest of the boot while it goes on, and no longer than it does.
waiting=$(sed -n "s/^ExecStartPre=-.*timeout 300 .bin.sh -c '\(.*\)'\$/\1/p" "$units/preroot-scripts.service" | sed 's/\$\$/$/g')
cat >"$tree/usr/bin/systemctl" <<'OUT'
#!/bin/sh
case $* in
    *is-active*multi-user.target) [ "$(wc -l <"$0.jobs")" -ge "$ACTIVE_AFTER" ] ;;
    *list-jobs*) echo >>"$0.jobs"; printf '%s\n' "$JOBS" ;;
esac
OUT
chmod 755 "$tree/usr/bin/systemctl"
# waits TIMES ACTIVE_AFTER JOBS: how often it looks at the jobs before it goes on.
waits() {
    : >"$tree/usr/bin/systemctl.jobs"
    env PATH="$tree/usr/bin:$PATH" ACTIVE_AFTER="$2" JOBS="$3" timeout 30 sh -c "sleep() { :; }; $waiting" || true
    verdict "scripts wait for $3: $(wc -l <"$tree/usr/bin/systemctl.jobs") looks" [ "$(wc -l <"$tree/usr/bin/systemctl.jobs")" = "$1" ]
}
ours='7 preroot-scripts.service start running'
waits 0 0 "$ours"
waits 9 9 "$ours
8 docker.service start running"
# An agent that comes behind them: nobody else is at work, so nobody would ever be.
waits 3 99 "$ours
9 ecs.service start waiting
2 multi-user.target start waiting"
for unit in preroot-scripts.service preroot-include.service cloud-config.target cloud-config.service; do
    verdict "$unit does not wait until it is known whose this VM is" grep -qE '^After=(.* )?preroot-pool.service( |$)' "$units/$unit"
done
verdict "boots that are settled wait for that" grep -q '^ConditionPathExists=/run/preroot/pool$' "$units/preroot-pool.service"
verdict "boots that are settled look for what the report applied" grep -q '^ConditionPathExists=!/run/preroot/settled$' "$units/preroot-report.service"
# What the report itself applied, as only a signed request could ask for it: nobody else begins that in this boot, after everybody's turn.
in_tree() { sed "s,\\\$\\\$,\$,g; s,/\(run\|var\)/,$tree&,g"; }
reporting=$(sed -n 's/^ExecStartPre=-//p' "$units/preroot-report.service" | in_tree)
reported=$(sed -n "s/^ExecStopPost=-.bin.sh -c '\(.*\)'\$/\1/p" "$units/preroot-report.service" | in_tree)
cat >"$tree/usr/bin/systemctl" <<'OUT'
#!/bin/sh
case $* in *is-enabled*"$DISABLED"*) exit 1 ;; *is-enabled*) ;; *) echo "$*" >>"$0.jobs" ;; esac
OUT
# reports DISABLED WANTED TEXT COMMAND...: what is begun after a report that did this.
reports() {
    : >"$tree/usr/bin/systemctl.jobs"
    mkdir -p "$tree/run/preroot" "$tree/var/lib/preroot"
    (PATH=$tree/usr/bin:$PATH DISABLED=$1 && export PATH DISABLED && eval "$reporting" && sleep 0.1 && "${@:4}" && eval "$reported") || true
    verdict "$3: $(paste -sd ';' "$tree/usr/bin/systemctl.jobs")" [ "$(paste -sd ';' "$tree/usr/bin/systemctl.jobs")" = "$2" ]
}
mark=$tree/var/lib/preroot/provisioned
reports none '' "a report that applied nothing, of a VM that nobody has provisioned," true
reports none 'start --no-block preroot-include.service;start --no-block preroot-scripts.service' "a report that applied" touch "$mark"
reports none '' "a report that applied nothing" true
reports preroot-scripts 'start --no-block preroot-include.service' "a report that applied, where scripts are disabled," touch "$mark"
verdict "the report comes after the agent that signs requests" grep -q '^After=azure-proxy-agent.service$' "$units/preroot-report.service"
verdict "no ordering circle" [ "${said#*ordering cycle}" = "$said" ]
verdict "no complaint about a unit of ours" [ "${said#*preroot}" = "$said" ]
verdict "no complaint about a stage" [ "${said#*cloud-}" = "$said" ]
[ "$failed" = 0 ] || echo "$said"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
