#!/usr/bin/env python3
"""How far had the growth come when the power went? Reads the disk as it lies there, and says it in a few words.

usage: growth-state.py DISK gpt|mbr ext4|xfs|btrfs      (the root is partition 1 and had 400 MiB)
"""

import struct
import sys
import zlib

SECTOR = 512
MIB = 1 << 20
OLD = 400 * MIB


def gpt_header(disk, at):
    """The header there, and the end of partition 1 in its entries; None unless both checksums hold."""
    disk.seek(at * SECTOR)
    raw = bytearray(disk.read(SECTOR))
    size = struct.unpack_from("<I", raw, 12)[0]
    if raw[:8] != b"EFI PART" or not 92 <= size <= SECTOR:
        return None
    crc = struct.unpack_from("<I", raw, 16)[0]
    raw[16:20] = bytes(4)
    array_at, count, each, array_crc = struct.unpack_from("<QIII", raw, 72)
    disk.seek(array_at * SECTOR)
    array = disk.read(count * each)
    if zlib.crc32(raw[:size]) != crc or zlib.crc32(array) != array_crc:
        return None
    first, last = struct.unpack_from("<QQ", array, 32)
    return (last - first + 1) * SECTOR


def gpt(disk, sectors):
    primary, backup = gpt_header(disk, 1), gpt_header(disk, sectors - 1)
    if primary is None:
        return "primary table torn", OLD
    if primary > OLD:
        return "new table", primary
    return ("old table" if backup is None else "new table in the backup alone"), OLD


def mbr(disk, _sectors):
    disk.seek(446 + 12)
    size = struct.unpack("<I", disk.read(4))[0] * SECTOR
    return ("new table" if size > OLD else "old table"), size


def file_system(disk, kind):
    """Bytes that its superblock has, and whether it is in use (where that shows)."""
    start = 10 * MIB
    if kind == "ext4":
        disk.seek(start + 1024)
        raw = disk.read(1024)
        blocks, block, incompatible = struct.unpack_from("<I", raw, 4)[0], 1024 << raw[0x18], struct.unpack_from("<I", raw, 0x60)[0]
        return blocks * block, bool(incompatible & 4)
    if kind == "xfs":
        disk.seek(start)
        block, blocks = struct.unpack(">4xIQ", disk.read(16))
        return block * blocks, False
    disk.seek(start + 65536 + 0x70)
    return struct.unpack("<Q", disk.read(8))[0], False


def main():
    path, table, kind = sys.argv[1:]
    with open(path, "rb") as disk:
        sectors = disk.seek(0, 2) // SECTOR
        said, partition = {"gpt": gpt, "mbr": mbr}[table](disk, sectors)
        size, is_used = file_system(disk, kind)
    if size > partition:
        sys.exit(f"the file system has {size} bytes in a partition of {partition}")
    if said == "new table":
        grown = "old" if size <= OLD else "grown" if size > partition * 9 // 10 else "half grown"
        said += f", file system {grown}" + (", in use" if is_used else "")
    print(said)


main()
