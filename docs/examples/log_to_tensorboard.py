"""Fit on a source and write the terms of the loss for TensorBoard.

    python log_to_tensorboard.py SOURCE LOG_FOLDER

Needs: pip install insphere tensorboard
"""

import sys

from torch.utils.tensorboard import SummaryWriter

import insphere
from insphere.training.history import EpochRecord


def main(source: str, folder: str) -> None:
    """Fit with the defaults; one scalar for each term and epoch."""
    with SummaryWriter(folder) as writer:

        def log(epoch: EpochRecord) -> None:
            for name, value in epoch.terms.items():
                writer.add_scalar(f"train/{name}", value, epoch.epoch)

        detector = insphere.DeepSVDDVAE(random_state=0).fit(source, on_epoch=log)
        expected = detector.decision_.expected
        if expected is not None:
            writer.add_scalar("expected false-alarm rate", expected.value, 0)
        writer.add_histogram("held-out scores", detector.conformal_.scores, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
