"""Fit on a source and log parameters, terms of the loss, the model file and its card to MLflow.

    python log_to_mlflow.py SOURCE

Needs: pip install insphere mlflow
"""

import sys
import tempfile
from pathlib import Path

import mlflow

import insphere
from insphere.report.card import model_card


def main(source: str) -> None:
    """Fit with the defaults within one run of MLflow."""
    detector = insphere.DeepSVDDVAE(random_state=0)
    with mlflow.start_run():
        detector.fit(source, on_epoch=lambda epoch: mlflow.log_metrics(dict(epoch.terms), step=epoch.epoch))
        described = detector.describe()
        mlflow.log_params({name: str(value) for name, value in described["parameters"].items()})
        mlflow.log_metric("threshold", described["decision"]["threshold"])
        mlflow.log_params({"rows": described["data"]["n_rows"], "fingerprint": described["data"]["fingerprint"]})
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model.insphere"
            detector.save(model)
            model_card(detector, path=model).write(Path(folder) / "card.md")
            mlflow.log_artifacts(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
