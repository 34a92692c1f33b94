from pathlib import Path

import pytest
import torch

from insphere import model_file
from insphere.errors import ModelFileError
from insphere.training.checkpoint import KIND, read_checkpoint, write_checkpoint

HEADER = {"history": [{"epoch": 1, "terms": {"loss": 0.5}}], "best_epoch": 0}
TENSORS = {
    "objective/weight": torch.arange(6.0).reshape(2, 3).requires_grad_(),
    "optimizer/0/step": torch.tensor(3.0),
    "generator/order": torch.Generator().manual_seed(7).get_state(),
    "objective/images": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "count": torch.tensor(5),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "fit.checkpoint", "abc", HEADER, TENSORS)
    return tmp_path / "fit.checkpoint"


def test_everything_comes_back_equal(path: Path) -> None:
    header, tensors = read_checkpoint(path, "abc")
    assert header == HEADER
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_tensors_may_be_changed_in_place(path: Path) -> None:
    _, tensors = read_checkpoint(path, "abc")
    tensors["objective/weight"].add_(1)
    assert tensors["objective/weight"][0, 0] == 1


def test_a_generator_goes_on_where_it_was(path: Path) -> None:
    generator = torch.Generator()
    generator.set_state(read_checkpoint(path, "abc")[1]["generator/order"])
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=torch.Generator().manual_seed(7)))


def test_the_checkpoint_of_another_fit_is_refused(path: Path) -> None:
    with pytest.raises(
        ModelFileError, match=r"fit\.checkpoint belongs to other training rows, parameters or another seed.*delete the file"
    ):
        read_checkpoint(path, "abd")


def test_a_model_is_no_checkpoint(path: Path) -> None:
    model_file.write(path, "detector", {"fingerprint": "abc", "state": {}}, {})
    with pytest.raises(ModelFileError, match=f"holds a 'detector', and a '{KIND}' is needed"):
        read_checkpoint(path, "abc")


def test_a_newer_state_replaces_the_older_one(path: Path) -> None:
    write_checkpoint(path, "abc", {"best_epoch": 1}, {})
    assert read_checkpoint(path, "abc") == ({"best_epoch": 1}, {})
    assert list(path.parent.iterdir()) == [path]
