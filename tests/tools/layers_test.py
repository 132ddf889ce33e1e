#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The rules that the tree keeps, and that a compiler does not see.

Usage: layers_test.py TOP. Each rule is a function that yields (path, line, message); `self_check` plants one
violation of each rule into a copy of an innocent tree and fails where a rule stays silent, so that a rule that
has gone blind is noticed.
"""

import pathlib
import re
import sys
import tempfile

# What each folder of src/ may include, itself apart. Add an edge here only together with the reason for it in
# docs/design.md; the order is base <- format <- media <- journal <- alloc <- extent <- mapping <- inode
# <- {dir, dax} <- fs <- {fuse, direct, virtiofs} <- daemon.
PERMITTED = {
    "base": set(),
    "format": {"base"},
    "media": {"base", "format"},
    "journal": {"base", "format", "media"},
    "alloc": {"base", "format", "media", "journal"},
    "extent": {"base", "format", "media", "journal", "alloc"},
    "mapping": {"base"},
    "inode": {"base", "format", "media", "journal", "alloc", "extent", "mapping"},
    "dir": {"base", "format", "media", "journal", "alloc", "extent", "inode"},
    "dax": {"base", "format", "media", "journal", "alloc", "extent", "mapping", "inode"},
    "fs": {"base", "format", "media", "journal", "alloc", "extent", "mapping", "inode", "dir", "dax"},
    "fuse": {"base", "format", "media", "mapping", "inode", "dax", "fs"},
    "direct": {"base", "format", "media", "mapping", "inode", "dax", "fs"},
    "virtiofs": {"base", "format", "media", "mapping", "inode", "dax", "fs", "fuse"},
    "daemon": {"base", "format", "media", "journal", "mapping", "inode", "dax", "fs", "fuse", "direct", "virtiofs"},
    "mkfs": {"base", "format", "media", "alloc"},
    "check": {"base", "format", "media", "journal"},
    "client": {"base"},
}
# Single headers beyond that: what the two ends of a socket have to agree on.
PERMITTED_FILES = {"client": {"direct/protocol.h"}}
# Who may include the public headers, <udax/...> or "udax/...": those who speak with programs by them.
PUBLIC_HEADERS = {"client", "direct", "fuse", "virtiofs", "daemon"}

CODE_FOLDERS = ("src", "include", "tests", "tools")
CODE_SUFFIXES = {".cc", ".h", ".c"}
TEXT_SUFFIXES = CODE_SUFFIXES | {".py", ".sh", ".txt", ".cmake"}
LINES_MAX = 600

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
# Ways to store to, or flush, mapped memory behind the back of src/media.
STORES = re.compile(
    r"\b_mm\d*_\w+\s*\(|\bclwb\b|\bclflush(?:opt)?\b|\bpmem2?_\w+\s*\(|\bmsync\s*\("
    r"|<(?:immintrin|x86intrin|emmintrin|libpmem2?)\.h>|__builtin_nontemporal_store|__builtin_ia32_(?!pause\b)\w+"
    r"|\b(?:asm|__asm__)\b")
# Programs of other people's store to the pool, too: in a client, copies for them are made in one file.
STORES_OF_CLIENTS = "client/stream_copy.cc"
# The medium hands out const pointers: writing through one takes a const_cast. One that writes to nothing, or has
# nothing to do with the medium, says so on its line or just before. (An object may take its own constness off.)
CONST_CAST = re.compile(r"\bconst_cast\s*<[^;(]*>\s*\((?!this\))")
CONST_CAST_REASON = re.compile(r"//.*\b(?:not media|read only|takes a mutable pointer)\b", re.IGNORECASE)
MARKS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")
SILENT_SKIP = re.compile(r"\bGTEST_SKIP\(\)\s*;|\bDIS" + r"ABLED_\w")


def without_comments(text):
    """The text with comments blanked out and string literals emptied; line numbers stay."""

    def blank(match):
        token = match.group(0)
        if token.startswith(("//", "/*")):
            return "\n" * token.count("\n")
        return '""' if token.startswith('"') else "''"

    # An #include keeps its name: it is looked at separately.
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\''
    return re.sub(pattern, blank, text, flags=re.DOTALL)


def files(top, folders, suffixes):
    for folder in folders:
        for path in sorted((top / folder).rglob("*")):
            if path.is_file() and path.suffix in suffixes:
                yield path


def read(path):
    return path.read_text(encoding="utf-8", errors="replace")


def edges(top):
    for path in files(top, ["src"], CODE_SUFFIXES):
        folder = path.relative_to(top / "src").parts[0]
        if folder not in PERMITTED:
            yield path, 1, f"src/{folder} is not in the table of layers"
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            quote, name = match.groups()
            target = name.split("/")[0]
            if target == "udax":
                if folder not in PUBLIC_HEADERS:
                    yield path, number, f"src/{folder} may not include the public header {name}"
            elif quote == '"':
                if "/" not in name or ".." in name:
                    yield path, number, f'"{name}": write the folder, as in "base/error.h"'
                elif name in PERMITTED_FILES.get(folder, ()):
                    pass
                elif target != folder and target not in PERMITTED[folder]:
                    yield path, number, f"{folder} -> {target} is not a permitted edge ({name})"
                elif not (top / "src" / name).exists():
                    yield path, number, f"{name} does not exist"
    for path in files(top, ["include"], CODE_SUFFIXES):
        for number, line in enumerate(read(path).splitlines(), 1):
            match = INCLUDE.match(line)
            if match and match.group(1) == '"' and not match.group(2).startswith("udax/"):
                yield path, number, f"a public header may include public headers only ({match.group(2)})"


def stores(top):
    for path in files(top, ["src"], CODE_SUFFIXES):
        if path.relative_to(top / "src").parts[0] == "media":
            continue
        raw = read(path).splitlines()
        for number, line in enumerate(without_comments(read(path)).splitlines(), 1):
            match = STORES.search(line)
            if match and path.relative_to(top / "src").as_posix() != STORES_OF_CLIENTS:
                yield path, number, f"{match.group(0).strip()}: only src/media stores to media"
            if CONST_CAST.search(line):
                around = raw[max(0, number - 3):number]
                if not any(CONST_CAST_REASON.search(text) for text in around):
                    yield path, number, "const_cast: say `// Read only: <why>` or `// Not media: <why>` above it, or use src/media"


def marks(top):
    for path in files(top, CODE_FOLDERS, TEXT_SUFFIXES):
        for number, line in enumerate(read(path).splitlines(), 1):
            match = MARKS.search(line)
            if match:
                yield path, number, f"{match.group(1)}: unfinished work is not committed"


def lengths(top):
    for path in files(top, CODE_FOLDERS, CODE_SUFFIXES | {".py", ".sh"}):
        lines = read(path).splitlines()
        if len(lines) > LINES_MAX and not any(re.match(r"\s*(//|#) Length: \S", line) for line in lines):
            yield path, 1, f"{len(lines)} lines: split it by noun, or give the reason in a `// Length:` line"


def openings(top):
    for path in files(top, CODE_FOLDERS, TEXT_SUFFIXES):
        lines = read(path).splitlines()[:2]
        if path.name != "CMakeLists.txt" and path.suffix == ".txt":
            continue
        if not any(re.match(r"(//|#|/\*) SPDX-License-Identifier: BSD-3-Clause( \*/)?$", line) for line in lines):
            yield path, 1, "does not open with its SPDX line"
        if path.suffix == ".h" and not re.search(r"^#(pragma once|ifndef)", read(path), re.MULTILINE):
            yield path, 1, "header without a guard"


def skips(top):
    for path in files(top, ["tests"], CODE_SUFFIXES):
        for number, line in enumerate(read(path).splitlines(), 1):
            if SILENT_SKIP.search(line):
                yield path, number, "a test that is off, or skipped without a reason"


RULES = (edges, stores, marks, lengths, openings, skips)

SPDX = "// SPDX-License-Identifier: BSD-3-Clause\n"
INNOCENT = {
    "src/base/a.h": SPDX + "#pragma once\n",
    "src/media/m.cc": SPDX + '#include "base/a.h"\n#include <immintrin.h>\nvoid f() { _mm_sfence(); }\n',
    "src/journal/j.cc": SPDX + "// clwb and _mm_sfence() in a comment, \"_mm_sfence()\" and 1'000 are nothing\n"
                        + "// Not media: a test's own memory\nint* g(const int* p) { return const_cast<int*>(p); }\n"
                        + "int* h() const { return const_cast<J*>(this)->g(); }\n",
    "src/client/c.cc": SPDX + '#include "direct/protocol.h"\n',
    "include/udax/udax.h": "/* SPDX-License-Identifier: BSD-3-Clause */\n#ifndef A\n#endif\n",
    "tests/unit/base/a_test.cc": SPDX + 'GTEST_SKIP() << "why";\n',
    "tools/t.sh": "#!/bin/sh\n# SPDX-License-Identifier: BSD-3-Clause\n",
}
# rule, file, text: each must be found by its rule, and by that alone.
PLANTED = (
    (edges, "src/base/b.cc", SPDX + '#include "media/m.h"\n'),
    (edges, "src/mapping/b.cc", SPDX + '#include "format/format.h"\n'),
    (edges, "src/fuse/b.cc", SPDX + '#include "journal/journal.h"\n'),
    (edges, "src/fs/b.cc", SPDX + '#include "fuse/session.h"\n'),
    (edges, "src/client/b.cc", SPDX + '#include "fs/fs.h"\n'),
    (edges, "src/client/b.cc", SPDX + '#include "direct/server.h"\n'),
    (edges, "src/fs/b.cc", SPDX + '#include "udax/udax.h"\n'),
    (edges, "src/base/b.cc", SPDX + '#include "a.h"\n'),
    (edges, "src/base/b.cc", SPDX + '#include "base/missing.h"\n'),
    (edges, "src/elsewhere/b.cc", SPDX),
    (edges, "include/udax/b.h", SPDX + '#pragma once\n#include "base/a.h"\n'),
    (stores, "src/dax/b.cc", SPDX + "void f(void* p) { _mm_clwb(p); }\n"),
    (stores, "src/dax/b.cc", SPDX + "void f() { _mm256_stream_si256(0, x); }\n"),
    (stores, "src/fs/b.cc", SPDX + "#include <libpmem2.h>\n"),
    (stores, "src/fs/b.cc", SPDX + "void f() { pmem2_map_new(0, 0, 0); }\n"),
    (stores, "src/fs/b.cc", SPDX + "void f() { msync(0, 0, 0); }\n"),
    (stores, "src/fs/b.cc", SPDX + "void f() { asm volatile(\"sfence\"); }\n"),
    (stores, "src/fs/b.cc", SPDX + "int* f(const int* p) { return const_cast<int*>(p); }\n"),
    (marks, "src/fs/b.cc", SPDX + "// TO" + "DO: later\n"),
    (marks, "tools/b.sh", "# SPDX-License-Identifier: BSD-3-Clause\n# FIX" + "ME\n"),
    (lengths, "src/fs/b.cc", SPDX + "\n" * LINES_MAX),
    (openings, "src/fs/b.cc", "int x;\n"),
    (openings, "tools/b.sh", "#!/bin/sh\n"),
    (openings, "src/fs/b.h", SPDX + "int x;\n"),
    (skips, "tests/unit/fs/b_test.cc", SPDX + "GTEST_SKIP();\n"),
    (skips, "tests/unit/fs/b_test.cc", SPDX + "TEST(A, DIS" + "ABLED_B) {}\n"),
)


def write_tree(top, tree):
    for name, text in tree.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def self_check():
    """Negative controls: a list of what the rules got wrong."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        top = pathlib.Path(folder)
        write_tree(top, INNOCENT)
        for rule in RULES:
            for path, number, message in rule(top):
                wrong.append(f"{rule.__name__} finds fault with innocent {path.name}:{number}: {message}")
    for planted_rule, name, text in PLANTED:
        with tempfile.TemporaryDirectory() as folder:
            top = pathlib.Path(folder)
            write_tree(top, INNOCENT)
            write_tree(top, {name: text})
            found = {rule.__name__ for rule in RULES if any(True for _ in rule(top))}
            if found != {planted_rule.__name__}:
                wrong.append(f"{name} with {text!r} is found by {sorted(found)}, not by {planted_rule.__name__}")
    return wrong


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: layers_test.py TOP")
    top = pathlib.Path(sys.argv[1])
    problems = [f"self-check: {text}" for text in self_check()]
    count = sum(1 for _ in files(top, ["src"], CODE_SUFFIXES))
    if count == 0:
        problems.append(f"{top}: no sources: the wrong folder?")
    for rule in RULES:
        for path, number, message in rule(top):
            problems.append(f"{path.relative_to(top)}:{number}: {message}")
    for text in problems:
        print(text)
    print(f"{count} sources, {len(RULES)} rules, {len(PLANTED)} planted violations: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
