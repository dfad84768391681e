"""The power goes while everybody works, and what was not fsynced goes with it (lossy.py says what may be lost, and how).

Acknowledged messages are there, whole; so are submissions in the spool, and folders. No UID is used twice or moves,
mod-sequences do not go back. Flags and removals of the last moments may be undone. Nothing half-written makes the server
refuse a folder. POWER_ROUNDS says how often (16; the long test takes more), SEED makes it another course.
"""

import os
import random
import time
import uuid

from lib import Failed, Gatepost, check
from load import EVERYBODY, Ledger, Load, empty_spool, verify, verify_spool
from lossy import POLICIES, Lossy

ROUNDS = int(os.environ.get("POWER_ROUNDS", "16"))
SEED = os.environ.get("SEED", "1")
KEYS = {"tls.plaintext": '["127.0.0.0/8"]', "queue.retry": '"1h"', "queue.retry-max": '"1h"'}


def booted(folder):
    """How to start a program on a machine that was just switched on."""
    boot = folder / "boot_id"
    boot.write_text(f"{uuid.uuid4()}\n")
    return "unshare", "--mount", "sh", "-c", 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"', str(boot)


def tree(top):
    """Every directory and what is in it."""
    return "\n".join(f"{at}: {' '.join(sorted(dirs))} | {' '.join(sorted(files))}" for at, dirs, files in sorted(os.walk(top)))


def test_power_cuts(folder):
    rng, ledger = random.Random(SEED), Ledger(lossy=True)
    with Lossy(folder / "disk") as disk:
        g = Gatepost(folder / "g", keys=KEYS, state=disk.path / "state")
        began, wrap = time.monotonic(), booted(folder)
        try:
            for n in range(ROUNDS):
                ledger.round = n
                # Early in a round it hits what the start does and mends.
                early = n > 0 and rng.random() < 0.25
                disk.arm(rng.randint(1, 60) if early else rng.randint(100, 900))
                load = Load(ledger, g, may_refuse=True)
                try:
                    g.start(wrap=wrap)
                except Exception:
                    if not disk.wait_for_cut(0.5):
                        raise
                if not disk.is_cut:
                    load.start(f"{SEED} {n}", EVERYBODY)
                    if not disk.wait_for_cut(3):
                        disk.cut()
                if g.process:
                    g.kill()
                load.join()
                policy = rng.choice(POLICIES)
                disk.drop(policy, f"{SEED} {n}")
                what = f"after power cut {n + 1} ({policy})"
                left = tree(g.state)
                wrap = booted(folder)
                g.start(wrap=wrap)
                load = Load(ledger, g)
                try:
                    verify(ledger, load, what)
                    verify_spool(ledger, g.state, what)
                except Failed as e:
                    raise Failed(f"What the cut had left:\n{left}\n{e}") from e
                g.kill()
                empty_spool(ledger, g.state)
                disk.sync()
        finally:
            if g.process:
                g.kill()
        g.no_panic()
        done = ledger.acknowledged
        print(f"{done} acknowledged, {sum(map(len, ledger.uids.values()))} UIDs, "
              f"{(time.monotonic() - began) / ROUNDS:.2f} s a round … ", end="", flush=True)
        check(done > 5 * ROUNDS, f"only {done} operations were acknowledged in {ROUNDS} rounds: the test tests nothing")
