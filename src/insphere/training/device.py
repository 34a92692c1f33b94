"""Where to compute, and how precisely."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from insphere.errors import ParameterError
from insphere.training.processes import Processes
from insphere.validation import check_choice

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Device = Literal["auto", "cpu", "cuda", "mps"]
"""Names of the devices; "auto" takes the first available of cuda, mps, cpu."""


def resolve_device(name: str) -> torch.device:
    """Return the device called `name`.

    Raises
    ------
    ParameterError
        If the name is unknown, or PyTorch cannot use that device here; there is no silent fallback.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    check_choice("device", name, get_args(Device))
    kinds = ("cuda", "mps", "cpu")
    if name == "auto":
        name = next(kind for kind in kinds if is_available(kind))
    if not is_available(name):
        usable_names = ", ".join(repr(kind) for kind in kinds if is_available(kind))
        raise ParameterError(f"`device` {name!r} is not available to PyTorch here; use {usable_names} or 'auto'.")
    if name == "cuda" and Processes.here().several:  # each has a graphics processor of its own
        torch.cuda.set_device(Processes.here().local_rank)
    return torch.device(name)


def is_available(name: str) -> bool:
    """Return whether PyTorch can compute on the device called `name` here.

    Examples
    --------
    >>> is_available("cpu"), is_available("auto")
    (True, True)
    """
    if name in ("cuda", "mps"):
        return bool(torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available())
    return name in get_args(Device)


def _compute_alone() -> None:
    """Compute with one thread in a forked process: the threads of its parent are not there, and waiting for them never ends."""
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_alone)


def device_name(module: nn.Module) -> str:
    """Return where a module's weights are, with the model of a graphics processor: "cpu", "mps", "cuda (NVIDIA H200)".

    Examples
    --------
    >>> device_name(nn.Linear(1, 1))
    'cpu'
    """
    device = next(module.parameters()).device
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


SMALL_ROW = 512
"""Values a row has at most to count as small: its batches gain nothing from a second thread or from bfloat16."""


@contextlib.contextmanager
def single_precision() -> Iterator[None]:
    """Make tensors in float32 inside the block, whatever `torch.set_default_dtype` says outside it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def threads_for(row_values: int) -> Iterator[None]:
    """Compute with one CPU thread inside the block if rows are small, and with as many as before after it.

    Threads that wait for each other at every small operation are no faster than one, and far slower where other programs share
    the cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if row_values <= SMALL_ROW else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_precision(name: str, device: torch.device, *, row_values: int, convolutional: bool) -> str:
    """Return Lightning Fabric's name of the training precision.

    Parameters
    ----------
    name : {"auto", "32", "bf16"}
    device : torch.device
    row_values : int
        Values a row has: pixels times channels, or features.
    convolutional : bool
        Whether the network is convolutional; the small dense networks for vectors gain nothing from bfloat16.

    Notes
    -----
    The rule looks at the hardware, never at a clock: timing would make the same seed give different models. A processor computes faster
    in bfloat16 where it multiplies tiles of it (AMX); the mere instructions of AVX-512 make training slower, since what is gained in the
    products is lost in turning numbers to and fro: see ``benchmarks/reports/precision.md``.
    """
    if name == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))
        name = "bf16" if native and convolutional and row_values > SMALL_ROW else "32"
    return {"32": "32-true", "bf16": "bf16-mixed"}[name]


def place(module: nn.Module, device: torch.device, *, convolutional: bool) -> None:
    """Move `module` to `device`; convolutional ones to the channels-last layout, in which image rows arrive without a copy."""
    module.to(device)
    if convolutional:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def make_fabric(device: torch.device, precision: str) -> "Fabric":
    """Return Lightning Fabric for one device, or one in each of the processes that train together, and a precision by its own name.

    Raises
    ------
    ParameterError
        If several processes are to train on a device that they can't share a training on.
    """
    # Inside the function, because it brings PyTorch's compiler along, which takes longer to import than a row to score.
    from lightning_fabric import Fabric

    processes = Processes.here()
    # Fabric announces its precision on standard error, which a library has no business to do unasked.
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        if not processes.several:
            return Fabric(accelerator=device.type, devices=1, precision=precision)  # type: ignore[arg-type]
        if device.type == "mps":
            raise ParameterError("Several processes cannot train together on `device` 'mps'; take 'cpu' or 'cuda'.")
        fabric = Fabric(
            accelerator=device.type,
            devices=processes.n_local,
            num_nodes=processes.n // processes.n_local,
            strategy="ddp",
            precision=precision,  # type: ignore[arg-type]
        )
        processes.join(fabric.launch)
        return fabric
    finally:
        logger.setLevel(level)
