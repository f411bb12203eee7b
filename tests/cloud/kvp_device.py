#!/usr/bin/env python3
"""/dev/vmbus/hv_kvp as a file of FUSE, and the host behind it, after Linux drivers/hv/hv_kvp.c and hv_utils_transport.c.

One process at a time has it open (EBUSY, hvt_op_open); every read and write is one message of 7432 bytes; a daemon registers,
hears the driver's version (kvp_handle_handshake), is ready once it has read that (kvp_register_done), and then hears one
question at a time. What is under way when it closes fails for the host: HV_E_FAIL (hvt_op_release, hvt_reset, kvp_on_reset).
What the host asks while nobody is registered stays in the channel, before the first daemon and after a release alike:
hv_kvp_onchannelcallback returns before it reads below HVUTIL_READY, since a3ade8cc474d ("HV: properly delay KVP packets when
negotiation is in progress", 2017; so does Debian's 6.1, by its code). `old`: the kernels before that, which answered HV_E_FAIL
once a first daemon had been there. The FUSE protocol is spoken directly (include/uapi/linux/fuse.h): no library, and no CUSE,
which few kernels have."""

import collections
import errno
import os
import struct
import subprocess
import threading
import time

MESSAGE, KEY, VALUE = 7432, 512, 2048
REGISTER1, FAIL, CONT = 100, 0x80004005, 0x80070103
GET, SET, DELETE, ENUMERATE, GET_IP, SET_IP = range(6)

LOOKUP, GETATTR, OPEN, READ, WRITE, RELEASE, FLUSH, INIT, INTERRUPT, POLL = 1, 3, 14, 15, 16, 18, 25, 26, 36, 40
FORGET, BATCH_FORGET, DESTROY = 2, 42, 38
NODE = 2
NOTIFY_POLL = 1


def padded(text, size):
    data = text if isinstance(text, bytes) else text.encode()
    assert len(data) < size, "the driver keeps room for the NUL"
    return data.ljust(size, b"\0")


def question(operation, pool=0, key="", value="", index=0):
    """The message that kvp_send_key makes of the host's question."""
    head = struct.pack("<BBH", operation, pool, 0)
    sizes = len(key.encode()) + 1, len(value.encode()) + 1
    if operation == SET:
        body = struct.pack("<III", 0, *sizes) + padded(key, KEY) + padded(value, VALUE)
    elif operation == GET:
        body = struct.pack("<III", 0, sizes[0], 0) + padded(key, KEY)
    elif operation == DELETE:
        body = struct.pack("<I", sizes[0]) + padded(key, KEY)
    else:
        body = struct.pack("<I", index)
    return (head + body).ljust(MESSAGE, b"\0")


class Device:
    """The device below a mount point, served by threads of this process."""

    def __init__(self, mount_point):
        self.old = False
        self.closed_at = self.ready_at = 0
        self.changed = threading.Condition()
        self.state, self.out, self.opened = "closed", None, 0
        self.waiting = collections.deque()  # [message, answer or None]: the channel
        self.asked = None
        self.handle, self.readers, self.poll_handle = 0, [], None
        self.fuse = os.open("/dev/fuse", os.O_RDWR)
        os.makedirs(mount_point, exist_ok=True)
        options = f"fd={self.fuse},rootmode=40000,user_id=0,group_id=0,allow_other"
        subprocess.run(["mount", "-i", "-t", "fuse", "-o", options, "kvp", mount_point], check=True,
                       pass_fds=[self.fuse])
        threading.Thread(target=self.serve, daemon=True).start()

    # --- the host ---

    def ask(self, message, timeout=10):
        """Status and answer of one question; None where nobody answers in time: then it stays in the channel."""
        entry = [message, None]
        with self.changed:
            if self.old and self.opened and self.state in ("closed", "open", "registered"):
                return FAIL, struct.pack("<I", FAIL)
            self.waiting.append(entry)
            self.poll_channel()
            self.changed.wait_for(lambda: entry[1] is not None, timeout)
        return None if entry[1] is None else (struct.unpack_from("<I", entry[1])[0], entry[1])

    def pool(self, pool, timeout=10):
        """All keys and values of a pool, or None."""
        records = []
        while True:
            answer = self.ask(question(ENUMERATE, pool, index=len(records)), timeout)
            if answer is None or answer[0]:
                return records if answer and answer[0] == CONT else None
            key, value = answer[1][20:20 + KEY], answer[1][20 + KEY:20 + KEY + VALUE]
            records.append(tuple(field.split(b"\0")[0].decode() for field in (key, value)))

    def await_state(self, state, timeout=10):
        with self.changed:
            return self.changed.wait_for(lambda: self.state == state, timeout)

    # --- the driver; `changed` is held ---

    def poll_channel(self):
        if self.state == "ready" and self.waiting:
            self.asked = self.waiting.popleft()
            self.send(self.asked[0], "asked")

    def send(self, message, state):
        self.out, self.state = message, state
        self.changed.notify_all()
        for unique in self.readers[:1]:
            self.read(unique, self.readers.pop(0))
        if self.poll_handle is not None:
            self.notify(NOTIFY_POLL, struct.pack("<Q", self.poll_handle))

    def read(self, unique, _):
        message, self.out = self.out, None
        self.reply(unique, message)
        if self.state == "registered":
            self.state, self.ready_at = "ready", time.monotonic()
            self.changed.notify_all()
            self.poll_channel()

    def write(self, message):
        if len(message) < MESSAGE:
            return errno.EINVAL
        if self.state == "open" and message[0] == REGISTER1:
            self.send((struct.pack("<BBH", REGISTER1, 0, 0) + b"3.1").ljust(MESSAGE, b"\0"), "registered")
        elif self.state == "asked" and self.out is None:
            self.asked[1], self.asked, self.state = message, None, "ready"
            self.changed.notify_all()
            self.poll_channel()
        else:
            return errno.EINVAL
        return 0

    def release(self):
        if self.asked:
            self.asked[1] = struct.pack("<I", FAIL)
            self.asked = None
        self.state, self.out, self.poll_handle, self.closed_at = "closed", None, None, time.monotonic()
        self.changed.notify_all()

    # --- FUSE ---

    def serve(self):
        while True:
            try:
                request = os.read(self.fuse, 1 << 20)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return
            with self.changed:
                self.dispatch(request)

    def dispatch(self, request):
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        body = request[40:]
        if opcode == INIT:
            major, minor, readahead = struct.unpack_from("<III", body)
            self.reply(unique, struct.pack("<IIIIHHIIHHI28x", 7, min(minor, 31), readahead, 0, 0, 0, 1 << 17, 1, 0, 0, 0))
        elif opcode == LOOKUP:
            if body.rstrip(b"\0") == b"hv_kvp":
                self.reply(unique, struct.pack("<QQQQII", NODE, 0, 0, 0, 0, 0) + attributes(NODE))
            else:
                self.fail(unique, errno.ENOENT)
        elif opcode == GETATTR:
            self.reply(unique, struct.pack("<QII", 0, 0, 0) + attributes(node))
        elif opcode == OPEN:
            if self.state != "closed":
                return self.fail(unique, errno.EBUSY)
            self.state, self.handle, self.opened = "open", self.handle + 1, self.opened + 1
            self.changed.notify_all()
            # FOPEN_DIRECT_IO | FOPEN_NONSEEKABLE | FOPEN_STREAM
            self.reply(unique, struct.pack("<QII", self.handle, 1 | 4 | 16, 0))
        elif opcode == READ:
            if struct.unpack_from("<QQI", body)[2] < MESSAGE:
                self.fail(unique, errno.EINVAL)
            elif self.out is None:
                self.readers.append(unique)  # the driver's read waits
            else:
                self.read(unique, None)
        elif opcode == WRITE:
            size = struct.unpack_from("<QQI", body)[2]
            number = self.write(body[40:40 + size])
            self.fail(unique, number) if number else self.reply(unique, struct.pack("<II", size, 0))
        elif opcode == POLL:
            self.poll_handle = struct.unpack_from("<QQ", body)[1]
            self.reply(unique, struct.pack("<II", 0x41 if self.out is not None else 0, 0))
        elif opcode in (FLUSH, RELEASE):
            if opcode == RELEASE:
                self.release()
            self.reply(unique, b"")
        elif opcode == INTERRUPT:
            interrupted = struct.unpack_from("<Q", body)[0]
            if interrupted in self.readers:
                self.readers.remove(interrupted)
                self.fail(interrupted, errno.EINTR)
        elif opcode not in (FORGET, BATCH_FORGET, DESTROY):
            self.fail(unique, errno.ENOSYS)

    def reply(self, unique, data):
        os.write(self.fuse, struct.pack("<IiQ", 16 + len(data), 0, unique) + data)

    def fail(self, unique, number):
        os.write(self.fuse, struct.pack("<IiQ", 16, -number, unique))

    def notify(self, code, data):
        try:
            os.write(self.fuse, struct.pack("<IiQ", 16 + len(data), code, 0) + data)
        except OSError:
            pass  # nobody polls any more


def attributes(node):
    """struct fuse_attr: a directory, or a file that anybody of root's reads and writes."""
    mode = 0o40755 if node == 1 else 0o100600
    return struct.pack("<QQQQQQIIIIIIIIII", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
