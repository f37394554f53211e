"""Batches of images are a pure function of the step, whatever was read before and whatever is broken."""

import numpy as np
import pytest

from cm3leon_jax.data.sources import BadExample, ImageBatches, SourceExample
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
