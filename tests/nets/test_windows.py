"""Windows of large pictures: they cover the picture, what is cut is what was there, and maps are put together as they should be."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from insphere.nets.efficientnet_lite import Architecture, EfficientNetLite
from insphere.nets.photo_features import PhotoFeatures, _moments
from insphere.nets.windows import Windows

sides, counts = st.integers(4, 40).map(lambda sixteenth: 16 * sixteenth), st.integers(1, 4)


@given(sides, sides, counts, counts, st.sampled_from([8, 16]))
def test_windows_cover_the_picture_and_a_map_cut_and_stitched_is_itself(
    height: int, width: int, rows: int, columns: int, stride: int
) -> None:
    windows = Windows((height, width), (rows, columns), stride)
    covered = np.zeros((height, width), dtype=bool)
    for top, left in windows.corners:
        assert top % 16 == left % 16 == 0 and top + windows.window[0] <= height and left + windows.window[1] <= width
        covered[top : top + windows.window[0], left : left + windows.window[1]] = True
    assert covered.all() and len(windows.corners) == rows * columns
    picture = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    places = torch.nn.functional.avg_pool2d(picture, stride)
    found = windows.stitched(torch.nn.functional.avg_pool2d(windows.cut(picture), stride))
    torch.testing.assert_close(found, places)


def test_neighbours_overlap_by_about_a_quarter() -> None:
    windows = Windows((640, 640), (2, 2), 8)
    assert windows.window == (368, 368) and windows.corners == ((0, 0), (0, 272), (272, 0), (272, 272))


def test_what_one_window_finds_fades_into_what_the_next_one_finds() -> None:
    windows = Windows((64, 256), (1, 2), 8)
    apart = torch.stack([torch.zeros(1, 8, windows.window[1] // 8), torch.ones(1, 8, windows.window[1] // 8)])
    line = windows.stitched(apart)[0, 0, 4]
    assert (
        line[0] == 0 and line[-1] == 1 and (line.diff() >= 0).all() and ((line > 0) & (line < 1)).sum() == 2 * windows.window[1] // 8 - 32
    )


@pytest.fixture(scope="module")
def network() -> EfficientNetLite:
    torch_state = torch.Generator().manual_seed(0)
    network = EfficientNetLite(Architecture(n_stages=6)).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=torch_state) / max(1, parameter[0].numel()) ** 0.5)
    return network


def test_features_in_windows_are_those_of_the_windows(network: EfficientNetLite) -> None:
    pictures = 255 * torch.rand(2, 3, 128, 224, generator=torch.Generator().manual_seed(1))
    whole = PhotoFeatures(network, (128, 224), "texture", tiles=(1, 2)).eval()
    places, vectors = whole(pictures)
    assert places.shape == (2, 16, 28, 152) and vectors.shape == (2, whole.n_whole)
    assert whole.windows is not None and whole.windows.corners == ((0, 0), (0, 96))
    left, right = (PhotoFeatures(network, (128, 128), "texture").eval()(pictures[:, :, :, at : at + 128])[0] for at in (0, 96))
    torch.testing.assert_close(places[:, :, :12], left[:, :, :12], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(places[:, :, 16:], right[:, :, 4:], rtol=1e-4, atol=1e-4)
    stages = [network(pictures[:, :, :, at : at + 128]) for at in (0, 96)]
    both = [torch.cat([part[number].flatten(2) for part in stages], dim=2) for number in (3, 4, 5)]
    torch.testing.assert_close(vectors, torch.cat([_moments(values, False) for values in both], dim=1), rtol=1e-4, atol=1e-4)


def test_a_map_of_many_windows_has_more_places_and_not_without_bound(network: EfficientNetLite) -> None:
    assert PhotoFeatures(network, (960, 1280), "texture", tiles=(3, 4)).grid == (60, 80)
    assert PhotoFeatures(network, (640, 640), "texture", tiles=(2, 2)).grid == (69, 69)
    assert PhotoFeatures(network, (640, 640), "texture").grid == (34, 34)
