"""Score images by three distances that need no training, among them that of the method with linear networks.

    python papers/vae-svdd-2021/linear.py --data-dir FOLDER

writes ``results/linear.csv``: the AUROC of each class of MNIST and CIFAR-10 for three scores, with pixels as they are and with contrast
normalised. Nothing is trained and no setting is chosen: Table 2's latent dimensions, all training images of a class. It takes some minutes.

A variational autoencoder with linear networks and a Gaussian likelihood is probabilistic PCA (Tipping and Bishop 1999, "Probabilistic
principal component analysis"; Lucas et al. 2019, "Don't blame the ELBO!"): its codes of normal images are uncorrelated and of variance
1 - noise / eigenvalue, so the distance of eq. 13 is that of Mahalanobis among the principal components, whatever their share in the image.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from insphere.benchmark.run.execution import machine, package_versions, source_commit
from insphere.benchmark.run.results import versions_text
from insphere.data import one_class_split
from insphere.data.datasets import DATASETS
from insphere.data.preprocess import fit_preprocess
from insphere.metrics import auroc
from insphere.output_file import replacing

RESULTS = Path(__file__).parent / "results" / "linear.csv"

_log = logging.getLogger("linear")

LATENT_DIMS = {"mnist": 32, "cifar10": 128}  # Table 2
SCALINGS = ("unit", "gcn")


def main() -> None:
    """Read the arguments, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=None, help="named data sets")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the table")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    environment = {"commit": source_commit(), "versions": versions_text(package_versions()), "machine": machine()}
    rows = [
        {"dataset": dataset, "normal_class": name, "scaling": scaling, "score": score, "auroc": value, **environment}
        for dataset in LATENT_DIMS
        for name in DATASETS[dataset].classes
        for scaling in SCALINGS
        for score, value in measure(dataset, name, scaling, options.data_dir).items()
    ]
    with replacing(options.out) as file:
        pa_csv.write_csv(pa.Table.from_pylist(rows), file)


def measure(dataset: str, normal_class: str, scaling: str, data_dir: Path | None) -> dict[str, float]:
    """Return the AUROC of each score, in [0, 1], for one normal class against all others of the test set."""
    split = one_class_split(f"{dataset}:{normal_class}", data_dir=data_dir)
    train, test = (np.concatenate([rows.X for rows in part.batches(1024)]) for part in (split.train, split.test))
    preprocess = fit_preprocess(train, scaling)
    scored = scores(*(preprocess.apply(x.astype(np.float32)).reshape(len(x), -1) for x in (train, test)), LATENT_DIMS[dataset])
    values = {name: auroc(split.labels, score).value for name, score in scored.items()}
    _log.info("%s %s, %s: %s", dataset, normal_class, scaling, ", ".join(f"{name} {100 * value:.1f} %" for name, value in values.items()))
    return values


def scores(train: NDArray[np.float32], test: NDArray[np.float32], latent_dim: int) -> dict[str, NDArray[np.float64]]:
    """Return the scores of test rows, shape (n,), at least 0, from rows of shape (m, features) and (n, features).

    - "image": distance to the mean training image.
    - "code": distance of the code's mean to the centre, the code being that of the best linear VAE (eq. 13).
    - "reconstruction": distance to the nearest point of the principal subspace.
    """
    pca = PCA(latent_dim, svd_solver="covariance_eigh").fit(train)
    projected = pca.transform(test).astype(np.float64)
    spread = pca.explained_variance_
    code = projected**2 / spread * np.clip(1 - pca.noise_variance_ / spread, 0, None)
    image = ((test - pca.mean_) ** 2).sum(axis=1, dtype=np.float64)
    left = np.clip(image - (projected**2).sum(axis=1), 0, None)
    return {"image": np.sqrt(image), "code": np.sqrt(code.sum(axis=1)), "reconstruction": np.sqrt(left)}


if __name__ == "__main__":
    main()
