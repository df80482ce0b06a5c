# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets each answer of the store be a lie once, or from then on, and looks at what became of the host."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence

from ansible_collections.eternia.backup.plugins.module_utils.engine.stores import s3_client

from . import child, lies, line
from .harness import NOTHING, Tally, tidied
from .lies import Lie
from .line import Answered, Certificates
from .options import Options
from .scenes import FIRST_HOUR, IN_PARTS, Host, Scene

SCENES = (
    Scene("backup", "to S3", s3=True),
    Scene("backup", "to S3, in parts", s3=True, rows=IN_PARTS),
    Scene("prune", "disk and S3", s3=True),
    Scene("restore", "from S3", s3=True),
    Scene("restore", "from S3, in parts", s3=True, rows=IN_PARTS),
    Scene("drill", "disk and S3", s3=True),
)
# A store that never answers is given up after this, in seconds.
_STALL_SECONDS = 1
_FAR = 1 << 30


def count(host: Host, certificates: Certificates) -> dict[str, int]:
    """How many requests the command makes that each lie can be about, by its name."""
    found: dict[str, int] = {}
    for pattern in {lie.of for lie in lies.LIES}:
        with line.opened(host.endpoint, Answered(Lie("none", pattern), _FAR), certificates) as to:
            host.renew(to.endpoint)
            ended = child.run(host.command(FIRST_HOUR), NOTHING, host.place, host.root)
            assert ended.code == 0, f"{host.scene}, through a line without a fault: {ended.said}"
            found.update((lie.name, to.requests) for lie in lies.LIES if lie.of == pattern)
    if host.scene.verb == "backup" and host.scene.rows == IN_PARTS:
        assert all(found[name] for name in lies.IN_PARTS), f"{host.scene}: nothing travels in parts"
    return found


def chosen(host_scene: Scene, requests: dict[str, int], options: Options) -> list[Answered]:
    """The lies that are told: about each request, or about one that the seed draws, in the full form the ends, too."""
    drawn = random.Random(f"{options.seed} {host_scene}")
    found: list[Answered] = []
    for lie in lies.LIES:
        if lie.name == lies.SLOW and host_scene.rows == IN_PARTS:
            # Minutes, and the same code.
            continue
        tls = [True] if lie.name in lies.TLS_ALONE else [False, True]
        tls = tls if options.every else drawn.sample(tls, 1)
        if lie.whole:
            found += [Answered(lie, tls=one) for one in tls]
            continue
        numbers = range(requests[lie.name])
        if not options.every:
            some = drawn.sample(numbers, min(1, len(numbers)))
            ends = (*numbers[:1], *numbers[-1:]) if options.full else ()
            numbers = sorted({*some, *ends})
        for number in numbers:
            for lasting in (False, True):
                # To be late for ever is to be slow, which is another.
                if not (lasting and lie.name == "5 s late"):
                    found += [Answered(lie, number, lasting, tls=one) for one in tls]
    if options.form == "tiny":
        found = drawn.sample(found, 4)
    return found


def work(host: Host, told: Sequence[Answered], certificates: Certificates) -> Tally:
    """Tell these lies, each to a host of its own."""
    tally = Tally(str(host.scene), host.scene.verb)
    started = time.monotonic()
    for answered in told:
        with line.opened(host.endpoint, answered, certificates) as to:
            host.renew(to.endpoint)
            stores = host.stores()
            ended = child.run(_over(host, certificates, answered.lie), NOTHING, host.place, host.root)
            host.is_hidden_from = to.met and answered.lie.name in lies.HIDING
            tally.faults += to.met
            tally.different += to.met
            tally.missed += not to.met
            tally.kinds |= {answered.lie.name} if to.met else set()
        after = host.stores()
        found = host.broken(ended, stores, after)
        if answered.lie.name in lies.UNREACHABLE and ended.code == 0:
            found.append("it said that it succeeded, with nobody at the other end")
        host.is_hidden_from = False
        host.configure()
        ended = child.run(host.command(FIRST_HOUR + 1), NOTHING, host.place, host.root)
        found += tidied(host, FIRST_HOUR + 1)
        found += host.broken(ended, after, host.stores(), nth=1, recovers=True)
        tally.violations += [f"{host.scene}: {answered}: {one}" for one in found]
    tally.seconds = time.monotonic() - started
    return tally


def _over(host: Host, certificates: Certificates, lie: Lie) -> Callable[[], int]:
    """The command, by somebody who trusts our authority and has little patience, but for who is late."""
    command = host.command(FIRST_HOUR)

    def type_it() -> int:
        os.environ["AWS_CA_BUNDLE"] = str(certificates.authority)
        s3_client.READ_SECONDS = _STALL_SECONDS + (int(lies.LATE_SECONDS) if lie.name == "5 s late" else 0)
        return command()

    return type_it
