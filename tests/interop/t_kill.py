"""kill -9 at random moments while everybody works: deliveries, submissions, APPEND, STORE, COPY, MOVE, EXPUNGE, folders, POP3.

What was acknowledged is there, whole, as often as it was acknowledged; flags too; no UID is used twice or moves; what was
removed stays so. KILL_ROUNDS says how often (15; the long test takes 500), SEED makes it another course.
"""

import os
import random
import time

from lib import Gatepost, check
from load import EVERYBODY, Ledger, Load, empty_spool, verify, verify_spool

ROUNDS = int(os.environ.get("KILL_ROUNDS", "15"))
SEED = os.environ.get("SEED", "1")
KEYS = {"tls.plaintext": '["127.0.0.0/8"]', "queue.retry": '"1h"', "queue.retry-max": '"1h"'}


def test_killed_again_and_again(folder):
    rng, ledger = random.Random(SEED), Ledger()
    g = Gatepost(folder, keys=KEYS)
    began, most = time.monotonic(), 0
    try:
        for n in range(ROUNDS):
            ledger.round = n
            if n:
                empty_spool(ledger, g.state)
            g.start()
            load = Load(ledger, g)
            if n:
                most = max(most, verify(ledger, load, f"after kill {n}"))
            load.start(f"{SEED} {n}", EVERYBODY)
            time.sleep(rng.choice([rng.uniform(0.02, 0.2), rng.uniform(0.2, 0.7)]))
            g.kill()
            load.join()
            verify_spool(ledger, g.state, f"after kill {n + 1}")
    finally:
        if g.process:
            g.kill()
    with g:
        load = Load(ledger, g)
        verify(ledger, load, "at the end", prune=False)
        verify_spool(ledger, g.state, "at the end")
    g.no_panic()
    done = ledger.acknowledged
    print(f"{done} acknowledged, {sum(map(len, ledger.uids.values()))} UIDs, up to {most} messages, "
          f"{(time.monotonic() - began) / ROUNDS:.2f} s a round … ", end="", flush=True)
    check(done > 10 * ROUNDS, f"only {done} operations were acknowledged in {ROUNDS} rounds: the test tests nothing")
