#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Takes the ELF kernel out of a bzImage, so that QEMU boots it as it is: a guest under emulation would spend seconds on
decompressing it.

Usage: unpack_kernel.py BZIMAGE ELF. Fails where the image is not one, or compressed in a way that is not known here.
The layout is Documentation/x86/boot.rst's.
"""

import lzma
import struct
import sys
import zlib

SETUP_SECTORS_AT = 0x1F1
MAGIC_AT, MAGIC = 0x202, b"HdrS"
PAYLOAD_AT = 0x248  # offset from the protected-mode code, and length: four bytes each
ELF = b"\x7fELF"


def unpack(image):
    if len(image) < PAYLOAD_AT + 8 or image[MAGIC_AT : MAGIC_AT + 4] != MAGIC:
        sys.exit("this is not a bzImage")
    code = (image[SETUP_SECTORS_AT] + 1) * 512
    offset, length = struct.unpack_from("<II", image, PAYLOAD_AT)
    payload = image[code + offset : code + offset + length]
    # The size of what is inside follows the compressed stream, within the payload: decompressors stop before it.
    if payload.startswith(b"\xfd7zXZ\0"):
        kernel = lzma.LZMADecompressor().decompress(payload)
    elif payload.startswith(b"\x1f\x8b"):
        kernel = zlib.decompressobj(wbits=31).decompress(payload)
    else:
        sys.exit(f"the kernel is compressed in a way that is not known here ({payload[:4].hex()})")
    if not kernel.startswith(ELF):
        sys.exit("the payload is no ELF kernel")
    return kernel


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: unpack_kernel.py BZIMAGE ELF")
    with open(sys.argv[1], "rb") as image:
        kernel = unpack(image.read())
    with open(sys.argv[2], "wb") as out:
        out.write(kernel)


if __name__ == "__main__":
    main()
