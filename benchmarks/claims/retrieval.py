"""The first claim: retrieval helps (CM3Leon §2.1 and table 1, after RA-CM3)."""

from __future__ import annotations

from benchmarks.claims.bootstrap import Resamples, estimate
from benchmarks.claims.drawing import Drawing
from benchmarks.claims.pictures import GROUPS
from benchmarks.claims.scores import Load
from benchmarks.claims.section import Chart, Line, Section, verdict
from benchmarks.claims.settings import Sampling
from benchmarks.claims.study import Study

COUNTS = (0, 1, 2)  # of retrieved documents
LABELS = {"retrieval": "trained with retrieval", "no_retrieval": "trained without"}
WHO = {"known": "known creatures", "bank_only": "creatures of the bank alone"}


def drawings(study: Study, sampling: Sampling) -> list[Drawing]:
    """Of a decoder, by the number of retrieved documents."""
    return [Drawing("test", study.known, study.bank_only, count, 1, sampling) for count in COUNTS]


def conclude(study: Study, chosen: dict[str, Sampling], load: Load) -> Section:
    """`chosen`: how each variant samples."""
    resamples = Resamples(study.seeds, study.known + study.bank_only)
    shares, found = {}, {}
    for variant in LABELS:
        for drawing in drawings(study, chosen[variant]):
            scores = load(variant, drawing)
            for group in GROUPS:
                asked = scores.asked[group]
                shares[variant, group, drawing.retrieved] = resamples.share(scores.right[group][..., 0], asked)
                found[group, drawing.retrieved] = scores.retrieved[group].sum() / asked.sum()
    ceiling = sum(hits.sum() for hits in scores.behind_tokenizer.values()) / sum(n.sum() for n in scores.asked.values())
    with_it, without = (
        {group: shares[v, group, n] for group in GROUPS} for v, n in (("retrieval", 2), ("no_retrieval", 0))
    )
    tests = {
        f"{WHO[group]}: trained and drawing with retrieval (2 documents) over neither": estimate(
            with_it[group] - without[group]
        )
        for group in GROUPS
    }
    tests |= {
        f"{WHO[group]}: 2 documents over none, the same decoder": estimate(
            with_it[group] - shares["retrieval", group, 0]
        )
        for group in GROUPS
    }
    rows = [
        [LABELS[variant], WHO[group], *(str(estimate(shares[variant, group, count])) for count in COUNTS)]
        for group in GROUPS
        for variant in LABELS
    ]
    rows += [
        ["retriever", f"{WHO[group]} named in a document", *(f"{100 * found[group, count]:.0f}%" for count in COUNTS)]
        for group in GROUPS
    ]
    charts = [
        Chart(
            f"claims_retrieval_{group}",
            f"Right {WHO[group]}",
            "retrieved documents",
            [Line(LABELS[v], {n: estimate(shares[v, group, n]) for n in COUNTS}) for v in LABELS],
        )
        for group in GROUPS
    ]
    return Section(
        name="retrieval",
        title="Retrieval helps",
        claim="Retrieved documents before a caption make pictures better at the same compute, and let a model draw "
        "what its weights do not know.",
        verdict=verdict(tests),
        tests=tests,
        how="Both decoders read as many tokens in training: with one or two documents before most pairs, or with pairs "
        f"alone. Of the creatures of true pictures, {100 * ceiling:.1f}% are recognized behind the image tokenizer, "
        "the ceiling. Chance is below 1%.",
        head=["decoder", "of", *(f"{count} document{'' if count == 1 else 's'}" for count in COUNTS)],
        rows=rows,
        charts=charts,
    )
