"""Weights from files of the user's own: networks known by the names of their tensors, all others refused with the remedy."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from drawn_networks import BASIC, published_lite, published_residual
from insphere.errors import ParameterError
from insphere.nets.backbones import build, read_backbone
from insphere.nets.efficientnet_lite import Architecture, EfficientNetLite, folded
from insphere.nets.weight_files import read_weights


def timm_names(weights: dict[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """The same weights as timm names them."""
    places = [(stage, block) for stage, repeats in enumerate(architecture.repeats) for block in range(repeats)]
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    wide = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    found = {"classifier.weight": torch.zeros(2, 2)}
    for name, value in weights.items():
        head, *rest = name.split(".")
        if head == "_blocks":
            stage, block = places[int(rest[0])]
            found[f"blocks.{stage}.{block}.{(plain if stage == 0 else wide)[rest[1]]}.{rest[2]}"] = value
        else:
            found[f"{head.replace('_conv_stem', 'conv_stem').replace('_bn0', 'bn1')}.{rest[0]}"] = value
    return found


@pytest.mark.parametrize("named_by", ["package", "timm"])
@pytest.mark.parametrize("architecture", [Architecture(), Architecture(1.1, 1.2)])
def test_a_lite_network_is_known_by_its_tensors(named_by: str, architecture: Architecture, tmp_path: Path) -> None:
    weights = published_lite(architecture)
    save_file(weights if named_by == "package" else timm_names(weights, architecture), tmp_path / "w.safetensors")
    found, state, digest = read_weights(tmp_path / "w.safetensors")
    assert found == architecture and len(digest) == 64
    expected = folded(weights, architecture)
    assert state.keys() == expected.keys() == EfficientNetLite(architecture).state_dict().keys()
    for name, value in state.items():
        torch.testing.assert_close(value, expected[name].half(), rtol=0, atol=0)


def test_a_residual_network_is_known_and_built_as_far_as_it_is_needed(tmp_path: Path) -> None:
    save_file(published_residual(BASIC), tmp_path / "w.safetensors", metadata={"architecture": "resnet18"})
    description, weights = read_backbone(tmp_path / "w.safetensors")
    assert description["family"] == "residual" and description["repeats"] == list(BASIC.repeats)
    assert len(build(description, "fine", weights).outputs) == 3 and len(build(description, "shown", weights).outputs) == 4


def test_files_of_other_networks_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    lite = published_lite(Architecture())
    cases: list[tuple[dict[str, Tensor], dict[str, str] | None, str]] = [
        ({"embeddings.patch_embeddings.projection.weight": torch.zeros(2)}, None, "hf:FOLDER"),
        ({name: value for name, value in lite.items() if "_blocks.3." not in name}, None, "15 blocks"),
        ({name: value for name, value in lite.items() if "_bn0.bias" not in name}, None, "lacks the weight"),
        (lite | {"_blocks.0._se_reduce.weight": torch.zeros(2)}, None, "squeeze"),
        (lite, {"architecture": "tf_efficientnet_lite2"}, "says that it is"),
        (published_residual(BASIC), {"architecture": "vgg16"}, "says that it is"),
        (published_residual(BASIC) | {"conv1.weight": torch.full((8, 3, 7, 7), 1e6)}, None, "not finite in half precision"),
    ]
    for tensors, metadata, message in cases:
        save_file({name: value.clone() for name, value in tensors.items()}, path, metadata=metadata)
        with pytest.raises(ParameterError, match=message):
            read_weights(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\x80\x04something that could run")
    with pytest.raises(ParameterError, match="cannot be read as a safetensors file"):
        read_weights(tmp_path / "w.safetensors")
    with pytest.raises(ParameterError, match="there is no file"):
        read_weights(tmp_path / "none.safetensors")
