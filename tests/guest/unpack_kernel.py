#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Takes the ELF kernel out of a bzImage, so that QEMU boots it as it is: a guest under emulation would spend seconds on
decompressing it.

Usage: unpack_kernel.py BZIMAGE ELF. Where the program for its compression is missing the image is copied as it is, which
QEMU boots as well. Fails if it is no kernel.
The layout is Documentation/x86/boot.rst's.
"""

import lzma
import shutil
import struct
import subprocess
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
    elif payload.startswith(b"\x28\xb5\x2f\xfd") and shutil.which("zstd"):
        # This one would read on: four bytes of size are behind the stream.
        kernel = subprocess.run(["zstd", "-dcq"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
    else:
        return image
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
