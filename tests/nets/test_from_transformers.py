"""Backbones of `transformers` from folders with tiny random models: equal to the package's own, built again, refused where wrong."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from insphere.errors import ModelFileError, ParameterError
from insphere.nets.backbones import build, check_backbone, read_backbone
from insphere.nets.photo_features import PhotoFeatures

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")

TINY: dict[str, Any] = {
    "convnext": lambda: transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
    "dinov2": lambda: transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, patch_size=14, image_size=56
    ),
    "resnet": lambda: transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1]),
    "swin": lambda: transformers.SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=7, image_size=64),
}


def saved(kind: str, folder: Path) -> str:
    """Save a tiny random model; return it as a backbone."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        transformers.AutoModel.from_config(TINY[kind]()).save_pretrained(folder)
    return f"hf:{folder}"


@pytest.mark.parametrize("kind", TINY)
def test_stages_are_those_of_the_package_in_half_precision_weights(kind: str, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    description, weights = read_backbone(saved(kind, tmp_path))
    network = build(json.loads(json.dumps(description)), "texture", weights).eval()
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)
    assert network.weights().keys() == weights.keys()
    pictures = 255 * torch.rand(2, 3, 112, 84, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = network(pictures)
        own = network.backbone  # type: ignore[union-attr]
        mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        inputs = (pictures / 255 - mean.reshape(1, 3, 1, 1)) / spread.reshape(1, 3, 1, 1)
        for stage, expected in zip(found, own(inputs).feature_maps, strict=True):  # type: ignore[operator]
            torch.testing.assert_close(stage, expected, rtol=1e-4, atol=1e-4)
    assert [stage.channels for stage in network.outputs] == [int(stage.shape[1]) for stage in found]
    strides = [stage.stride for stage in network.outputs]
    assert strides == ([14] * 4 if kind == "dinov2" else [4, 8, 16, 32])
    assert network.mixed_from is None


def test_sides_are_brought_to_whole_patches(tmp_path: Path) -> None:
    description, weights = read_backbone(saved("dinov2", tmp_path))
    features = PhotoFeatures(build(description, "shown", weights), (64, 96), "shown").eval()
    with torch.inference_mode():
        places, whole = features(torch.zeros(1, 1, 64, 96))
    assert places.shape == (1, 5, 7, 32) and whole.shape == (1, 16)


def test_how_pixels_are_scaled_is_read(tmp_path: Path) -> None:
    name = saved("convnext", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 1.0]}))
    description, weights = read_backbone(name)
    network = build(description, "shown", weights)
    assert network.mean.flatten().tolist() == [127.5] * 3 and network.spread.flatten().tolist() == [63.75, 127.5, 255.0]  # type: ignore[union-attr]


def test_what_is_not_there_is_refused_with_the_remedy_and_never_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"run `hf download nobody/nothing-here` first"):
        read_backbone("hf:nobody/nothing-here")
    with pytest.raises(ParameterError, match=r"give a folder with config.json"):
        read_backbone(f"hf:{tmp_path}")


def test_folders_with_something_else_are_refused(tmp_path: Path) -> None:
    name = saved("convnext", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"depths": [1, 1, 2, 1]}))
    with pytest.raises(ParameterError, match="lacks"):
        read_backbone(name)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ParameterError, match="not a vision backbone"):
        read_backbone(name)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ParameterError, match="cannot be read"):
        read_backbone(name)


@pytest.mark.parametrize(
    "change",
    [
        {"depths": [10**6, 1, 1, 1]},
        {"hidden_sizes": [10**9, 16, 24, 32]},
        {"depths": [1] * 1000},
        {"model_type": None},
    ],
)
def test_descriptions_beyond_all_networks_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    description, weights = read_backbone(saved("convnext", tmp_path))
    with pytest.raises(ModelFileError):
        build({**description, "config": description["config"] | change}, "shown", weights)


@pytest.mark.parametrize("wrong", ["resnet", "hf:", 7, None, "w.pth"])
def test_names_that_are_no_backbone(wrong: Any) -> None:
    with pytest.raises(ParameterError, match="`backbone` must be one of"):
        check_backbone("backbone", wrong)
