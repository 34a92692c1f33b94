"""Comparisons of networks: their training, their scoring, and how both grow with the number of rows."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparing import Comparison, Way, pictures, wall

import insphere
from insphere.detectors.vae_svdd import DeepSVDDVAEObjective, Reading
from insphere.nets.build import initialise
from insphere.nets.options import Network
from insphere.training.options import Training

BATCH = 200


def steps(folder: Path) -> Iterator[Comparison]:
    """Time an epoch of the paper's networks: ours beside loops over the same objective that a user of PyTorch would write."""
    for side, channels, widths, n_rows in ((28, 1, (8, 4), 3000), (32, 3, (32, 64, 128), 600)):
        X = pictures(n_rows, side, channels)
        latent_dim = 32 if channels == 1 else 128
        network = Network(widths=widths)
        scaled = torch.from_numpy(X).permute(0, 3, 1, 2).float().div(255).contiguous()

        def fit(X: np.ndarray[Any, Any] = X, widths: tuple[int, ...] = widths, latent_dim: int = latent_dim) -> float:
            training = {"batch_size": BATCH, "precision": "32"}
            split = {"fraction": 0.02, "method": "split"}
            detector = insphere.DeepSVDDVAE(
                epochs=2,
                network={"widths": widths},
                latent_dim=latent_dim,
                scaling="unit",
                training=training,
                calibration=split,
                random_state=0,
            )
            detector.fit(X)
            return detector.history_[-1].seconds / Training(batch_size=BATCH).batches_per_epoch(detector.data_["n_train"])

        def loop(
            batches: Callable[[torch.Tensor], Iterator[torch.Tensor]],
            rows: torch.Tensor = scaled,
            side: int = side,
            channels: int = channels,
            latent_dim: int = latent_dim,
            network: Network = network,
        ) -> Way:
            objective = DeepSVDDVAEObjective((side, side, channels), latent_dim, network, alpha=0.1, reading=Reading())
            initialise(objective, 0)
            optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
            noise = torch.Generator().manual_seed(0)

            def way() -> float:
                started, n_steps = time.perf_counter(), 0
                for x in batches(rows):
                    optimizer.zero_grad()
                    objective(x, noise)["loss"].backward()
                    optimizer.step()
                    n_steps += 1
                return (time.perf_counter() - started) / n_steps

            return way

        yield Comparison(
            f"A training step, {side} × {side} × {channels}",
            f"The paper's network for such pictures, batches of {BATCH}, Adam; an epoch of {n_rows:,} rows, divided by its steps. The loops"
            " train the same objective on rows that are scaled beforehand.",
            "wall-clock",
            {"insphere": fit, "a DataLoader": loop(_loaded), "shortest loop of PyTorch": loop(_indexed)},
            fit,
        )


def _loaded(rows: torch.Tensor) -> Iterator[torch.Tensor]:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), batch_size=BATCH, shuffle=True, drop_last=True)
    return (x for (x,) in loader)


def _indexed(rows: torch.Tensor) -> Iterator[torch.Tensor]:
    order = torch.randperm(len(rows))
    return (rows[order[start : start + BATCH]] for start in range(0, len(rows) - BATCH + 1, BATCH))


def encoders(folder: Path) -> Iterator[Comparison]:
    """Time scoring in bulk by the library and by its exported graphs."""
    import onnxruntime

    from insphere.export import export_onnx

    for side, channels in ((28, 1), (32, 3)):
        X = pictures(480, side, channels)
        detector = insphere.DeepSVDDVAE(epochs=1, random_state=0).fit(X[:200])
        ways = {"insphere": wall(lambda detector=detector, X=X: detector.anomaly_score(X))}  # type: ignore[misc]
        for name in ("float32", "int8"):
            path = folder / f"{side}-{name}.onnx"
            export_onnx(detector, path, rows=X[:100], int8=name == "int8")
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = 1, 3
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            ways[f"its graph in ONNX Runtime, {name}, batches of 16"] = wall(lambda session=session, X=X: _run(session, X))  # type: ignore[misc]
        yield Comparison(
            f"480 pictures of {side} × {side} × {channels} scored", "vae-svdd, an array at hand.", "wall-clock", ways, ways["insphere"]
        )


def _run(session: Any, X: np.ndarray[Any, Any]) -> None:
    name = session.get_inputs()[0].name
    for start in range(0, len(X), 16):
        session.run(None, {name: X[start : start + 16]})


def vectors(folder: Path) -> Iterator[Comparison]:
    """Time fit and scoring of many wide vectors beside PyOD's networks of the same sizes."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(20, 784))
    n_rows, n_new, epochs, widths, latent_dim = 60_000, 5000, 1, [128, 64], 32
    X = (rng.normal(size=(n_rows + n_new, 20)) @ factors + rng.normal(size=(n_rows + n_new, 784))).astype(np.float32)
    fitted: dict[str, Any] = {}

    def ours() -> None:
        detector = insphere.DeepSVDDVAE(
            epochs=epochs, network={"widths": widths}, latent_dim=latent_dim, training={"batch_size": BATCH}, random_state=0
        )
        fitted["insphere, vae-svdd"] = detector.fit(X[:n_rows])

    fits: dict[str, Callable[[], None]] = {"insphere, vae-svdd": ours}
    if importlib.util.find_spec("pyod") is None:
        print("PyOD is not installed; its rows are left out.")
    else:
        from pyod.models.deep_svdd import DeepSVDD
        from pyod.models.vae import VAE

        def vae() -> None:
            model = VAE(
                epoch_num=epochs,
                batch_size=BATCH,
                encoder_neuron_list=widths,
                decoder_neuron_list=widths[::-1],
                latent_dim=latent_dim,
                batch_norm=True,
                dropout_rate=0.0,
                verbose=0,
                random_state=0,
                device="cpu",
            )
            fitted["PyOD, VAE"] = model.fit(X[:n_rows])

        def deep_svdd() -> None:
            model = DeepSVDD(
                n_features=784,
                hidden_neurons=[*widths, latent_dim],
                epochs=epochs,
                batch_size=BATCH,
                dropout_rate=0.0,
                verbose=0,
                random_state=0,
            )
            fitted["PyOD, DeepSVDD"] = model.fit(X[:n_rows])

        fits |= {"PyOD, VAE": vae, "PyOD, DeepSVDD": deep_svdd}
    about = f"{n_rows:,} rows of 784 features, {epochs} epoch, batches of {BATCH}, layers of {widths} to a code of {latent_dim}"
    yield Comparison(
        "Fitting wide vectors",
        f"{about}; scores of all training rows and a threshold included.",
        "wall-clock",
        {k: wall(v) for k, v in fits.items()},
    )
    new = X[n_rows:]
    scorings = {name: wall(lambda name=name: _score(fitted[name], new)) for name in fits}  # type: ignore[misc]
    yield Comparison("Scoring wide vectors", f"{n_new:,} new rows, by the models of the table before.", "wall-clock", scorings)


def _score(model: Any, X: np.ndarray[Any, Any]) -> Any:
    return model.anomaly_score(X) if hasattr(model, "anomaly_score") else model.decision_function(X)


def growth(folder: Path) -> Iterator[Comparison]:
    """Time fits and scoring of 1, 2, 4 and 8 times as many rows; the ways' ratios say whether both are linear."""
    detectors: dict[str, Callable[[], Any]] = {
        "vae-svdd": lambda: insphere.DeepSVDDVAE(epochs=2, training={"batch_size": 100}, random_state=0),
        "cae": lambda: insphere.CAE(epochs=2, training={"batch_size": 100}, random_state=0),
        "deep-svdd": lambda: insphere.DeepSVDD(epochs=2, training={"batch_size": 100}, random_state=0),
        "transform-svdd": lambda: insphere.TransformSVDD(epochs=1, training={"batch_size": 100}, random_state=0),
        "knn": lambda: insphere.KNN(calibration={"method": "split"}, random_state=0),
        "iforest": lambda: insphere.IForest(calibration={"method": "split"}, random_state=0),
        "svdd": lambda: insphere.SVDD(calibration={"method": "split"}, random_state=0),
    }
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8000, 5)) @ rng.normal(size=(5, 24)) + rng.normal(size=(8000, 24))
    for name, make in detectors.items():
        fits = {f"{n:,} rows": wall(lambda n=n, make=make: make().fit(X[:n])) for n in (1000, 2000, 4000, 8000)}  # type: ignore[misc]
        yield Comparison(f"Growth of a fit: {name}", "Rows of 24 features; linear is 1, 2, 4, 8.", "wall-clock", fits)
        model = make().fit(X[:1000])
        scorings = {f"{n:,} rows": wall(lambda n=n, model=model: model.anomaly_score(X[:n])) for n in (1000, 2000, 4000, 8000)}  # type: ignore[misc]
        yield Comparison(f"Growth of scoring: {name}", "By the model of 1,000 rows.", "wall-clock", scorings)
