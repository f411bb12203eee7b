#!/usr/bin/env python3
"""What does each DHCP client cost from its start to the server's ACK, and to its end?

usage: lease.py PREROOT DIRECTORY RUNS MEASURE      on the VM's side of a namespace (see lease.sh)
Times of packets are the kernel's; CPU is the process's and that of children it waited for."""

import os
import pathlib
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time

LINK = "eth0"
ETH_P_ALL = 3
SO_TIMESTAMPNS = 35  # asm-generic/socket.h
DISCOVER, ACK = 1, 5
COOKIE = b"\x63\x82\x53\x63"


class Wire:
    """Every frame of the link, both ways."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setblocking(False)

    def frames(self):
        """Takes what has arrived: (time in ns, bytes) of the link's frames."""
        seen = []
        while True:
            try:
                frame, ancillary, _, address = self.socket.recvmsg(65536, 64)
            except BlockingIOError:
                return seen
            if address[0] == LINK:
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
                seen.append((seconds * 10**9 + nanoseconds, frame))


def dhcp_type(frame):
    """DHCP's message type (RFC 2132, option 53), None for everything else."""
    at = frame.find(COOKIE)
    if at < 0 or frame[12:14] != b"\x08\x00" or frame[23] != 17:
        return None
    options = frame[at + 4:]
    while len(options) > 2 and options[0] != 255:
        if options[0] == 0:
            options = options[1:]
        elif options[0] == 53:
            return options[2]
        else:
            options = options[2 + options[1]:]
    return None


def measure(wire, words):
    """One run: ms from start to ACK, from DISCOVER to ACK, to the end; CPU ms; frames until the end and shortly after."""
    wire.frames()
    quiet = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
             (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)]
    path = shutil.which(words[0])
    start = time.time_ns()
    pid = os.posix_spawn(path, words, os.environ, file_actions=quiet)
    _, status, used = os.wait4(pid, 0)
    end = time.time_ns()
    time.sleep(0.05)
    frames = wire.frames()
    acks = [at for at, frame in frames if dhcp_type(frame) == ACK]
    discovers = [at for at, frame in frames if dhcp_type(frame) == DISCOVER]
    if status != 0 or not acks or not discovers:
        sys.exit(f"lease.py: {' '.join(words)}: status {status:#x}, {len(discovers)} DISCOVER, {len(acks)} ACK")
    ms = [(acks[0] - start) / 1e6, (acks[0] - discovers[0]) / 1e6, (end - start) / 1e6]
    return ms + [(used.ru_utime + used.ru_stime) * 1e3, len(frames)]


def system_calls(client, directory):
    """How many calls one run makes; under strace, so its times mean nothing."""
    trace = directory / "trace"
    run = subprocess.Popen(["strace", "-f", "-qq", "-o", trace, *client.words], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while run.poll() is None:
        if client.background(directory):
            time.sleep(0.5)
            client.end_background(directory)
        time.sleep(0.05)
    return sum("(" in line for line in trace.read_text(errors="replace").splitlines())


def memory(client, directory, tool):
    """The most that one run has resident, KiB (bench/measure.c: python's own would count otherwise)."""
    said = directory.parent.parent / "memory"
    subprocess.run([tool, str(said), *client.words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, check=True)
    return int(said.read_text().split()[-1])


class Client:
    """A client, its words and what must be cleared between two runs."""

    def __init__(self, name, words, link_up=True):
        self.name, self.words, self.link_up, self.results, self.calls, self.kib = name, words, link_up, [], 0, 0

    def prepare(self, directory):
        self.finish(directory)
        for lease in pathlib.Path("/var/lib/dhcpcd").iterdir():  # it would ask for the same address again
            lease.unlink()
        subprocess.run(["ip", "address", "flush", "dev", LINK], check=True)
        subprocess.run(["ip", "link", "set", LINK, "up" if self.link_up else "down"], check=True)
        carrier = pathlib.Path(f"/sys/class/net/{LINK}/carrier")
        while self.link_up and carrier.read_text() != "1\n":
            time.sleep(0.01)
        time.sleep(0.1)

    def background(self, directory):
        """The process id of a dhclient that went into the background."""
        pidfile = directory / "dhclient.pid"
        pid = pidfile.read_text().strip() if pidfile.exists() else ""
        name = pathlib.Path(f"/proc/{pid}/comm")
        return int(pid) if pid and name.exists() and name.read_text() == "dhclient\n" else None

    def end_background(self, directory):
        if pid := self.background(directory):
            os.kill(pid, signal.SIGKILL)

    def finish(self, directory):
        """dhclient stays in the background: ends it, and only it."""
        self.end_background(directory)
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def clients(preroot, directory):
    ours = [preroot, "fetch", "--online", "--run", str(directory / "preroot")]
    return [
        Client("preroot fetch --online", ours),
        Client("  the same, link down first", ours, link_up=False),
        Client("udhcpc", ["udhcpc", "-i", LINK, "-n", "-q", "-f", "-s", "/bin/true"]),
        Client("dhclient", ["dhclient", "-1", "-4", "-cf", "/dev/null", "-sf", "/bin/true", "-lf", str(directory / "leases"),
                            "-pf", str(directory / "dhclient.pid"), LINK]),
        Client("dhcpcd", ["dhcpcd", "-f", "/dev/null", "-c", "/bin/true", "-1", "-4", "-A", "-G", "-L", LINK]),
    ]


def main():
    preroot, directory, runs, tool = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    wire, everybody = Wire(), clients(preroot, directory)
    for run in range(runs):
        for client in everybody:
            client.prepare(directory)
            client.results.append(measure(wire, client.words))
    for client in everybody:
        client.prepare(directory)
        client.kib = memory(client, directory, tool)
        client.prepare(directory)
        client.calls = system_calls(client, directory)
        client.finish(directory)
    print(f"{'client':28} {'start-ACK ms':>14} {'lowest':>8} {'DISCOVER-ACK ms':>16} {'start-end ms':>13} {'CPU ms':>8}"
          f" {'frames':>7} {'calls':>6} {'KiB':>6}")
    for client in everybody:
        ack, wire_ms, end, cpu, frames = (statistics.median(column) for column in zip(*client.results))
        lowest = min(result[0] for result in client.results)
        print(f"{client.name:28} {ack:14.2f} {lowest:8.2f} {wire_ms:16.2f} {end:13.2f} {cpu:8.2f} {frames:7.0f} {client.calls:6d}"
              f" {client.kib:6d}")


if __name__ == "__main__":
    main()
