"""Small disks for imports, good and bad, written by hand."""

import struct

from ledger import blob

CLUSTER = 65_536
MIB = 1 << 20


def raw(length=MIB):
    return blob(length, 3)


def qcow2(virtual=MIB, backing=b"", encrypted=0):
    """An empty qcow2 (version 2, clusters of 64 KiB)."""
    head = struct.pack(">4sIQIIQIIQQI", b"QFI\xfb", 2, 512 if backing else 0, len(backing), 16, virtual,
                       encrypted, -(-virtual // (512 * MIB)), CLUSTER, 2 * CLUSTER, 1)
    table = struct.pack(">Q", 3 * CLUSTER)
    refcounts = struct.pack(">4H", 1, 1, 1, 1)
    first = (head.ljust(512, b"\0") + backing).ljust(2 * CLUSTER, b"\0")
    return first + table.ljust(CLUSTER, b"\0") + refcounts.ljust(CLUSTER, b"\0")


def vhd(length=MIB):
    """A fixed VHD: the bytes, then a footer."""
    fields = struct.pack(">8sIIQI4sI4sQQ4sI", b"conectix", 2, 0x10000, 2**64 - 1, 0, b"test", 0x10000,
                         b"Wi2k", length, length, struct.pack(">HBB", 30, 4, 17), 2)
    footer = (fields + b"\0" * 4 + b"\x11" * 16).ljust(512, b"\0")
    total = ~sum(footer) & 0xFFFFFFFF
    footer = footer[:64] + struct.pack(">I", total) + footer[68:]
    return raw(length) + footer


GOOD = {"disk.raw": ("RAW", raw()), "disk.qcow2": ("QCOW2", qcow2()), "disk.vhd": ("VHD", vhd())}
BAD = {
    "damaged.qcow2": ("QCOW2", qcow2()[: CLUSTER]),
    "backing.qcow2": ("QCOW2", qcow2(backing=b"/base.img")),
    "encrypted.qcow2": ("QCOW2", qcow2(encrypted=1)),
    "too-large.qcow2": ("QCOW2", qcow2(virtual=50 << 30)),
    "not-raw.raw": ("RAW", qcow2()),
    "not-qcow2.qcow2": ("QCOW2", raw()),
    "not-vhd.vhd": ("VHD", raw()),
}
