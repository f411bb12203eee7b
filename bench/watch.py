#!/usr/bin/env python3
"""When did a booting machine reach what people wait for, and how much CPU had its emulator used by then?

usage: watch.py PIDFILE CONSOLE READY|none LEASES COUNTER DEADLINE      on the platform's side of the namespace
Prints seconds since QEMU started, its CPU seconds and 10^9 instructions of the guest for root, login and Ready: nine words,
`-` for what is not waited for or not known. Then ends QEMU. Exit code 1 when something did not come within DEADLINE seconds."""

import os
import pathlib
import re
import signal
import socket
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")
MOUNTED = re.compile(rb"EXT4-fs \(\w+\): mounted filesystem")
SSHD = re.compile(rb"Start(?:ed|ing) .*(ssh\.service|OpenBSD Secure Shell server)")
PAUSE = 0.02


class Emulator:
    """QEMU's process, as the kernel accounts for it."""

    def __init__(self, pidfile, counter, end):
        self.counter = counter
        while not (text := pidfile.read_text().strip() if pidfile.exists() else ""):
            if time.monotonic() > end:
                sys.exit("watch.py: QEMU did not start")
            time.sleep(PAUSE)
        self.pid = int(text)
        self.start = int(self.fields()[19]) / TICKS

    def fields(self):
        """From the third field of /proc/PID/stat on (proc(5))."""
        return pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()

    def now(self):
        """Seconds since its start, CPU seconds of all its threads, the guest's instructions (instructions.c)."""
        fields = self.fields()
        count = self.counter.read_bytes() if self.counter.exists() else b""
        instructions = f"{int.from_bytes(count, 'little') / 1e9:.3f}" if count else "-"
        cpu = (int(fields[11]) + int(fields[12])) / TICKS
        return f"{time.clock_gettime(time.CLOCK_BOOTTIME) - self.start:.2f} {cpu:.2f} {instructions}"

    def is_running(self):
        try:
            return self.fields()[0] != "Z"
        except OSError:
            return False


def answers(address):
    """Does an SSH server greet at this address?"""
    try:
        with socket.create_connection((address, 22), timeout=3) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def leased(leases):
    """The addresses the DHCP server gave away (dnsmasq's lease file)."""
    return [line.split()[2] for line in leases.read_text().splitlines()] if leases.exists() else []


class Machine:
    """What is waited for, each asked in turn; sshd's greeting only once it was started, to disturb nobody before."""

    def __init__(self, console, ready, leases):
        self.console, self.ready, self.leases = console, ready, leases
        self.text = b""

    def look(self):
        with self.console.open("rb") as file:
            file.seek(len(self.text))
            self.text += file.read()

    def root(self):
        return MOUNTED.search(self.text)

    def login(self):
        return SSHD.search(self.text) and any(answers(address) for address in leased(self.leases))

    def reported(self):
        return self.ready.exists() and self.ready.stat().st_size > 0


def main():
    pidfile, console, ready, leases, counter = map(pathlib.Path, sys.argv[1:6])
    end = time.monotonic() + float(sys.argv[6])
    emulator = Emulator(pidfile, counter, end)
    machine = Machine(console, ready, leases)
    waiting = {"ready": machine.reported, "root": machine.root, "login": machine.login}
    if ready.name == "none":
        del waiting["ready"]
    reached = {}
    while waiting and time.monotonic() < end and emulator.is_running():
        machine.look()
        for name, test in list(waiting.items()):
            if test():
                reached[name] = emulator.now()
                del waiting[name]
        time.sleep(PAUSE)
    print(*(reached.get(name, "- - -") for name in ("root", "login", "ready")))
    if emulator.is_running():
        os.kill(emulator.pid, signal.SIGTERM)
    return 1 if waiting else 0


if __name__ == "__main__":
    sys.exit(main())
