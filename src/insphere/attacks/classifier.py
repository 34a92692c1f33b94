"""The network that is attacked: a small convolutional classifier, trained by the training loop that detectors use."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from insphere import model_file
from insphere.attacks.gradients import gradient_of
from insphere.errors import DataError, ModelFileError, did_you_mean
from insphere.nets.build import build_encoder, initialise
from insphere.nets.options import Network
from insphere.seeding import derive_seed
from insphere.training.device import place
from insphere.training.history import EpochRecord
from insphere.training.loop import train
from insphere.training.mapping import map_batches
from insphere.training.noise import NoiseSource
from insphere.training.objective import AbstractObjective
from insphere.training.options import Training
from insphere.training.trainee import Stage, Trainee
from insphere.validation import check_integer

KIND = "classifier"
"""Kind of the model files that `Classifier.save` writes."""

NETWORK = Network(widths=(16, 32, 64), kernel_size=3)
TRAINING = Training(batch_size=128, precision="32")  # float32: the same seed attacks alike whatever the processor

_MOST_CLASSES = 256  # a class travels as a level of a pixel


class ClassifierObjective(AbstractObjective):
    """Cross-entropy of a convolutional network, mean over the batch, in nats.

    The training loop hands an objective rows and nothing else, so the class travels with its image, as one more channel of equal
    pixels, which the network does not see.

    Examples
    --------
    >>> objective = ClassifierObjective((8, 8, 3), 5)
    >>> tuple(objective.code(torch.zeros(2, 3, 8, 8)).shape)
    (2, 5)
    """

    def __init__(self, input_shape: Sequence[int], n_classes: int) -> None:
        super().__init__()
        self.body = build_encoder(input_shape, [n_classes], NETWORK)

    def forward(self, x: Tensor, generator: NoiseSource) -> dict[str, Tensor]:
        """Return the ``loss`` of a batch whose last channel is the class, in levels of 1/255."""
        classes = (x[:, -1, 0, 0] * 255).round().long()
        return {"loss": functional.cross_entropy(self.code(x[:, :-1]), classes)}

    def code(self, x: Tensor) -> Tensor:
        """Return one logit for every class, shape (n, n_classes)."""
        logits: Tensor = self.body(x)[0].float()
        return logits


class Classifier:
    """A trained classifier of images.

    Attributes
    ----------
    classes : tuple of str
        Names of the classes, in the order of the logits.
    input_shape : tuple of int
        Height, width, channels.
    """

    def __init__(self, objective: ClassifierObjective, classes: Sequence[str], input_shape: Sequence[int]) -> None:
        self._objective = objective.eval()
        self.classes, self.input_shape = tuple(classes), tuple(input_shape)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the number of the most probable class of each image, shape (n,).

        Raises
        ------
        DataError
            If the images do not fit.
        """
        self._check(images)
        logits = map_batches(self._objective.code, images, _unit, device=self._device)
        return np.asarray(logits.argmax(axis=1), dtype=np.int64)

    def loss_gradient(self, images: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the gradient of each image's cross-entropy against its class, in nats per pixel level, same shape as the images.

        Raises
        ------
        DataError
            If the images do not fit, or there is not one class each.
        """
        self._check(images)
        if len(classes) != len(images):
            raise DataError(f"`classes` must have one entry per image: {len(images)} images, but {len(classes)} entries.")
        numbers = torch.from_numpy(np.asarray(classes, dtype=np.int64)).to(self._device)

        def loss(x: Tensor, rows: slice) -> Tensor:
            return functional.cross_entropy(self._objective.code(x), numbers[rows], reduction="none")

        return gradient_of(loss, images, _unit, self._device)

    def class_number(self, name: str) -> int:
        """Return the number of a class.

        Raises
        ------
        DataError
            If it was not trained on any image of it.
        """
        if name not in self.classes:
            raise DataError(f"The classifier knows no class {name!r}.{did_you_mean(name, self.classes)}")
        return self.classes.index(name)

    def save(self, path: str | os.PathLike[str], fingerprint: str) -> None:
        """Write the classifier to one file; `load_classifier` asks for the same fingerprint."""
        arrays = {f"network/{name}": value.detach().cpu().numpy() for name, value in self._objective.state_dict().items()}
        header = {"classes": list(self.classes), "input_shape": list(self.input_shape), "fingerprint": fingerprint}
        model_file.write(path, KIND, header, arrays)

    @property
    def network(self) -> torch.nn.Module:
        """The network from images (n, channels, height, width) in [0, 1] to logits, in evaluation mode."""
        return _Logits(self._objective).eval()

    @property
    def _device(self) -> torch.device:
        return next(self._objective.parameters()).device

    def _check(self, images: NDArray[Any]) -> None:
        if images.dtype != np.uint8 or images.shape[1:] != self.input_shape:
            raise DataError(f"The classifier takes uint8 images of shape {self.input_shape}, got {images.dtype} of {images.shape[1:]}.")


class _Logits(torch.nn.Module):
    def __init__(self, objective: ClassifierObjective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, x: Tensor) -> Tensor:
        return self.objective.code(x)


def fit_classifier(
    images: NDArray[np.uint8],
    types: Sequence[str],
    *,
    seed: int,
    epochs: int,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> Classifier:
    """Train a classifier on images and the names of their classes, on the CPU; the same arguments give the same network.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, height, width, channels)
        Pixels in 0..255.
    types : sequence of str
        Class of each.
    seed : int
        Seed of weights and order.
    epochs : int
        Passes over the images.
    on_epoch : callable, optional
        Called with every `EpochRecord`.

    Raises
    ------
    DataError
        If there are fewer than two classes or more than 256, or the images are not uint8.
    TrainingError
        If training diverges.
    """
    check_integer("epochs", epochs, at_least=1)
    classes = sorted(set(types))
    if images.ndim != 4 or images.dtype != np.uint8 or len(types) != len(images):
        raise DataError(f"A classifier needs uint8 images and one class each, got {images.dtype} of shape {images.shape}.")
    if not 2 <= len(classes) <= _MOST_CLASSES:
        raise DataError(f"A classifier needs 2 to {_MOST_CLASSES} classes, got {len(classes)}.")
    shape = images.shape[1:]
    with torch.random.fork_rng(devices=[]):
        objective = ClassifierObjective(shape, len(classes))
    initialise(objective, derive_seed(seed, "weights of the classifier"))
    numbers = np.searchsorted(classes, types).astype(np.uint8)
    rows = np.concatenate([images, np.broadcast_to(numbers[:, None, None, None], (*images.shape[:3], 1))], axis=3)
    train(Trainee([Stage(objective, TRAINING, epochs)], rows, _unit, seed), device=torch.device("cpu"), on_epoch=on_epoch)
    return Classifier(objective, classes, shape)


def load_classifier(path: str | os.PathLike[str], fingerprint: str) -> Classifier:
    """Return the classifier that `Classifier.save` wrote.

    Raises
    ------
    ModelFileError
        If the file is missing or damaged, or was written with another fingerprint.
    """
    saved = model_file.read(path, KIND)
    try:
        if saved.header["fingerprint"] != fingerprint:
            raise ModelFileError(f"{os.fspath(path)} holds a classifier trained on other images or otherwise; delete it to train again.")
        shape = tuple(int(size) for size in saved.header["input_shape"])
        with torch.device("meta"):
            objective = ClassifierObjective(shape, len(saved.header["classes"]))
        weights = {name.removeprefix("network/"): torch.from_numpy(array.copy()) for name, array in saved.arrays.items()}
        objective.load_state_dict(weights, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{os.fspath(path)} is incomplete: {error}. Delete it to train again.") from error
    place(objective, torch.device("cpu"), convolutional=True)
    return Classifier(objective, saved.header["classes"], shape)


def _unit(x: Tensor) -> Tensor:
    """Return pixels in [0, 1]."""
    return x / 255
