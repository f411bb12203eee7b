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

if ! command -v systemd-analyze >/dev/null || [ ! -e /usr/lib/systemd/system/multi-user.target ]; then
    echo "no systemd on this machine"
    echo "0 passed, 0 failed"
    exit 0
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
# Its conditions keep it out of most boots; where they hold, nothing may wait for it.
verdict "multi-user.target waits for scripts" \
    [ "$(sed -n 's/^After=\(multi-user.target\) .*/\1/p' "$units/preroot-scripts.service")" = multi-user.target ]
verdict "the report comes after the agent that signs requests" grep -q '^After=azure-proxy-agent.service$' "$units/preroot-report.service"
verdict "no ordering circle" [ "${said#*ordering cycle}" = "$said" ]
verdict "no complaint about a unit of ours" [ "${said#*preroot}" = "$said" ]
verdict "no complaint about a stage" [ "${said#*cloud-}" = "$said" ]
[ "$failed" = 0 ] || echo "$said"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
