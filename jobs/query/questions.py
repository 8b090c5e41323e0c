"""Ready-made questions by name. `albumen query RUN --NAME --show-sql` prints each, to start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

STATUS = """
    SELECT status, coalesce(reason, '') AS reason, count(*) AS photographs FROM photographs GROUP BY ALL ORDER BY 1, 2"""
STAGES = """
    SELECT stage, count(*) FILTER (outcome = 'applied') AS applied, count(*) FILTER (outcome = 'skipped') AS skipped,
           count(*) FILTER (outcome IN ('refused', 'failed')) AS ended, round(sum(seconds), 2) AS seconds,
           round(avg(changed_fraction), 4) AS mean_changed
    FROM events GROUP BY stage ORDER BY min(event_no), stage"""
MODELS = """
    SELECT model.id AS model, model.licence AS licence, count(DISTINCT item_id) AS photographs
    FROM (SELECT item_id, unnest(models) AS model FROM events) GROUP BY ALL ORDER BY 1"""


@dataclass(frozen=True, slots=True)
class Question:
    """sql: with `{limit}` where the answer is a list of photographs. says: in a sentence, for help and headings.

    What a table of it leaves to the other forms, so that it has room on a terminal: hidden: columns. short: longer names.
    """

    says: str
    sql: str
    hidden: tuple[str, ...] = ()
    short: Mapping[str, str] = field(default_factory=dict)

    def text(self, limit: int) -> str:
        """The SQL as it is asked."""
        return "\n".join(line.strip() for line in self.sql.strip().splitlines()).replace("{limit}", str(limit))

    def headings(self, columns: Sequence[str]) -> dict[str, str]:
        """The columns that a table shows, and what stands above each."""
        return {name: self.short.get(name, name) for name in columns if name not in self.hidden}


QUESTIONS: Mapping[str, Question] = MappingProxyType(
    {
        "failed": Question(
            "Photographs that were not restored, and why.",
            """
            SELECT run, item_id, source_uri, status, reason, detail FROM photographs WHERE status <> 'restored'
            ORDER BY status, reason, source_uri, run, item_id LIMIT {limit}""",
            hidden=("item_id",),
        ),
        "by-model": Question(
            "What each model did: photographs, share of pixels changed, seconds.",
            """
            SELECT model.id AS model, left(model.sha256, 12) AS sha256, stage, device, precision,
            count(DISTINCT (run, item_id)) AS photographs, round(avg(changed_fraction), 4) AS mean_changed,
            round(avg(seconds), 3) AS mean_seconds, round(sum(seconds), 1) AS seconds
            FROM (SELECT * EXCLUDE models, unnest(models) AS model FROM events)
            GROUP BY ALL ORDER BY photographs DESC, model, stage, sha256, device, precision""",
            hidden=("sha256",),
            short={"mean_changed": "changed", "mean_seconds": "each", "photographs": "photos"},
        ),
        "slowest": Question(
            "Photographs that took longest, and their slowest stage.",
            """
            SELECT run, item_id, any_value(source_uri) AS source_uri, round(sum(event.seconds), 2) AS seconds,
            arg_max(event.stage, event.seconds) AS slowest_stage, round(max(event.seconds), 2) AS of_which,
            any_value(megapixels) AS megapixels
            FROM (SELECT run, item_id, source_uri, unnest(events) AS event,
            round(source_width * source_height / 1e6, 2) AS megapixels FROM photographs)
            GROUP BY run, item_id ORDER BY seconds DESC, item_id, run LIMIT {limit}""",
        ),
        "low-identity": Question(
            "Restored faces that look least like the faces of the scan.",
            """
            SELECT f.run, f.item_id, p.source_uri, p.output_uri, f.face_no, f.identity, f.strength, f.model_id
            FROM faces AS f JOIN photographs AS p USING (run, item_id)
            WHERE f.identity IS NOT NULL AND f.decision IN ('restored', 'accepted')
            ORDER BY f.identity, f.item_id, f.face_no, f.run LIMIT {limit}""",
            hidden=("output_uri",),
            short={"face_no": "face", "model_id": "model"},
        ),
        "changed-most": Question(
            "Photographs of which a stage changed the largest share of pixels.",
            """
            SELECT run, item_id, any_value(source_uri) AS source_uri, any_value(output_uri) AS output_uri,
            round(max(event.changed_fraction), 4) AS changed, arg_max(event.stage, event.changed_fraction) AS by_stage
            FROM (SELECT run, item_id, source_uri, output_uri, unnest(events) AS event FROM photographs
            WHERE status = 'restored')
            WHERE event.changed_fraction IS NOT NULL AND event.stage NOT IN ('ingest', 'deliver')
            GROUP BY run, item_id ORDER BY changed DESC, item_id, run LIMIT {limit}""",
            hidden=("output_uri",),
        ),
        "riskiest": Question(
            "Photographs that a person should look at first, and the measures that say most about why.",
            """
            SELECT run, item_id, source_uri, output_uri, edits_uri, invented_uri, round(honesty.risk, 4) AS risk,
            round(honesty.residual_peak, 2) AS residual_peak, round(honesty.new_edges_peak, 3) AS new_edges_peak,
            round(honesty.unsupported_peak, 2) AS unsupported_peak, round(honesty.smoothed, 3) AS smoothed,
            round(honesty.seam, 2) AS seam, round(honesty.identity, 3) AS identity
            FROM photographs WHERE honesty IS NOT NULL
            ORDER BY honesty.risk DESC, item_id, run LIMIT {limit}""",
            hidden=("output_uri", "edits_uri", "invented_uri"),
            short={"residual_peak": "residual", "new_edges_peak": "new edges", "unsupported_peak": "unsupported"},
        ),
        "licences": Question(
            "The ledger: every model of every run, its licence, and how many photographs it touched.",
            """
            WITH planned AS (SELECT run, unnest(models) AS model FROM runs),
            used AS (SELECT run, model.id AS id, model.sha256 AS sha256, model.licence AS licence,
            count(DISTINCT item_id) AS photographs
            FROM (SELECT run, item_id, unnest(models) AS model FROM events) GROUP BY ALL)
            SELECT coalesce(p.run, u.run) AS run, coalesce(model.id, u.id) AS model,
            coalesce(model.licence, u.licence) AS licence, model.commercial_use AS commercial_use,
            coalesce(u.sha256, model.sha256) AS sha256, coalesce(u.photographs, 0) AS photographs
            FROM planned AS p FULL JOIN used AS u ON p.run = u.run AND model.id = u.id AND model.sha256 = u.sha256
            ORDER BY 1, 2, 5""",
            short={"commercial_use": "commercial", "photographs": "photos"},
        ),
        "cost": Question(
            "Hours of work by stage and device.",
            """
            SELECT run, stage, device, count(*) AS photographs, round(sum(seconds) / 3600, 4) AS hours,
            round(avg(seconds), 3) AS mean_seconds, round(quantile_cont(seconds, 0.95), 3) AS p95_seconds,
            round(sum(seconds) / nullif(sum(megapixels), 0), 3) AS seconds_per_megapixel
            FROM (SELECT run, event.stage AS stage, event.device AS device, event.seconds AS seconds, event_no,
            megapixels FROM (SELECT run, unnest(events) AS event, generate_subscripts(events, 1) AS event_no,
            source_width * source_height / 1e6 AS megapixels FROM photographs))
            GROUP BY run, stage, device ORDER BY run, min(event_no), stage, device""",
            short={"mean_seconds": "mean s", "p95_seconds": "p95 s", "seconds_per_megapixel": "s/megapixel"},
        ),
        "damage": Question(
            "Damage by kind: photographs that have it, how much, and how much of that was repaired.",
            """
            SELECT kind, count(*) AS photographs, round(avg(fraction), 5) AS mean_fraction,
            round(max(fraction), 5) AS largest_fraction, round(avg(repaired), 5) AS mean_repaired,
            count(left_because) AS left_on FROM damage GROUP BY kind ORDER BY photographs DESC, kind""",
        ),
    }
)
