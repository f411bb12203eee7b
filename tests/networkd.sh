#!/bin/sh
# Runs systemd-networkd over the files in $1, in the network namespace it is called in, and shows what it made of them.
# `NOT HERE` where this machine does not let it. usage: unshare -n -m --propagation private sh networkd.sh DIRECTORY
set -eu
say() { echo "NOT HERE: $*"; exit 0; }
ip link add eth1 type veth peer name peer1 2>/dev/null || say "no interfaces of our own"
ip link delete eth1
mount -t tmpfs tmpfs /run || say "no mounts"
# A /sys that is read-only says: a container, do not wait for udev.
mount -t sysfs -o ro sysfs /sys || say "no /sys"
mkdir -p /run/systemd/network
cp "$1"/* /run/systemd/network/
chmod 644 /run/systemd/network/*
for at in netif netif/links netif/leases netif/lldp; do install -d -o systemd-network -g systemd-network "/run/systemd/$at"; done
for n in 1 2 3 4 5 6 7 8 9; do
    ip link add "eth$n" address "02:00:00:00:00:0$n" type veth peer name "peer$n"
    ip link set "peer$n" mtu 9000 up
done
# Nor has it VLANs everywhere, and networkd gives a bridge no addresses before all that stands on it is made.
if ip link add link eth1 name probe type vlan id 5 2>/dev/null; then
    ip link delete probe
else
    rm /run/systemd/network/*-br0.5.*
    sed -i '/^VLAN=br0/d' /run/systemd/network/*-br0.network
    echo "NO VLANS"
fi
ip link set lo up
SYSTEMD_LOG_LEVEL=info SYSTEMD_LOG_TARGET=console timeout 15 /lib/systemd/systemd-networkd 2>&1 &
n=0
while [ $n -lt 24 ] && ! ip -4 route | grep -q 'default via 10.0.0.1'; do
    sleep 0.5
    n=$((n + 1))
done
sleep 1
ip address
ip route
ip -6 route
# The kernel has no bonds and bridges everywhere.
ip link show br0 >/dev/null 2>&1 || echo "NO BRIDGES"
ip link show bond0.101 >/dev/null 2>&1 || echo "NO BONDS"
kill "$!" 2>/dev/null || true
