import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from insphere.errors import ParameterError
from insphere.training.device import SMALL_ROW, choose_precision, place, resolve_device, threads_for

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(False, False, "cpu"), (False, True, "mps"), (True, False, "cuda"), (True, True, "cuda")]
)
def test_auto_takes_the_fastest_device_there_is(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto") == torch.device(expected)
    assert resolve_device("cpu") == CPU


def test_a_device_that_is_not_there_is_an_error_and_never_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ParameterError, match="`device` 'cuda' is not available to PyTorch here; use 'mps', 'cpu' or 'auto'"):
        resolve_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:0", 0, None])
def test_an_unknown_device_is_refused(name: Any) -> None:
    with pytest.raises(ParameterError, match="`device` must be one of 'auto', 'cpu', 'cuda', 'mps'"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("capabilities", "row_values", "convolutional", "expected"),
    [
        ({"amx_bf16": True}, SMALL_ROW + 1, True, "bf16-mixed"),
        ({"avx512_bf16": True}, SMALL_ROW + 1, True, "32-true"),
        ({"amx_bf16": True}, SMALL_ROW, True, "32-true"),
        ({"amx_bf16": True}, SMALL_ROW + 1, False, "32-true"),
        ({"avx2": True}, SMALL_ROW + 1, True, "32-true"),
    ],
)
def test_automatic_precision(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], row_values: int, convolutional: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_precision("auto", CPU, row_values=row_values, convolutional=convolutional) == expected


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_automatic_precision_on_a_graphics_card(monkeypatch: pytest.MonkeyPatch, native: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native and not including_emulation)
    assert choose_precision("auto", torch.device("cuda"), row_values=SMALL_ROW + 1, convolutional=True) == expected


@pytest.mark.parametrize(("name", "expected"), [("32", "32-true"), ("bf16", "bf16-mixed")])
def test_a_precision_that_was_asked_for_is_used_whatever_the_hardware(name: str, expected: str) -> None:
    assert choose_precision(name, CPU, row_values=1, convolutional=False) == expected


def test_convolutions_are_laid_out_channels_last() -> None:
    convolution = nn.Conv2d(3, 4, 3)
    place(convolution, CPU, convolutional=False)
    assert convolution.weight.is_contiguous()
    place(convolution, CPU, convolutional=True)
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last) and not convolution.weight.is_contiguous()


@pytest.mark.parametrize(("row_values", "expected"), [(SMALL_ROW, 1), (SMALL_ROW + 1, 2)])
def test_small_rows_are_computed_by_one_thread(row_values: int, expected: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt), threads_for(row_values):
            assert torch.get_num_threads() == expected
            raise KeyboardInterrupt
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_process_forked_after_a_fit_of_two_threads_scores() -> None:
    code = """
import os, warnings
warnings.simplefilter("ignore")
import numpy as np, torch, insphere
torch.set_num_threads(2)
X = (np.random.default_rng(0).random((64, 32, 32)) * 255).astype(np.uint8)
detector = insphere.CAE(epochs=1, random_state=0).fit(X)
expected = detector.anomaly_score(X)
child = os.fork()
if child == 0:
    os._exit(0 if np.allclose(detector.anomaly_score(X), expected) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "0"
