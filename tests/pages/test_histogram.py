import numpy as np
import pytest
from html_page import Page
from hypothesis import given
from hypothesis import strategies as st

from cm3leon_jax.pages.histogram import MOST_COLUMNS, column_edges, histogram

NASTY = "<b>&'"


def bars(values):
    """(what a bar says, its height) of each."""
    source = histogram("Sizes", values, x_label="tokens", counted="documents")
    heights = [float(attributes["height"]) for tag, attributes in Page(source).elements if tag == "rect"]
    said = [part.split("</title>")[0] for part in source.split("<title>")[1:]]
    return list(zip(said, heights, strict=True))


def test_each_whole_number_has_a_bar():
    found = bars([3, 3, 5])
    assert [said for said, _ in found] == ["3 tokens: 2", "5 tokens: 1"]
    assert found[0][1] == pytest.approx(2 * found[1][1], abs=0.1)


def test_many_numbers_share_bars_and_say_their_ranges():
    said = [said for said, _ in bars(np.arange(100))]
    assert said[0] == "0 to 2 tokens: 3" and said[-1] == "99 to 101 tokens: 1"


@given(st.lists(st.integers(0, 5000) | st.floats(0, 1e4), min_size=1))
def test_every_value_lies_in_a_column(values):
    edges = column_edges(np.array(values, float))
    assert 1 <= len(edges) - 1 <= MOST_COLUMNS and (np.diff(edges) > 0).all()
    assert np.histogram(values, edges)[0].sum() == len(values)
    Page(histogram("Sizes", values, x_label="tokens", counted="documents"))


def test_without_values_there_is_no_chart_and_labels_are_escaped():
    assert histogram("Sizes", [], x_label="", counted="") == ""
    source = histogram(NASTY, [1], x_label=NASTY, counted=NASTY, note=NASTY)
    assert "<b>" not in source and NASTY in Page(source).text
