import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from insphere.data.row_store import StoredRows
from insphere.training import feed
from insphere.training.feed import Feed, as_network_input, windowed_order

CPU = torch.device("cpu")
INDEX = torch.tensor([[4, 0, 0], [1, 2, 3]])


def doubled(rows: Tensor) -> Tensor:
    return 2 * rows


def halved(rows: Tensor) -> Tensor:
    return rows / 2


def parts(*shape: int) -> list[NDArray[np.float64]]:
    return [np.random.default_rng(seed).normal(size=(5, *shape)) for seed in range(2)]


@pytest.mark.parametrize("shape", [(3,), (4, 6, 2)], ids=["vectors", "images"])
@pytest.mark.parametrize("transforms", [(doubled, doubled), (doubled, halved)], ids=["alike", "unlike"])
def test_each_model_gets_its_own_rows_through_its_own_preprocessing(shape, transforms):
    rows = parts(*shape)
    alone = [as_network_input(torch.from_numpy(own), transform) for own, transform in zip(rows, transforms, strict=True)]
    several = Feed(rows, transforms, CPU)
    batch = several.batch(INDEX)
    assert batch.shape == (2, 3, *alone[0].shape[1:])
    for model, x in enumerate(alone):
        assert torch.equal(batch[model], x[INDEX[model]])
        assert torch.equal(several.first(model, 2), x[:2]) and torch.equal(several.first(model, 99), x)
        assert torch.equal(torch.cat(list(several.in_order(model))), x)
        single = Feed([rows[model]], [transforms[model]], CPU)
        assert torch.equal(single.batch(INDEX[model : model + 1]), x[INDEX[model]])


def test_images_stay_as_they_are_and_vectors_are_preprocessed_once(monkeypatch):
    monkeypatch.setattr(feed, "_CHUNK", 2)
    n_calls = []

    def counted(rows: Tensor) -> Tensor:
        n_calls.append(len(rows))
        return rows

    vectors = Feed([np.zeros((5, 3))], [counted], CPU)
    vectors.batch(INDEX[:1])
    assert n_calls == [2, 2, 1]
    images = Feed([np.zeros((5, 4, 4, 1), np.uint8)], [counted], CPU)
    assert images._rows.dtype == torch.uint8 and len(n_calls) == 3
    images.batch(INDEX[:1])
    assert n_calls[3:] == [3]


def test_windows_hold_whole_blocks_and_every_row_once():
    block_of = np.repeat(np.arange(10), [3, 1, 4, 1, 5, 9, 2, 6, 5, 3])
    order = windowed_order(block_of, 3, torch.Generator().manual_seed(0)).numpy()
    assert sorted(order.tolist()) == list(range(len(block_of)))
    seen = block_of[order]
    starts = [int(np.flatnonzero(seen == block)[0]) for block in range(10)]
    ends = [int(np.flatnonzero(seen == block)[-1]) for block in range(10)]
    # At no time are more than three blocks begun and not ended.
    assert max(sum(start <= place <= end for start, end in zip(starts, ends, strict=True)) for place in range(len(order))) == 3
    assert (order != np.sort(order)).any()
    other = windowed_order(block_of, 3, torch.Generator().manual_seed(1)).numpy()
    assert not np.array_equal(order, other)


def test_one_window_is_the_order_of_rows_in_memory():
    block_of = np.arange(50) // 20
    drawn = windowed_order(block_of, 3, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, torch.randperm(50, generator=torch.Generator().manual_seed(0)))


def test_rows_in_files_are_fed_as_those_in_memory():
    X = np.arange(60.0).reshape(12, 5)
    parts = [X, X + 100]
    transforms = [lambda rows: rows / 2, lambda rows: rows * 3]
    index = torch.tensor([[3, 0, 11], [1, 1, 5]])
    for part, index_ in ((parts[:1], index[:1]), (parts, index)):
        usual = Feed(part, transforms[: len(part)], torch.device("cpu"))
        stored = Feed([StoredRows.of([rows]) for rows in part], transforms[: len(part)], torch.device("cpu"))
        assert torch.equal(stored.batch(index_), usual.batch(index_))
        for model in range(len(part)):
            assert torch.equal(stored.first(model, 20), usual.first(model, 20))
            assert all(torch.equal(*pair) for pair in zip(stored.in_order(model), usual.in_order(model), strict=True))
