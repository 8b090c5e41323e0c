"""How a round is brought to its end: by one driver, by one of two, by one that takes over from another that only sleeps."""

from __future__ import annotations

import time

from tests.audit.commands import Command
from tests.audit.ledger import STOPPED
from tests.audit.player import DONE, PATIENCE, Player


def plain(player: Player) -> int | None:
    """One driver, and nobody in its way."""
    return player.see_out(player.run())


def two_drivers(player: Player) -> int | None:
    """Two drivers at once: one is refused and says by whom, the other one finishes."""
    if not player.left():
        # Two drivers with nothing to do hold the lease for moments, one after the other.
        player.log.write("nothing-left")
        return plain(player)
    both = [player.run(), player.run()]
    player.wait_for(both[0], lambda: any(_refused(one) for one in both), poll=0.05)
    over = [one for one in both if _refused(one)]
    if len(over) != 1:
        player.seen.wrong.append(f"of two drivers at once {len(over)} were refused")
    for one in over:
        player.seen.refusals += 1
        player.log.write("refused", code=one.code, said=one.err[-500:])
        [other] = [driver for driver in both if driver is not one]
        if one.code != 1 or f"process {other.pid}" not in one.err or "Traceback" in one.err:
            player.seen.wrong.append(f"a second driver was refused without saying by whom: {one.err[-300:]}")
    codes = [player.see_out(one) for one in both if one not in over]
    return codes[0] if codes else None


def _refused(driver: Command) -> bool:
    return driver.code not in (None, *DONE)


def stopped_driver(player: Player) -> int | None:
    """A driver is stopped at work, a second one takes over and finishes; then the first one wakes."""
    asleep = player.run()
    if not player.wait_for_work(asleep, player.rng.randint(0, 4)):
        return player.see_out(asleep)
    asleep.stop()
    player.note(STOPPED, (asleep.pid,), "photographs taken up")
    try:
        time.sleep(player.lease_seconds + 1)
        with player.machine.widened():
            code = plain(player)
        before = player.view().live
    finally:
        asleep.go_on()
    player.log.write("woken", pid=asleep.pid)
    if asleep.wait(PATIENCE) is None:
        player.stall(asleep)
        player.seen.wrong.append("a driver that woke without its lease never ended")
        return code
    player.seen.woken += 1
    player.log.write("woke", code=asleep.code, said=asleep.err[-500:])
    if code in DONE:
        if asleep.code != 1 or "taken over" not in asleep.err or "Traceback" in asleep.err:
            player.seen.wrong.append(
                f"a driver that woke without its lease ended with {asleep.code}: {asleep.err[-300:]}"
            )
        if player.view().live != before:
            player.seen.wrong.append("a driver that woke without its lease changed what counts")
    return code


def cut_off_node(player: Player) -> int | None:
    """A node is stopped with its workers, its driver dies, another one finishes; then workers of the old term wake first."""
    driver = player.run()
    if not player.wait_for_work(driver, player.rng.randint(0, 4)):
        return player.see_out(driver)
    node = player.machine.busiest()
    with player.machine.stopped(node) as pids:
        player.note(STOPPED, pids, "photographs taken up")
        driver.kill()
        code = plain(player)
        before = player.view().live
    player.log.write("woken", pids=pids)
    # Time for what they had begun: a commit, if nothing stopped them, takes no longer.
    time.sleep(5)
    player.seen.woken += 1
    if code in DONE and player.view().live != before:
        player.seen.wrong.append("workers that woke in a closed term changed what counts")
    player.machine.replace(node)
    return code


ENDINGS = (two_drivers, stopped_driver, cut_off_node)
