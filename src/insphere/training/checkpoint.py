"""A training's state as one file: same format as a model file, so nothing in it can execute."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from insphere import model_file
from insphere.errors import ModelFileError

KIND = "checkpoint"


def write_checkpoint(path: Path, fingerprint: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Replace the checkpoint at `path` by this state; the old one stays until the new one is complete."""
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    model_file.write(path, KIND, {"fingerprint": fingerprint, "state": dict(header)}, arrays)


def read_checkpoint(path: Path, fingerprint: str) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Return (header, tensors) of the checkpoint at `path`.

    Raises
    ------
    ModelFileError
        If it cannot be read, or was written for other rows or parameters.
    """
    saved = model_file.read(path, KIND)
    if saved.header.get("fingerprint") != fingerprint:
        raise ModelFileError(
            f"The checkpoint {path} belongs to other training rows, parameters or another seed."
            " Fit with those again to resume it, or start again without resuming (delete the file)."
        )
    # Copies: the optimiser updates its tensors in place, and arrays read from a file may be read-only.
    return saved.header["state"], {name: torch.from_numpy(array.copy()) for name, array in saved.arrays.items()}
