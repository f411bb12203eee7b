#!/bin/bash
# Which labelled media can the laboratory attach?
#
# usage: drive.sh KIND OUT
#   config-drive[-fat]  a config drive as Tencent Cloud describes its own: static network, vendor_data.json as a mapping with
#                       password, key, NTP server and a repository's files; ISO 9660, or FAT
#   nocloud[-fat]       a NoCloud medium with host name and key
# Reads VM_UUID, VM_HOST, VM_PASSWORD, VM_KEY, VM_CUSTOM_DATA from the environment; VM_LOGIN (root) is whose password it
# is, VM_HASH what the drive has in its place.
set -euo pipefail
. "$(dirname "$0")/lab.sh"

[ $# -eq 2 ] || die "usage: drive.sh KIND OUT"
kind=$1 out=$2
require genisoimage=genisoimage mkfs.vfat=dosfstools mcopy=mtools python3=python3
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT

config_drive() {
    mkdir -p "$files/openstack/latest" "$files/openstack/content"
    printf '%s' "$VM_CUSTOM_DATA" >"$files/openstack/latest/user_data"
    echo 'injected' >"$files/openstack/content/0000"
    FILES=$files/openstack/latest python3 - <<'PY'
import base64, json, os
def write(name, document):
    with open(os.environ["FILES"] + "/" + name, "w") as out:
        json.dump(document, out)
host, key = os.environ["VM_HOST"], os.environ["VM_KEY"]
password = os.environ.get("VM_LOGIN", "root") + ":" + os.environ.get("VM_HASH", os.environ["VM_PASSWORD"])
write("meta_data.json", {
    "uuid": os.environ["VM_UUID"], "hostname": host, "name": host, "launch_index": 0, "meta": {"dsmode": "local"},
    "public_keys": {"skey": key + "\n"}, "random_seed": "AAECAwQFBgcICQoLDA0ODw==" * 20,
    "files": [{"path": "/etc/injected", "content_path": "/content/0000"}],
})
write("vendor_data.json", {
    "hostname": host, "manage_etc_hosts": True, "nameservers": ["183.60.83.19", "183.60.82.98"], "ntp": {"servers": ["time1.example.com"]},
    "chpasswd": {"expire": False, "list": [password]}, "ssh_pwauth": True,
    "write_files": [{"path": "/etc/yum.repos.d/CentOS-Base.repo", "permissions": "0644",
                     "content": "[os]\nname=os\nbaseurl=http://mirrors.example.com/\n"},
                    {"path": "/etc/apt/sources.list.d/mirrors.list", "permissions": "0640", "owner": "root:adm", "encoding": "b64",
                     "content": base64.b64encode(b"deb http://mirrors.example.com/debian bookworm main\n").decode()}],
    "ssh_authorized_keys": [key], "tencent": {"region": "ap-guangzhou"},
})
write("network_data.json", {
    "links": [{"id": "eth0", "type": "phy", "ethernet_mac_address": "00:0D:3A:12:34:56", "mtu": 1442}],
    "networks": [{"id": "network0", "type": "ipv4", "link": "eth0", "ip_address": "10.0.1.17", "netmask": "255.255.240.0",
                  "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}]}],
    "services": [{"type": "dns", "address": "183.60.83.19"}],
})
PY
}

nocloud() {
    printf 'instance-id: %s\nlocal-hostname: %s\npublic-keys:\n  - %s\n' "$VM_UUID" "$VM_HOST" "$VM_KEY" >"$files/meta-data"
    printf '%s' "$VM_CUSTOM_DATA" >"$files/user-data"
}

# FAT keeps upper case: that is a label, too.
fat() {
    rm -f "$out"
    mkfs.vfat -n "$1" -C "$out" 2048 >/dev/null
    mcopy -s -i "$out" "$files"/* ::
}
case $kind in
    config-drive*) config_drive; label=config-2 fat=CONFIG-2 ;;
    nocloud*) nocloud; label=cidata fat=CIDATA ;;
    *) die "unknown kind of drive '$kind'" ;;
esac
case $kind in
    *-fat) fat "$fat" ;;
    *) genisoimage -quiet -J -r -V "$label" -o "$out" "$files" 2>/dev/null ;;
esac
