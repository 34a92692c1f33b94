import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from insphere.training import feed
from insphere.training.feed import Feed, as_network_input

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
