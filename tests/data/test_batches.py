"""Batches of images are a pure function of the step, whatever was read before and whatever is broken."""

import numpy as np
import pytest

from cm3leon_jax.data.sources import BadExample, ImageBatches, SourceExample
from cm3leon_jax.data.sources.several import SeveralSplit
from cm3leon_jax.runtime.errors import UserError


class Numbers:
    """Example i is an image full of i; those in `bad` cannot be read."""

    fingerprint = "numbers"

    def __init__(self, count, bad=()):
        self.count, self.bad, self.reads = count, set(bad), 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        if index in self.bad:
            raise BadExample(str(index), "broken")
        return SourceExample(str(index), np.full((4, 4, 3), index, np.uint8), str(index), {})


def numbers(batch):
    images, captions = batch
    assert images.dtype == np.uint8 and images.shape[1:] == (4, 4, 3)
    assert [str(image[0, 0, 0]) for image in images] == captions and (images == images[:, :1, :1, :1]).all()
    return [int(caption) for caption in captions]


@pytest.mark.parametrize("memory_limit", [0, 2**20])
def test_batches_are_a_pure_function_of_the_step(memory_limit):
    def batches(bad=()):
        return ImageBatches(Numbers(23, bad), 4, 5, seed=3, memory_limit=memory_limit)

    forwards = batches((2, 7, 8))
    expected = [numbers(forwards(step)) for step in range(30)]
    backwards = batches((2, 7, 8))
    assert [numbers(backwards(step)) for step in reversed(range(30))][::-1] == expected
    assert numbers(forwards(3)) == expected[3]
    assert not {2, 7, 8} & {number for batch in expected for number in batch}
    assert all(len(batch) == 5 for batch in expected)


def test_an_epoch_reads_every_example_once_and_epochs_differ():
    batches = ImageBatches(Numbers(20), 4, 5, seed=0)
    epochs = [
        [number for step in range(4 * epoch, 4 * epoch + 4) for number in numbers(batches(step))] for epoch in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20)) and epochs[0] != epochs[1]
    assert numbers(ImageBatches(Numbers(20), 4, 5, seed=1)(0)) != epochs[0][:5]


def test_a_small_split_is_decoded_once():
    split = Numbers(20, bad=[4])
    batches = ImageBatches(split, 4, 8, seed=0)
    for step in range(10):
        batches(step)
    assert split.reads == 20


def test_a_batch_may_be_larger_than_the_split():
    assert sorted(numbers(ImageBatches(Numbers(3), 4, 7, seed=0)(0))[:3]) == [0, 1, 2]


def test_nothing_usable_is_a_user_error():
    with pytest.raises(UserError, match="no example can be used"):
        ImageBatches(Numbers(3, bad=range(3)), 4, 2, seed=0)(0)
    with pytest.raises(UserError, match="without examples"):
        ImageBatches(Numbers(0), 4, 2, seed=0)


def test_weights_of_several_sources():
    """Each has its share of the stream, exact in every thousand examples, and epochs of its own."""
    split = SeveralSplit({0: Numbers(7), 1: Numbers(50)}, [0.25, 0.75])
    batches = ImageBatches(split, 4, 100, seed=3)
    stream = [batches._index(slot) for slot in range(1000)]
    small, large = [index for index in stream if index < 7], [index for index in stream if index >= 7]
    assert (len(small), len(large)) == (250, 750)
    for epoch in range(35):
        assert sorted(small[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert sorted(large[:50]) == sorted(large[50:100]) == list(range(7, 57)) and large[:50] != large[50:100]
    assert abs(sum(index < 7 for index in stream[:200]) - 50) < 25  # mixed, not one behind the other
    wanted = [index if index < 7 else index - 7 for index in stream[500:600]]
    assert numbers(batches(5)) == numbers(ImageBatches(split, 4, 100, seed=3)(5)) == wanted


def test_without_weights_several_sources_are_one_behind_the_other():
    split = SeveralSplit({0: Numbers(3), 2: Numbers(4)}, [None, None])
    batches = ImageBatches(split, 4, 7, seed=0)
    assert sorted(batches._index(slot) for slot in range(7)) == list(range(7))
    assert [split[index].id for index in (2, 3)] == ["0/2", "2/0"]


def test_a_weight_too_small_to_count_is_refused():
    with pytest.raises(UserError, match="1/1000"):
        ImageBatches(SeveralSplit({0: Numbers(3), 1: Numbers(3)}, [1e-5, 1.0]), 4, 7, seed=0)
