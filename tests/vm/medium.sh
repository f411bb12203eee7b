#!/bin/bash
# Which provisioning media can the laboratory insert?
#
# usage: medium.sh KIND OUT
#   azure      UDF alone, ovf-env.xml and CustomData.bin: what Azure's virtual DVD holds
#   bridge     UDF and ISO 9660 with the same files
#   iso        ISO 9660 alone
#   not-ovf    a disc with other files
#   malformed  an ovf-env.xml that ends in the middle of an element
#   document   no medium: the ovf-env.xml alone
# Reads VM_USER, VM_HOST, VM_PASSWORD, VM_KEY, VM_CUSTOM_DATA, VM_POOL (the type of a pool that the VM is of) from the environment. Needs no UDF in this kernel.
set -euo pipefail
. "$(dirname "$0")/lab.sh"

[ $# -eq 2 ] || die "usage: medium.sh KIND OUT"
kind=$1 out=$2
require genisoimage=genisoimage

escaped() { printf '%s' "$1" | sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g'; }

# The fabric's own mixture of default namespaces and prefixes.
document() {
    local custom=''
    [ -z "${VM_CUSTOM_DATA:-}" ] || custom="
      <CustomData>$(printf '%s' "$VM_CUSTOM_DATA" | base64 -w 76)</CustomData>"
    local pool='      <wa:PreprovisionedVm>false</wa:PreprovisionedVm>
      <wa:PreprovisionedVMType xsi:nil="true" />'
    [ -z "${VM_POOL:-}" ] || pool="      <wa:PreprovisionedVm>true</wa:PreprovisionedVm>
      <wa:PreprovisionedVMType>$VM_POOL</wa:PreprovisionedVMType>"
    cat <<XML
<?xml version="1.0" encoding="utf-8"?>
<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" xmlns:wa="http://schemas.microsoft.com/windowsazure" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <wa:ProvisioningSection>
    <wa:Version>1.0</wa:Version>
    <LinuxProvisioningConfigurationSet xmlns="http://schemas.microsoft.com/windowsazure" xmlns:i="http://www.w3.org/2001/XMLSchema-instance">
      <ConfigurationSetType>LinuxProvisioningConfiguration</ConfigurationSetType>
      <HostName>$(escaped "${VM_HOST:-edge-vm-01}")</HostName>
      <UserName>$(escaped "${VM_USER:-azureuser}")</UserName>
      <UserPassword>$(escaped "${VM_PASSWORD:-}")</UserPassword>
      <DisableSshPasswordAuthentication>false</DisableSshPasswordAuthentication>
      <SSH>
        <PublicKeys>
          <PublicKey>
            <Fingerprint>0123456789ABCDEF0123456789ABCDEF01234567</Fingerprint>
            <Path>/home/$(escaped "${VM_USER:-azureuser}")/.ssh/authorized_keys</Path>
            <Value>$(escaped "${VM_KEY:-}")</Value>
          </PublicKey>
        </PublicKeys>
      </SSH>$custom
    </LinuxProvisioningConfigurationSet>
  </wa:ProvisioningSection>
  <wa:PlatformSettingsSection>
    <wa:Version>1.0</wa:Version>
    <wa:PlatformSettings>
      <wa:KmsServerHostname>kms.core.windows.net</wa:KmsServerHostname>
      <wa:ProvisionGuestAgent>false</wa:ProvisionGuestAgent>
      <wa:GuestAgentPackageName xsi:nil="true" />
$pool
    </wa:PlatformSettings>
  </wa:PlatformSettingsSection>
</Environment>
XML
}

# is_id FILE SECTOR ID: does the volume structure descriptor there carry this identifier?
is_id() { [ "$(dd if="$1" bs=1 skip=$((${2} * 2048 + 1)) count=5 status=none | tr -d '\0')" = "$3" ]; }

# Takes the ISO 9660 half away from a bridge disc: the UDF recognition sequence (BEA01, NSR02, TEA01) moves to
# sector 16, where it must begin when no other descriptor precedes it, and what lay there is cleared.
without_iso() {
    local first=16 sector
    while ! is_id "$1" "$first" BEA01; do
        first=$((first + 1))
        [ "$first" -lt 40 ] || die "genisoimage wrote no UDF recognition sequence"
    done
    dd if="$1" of="$1.vrs" bs=2048 skip="$first" count=3 status=none
    for ((sector = 16; sector < first + 3; sector++)); do
        dd if=/dev/zero of="$1" bs=2048 seek="$sector" count=1 conv=notrunc status=none
    done
    dd if="$1.vrs" of="$1" bs=2048 seek=16 conv=notrunc status=none
    rm -f "$1.vrs"
}

if [ "$kind" = document ]; then document >"$out"; exit; fi
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
options=(-quiet -V CONFIG -input-charset utf-8)
case $kind in
    not-ovf) echo 'Not what you are looking for.' >"$files/readme.txt" ;;
    malformed) document | head -c 900 >"$files/ovf-env.xml" ;;
    azure | bridge | iso)
        printf '\357\273\277' >"$files/ovf-env.xml"
        document >>"$files/ovf-env.xml"
        [ -z "${VM_CUSTOM_DATA:-}" ] || printf '%s' "$VM_CUSTOM_DATA" >"$files/CustomData.bin"
        ;;
    *) die "unknown kind of medium '$kind'" ;;
esac
case $kind in
    iso) options+=(-R -J) ;;
    *) options+=(-udf -R -J) ;;
esac
genisoimage "${options[@]}" -o "$out" "$files" 2>/dev/null
case $kind in azure | not-ovf | malformed) without_iso "$out" ;; esac
