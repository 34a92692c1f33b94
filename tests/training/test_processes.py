"""One training by two processes: the model that one process trains, but for rounding."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import insphere
from insphere.training.noise import SharedGenerator, standard_normal
from insphere.training.processes import Processes

FITS = """
import sys, warnings
import numpy as np
import insphere
from insphere.errors import ParameterError
from insphere.training.processes import Processes

warnings.simplefilter("ignore")

def fits():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(203, 3)) @ rng.normal(size=(3, 9)) + 0.1 * rng.normal(size=(203, 9))
    images = (60 * rng.normal(size=(90, 1, 1, 1)) * np.sin(np.arange(64.0)).reshape(8, 8, 1) + 128).clip(0, 255).astype(np.uint8)
    usual = {"random_state": 0, "calibration": {"method": "split"}}
    yield "vectors", insphere.DeepSVDDVAE(epochs=3, **usual), vectors
    yield "stopping", insphere.DeepSVDDVAE(epochs=6, training={"patience": 1}, **usual), vectors
    yield "likelihood", insphere.DeepSVDDVAE(epochs=3, reading={"likelihood": "gaussian"}, **usual), vectors
    yield "images", insphere.DeepSVDDVAE(epochs=3, **usual), images
    # Without biases before batch norms, whose gradients are rounding that Adam raises to full steps.
    reading, no_bias = {"n_centers": 3}, {"bias": False}
    yield "centres", insphere.DeepSVDDVAE(epochs=3, reading=reading, geometry="euclidean", network=no_bias, **usual), vectors
    yield "dasvdd", insphere.DASVDD(epochs=3, **usual), vectors
    yield "turned", insphere.TransformSVDD(epochs=2, network=no_bias, **usual), images
    brief = {"name": "vae-svdd", "epochs": 2, "network": no_bias}
    yield "seeds", insphere.Fusion([brief, brief], **usual), vectors
    yield "soft", insphere.DeepSVDD(epochs=6, objective="soft-boundary", **usual), images

if __name__ == "__main__":
    here = Processes.here()
    for name, detector, X in fits():
        detector.fit(X)
        losses = [record.terms["loss"] for record in detector.history_]
        np.savez(f"{sys.argv[1]}/{name}-{here.rank}.npz", scores=detector.anomaly_score(X), losses=losses)
    try:
        insphere.DeepSVDDVAE(epochs=1, random_state=here.rank).fit(X)
    except ParameterError as error:
        sys.stdout.write(f"refused: {error}\\n")  # at once, as both write to one pipe
"""


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two processes wrote and said."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "fits.py").write_text(FITS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(folder / "fits.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
def test_two_processes_train_what_one_does(together):
    folder, _ = together
    known: dict = {"__name__": "fits"}
    exec(compile(FITS, "fits.py", "exec"), known)
    names = []
    for name, detector, X in known["fits"]():
        first, second = (np.load(folder / f"{name}-{rank}.npz") for rank in range(2))
        assert np.array_equal(first["scores"], second["scores"]), name  # they have the same model, bit by bit
        scores = detector.fit(X).anomaly_score(X)
        # The noise of versions of rows is each process's own, so that these trainings differ as by another draw of it.
        loss, alike = (0.05, 0.9) if name == "turned" else (1e-3, 0.999)
        assert first["losses"] == pytest.approx([record.terms["loss"] for record in detector.history_], rel=loss), name
        assert np.corrcoef(first["scores"], scores)[0, 1] > alike, name
        names.append(name)
    assert names == ["vectors", "stopping", "likelihood", "images", "centres", "dasvdd", "turned", "seeds", "soft"]


def test_processes_with_other_seeds_are_refused(together):
    assert together[1].count("refused: The processes that train together were given different rows, parameters or seeds") == 2


def test_parts_of_a_batch_get_the_noise_of_the_whole():
    index = torch.arange(7).reshape(1, 7)
    like = torch.zeros(())
    for shape in ((7, 3), (2, 7, 3)):
        whole = standard_normal(shape, torch.Generator().manual_seed(0), like=like)
        parts = []
        for rank in range(3):
            processes = Processes(3, rank, 3, rank)
            n_own = processes.share(index).shape[1]
            source = processes.noise(torch.Generator().manual_seed(0), index)
            parts.append(standard_normal([n_own if n == 7 else n for n in shape], source, like=like, rows_along=shape.index(7)))
        assert torch.equal(torch.cat(parts, dim=shape.index(7)), whole)


def test_other_draws_differ_between_processes_and_leave_generators_alike():
    drawn, after = [], []
    for rank in range(2):
        generator = torch.Generator().manual_seed(0)
        drawn.append(standard_normal((100, 100), SharedGenerator(generator, 0, 5, 10, rank), like=torch.zeros(())))
        after.append(torch.rand(3, generator=generator))
    assert torch.equal(*after)
    assert abs(torch.corrcoef(torch.stack([part.flatten() for part in drawn]))[0, 1]) < 0.05


def test_weights_make_the_mean_of_all_rows():
    index = torch.arange(7).reshape(1, 7)
    values = torch.arange(7.0)
    processes = [Processes(2, rank, 2, rank) for rank in range(2)]
    weighted = [values[here.share(index)[0]].mean() * here.weight(index) for here in processes]
    assert float(sum(weighted)) / 2 == pytest.approx(float(values.mean()))
    assert Processes().weight(index) == 1
    assert Processes().share(index) is index


def test_torchrun_is_recognised(monkeypatch):
    assert Processes.here() == Processes()
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "RANK": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    here = Processes.here()
    assert (here.n, here.rank, here.several, here.first) == (4, 2, True, False)


def test_batches_too_small_for_the_processes_are_refused(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "40", "RANK": "0", "LOCAL_WORLD_SIZE": "40", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    X = np.random.default_rng(0).normal(size=(60, 3))
    with pytest.raises(insphere.errors.ParameterError, match="too small for 40 processes"):
        insphere.DeepSVDDVAE(epochs=1, random_state=0).fit(X)
    with pytest.raises(insphere.errors.ParameterError, match="start it without torchrun"):
        insphere.fit_many([insphere.DeepSVDDVAE(epochs=1, random_state=seed) for seed in range(2)], X, together="always")


def test_the_command_line_writes_and_speaks_once(tmp_path, monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "insphere", "fit", "digits:3", "-o", "m.insphere", "--detector", "knn"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(Path(tmp_path).iterdir())
