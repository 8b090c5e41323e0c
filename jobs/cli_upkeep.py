"""Commands that look after a run's folder: a manifest that grows with its source, and what kills left behind."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from jobs.choices import Changed
from jobs.console import AsJson, Endpoint, Job, Run, me, print_json, say


def update(
    job: Job,
    changed: Annotated[Changed, typer.Option(help="What to do about originals that have changed.")] = Changed.REFUSE,
    as_json: AsJson = False,
) -> None:
    """List the source again and append what is new to the run's manifest. Restores nothing yet."""
    from jobs.spec import load_spec
    from jobs.update import update as look_again

    spec = load_spec(job)
    found, index = look_again(spec, changed)
    if as_json:
        print_json(
            {
                "run": spec.output.uri,
                "photographs": index.photographs,
                "added": found.added,
                "changed": found.changed,
                "gone": found.gone,
                "appended": found.added + (found.changed if changed is Changed.APPEND else 0),
            }
        )
        return
    fate = "a new version of each was appended" if changed is Changed.APPEND else "left as they are"
    say(f"Added     {found.added:,}")
    say(f"Changed   {found.changed:,}" + (f"  ({fate})" if found.changed else ""))
    say(f"Gone      {found.gone:,}" + ("  (they stay in the manifest)" if found.gone else ""))
    say(f"Manifest  {index.photographs:,} photographs\n\nNext:\n  {me()} run {job}")


def gc(
    run: Run,
    delete: Annotated[bool, typer.Option("--delete", help="Take them away, under the run's lease.")] = False,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """List what nothing explains in a run's folder: left over from kills. Changes nothing without --delete."""
    from jobs.gc import collect, orphans

    found = collect(run, endpoint) if delete else list(orphans(run, endpoint))
    if as_json:
        print_json({"deleted": delete, "orphans": [{"kind": o.kind, "uri": o.uri, "bytes": o.size} for o in found]})
        return
    for orphan in found:
        say(f"{orphan.kind:<10} {orphan.size:>12,}  {orphan.uri}")
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(o.kind for o in found).items()) or "nothing"
    total = sum(orphan.size for orphan in found)
    say(f"{'Deleted' if delete else 'Left over'}: {kinds}, {total / 1e6:,.1f} MB")
    if found and not delete:
        say(f"\nNext, when nobody works on the run:\n  {me()} gc {run} --delete")
