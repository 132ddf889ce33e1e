#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""udaxctl list --json against ndctl list -BNR and daxctl list: the same buses, regions, namespaces, and facts of them.

Usage: list_compare.py OURS NDCTL DAXCTL
"""

import json
import sys


def load(path):
    with open(path, encoding="utf-8") as file:
        text = json.load(file)
    return text if isinstance(text, list) else [text]


def facts_of_ndctl(buses):
    """{name: facts} of regions and namespaces, by the keys of udaxctl."""
    facts = {}
    for bus in buses:
        facts[bus["dev"]] = {"provider": bus["provider"]}
        for region in bus.get("regions", []):
            facts[region["dev"]] = {
                "type": region["type"],
                "size": region["size"],
                "available_size": region["available_size"],
                "persistence_domain": region.get("persistence_domain", "unknown"),
            }
            for ns in region.get("namespaces", []):
                device = ns.get("chardev") or ns.get("blockdev")
                facts[ns["dev"]] = {
                    "mode": ns["mode"],
                    "size": ns["size"],
                    "uuid": ns.get("uuid"),
                    "align": ns.get("align"),
                    "device": device and "/dev/" + device,
                }
    return facts


def facts_of_udaxctl(buses):
    facts = {}
    for bus in buses:
        facts[bus["dev"]] = bus
        for region in bus["regions"]:
            facts[region["dev"]] = region
            for ns in region["namespaces"]:
                facts[ns["dev"]] = ns
    return facts


def main():
    ours = facts_of_udaxctl(load(sys.argv[1])[0]["buses"])
    theirs = facts_of_ndctl(load(sys.argv[2]))
    problems = [f"{name} is missing" for name in theirs if name not in ours]
    problems += [f"{name} is not known to ndctl" for name in ours if name not in theirs]
    compared = 0
    for name, facts in theirs.items():
        for key, value in facts.items():
            compared += 1
            if name in ours and ours[name].get(key) != value:
                problems.append(f"{name}: {key} is {ours[name].get(key)!r} here and {value!r} for ndctl")
    devices = {ns.get("device"): ns for ns in ours.values() if ns.get("mode") == "devdax"}
    for device in load(sys.argv[3]):
        compared += 1
        known = devices.get("/dev/" + device["chardev"])
        if known is None or known["size"] != device["size"]:
            problems.append(f"{device['chardev']} is otherwise for daxctl: {device}")
    if len(theirs) < 3 or compared < 10:
        problems.append("there is next to nothing to compare")
    print("\n".join(problems + [f"{compared} facts compared, {len(problems)} differ"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
