"""Write the golden model files of the insphere that Python imports: small models of fixed rows, and the scores that they gave.

    PYTHONPATH=OTHER_VERSION/src python tests/golden/make.py NAME

writes tests/golden/NAME/*.insphere and NAME/scores.json. Run once for a version whose files people have; never again for the same one.
"""

import inspect
import json
import sys
import warnings
from pathlib import Path

import numpy as np


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Return 60 rows to fit on and 7 to score, by formulas, so that no generator decides what they are."""
    number = np.arange(67.0)[:, None]
    X = np.sin(number * np.array([0.7, 1.3, 2.1])) + 0.1 * np.cos(number * np.array([5.1, 3.7, 2.9]))
    X[60:] *= np.linspace(0.2, 4, 7)[:, None]
    return X[:60], X[60:]


def detectors() -> dict[str, object]:
    """Return the detectors by the names of their files."""
    import insphere

    small = {"epochs": 3, "latent_dim": 2, "random_state": 0, "network": {"widths": [6]}}
    settings = {
        "knn": ("KNN", {}),
        "ocsvm": ("OCSVM", {"gamma": 0.3, "nu": 0.1}),
        "kde": ("KDE", {}),
        "iforest": ("IForest", {"n_estimators": 5}),
        "svdd": ("SVDD", {}),
        "vae-svdd": ("DeepSVDDVAE", small),
        "vae": ("VAE", small),
        "cae": ("CAE", small),
        "deep-svdd": ("DeepSVDD", small),
        "transform-svdd": ("TransformSVDD", small),
        "fusion": ("Fusion", {}),
        "knn-relative": ("KNN", {"aggregation": "relative", "exclude_self": True, "scaling": "robust"}),
    }
    made = {}
    for name, (kind, parameters) in settings.items():
        if hasattr(insphere, kind):  # not every version has every one
            known = inspect.signature(getattr(insphere, kind)).parameters
            chosen = {"random_state": 0} | parameters
            made[name] = getattr(insphere, kind)(**{key: value for key, value in chosen.items() if key in known})
    return made


def main(name: str) -> None:
    """Fit, save, and keep the scores, p-values and thresholds."""
    folder = Path(__file__).parent / name
    folder.mkdir(exist_ok=True)
    train, new = rows()
    found = {}
    for key, detector in detectors().items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                detector.fit(train)
                detector.save(folder / f"{key}.insphere")
            except Exception as error:
                sys.stderr.write(f"{key}: {error}\n")
                continue
            found[key] = {
                "anomaly_score": detector.anomaly_score(new).tolist(),
                "p_value": detector.p_value(new).tolist(),
                "threshold": float(detector.threshold_),
            }
    (folder / "scores.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
