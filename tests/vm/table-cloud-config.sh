# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the worlds' variables are scenarios.sh's
# Does customData that people wrote for cloud-init become the same machine? As table.sh.
# (sourced by scenarios.sh)

# What a team has in its templates: accounts, files, a disk, time servers, swap, packages, scripts.
user_data() {
    cat <<MIME
Content-Type: multipart/mixed; boundary="=== laboratory ==="
MIME-Version: 1.0

--=== laboratory ===
Content-Type: text/cloud-config

#cloud-config
# $CANARY_DATA
groups: [crew]
users:
- default
- name: deploy
  gecos: Deployment
  groups: [adm, crew]
  shell: /bin/bash
  sudo: "ALL=(ALL) NOPASSWD:ALL"
  ssh_authorized_keys: ["$VM_KEY"]
write_files:
- path: /etc/lab/app.conf
  owner: root:adm
  permissions: "0640"
  encoding: b64
  content: $(printf 'listen = 8080\n' | base64)
- path: /etc/lab/late.conf
  owner: labhello:labhello
  defer: true
  content: written last
- path: /etc/environment
  append: true
  content: |
    LAB=yes
ntp: {enabled: true, ntp_client: systemd-timesyncd, servers: [ntp1.example.invalid]}
fs_setup: [{label: lab-data, filesystem: ext4, device: /dev/vdb, partition: none}]
mounts: [[/dev/vdb, /srv/data, ext4, "defaults,nofail", "0", "2"]]
swap: {filename: /swapfile, size: 67108864}
package_update: true
packages: [lab-hello]
bootcmd: [[sh, -c, "echo bootcmd >>/var/lib/vm-ran"]]
runcmd:
- lab-hello
- [sh, -c, "echo runcmd-\$(id -un) >>/var/lib/vm-ran"]
final_message: "VM-final after \$UPTIME"

--=== laboratory ===
Content-Type: text/x-shellscript-per-boot; charset="us-ascii"
Content-Disposition: attachment; filename="each.sh"

#!/bin/sh
echo per-boot >>/var/lib/vm-ran

--=== laboratory ===
Content-Type: text/x-shellscript
Content-Disposition: attachment; filename="zz-setup.sh"

#!/bin/sh
echo setup >>/var/lib/vm-ran

--=== laboratory ===
Content-Type: text/x-include-url

# where it is is a secret, too
http://10.0.0.1:8000/base.yaml?token=$CANARY_DATA
http://10.0.0.1:8000/included.sh?token=$CANARY_DATA

--=== laboratory ===--
MIME
}
# What the team has on a server of its own.
serve_included() {
    mkdir -p "$LAB/included"
    printf '#cloud-config\ntimezone: Europe/Berlin\n' >"$LAB/included/base.yaml"
    printf '#!/bin/sh\necho included >>/var/lib/vm-ran\n' >"$LAB/included/included.sh"
    sh "$REPO/tests/cloud/namespace.sh" cloud "$NAMESPACE" python3 -m http.server --bind 10.0.0.1 --directory "$LAB/included" 8000 \
        >"$LAB/included.log" 2>&1 &
    companions+=($!)
}

USER_DATA_SHOWN=/etc/lab/app.conf,/etc/lab/late.conf,/etc/environment,/etc/timezone,/etc/hostname
# What the machine must be after its first boot, whoever made it.
user_data_applied() {
    expect ran 'bootcmd package per-boot included hello runcmd-root setup'
    expect show-app.conf '0640 root:adm listen = 8080[|]'
    expect show-late.conf '0644 labhello:labhello written last'
    expect show-environment '.*LAB=yes[|].*'
    expect show-timezone '.* Europe/Berlin[|]'
    expect show-hostname ".* ${VM_HOST}[|]"
    expect people 2
    expect keys 1
    expect hostname "$VM_HOST"
    expect time-servers '.*ntp1.example.invalid.*'
    expect swaps '/swapfile file [0-9]* .*'
    expect data-mount '/dev/vdb ext4'
    expect deploy '.*:Deployment:/home/deploy:/bin/bash adm crew [^ ]* 1 1'
    expect failed-units ' *'
    root_grown 8000000000
    expect_reports Ready 1
    expect_reports NotReady 0
    console_lacks "$CANARY_DATA"
}
final_after() { sed -n 's/^.*VM-final after \([0-9.]*\).*$/\1/p' "$console" | head -n 1; }

user_data_world() {
    real
    tool=initramfs-tools with=user-data deadline=900
    append="${append% vm.wait=30} vm.wait=240 vm.show=$USER_DATA_SHOWN"
    own_disk
    VM_CUSTOM_DATA=$(user_data)
    meanwhile=serve_included
    data=$LAB/data.img
    truncate -s 128M "$data"
}

# The same image twice: Debian's cloud-init alone, then preroot in its stead; then preroot's second boot.
real_cloud_config() {
    local theirs ours
    user_data_world
    append="$append rd.preroot=0"
    boot real-cloud-config-reference
    user_data_applied
    theirs=$(final_after)
    append="${append% rd.preroot=0}"

    new_person
    medium=azure
    user_data_world
    printf 'Provisioning.%s\n' Agent=preroot Include=y | plant /etc/preroot.conf 644
    boot real-cloud-config-1
    user_data_applied
    expect_ready_by health-json 1
    expect sshd-password yes
    requests_are_clean
    ours=$(final_after)
    printf '        kernel to the final message: cloud-init %s s, preroot %s s (%s)\n' "${theirs:-?}" "${ours:-?}" "$ACCEL"
    medium=empty
    boot real-cloud-config
    expect ran 'bootcmd package per-boot included hello runcmd-root setup bootcmd per-boot'
    expect data-mount '/dev/vdb ext4'
    expect failed-units ' *'
    expect_reports Ready 0
    console_lacks 'VM-final'
}

scenario real-cloud-config full real_cloud_config
