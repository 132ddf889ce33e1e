#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every script parses, is executable if it has a #! line, and stops at its first error.

Usage: scripts_test.py TOP
"""

import pathlib
import re
import subprocess
import sys
import tempfile


def scripts(top):
    for folder in (".ci", "src", "tests", "tools"):
        for path in sorted((top / folder).rglob("*")):
            if not path.is_file() or path.suffix in {".cc", ".h", ".txt"} or "__pycache__" in path.parts:
                continue
            with path.open("rb") as stream:
                first = stream.readline(200).decode("ascii", "replace").strip()
            if path.suffix in {".sh", ".py"} or first.startswith("#!"):
                yield path, first


def problems_of(path, first):
    if first.startswith("#!") and not path.stat().st_mode & 0o111:
        yield "has a #! line but is not executable"
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".py" or "python" in first:
        try:
            compile(text, str(path), "exec")
        except SyntaxError as error:
            yield str(error)
        return
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0 or done.stderr:
        yield done.stderr.strip()
    # A file that others source has no #! line and leaves their settings alone.
    if first.startswith("#!") and not re.search(r"^set -\w*[eu]", text, re.MULTILINE):
        yield "lacks `set -euo pipefail` (or `set -u` where failures are expected)"


def self_check():
    planted = {
        "a.sh": "#!/usr/bin/env bash\nset -eu\nif true; then\n",
        "b.py": "def f(:\n",
        "c.sh": "#!/usr/bin/env bash\necho hello\n",
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, text in planted.items():
            path = pathlib.Path(folder) / "tools" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755)
            if not any(True for _ in problems_of(path, text.splitlines()[0])):
                yield f"self-check: {name} with {text!r} is not found"
        if len(list(scripts(pathlib.Path(folder)))) != len(planted):
            yield "self-check: not all planted scripts are seen"


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: scripts_test.py TOP")
    top = pathlib.Path(sys.argv[1])
    found = list(self_check())
    count = 0
    for path, first in scripts(top):
        count += 1
        found += [f"{path.relative_to(top)}: {text}" for text in problems_of(path, first)]
    print("\n".join(found + [f"{count} scripts, {len(found)} problems"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
