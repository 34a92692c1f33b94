from typing import get_args

import numpy as np
import pytest
import torch

from insphere.errors import ParameterError
from insphere.nets.build import initialise
from insphere.training.transformations import FamilyOfPictures, FamilyOfVectors, Transformations, Warp, shifted


def pictures(height, width, channels=2, n=3):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1), (1, 5), (2, 2)], ids=str)
@pytest.mark.parametrize("family", get_args(FamilyOfPictures))
def test_every_transformation_keeps_the_shape_and_number_0_the_rows(family, size):
    transformations, x = Transformations((*size, 2), [family]), pictures(*size)
    assert len(set(transformations.names)) == len(transformations) >= 2 and transformations.names[0] == "identity"
    assert all(transformations(x, number).shape == x.shape for number in range(len(transformations)))
    assert transformations(x, 0) is x


def test_families_are_joined():
    names = Transformations((8, 8, 1), ["rotations", "flips"]).names
    assert names == ("identity", "turned by 90°", "turned by 180°", "turned by 270°", "mirrored left to right", "mirrored top to bottom")
    # A quarter turn would change the shape of a picture that is no square.
    assert Transformations((8, 6, 1), ["rotations"]).names == ("identity", "turned by 180°")


def test_turns_and_mirrors_are_those_of_numpy():
    transformations, x = Transformations((5, 5, 2), ["rotations", "flips"]), pictures(5, 5)
    expected = [np.rot90(x.numpy(), quarters, axes=(2, 3)) for quarters in range(4)] + [x.numpy()[..., ::-1], x.numpy()[:, :, ::-1]]
    for number, rows in enumerate(expected):
        np.testing.assert_array_equal(transformations(x, number).numpy(), rows)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (-2, 1), (1, -3), (0, 4), (-4, -4)])
def test_shifts_bring_in_the_mirrored_picture(down, right):
    x = pictures(5, 5)
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (4, 4), (4, 4)], mode="reflect")
    np.testing.assert_array_equal(shifted(x, down, right).numpy(), padded[:, :, 4 - down : 9 - down, 4 - right : 9 - right])


def test_a_shift_is_never_longer_than_the_picture():
    assert shifted(pictures(3, 1), 9, -9).shape == (3, 2, 3, 1)


def test_warps_map_places_of_the_result_to_places_of_the_picture():
    x = pictures(6, 6)
    torch.testing.assert_close(Warp([[1.0, 0.0], [0.0, 1.0]])(x), x)
    torch.testing.assert_close(Warp([[-1.0, 0.0], [0.0, 1.0]])(x), x.flip(3))
    torch.testing.assert_close(Warp([[0.0, 1.0], [-1.0, 0.0]])(x), torch.rot90(x, -1, (2, 3)))


def test_affine_maps_of_vectors_are_drawn_once_and_keep_the_rows_scale():
    transformations = Transformations((50,), ["projections"], n_projections=3)
    initialise(transformations, 0)
    assert len(transformations) == 4 and not any(parameter.requires_grad for parameter in transformations.parameters())
    x = torch.randn(400, 50, generator=torch.Generator().manual_seed(0))
    mapped = [transformations(x, number) for number in range(1, 4)]
    assert all(0.8 < float(rows.std()) < 1.3 for rows in mapped) and not torch.allclose(mapped[0], mapped[1])
    line = torch.stack([transformations(share * x[:1] + (1 - share) * x[1:2], 2) for share in (0.0, 0.5, 1.0)])
    torch.testing.assert_close(line[1], (line[0] + line[2]) / 2)


def test_quarters_change_places():
    x = torch.arange(25.0).reshape(1, 1, 5, 5)
    moved = {name: rows[0, 0] for name, rows in versions(x, "permutations").items()}
    rows = moved["halves exchanged left to right"]
    assert rows[0].tolist() == [2.0, 3.0, 0.0, 1.0, 4.0] and torch.equal(rows[4], x[0, 0, 4])
    assert moved["halves exchanged top to bottom"][:, 0].tolist() == [10.0, 15.0, 0.0, 5.0, 20.0]
    corner = {name: int(rows[0, 0]) for name, rows in moved.items()}  # which quarter came to the top left, by its first pixel
    assert corner["quarters exchanged crosswise"] == 12
    assert (corner["quarters moved clockwise"], corner["quarters moved counter-clockwise"]) == (10, 2)
    assert all(rows.sort().values.equal(x.flatten()) for rows in (picture.flatten() for picture in moved.values()))


def test_masks_hide_one_half_and_leave_the_other():
    x = 1 + torch.rand(3, 9, generator=torch.Generator().manual_seed(0))
    hidden = [rows == 0 for rows in versions(x, "masks").values()]
    assert all(one.all(dim=0).sum() == 5 and one.any(dim=0).sum() == 5 for one in hidden)  # the same of every row
    assert len({tuple(one[0].tolist()) for one in hidden}) > 1
    assert all(torch.equal(rows[rows != 0], x[rows != 0]) for rows in versions(x, "masks").values())


def test_learned_maps_weaken_features_and_are_trained():
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    for rows in versions(x, "learned").values():
        factors = rows / x
        assert (factors > 0).all() and (factors < 1).all() and not torch.allclose(factors[0], factors[1])
    maps = Transformations((6,), ["learned"], n_projections=2)
    before = [parameter.detach().clone() for parameter in maps.parameters()]
    optimizer = torch.optim.SGD(maps.parameters(), lr=1.0)
    (maps(x, 1).square().sum() + maps(x, 2).square().sum()).backward()
    optimizer.step()
    assert all(not torch.equal(parameter, old) for parameter, old in zip(maps.parameters(), before, strict=True))


def versions(x, family):
    transformations = Transformations((*x.shape[2:], 1) if x.ndim == 4 else x.shape[1:], [family], n_projections=6)
    initialise(transformations, 0)
    return {name: transformations(x, number).detach() for number, name in enumerate(transformations.names) if number}


@pytest.mark.parametrize("family", get_args(FamilyOfVectors))
@pytest.mark.parametrize("n_features", [2, 3, 30])
def test_families_of_vectors_keep_the_shape(family, n_features):
    x = torch.randn(5, n_features, generator=torch.Generator().manual_seed(0))
    assert {rows.shape for rows in versions(x, family).values()} == {x.shape} and len(versions(x, family)) == 6


def test_half_of_one_feature_is_refused():
    with pytest.raises(ParameterError, match="'masks' hide half of the features, and these rows have one; take projections"):
        Transformations((1,), ["masks"])


@pytest.mark.parametrize(("shape", "family"), [((4,), "rotations"), ((8, 8, 1), "projections")])
def test_families_of_the_other_kind_of_rows_are_refused(shape, family):
    with pytest.raises(ParameterError, match=f"`transformations` '{family}' are not for"):
        Transformations(shape, [family])
