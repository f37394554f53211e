"""The study of the paper's claims: its arithmetic, its verdicts, its page, and that a killed run goes on."""

import dataclasses
import itertools
import pathlib
import xml.etree.ElementTree

import numpy as np
import pytest

from benchmarks.claims import best_of, guidance, retrieval
from benchmarks.claims.bootstrap import Estimate, Resamples, estimate
from benchmarks.claims.chart import svg
from benchmarks.claims.choosing import choose
from benchmarks.claims.drawing import Drawing
from benchmarks.claims.pictures import asked, found_by_name, right, wanted_pictures
from benchmarks.claims.scores import Scores
from benchmarks.claims.section import HOLDS, NOT, PARTLY, Chart, Line, verdict
from benchmarks.claims.settings import cdk, guided
from benchmarks.claims.study import SIZES, VARIANTS, Study, arguments_of, shared_commands, training_command
from cm3leon_jax import cli
from cm3leon_jax.data.creatures.folder import write_creatures
from cm3leon_jax.data.creatures.world import CreaturesConfig
from cm3leon_jax.data.sources import open_source


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("creatures")
    write_creatures(
        folder,
        CreaturesConfig(creatures=30, bank_only=14, bank_only_share=0.5, parts=8, train=9, validation=9, test=20),
    )
    return open_source(f"creatures:{folder}")


def test_true_pictures_are_right_and_others_are_not(source):
    wanted = wanted_pictures(source, "test", 12, 8)
    counts = asked(wanted, source.world)
    assert (counts["bank_only"] > 0).tolist() == [False] * 12 + [True] * 8
    true = np.stack([want.image for want in wanted])
    hits = right(wanted, np.stack([true, true[::-1]], axis=1), source.world)
    for group, totals in counts.items():
        np.testing.assert_array_equal(hits[group][:, 0], totals)
    assert sum(each[:, 1].sum() for each in hits.values()) < 3
    captions = [[want.caption] if row % 2 else [] for row, want in enumerate(wanted)]
    named = found_by_name(wanted, captions, source.world)
    assert all((named[group][1::2] == counts[group][1::2]).all() and not named[group][::2].any() for group in counts)
    with pytest.raises(ValueError, match="too few"):
        wanted_pictures(source, "test", 12, 11)


def test_intervals_are_those_of_a_plain_bootstrap_over_seeds_and_pictures():
    rng = np.random.default_rng(0)
    totals = rng.integers(1, 3, 80)
    hits = np.stack([rng.binomial(totals, chance) for chance in (0.5, 0.6, 0.7)])
    found = estimate(Resamples(3, 80).share(hits, totals))
    drawn = []
    for _ in range(2000):
        seeds, pictures = rng.integers(3, size=3), rng.integers(80, size=80)
        drawn.append(hits[np.ix_(seeds, pictures)].sum() / (3 * totals[pictures].sum()))
    assert found.value == hits.sum() / (3 * totals.sum())
    np.testing.assert_allclose([found.low, found.high], np.quantile(drawn, [0.025, 0.975]), atol=0.01)
    # Differences are paired: a constant one is certain.
    resamples = Resamples(3, 80)
    more = resamples.share(hits + 1, totals + 0) - resamples.share(hits, totals)
    assert np.ptp(more * totals.sum()) < 80 and estimate(more).low > 0.4
    with pytest.raises(ValueError, match="not 3 seeds"):
        resamples.share(hits[:2], totals)


def test_the_best_of_n_is_the_mean_over_blocks():
    rng = np.random.default_rng(0)
    values, ranks = rng.integers(0, 3, (2, 5, 16)).astype(float), rng.normal(size=(2, 5, 16))
    for n in best_of.numbers(16):
        found = best_of.best_of(values, ranks, n)
        for seed, picture in itertools.product(range(2), range(5)):
            chosen = [max(range(start, start + n), key=lambda i: ranks[seed, picture, i]) for start in range(0, 16, n)]
            assert found[seed, picture] == pytest.approx(values[seed, picture][chosen].mean())
    assert best_of.numbers(12) == [1, 2, 4, 8]
    one, other = np.arange(4)[None], np.arange(4)[None] + 10
    assert best_of.interleaved(one, other).tolist() == [[0, 10, 1, 11, 2, 12, 3, 13]]


def test_verdicts():
    above, around = Estimate(0.1, 0.01, 0.2), Estimate(0.1, -0.01, 0.2)
    assert verdict({"a": above, "b": above}) == HOLDS
    assert verdict({"a": above, "b": around}) == PARTLY
    assert verdict({"a": around}) == NOT


def made_up(shares, documents=0):
    """Scores of 2 seeds and 60 pictures with n samples, whose right creatures come with these chances."""
    rng = np.random.default_rng(1)
    totals = {"known": np.repeat([1, 2], 30), "bank_only": np.repeat([0, 1], 30)}
    hits = {group: rng.binomial(totals[group][:, None], shares, (2, 60, len(shares))) for group in totals}
    found = {group: totals[group] * (documents > 0) for group in totals}
    return Scores(hits, totals, found, totals, hits["known"] + rng.normal(size=(2, 60, len(shares))) / 10)


STUDY = Study(pathlib.Path("x"), seeds=2, known=40, bank_only=20, many=40, samples=4)


def test_settings_are_chosen_by_what_clip_chooses_on_validation_pictures():
    drawings = [Drawing("validation", 60, 0, 1, 4, guided(weight)) for weight in (1.0, 2.0, 3.0)]
    scores = [made_up([share] * 4) for share in (0.2, 0.5, 0.3)]
    assert choose(drawings, scores) == guided(2.0)
    with pytest.raises(ValueError, match="test pictures"):
        choose([dataclasses.replace(drawings[0], split="test")], scores[:1])


def test_retrieval_is_said_to_help_where_it_does_and_only_there():
    weights = dict.fromkeys(retrieval.LABELS, guided(1.0))

    def load(variant, drawing):
        return made_up([0.2 + 0.3 * drawing.retrieved * (variant == "retrieval")], drawing.retrieved)

    section = retrieval.conclude(STUDY, weights, load)
    assert section.verdict == HOLDS and len(section.tests) == 4
    assert ["retriever", "creatures of the bank alone named in a document", "0%", "100%", "100%"] in section.rows
    assert retrieval.conclude(STUDY, weights, lambda *_: made_up([0.4])).verdict == NOT


def test_mixing_rules_is_said_to_help_where_their_samples_differ():
    rules = {"top_p": guided(1.0), "cdk": cdk(2, 1.0, 0.2, 4.0)}
    study = dataclasses.replace(STUDY, known=60, many=60)
    totals = {"known": np.ones(60, int)}
    halves = np.zeros((2, 60, 4), int)
    halves[:, :30] = 1

    def load(_, drawing):
        hits = halves if drawing.sampling["rule"] == "cdk" else 1 - halves
        return Scores({"known": hits}, totals, {}, {}, hits.astype(float))

    section = best_of.conclude(study, rules, load)
    assert section.verdict == HOLDS
    assert [line.points[4].value for line in section.charts[0].lines] == [0.5, 0.5, 1.0]
    same = best_of.conclude(study, rules, lambda *_: Scores({"known": halves}, totals, {}, {}, halves.astype(float)))
    assert same.verdict == NOT


def test_guidance_is_said_to_have_a_best_weight_where_it_has():
    weights = dict.fromkeys(("hidden_captions", "no_hidden_captions"), guided(2.0))
    study = dataclasses.replace(STUDY, known=60)

    def load(variant, drawing):
        peak = {0.0: 0.0, 1.0: 0.3, 2.0: 0.9, 6.0: 0.5}.get(drawing.sampling["guidance_scale"], 0.5)
        return made_up([peak if variant == "retrieval" else min(peak, 0.3)])

    section = guidance.conclude(study, weights, load)
    assert section.verdict == HOLDS
    flat = guidance.conclude(study, weights, lambda *_: made_up([0.4]))
    assert flat.verdict == NOT


@pytest.mark.parametrize("logarithmic", [False, True])
def test_charts_are_drawn_to_scale(logarithmic):
    lines = [
        Line("<a>", {1: Estimate(0.1, 0.05, 0.2), 2: Estimate(0.4, 0.3, 0.5), 4: Estimate(1, 1, 1)}),
        Line("b", {1: Estimate(0, 0, 0), 4: Estimate(0.5, 0.4, 0.6)}),
    ]
    root = xml.etree.ElementTree.fromstring(svg(Chart("c", "Right & left", "n", lines, logarithmic=logarithmic)))
    dots = [e for e in root.iter("{http://www.w3.org/2000/svg}circle") if e.get("r") == "3"]
    places = [(float(e.get("cx")), float(e.get("cy"))) for e in dots]
    (x1, y1), (x2, y2), (x4, y4), (_, zero), _ = places
    assert (x2 - x1) / (x4 - x1) == pytest.approx(0.5 if logarithmic else 1 / 3, abs=0.01)
    assert (zero - y1) / (zero - y4) == pytest.approx(0.1, abs=0.01)
    assert (zero - y2) / (zero - y4) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("size", SIZES)
def test_every_command_of_the_study_is_one_that_a_user_can_type(size, monkeypatch):
    study = Study(pathlib.Path("runs/x"), size)
    commands = shared_commands(study) + [training_command(study, variant, 1) for variant in VARIANTS]
    for command in commands:
        called = {}
        monkeypatch.setattr(cli, "_load", lambda name, real=cli._load, c=called: _spy(real(name), c))
        assert cli.main(arguments_of(study, command)) == 0
        assert called["directory"].startswith("runs/x/")
        if command[0] == "train":
            assert called["seed"] == called["stream"].seed == 1
            assert called["prepared"] == "runs/x/prepared_known/data"
    rates = {}
    for variant in VARIANTS:
        cli.main(arguments_of(study, training_command(study, variant, 0)))
        rates[variant] = called["pretraining"].retrieval_augmented_rate, called["objective"].whole_segment_probability
    assert rates == {"retrieval": (1.0, 0.6), "no_retrieval": (0.0, 0.6), "no_hidden_captions": (1.0, 0.0)}


def _spy(function, called):
    import functools

    @functools.wraps(function)
    def spy(**given):
        called.clear()
        called.update(given)

    return spy
