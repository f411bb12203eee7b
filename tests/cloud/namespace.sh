#!/bin/sh
# A cloud network without uplink: a namespace that plays the platform's side (gateway, DHCP server and the
# addresses of IMDS and wireserver), joined to a second namespace (veth) or to a VM (tap).
#
#   namespace.sh up NAME veth|tap [azure[-SERVER]|secondary|stackhub|foreign245|silent|ipv6]   default azure
#   namespace.sh cloud NAME COMMAND...      run on the platform's side
#   namespace.sh vm NAME COMMAND...         run on the VM's side (veth only)
#   namespace.sh down NAME
#
#   azure       DHCP as Azure's: options 3, 6, 26, 121 (default, wireserver, IMDS), 245, infinite lease
#   secondary   DHCP as on an Azure NIC that is not primary: no option 121, no 245
#   stackhub    as an Azure Stack Hub without IMDS: 121 has no route to it, and no 245
#   foreign245  as azure; option 245 names the gateway
#   silent      no DHCP server
#   ipv6        none either; a router of IPv6
#
#   SERVER is dnsmasq, udhcpd (busybox's), dhcpd (ISC's) or kea-dhcp4; dnsmasq by default.
#
# veth: the VM's side is `eth0` (00:0d:3a:12:34:56), down. tap: run QEMU through `cloud NAME`, with
# `-netdev tap,id=n,ifname=tap0,script=no,downscript=no`. Nothing can leave: no namespace has a way out.
# State (pids, dnsmasq.log with every DHCP message, leases) is in $PREROOT_LAB/NAME, /run/preroot-lab by default.
set -eu

usage() { sed -n '2,21s/^# \{0,1\}//p' "$0" >&2; exit 2; }

[ $# -ge 2 ] || usage
command=$1 name=$2
shift 2
case $name in *[!a-z0-9-]* | '') echo "namespace.sh: NAME is [a-z0-9-]" >&2; exit 2 ;; esac
cloud=$name-cloud vm=$name-vm state=${PREROOT_LAB:-/run/preroot-lab}/$name
gateway=10.0.0.1 wireserver=168.63.129.16 imds=169.254.169.254

in_cloud() { ip netns exec "$cloud" "$@"; }

join_veth() {
    ip netns add "$vm"
    ip link add cloud0 netns "$cloud" type veth peer name eth0 netns "$vm"
    ip -n "$vm" link set eth0 address 00:0d:3a:12:34:56
    ip -n "$vm" link set lo up
}

join_tap() {
    ip -n "$cloud" link add cloud0 type bridge
    ip -n "$cloud" tuntap add dev tap0 mode tap
    ip -n "$cloud" link set tap0 master cloud0
    ip -n "$cloud" link set tap0 up
}

start_dhcp() { # options of the DHCP server
    # Not through a function: its shell would stay, and hold the caller's standard output open.
    ip netns exec "$cloud" dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --no-ping --port=0 --user=root \
        --interface=cloud0 --except-interface=lo --bind-interfaces --dhcp-authoritative --log-dhcp \
        --dhcp-range=10.0.0.4,10.0.0.20,255.255.255.0,infinite --dhcp-leasefile="$state/leases" \
        --log-facility="$state/dnsmasq.log" --pid-file="$state/dnsmasq.pid" \
        --dhcp-option=3,$gateway --dhcp-option=6,$wireserver "$@" >"$state/dnsmasq.out" 2>&1 </dev/null &
    tries=0
    until [ -s "$state/dnsmasq.pid" ]; do
        tries=$((tries + 1))
        [ $tries -le 50 ] || { echo "namespace.sh: dnsmasq does not start:" >&2; cat "$state/dnsmasq.out" >&2; exit 1; }
        sleep 0.1
    done
}

# A server in the background, that writes no pid file of the form `down` knows.
start_server() {
    ip netns exec "$cloud" "$@" >"$state/server.out" 2>&1 </dev/null &
    echo $! >"$state/server.pid"
    sleep 1
    kill -0 "$(cat "$state/server.pid")" || { echo "namespace.sh: $1 does not start:" >&2; cat "$state/server.out" >&2; exit 1; }
}

# Announces a network of IPv6 alone, to all and to whoever asks.
start_router() {
    start_server dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --port=0 --user=root \
        --interface=cloud0 --enable-ra --dhcp-range=fd00:1::,ra-only,64 --log-facility="$state/dnsmasq.log"
}

start_udhcpd() {
    cat >"$state/udhcpd.conf" <<CONF
start 10.0.0.4
end 10.0.0.20
interface cloud0
lease_file $state/leases
pidfile $state/udhcpd.pidfile
opt subnet 255.255.255.0
opt router $gateway
opt lease 3600
opt staticroutes 0.0.0.0/0 $gateway, $wireserver/32 $gateway, $imds/32 $gateway
opt 0xf5 a83f8110
CONF
    : >"$state/leases"
    if command -v udhcpd >/dev/null; then set -- udhcpd; else set -- busybox udhcpd; fi
    start_server "$@" -f "$state/udhcpd.conf"
}

start_dhcpd() {
    cat >"$state/dhcpd.conf" <<CONF
authoritative;
default-lease-time 3600;
option routes121 code 121 = array of unsigned integer 8;
option wireserver code 245 = ip-address;
subnet 10.0.0.0 netmask 255.255.255.0 {
    range 10.0.0.4 10.0.0.20;
    option routers $gateway;
    option routes121 0,10,0,0,1,32,168,63,129,16,10,0,0,1,32,169,254,169,254,10,0,0,1;
    option wireserver $wireserver;
}
CONF
    : >"$state/leases"
    start_server dhcpd -4 -f -d --no-pid -cf "$state/dhcpd.conf" -lf "$state/leases" cloud0
}

start_kea() {
    cat >"$state/kea.json" <<CONF
{"Dhcp4": {
  "interfaces-config": {"interfaces": ["cloud0"], "service-sockets-max-retries": 100, "service-sockets-retry-wait-time": 200},
  "lease-database": {"type": "memfile", "persist": false},
  "valid-lifetime": 3600,
  "option-def": [{"name": "routes121", "code": 121, "type": "binary"}, {"name": "wireserver", "code": 245, "type": "ipv4-address"}],
  "subnet4": [{"subnet": "10.0.0.0/24", "pools": [{"pool": "10.0.0.4 - 10.0.0.20"}], "option-data": [
    {"name": "routers", "data": "$gateway"},
    {"name": "routes121", "csv-format": false, "data": "000a00000120a83f81100a00000120a9fea9fe0a000001"},
    {"name": "wireserver", "data": "$wireserver"}]}]
}}
CONF
    KEA_PIDFILE_DIR=$state KEA_LOCKFILE_DIR=none start_server kea-dhcp4 -c "$state/kea.json"
}

up() { # veth|tap KIND
    case $1 in veth | tap) ;; *) usage ;; esac
    case $2 in azure | azure-dnsmasq | azure-udhcpd | azure-dhcpd | azure-kea-dhcp4 | secondary | stackhub | foreign245 | silent | ipv6) ;; *) usage ;; esac
    [ ! -e "$state" ] || { echo "namespace.sh: $name is up already" >&2; exit 1; }
    mkdir -p "$state"
    ip netns add "$cloud"
    # No router solicitations and no MLD from the platform's side: the traffic of a test is the test's.
    in_cloud sysctl -qw net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || :
    "join_$1"
    in_cloud ip link set lo up
    in_cloud ip address add $gateway/24 dev cloud0
    in_cloud ip address add $wireserver/32 dev lo
    in_cloud ip address add $imds/32 dev lo
    in_cloud ip link set cloud0 up
    case $2 in
    azure-udhcpd) start_udhcpd ;;
    azure-dhcpd) start_dhcpd ;;
    azure-kea-dhcp4) start_kea ;;
    azure*)
        start_dhcp --dhcp-option=26,1500 --dhcp-option=245,a8:3f:81:10 \
            --dhcp-option=121,0.0.0.0/0,$gateway,$wireserver/32,$gateway,$imds/32,$gateway
        ;;
    secondary) start_dhcp ;;
    stackhub) start_dhcp --dhcp-option=26,1500 --dhcp-option=121,0.0.0.0/0,$gateway,$wireserver/32,$gateway ;;
    foreign245)
        start_dhcp --dhcp-option=26,1500 --dhcp-option=245,0a:00:00:01 \
            --dhcp-option=121,0.0.0.0/0,$gateway,$wireserver/32,$gateway,$imds/32,$gateway
        ;;
    silent) ;;
    ipv6)
        in_cloud sysctl -qw net.ipv6.conf.cloud0.disable_ipv6=0
        in_cloud ip address add fd00:1::1/64 dev cloud0 nodad
        start_router
        ;;
    esac
}

# Ends what was started here, and only that: a pid may belong to somebody else by now.
stop() {
    for file in "$state"/*.pid; do
        [ -e "$file" ] || continue
        pid=$(cat "$file")
        if ip netns pids "$cloud" 2>/dev/null | grep -qx "$pid"; then kill "$pid" || :; fi
    done
}

down() {
    stop
    for space in "$vm" "$cloud"; do
        if ip netns list | grep -q "^$space\b"; then ip netns delete "$space"; fi
    done
    rm -rf "$state"
}

case $command in
up) [ $# -ge 1 ] || usage; up "$1" "${2:-azure}" ;;
cloud) exec ip netns exec "$cloud" "$@" ;; # exec: killing this process ends the command
vm) exec ip netns exec "$vm" "$@" ;;
down) down ;;
*) usage ;;
esac
