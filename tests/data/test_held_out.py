import dataclasses

import numpy as np
import pytest
from prepared_folder import VOCABULARY, write_prepared

from cm3leon_jax.data.held_out import Batching, evaluation_batches
from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.documents import parse
from cm3leon_jax.runtime.errors import UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return PreparedData(write_prepared(tmp_path_factory.mktemp("prepared"), train=20, validation=11, empty=0))


def sequences(batches):
    """-> {text of the query: (documents, scored targets)}"""
    found = {}
    for batch in batches:
        for row in range(len(batch["tokens"])):
            segments = batch["segments"][row]
            for segment in range(1, segments.max() + 1):
                part = segments == segment
                targets = batch["targets"][row][part]
                documents = parse(np.append(batch["tokens"][row][part], targets[-1]), VOCABULARY)
                scored = targets[batch["weights"][row][part] == 1]
                found[documents[-1].text.tobytes()] = (documents, scored)
    return found


@pytest.mark.parametrize("retrieved", [0, 1, 2])
def test_every_document_once_behind_its_retrieved_ones_in_rank_order(data, retrieved):
    batches = evaluation_batches(data, "validation", Batching(length=120, batch_size=4), retrieved=retrieved)
    assert all(batch["tokens"].shape == (4, 120) for batch in batches)
    assert all((batch["retrieved"] == retrieved * (batch["segments"] > 0)).all() for batch in batches)
    found, train = sequences(batches), data.split("train")
    assert len(found) == 11
    for index in range(11):
        document = data.split("validation")[index]
        (*before, query), scored = found[document.text.tobytes()]
        assert np.array_equal(query.image, document.image)
        expected = [train[int(place)] for place in document.neighbours_by_text[:retrieved]]
        assert [d.text.tolist() for d in before] == [d.text.tolist() for d in expected]
        # The same tokens count, however much is retrieved: the query's, its <break>, and <eos>.
        image = VOCABULARY.image_ids(document.image)
        assert scored.tolist() == [*document.text, VOCABULARY.break_id, *image, 1]


def test_retrieved_documents_give_way_to_the_query(data):
    for documents, scored in sequences(
        evaluation_batches(data, "validation", Batching(length=60, batch_size=1), retrieved=2)
    ).values():
        assert len(documents) <= 2
        assert len(scored) == len(documents[-1].text) + 16 + 2


def test_processes_share_the_rows(data):
    alone = Batching(length=100, batch_size=4)
    whole = evaluation_batches(data, "validation", alone, retrieved=1)
    of_two = [dataclasses.replace(alone, process_index=index, process_count=2) for index in range(2)]
    parts = [evaluation_batches(data, "validation", batching, retrieved=1) for batching in of_two]
    for batch, first, second in zip(whole, *parts, strict=True):
        for name, array in batch.items():
            assert np.array_equal(array, np.concatenate([first[name], second[name]]))


def test_a_limit_takes_the_first_documents(data):
    batches = evaluation_batches(data, "validation", Batching(length=100, batch_size=2, limit=3), retrieved=0)
    assert len(sequences(batches)) == 3


def test_what_cannot_be_evaluated_is_a_user_error(data):
    with pytest.raises(UserError, match="no documents"):
        evaluation_batches(data, "empty", Batching(length=100, batch_size=2), retrieved=0)
    with pytest.raises(UserError, match="processes"):
        Batching(length=100, batch_size=2, process_count=3)
