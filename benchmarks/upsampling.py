"""A training step of Deep SVDD-VAE with upsampling and convolution in one, against one after the other, on the CPU.

The paper's networks (Table 2) and batches; the two ways take turns, and the figure is the ratio of their CPU seconds.

    python benchmarks/upsampling.py

writes benchmarks/reports/upsampling.md.
"""

import argparse
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

import torch

import insphere
from insphere.detectors.vae_svdd import DeepSVDDVAEObjective, Reading
from insphere.nets.build import initialise
from insphere.nets.conv import UpsampledConv2d
from insphere.nets.options import Network
from insphere.training.device import place

REPORT = Path(__file__).parent / "reports" / "upsampling.md"

# Name -> input shape, latent dimensions, widths, rows a batch (Zhou 2021, Table 2).
NETWORKS = {
    "MNIST": ((28, 28, 1), 32, (8, 4), 200),
    "CIFAR-10": ((32, 32, 3), 128, (32, 64, 128), 200),
    "GTSRB": ((32, 32, 3), 32, (16, 32, 64), 64),
}


class Step:
    """A training step that can be repeated."""

    def __init__(self, name: str, *, at_once: bool, precision: torch.dtype) -> None:
        shape, latent_dim, widths, n_rows = NETWORKS[name]
        self.objective = DeepSVDDVAEObjective(shape, latent_dim, Network(widths=widths), alpha=0.01, reading=Reading())
        initialise(self.objective, 0)
        place(self.objective, torch.device("cpu"), convolutional=True)
        if not at_once:
            for layer in self.objective.modules():
                if isinstance(layer, UpsampledConv2d):
                    layer.forward = layer.in_two_steps  # type: ignore[method-assign]
        self.x = torch.rand(n_rows, *shape, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
        self.generator = torch.Generator().manual_seed(0)
        self.optimizer = torch.optim.Adam(self.objective.parameters())
        self.precision = precision

    def seconds(self, n_steps: int) -> float:
        """Return the CPU seconds of a step."""
        started = time.process_time()
        for _ in range(n_steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.precision is torch.bfloat16):
                loss = self.objective(self.x, self.generator)["loss"]
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return (time.process_time() - started) / n_steps


def main() -> None:
    """Measure, print the table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each way, in turn")
    parser.add_argument("--steps", type=int, default=10, help="training steps in a measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| network | precision | one after the other, ms a step | in one, ms a step | speed-up |", "|---|---|---|---|---|"]
    for name in NETWORKS:
        for label, precision in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
            ways = [Step(name, at_once=at_once, precision=precision) for at_once in (False, True)]
            for way in ways:
                way.seconds(2)
            times = [[way.seconds(arguments.steps) for way in ways] for _ in range(arguments.repeats)]
            before, after = ([1000 * pair[way] for pair in times] for way in range(2))
            ratios = [pair[0] / pair[1] for pair in times]
            lines.append(f"| {name} | {label} | {_spread(before, 1)} | {_spread(after, 1)} | **{_spread(ratios, 2)}** |")
            print(lines[-1], flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    provenance = (
        f"Mean ± standard deviation over {arguments.repeats} measurements of {arguments.steps} steps of the whole autoencoder, CPU seconds"
        f" of one thread on a machine with {os.cpu_count()} cores ({platform.system()}, {platform.machine()}); insphere"
        f" {insphere.__version__} at commit {commit or 'unknown'}, PyTorch {torch.__version__}, Python {platform.python_version()}."
        " Written by `benchmarks/upsampling.py`; do not edit."
    )
    table = "\n".join(lines)
    REPORT.write_text(f"# Upsampling and convolution in one\n\n{table}\n\n{provenance}\n")


def _spread(values: list[float], digits: int) -> str:
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
