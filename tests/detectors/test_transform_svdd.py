import dataclasses

import numpy as np
import pytest
import torch
from sklearn.base import clone

import contract
import naive
from contract import fit_quietly
from insphere import load, model_file
from insphere.detectors.stored import KIND
from insphere.detectors.transform_objective import TransformSVDDObjective, Views, pair_loss
from insphere.detectors.transform_svdd import TransformSVDD, _set_aside, _share_right
from insphere.errors import ModelFileError, ParameterError
from insphere.metrics import auroc
from insphere.nets.build import initialise
from insphere.nets.options import Network
from insphere.training.variational import VariationalReading, kl_to_standard_normal

QUICK = {"random_state": 0, "device": "cpu"}
VECTORS = contract.blobs(200)


def stripes(n=160, seed=0, turned=False):
    """Upright stripes, whose phase and contrast vary: a half turn makes other ones of the same kind, a quarter turn does not."""
    rng = np.random.default_rng(seed)
    phase, contrast = rng.uniform(0, 2 * np.pi, (n, 1, 1)), rng.uniform(40, 100, (n, 1, 1))
    wave = 120 + contrast * np.sin(np.arange(8)[None, None, :] * np.pi / 2 + phase) + rng.normal(0, 5, (n, 8, 8))
    rows = wave.transpose(0, 2, 1) if turned else wave
    return rows.clip(0, 255).astype(np.uint8)[..., np.newaxis]


def slopes(n=160, seed=0):
    """Bright at the left and the top, so that every turn shows."""
    rng = np.random.default_rng(seed)
    ramp = np.arange(8)[::-1] * 20
    return (ramp[None, None, :] + ramp[None, :, None] // 2 + rng.integers(0, 40, (n, 8, 8))).clip(0, 255).astype(np.uint8)[..., np.newaxis]


def make_objective(**views):
    views = Views(n_projections=2, **views)
    objective = TransformSVDDObjective(
        (4,), 2, Network(widths=(8,)), alpha=0.3, contrast=2.0, views=views, reading=VariationalReading(likelihood="gaussian")
    )
    initialise(objective, 0)
    return objective


def rows(n=6, seed=1):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))


def codes_of_all(objective, x):
    return [objective.posterior(objective.transformations(x, number))[0].tolist() for number in range(3)]


class TestObjective:
    def test_loss_is_eq_12_around_each_centre_and_the_heads_log_loss(self):
        objective, x = make_objective(at_once=3).eval(), rows()
        terms = objective(x, torch.Generator().manual_seed(0))
        expected = terms["distance"] + 0.3 * (terms["kl"] + terms["reconstruction"]) + 2.0 * terms["contrast"]
        torch.testing.assert_close(terms["loss"], expected)
        # Each row goes through all three, in whatever order: means over versions are means over rows and transformations.
        codes = codes_of_all(objective, x)
        centers, scale = objective.centers.weight.tolist(), objective.log_scale.exp().item()
        contrast = sum(naive.transform_contrast(codes, centers, scale)) / (3 * len(x))
        assert terms["contrast"].item() == pytest.approx(contrast, rel=1e-5)
        versions = torch.cat([objective.transformations(x, number) for number in range(3)])
        torch.testing.assert_close(terms["kl"], kl_to_standard_normal(*objective.posterior(versions)).mean())

    def test_distance_is_to_the_centre_of_the_transformation_applied(self):
        objective, x = make_objective(at_once=3).eval(), rows(200)
        with torch.no_grad():
            objective.encoder.body.heads[1].bias.fill_(-100.0)  # no noise: z is mu
            objective.encoder.body.heads[1].weight.zero_()
            distance = float(objective(x, torch.Generator().manual_seed(0))["distance"])
            codes = [torch.tensor(rows) for rows in codes_of_all(objective, x)]
        expected = np.mean([(mu - center).norm(dim=1).mean().item() for mu, center in zip(codes, objective.centers.weight, strict=True)])
        assert distance == pytest.approx(expected, rel=0.02)

    @pytest.mark.parametrize("at_once", [2, 3])
    @pytest.mark.parametrize("n_variations", [1, 2])
    def test_a_step_takes_as_many_different_transformations_of_each_row_as_asked_for(self, at_once, n_variations):
        objective, x = make_objective(at_once=at_once), rows(50)
        variations = [x, x + 100.0][:n_variations]
        versions, numbers, firsts, partners = objective._versions(variations, torch.Generator().manual_seed(0))
        assert len(versions) == 50 * at_once * n_variations and set(numbers.tolist()) == {0, 1, 2}
        every = torch.cat(variations)
        owners = []
        for version, number in zip(versions, numbers.tolist(), strict=True):
            distances = (objective.transformations(every, number) - version).abs().sum(dim=1)
            owners.append((int(distances.argmin()), number))
            assert float(distances.min()) < 1e-3
        assert len(set(owners)) == len(owners)
        assert sorted(row for row, _ in owners) == sorted([*range(50 * n_variations)] * at_once)
        # One version of each row is decoded, of the first variation.
        assert sorted(owners[first][0] for first in firsts.tolist()) == list(range(50))
        for (row, number), partner in zip(owners, partners.tolist(), strict=True):
            assert owners[partner] == ((row + 50) % (50 * n_variations), number)

    def test_a_version_is_told_by_its_partner_among_all_others(self):
        codes = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
        partners = torch.tensor([3, 4, 5, 0, 1, 2])
        assert pair_loss(codes, partners).item() == pytest.approx(naive.pair_loss(codes.tolist(), partners.tolist(), 0.5), rel=1e-5)

    def test_similarity_is_one_more_term_of_the_loss(self):
        kwargs = {"alpha": 0.3, "contrast": 2.0, "views": Views(), "reading": VariationalReading(likelihood="gaussian")}
        objective = TransformSVDDObjective((8, 8, 3), 4, Network(widths=(2,)), similarity=5.0, **kwargs)
        initialise(objective, 0)
        x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        terms = objective.train()(x, torch.Generator().manual_seed(0))
        rest = terms["distance"] + 0.3 * (terms["kl"] + terms["reconstruction"]) + 2.0 * terms["contrast"]
        torch.testing.assert_close(terms["loss"], rest + 5.0 * terms["similarity"])
        assert objective.crop == 0.5 and objective.colour  # compared versions are varied more
        assert 1.0 < terms["similarity"].item() < 6.0

    def test_score_sums_the_log_losses_of_what_is_kept(self):
        objective, x = make_objective().eval(), rows()
        centers, scale = objective.centers.weight.tolist(), objective.log_scale.exp().item()
        with torch.no_grad():
            every = objective.terms(x)[:, 0].tolist()
            objective.settle([0, 2], ())
            kept = objective.terms(x)[:, 0].tolist()
        codes = codes_of_all(objective, x)
        assert every == pytest.approx(naive.transform_contrast(codes, centers, scale), rel=1e-4)
        assert kept == pytest.approx(naive.transform_contrast([codes[0], codes[2]], [centers[0], centers[2]], scale), rel=1e-4)

    def test_pictures_are_varied_in_training_only(self):
        views, reading = Views(mirror=True, jitter=2), VariationalReading()
        objective = TransformSVDDObjective((8, 8, 1), 2, Network(widths=(2,)), alpha=1.0, contrast=1.0, views=views, reading=reading)
        x = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        varied = objective.train()._varied(x, torch.Generator().manual_seed(3))
        assert varied.shape == x.shape and not torch.equal(varied, x)
        assert objective.eval()._varied(x, torch.Generator().manual_seed(3)) is x
        shifts = {int(objective.train()._varied(x, torch.Generator().manual_seed(seed)).sum() * 1e4) for seed in range(40)}
        assert len(shifts) > 10


class TestDropping:
    def test_what_can_not_be_told_from_what_is_kept_is_dropped_and_named(self):
        views = {"transformations": "rotations", "jitter": 0}
        detector = fit_quietly(TransformSVDD(views=views, epochs=30, **QUICK), stripes(300))
        assert detector.kept_ == ("identity", "turned by 90°")
        told = next(finding for finding in detector.health_.findings if finding.name == "transformations")
        assert told.level == "ok" and told.value > 0.9
        assert "turned by 180° from identity" in told.text and "turned by 270° from turned by 90°" in told.text

    def test_what_can_be_told_is_kept(self):
        detector = fit_quietly(TransformSVDD(views={"transformations": "rotations"}, epochs=30, **QUICK), slopes(300))
        assert len(detector.kept_) == 4
        told = next(finding for finding in detector.health_.findings if finding.name == "transformations")
        assert "Dropped" not in told.text

    def test_where_nothing_can_be_told_rows_are_scored_by_distance_and_a_warning_says_so(self):
        noise = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1)).astype(np.uint8)
        detector = fit_quietly(TransformSVDD(views={"transformations": "flips"}, epochs=2, **QUICK), noise)
        told = next(finding for finding in detector.health_.findings if finding.name == "transformations")
        assert detector.kept_ == ("identity",) and told.level == "warning" and detector.objective_.scored_by == "distance"
        assert np.unique(detector.anomaly_score(noise)).size > 100

    def test_half_of_ties_are_right(self):
        assert _share_right(np.zeros((5, 2, 2), dtype=np.float32)) == 0.5
        assert _share_right(np.tile(np.eye(2, dtype=np.float32), (5, 1, 1))) == 1.0


class TestScores:
    @pytest.mark.parametrize(("given", "weight"), [(None, 2.0), (0.5, 0.5)])
    def test_both_is_the_weighted_sum_of_the_two(self, given, weight):
        kinds = ("contrast", "distance", "both")
        single = [fit_quietly(TransformSVDD(scored_by=name, distance_weight=given, epochs=20, **QUICK), VECTORS) for name in kinds]
        contrast, distance, both = (detector.anomaly_score(VECTORS) for detector in single)
        np.testing.assert_allclose(contrast + weight * distance, both, rtol=1e-4, atol=1e-4)
        of_training = [detector.training_scores_ for detector in single]
        np.testing.assert_allclose(of_training[0] + weight * of_training[1], of_training[2], rtol=1e-4, atol=1e-4)
        assert not single[0].spheres_ and len(single[1].spheres_) == len(single[1].kept_)

    def test_units_are_those_of_rows_that_were_not_trained_on(self):
        detector = clone(TransformSVDD(epochs=20, **QUICK))
        fitting = detector._prepare(VECTORS)
        X = fitting.training_rows
        seen = []
        trainee = detector._trainee
        detector._trainee = lambda X: seen.append(trainee(X)) or seen[-1]
        from insphere.detectors.fitting import FitContext

        detector._fit_model(X, FitContext())
        aside = X[detector._aside]
        assert 0.1 < len(aside) / len(X) < 0.2
        trained = {row.tobytes() for row in seen[0].rows}
        assert len(trained) == len(X) - len(aside) and not any(row.tobytes() in trained for row in aside)
        terms = detector._map(detector.objective_.terms, aside).astype(float)
        standard = (terms - detector.objective_.unit_mean.numpy()) / detector.objective_.unit_spread.numpy()
        np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-3)
        np.testing.assert_allclose(standard.std(axis=0), 1, atol=1e-3)

    def test_rows_of_a_unit_are_set_aside_together(self):
        units = np.repeat(np.arange(40), 5)
        aside = _set_aside(200, units, np.random.default_rng(0)).reshape(40, 5)
        assert (aside.all(axis=1) == aside.any(axis=1)).all() and aside.all(axis=1).sum() == 6
        assert not _set_aside(20, None, np.random.default_rng(0)).any()
        assert _set_aside(10_000, None, np.random.default_rng(0)).sum() == 500

    @pytest.mark.parametrize("scored_by", ["contrast", "distance", "both"])
    def test_turned_pictures_are_anomalies(self, scored_by):
        detector = TransformSVDD(scored_by=scored_by, epochs=30, views={"transformations": "rotations"}, **QUICK)
        fitted = fit_quietly(detector, stripes(300))
        scores = np.concatenate([fitted.anomaly_score(stripes(100, seed=1)), fitted.anomaly_score(stripes(100, seed=2, turned=True))])
        assert auroc(np.repeat([0, 1], 100), scores).value > 0.95

    def test_training_scores_do_not_count_rows_as_their_own_neighbours(self):
        detector = fit_quietly(TransformSVDD(scored_by="distance", epochs=3, **QUICK), VECTORS)
        finding = next(finding for finding in detector.health_.findings if finding.name == "radius")
        assert finding.value < 0.5  # a row that is its own nearest would give a radius that most new rows exceed

    @pytest.mark.parametrize("geometry", ["euclidean", "mahalanobis", "local", "angular"])
    def test_geometries_survive_the_file(self, geometry, tmp_path):
        detector = fit_quietly(TransformSVDD(scored_by="both", geometry=geometry, epochs=20, **QUICK), VECTORS)
        detector.save(tmp_path / "m.insphere")
        loaded = load(tmp_path / "m.insphere")
        np.testing.assert_array_equal(loaded.anomaly_score(VECTORS), detector.anomaly_score(VECTORS))
        assert loaded.kept_ == detector.kept_ and [sphere.kind for sphere in loaded.spheres_] == [geometry] * len(loaded.kept_)


class TestInColour:
    def test_rows_are_scored_by_both_terms_with_angles(self, tmp_path):
        grey = slopes(60)
        rows = np.concatenate([grey, grey.transpose(0, 2, 1, 3), 255 - grey], axis=3)
        detector = fit_quietly(TransformSVDD(epochs=5, **QUICK), rows)
        assert detector.objective_.scored_by == "both" and {sphere.kind for sphere in detector.spheres_} == {"angular"}
        assert detector.objective_.distance_weight == 1.0
        detector.save(tmp_path / "m.insphere")
        loaded = load(tmp_path / "m.insphere")
        np.testing.assert_array_equal(loaded.anomaly_score(rows), detector.anomaly_score(rows))
        # The graph that scores is another statement of the spheres in NumPy.
        codes = [detector._map(lambda x, n=n: detector.objective_.codes_of_versions(x, [n])[0], rows) for n in detector.objective_.kept]
        expected = sum(sphere.distance(mu.astype(float)) for sphere, mu in zip(detector.spheres_, codes, strict=True))
        np.testing.assert_allclose(detector._map(detector.objective_.terms, rows)[:, 1], expected, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("size", ["small", "large"])
    def test_residual_networks_are_fitted_saved_and_loaded(self, size, tmp_path):
        rows = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
        detector = fit_quietly(TransformSVDD(network={"size": size}, similarity=5.0, epochs=1, **QUICK), rows)
        detector.save(tmp_path / "m.insphere")
        np.testing.assert_array_equal(load(tmp_path / "m.insphere").anomaly_score(rows), detector.anomaly_score(rows))


def test_older_files_weigh_both_terms_alike(tmp_path):
    detector = fit_quietly(TransformSVDD(distance_weight=1.0, epochs=20, **QUICK), VECTORS)
    detector.save(tmp_path / "m.insphere")
    saved = model_file.read(tmp_path / "m.insphere", KIND)
    model = {name: value for name, value in saved.header["model"].items() if name != "distance_weight"}
    parameters = {name: value for name, value in saved.header["parameters"].items() if name != "distance_weight"}
    model_file.write(tmp_path / "n.insphere", KIND, dict(saved.header) | {"model": model, "parameters": parameters}, saved.arrays)
    np.testing.assert_array_equal(load(tmp_path / "n.insphere").anomaly_score(VECTORS), detector.anomaly_score(VECTORS))


@pytest.mark.parametrize(
    "change",
    [
        {"kept": [0, 99]},
        {"kept": [1, 2]},
        {"kept": [0, 0]},
        {"kept": ["0"]},
        {"kept": []},
        {"spheres": ["local"]},
        {"scored_by": "luck"},
        {"distance_weight": 0},
        {"distance_weight": "2"},
    ],
    ids=str,
)
def test_files_whose_parts_do_not_fit_are_refused(change, tmp_path):
    detector = fit_quietly(TransformSVDD(epochs=20, **QUICK), VECTORS)
    assert len(detector.kept_) > 1
    detector.save(tmp_path / "m.insphere")
    saved = model_file.read(tmp_path / "m.insphere", KIND)
    header = dict(saved.header) | {"model": dict(saved.header["model"]) | change}
    model_file.write(tmp_path / "n.insphere", KIND, header, saved.arrays)
    with pytest.raises(ModelFileError):
        load(tmp_path / "n.insphere")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": 0}, "`alpha` must be a finite number above 0, or None, got 0"),
        ({"contrast": -1}, "`contrast` must be a finite number at least 0, got -1"),
        ({"scored_by": "contrasts"}, "`scored_by` must be one of.*Did you mean 'contrast'"),
        ({"geometry": "round"}, "`geometry` must be one of"),
        ({"views": {"transformations": "rotation"}}, "`views.transformations` must be one of.*Did you mean 'rotations'"),
        (
            {"views": {"transformations": "rotations"}},
            "`transformations` 'rotations' are not for vectors; take projections, masks, learned, or 'auto'",
        ),
        ({"views": {"n_projections": 1}}, "`views.n_projections` must be a whole number at least 2"),
        ({"views": {"mirror": "yes"}}, "`views.mirror` must be True or False, or None, got 'yes'"),
        ({"views": {"jitter": -1}}, "`views.jitter` must be a whole number at least 0"),
        ({"views": {"at_once": 0}}, "`views.at_once` must be a whole number at least 1"),
        ({"views": {"families": 1}}, "`views` has no field 'families'"),
    ],
    ids=str,
)
def test_parameters_out_of_range(parameters, message):
    with pytest.raises(ParameterError, match=message):
        TransformSVDD(epochs=1, random_state=0, **parameters).fit(VECTORS)


def test_rows_too_few_to_set_some_aside_are_their_own_units():
    detector = fit_quietly(TransformSVDD(epochs=2, **QUICK), VECTORS[:20])
    assert np.isfinite(detector.anomaly_score(VECTORS)).all()


def test_views_are_plain_data():
    assert dataclasses.asdict(Views())["transformations"] == "auto"
    assert Views().families((8, 8, 3)) == ["rotations"] and Views().families((8, 8, 1)) == ["rotations", "flips", "affine"]
