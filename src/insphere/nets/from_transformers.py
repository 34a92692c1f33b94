"""Vision backbones of the package `transformers` as frozen networks: from a folder on this machine, never from the network."""

import contextlib
import dataclasses
import hashlib
import json
import math
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from insphere.errors import MissingDependencyError, ModelFileError, ParameterError
from insphere.nets.staged import AbstractStagedNetwork, Stage, usual_roles

_PROBED = 224  # pixels: the side of the picture by which strides are found
_LARGEST = 2**16  # of any number in a configuration
_MOST_ENTRIES = 256  # of any list in it, and blocks of a network
_FRESH = "hidden_states_norms."  # norms that a backbone adds to a model, and which begin as the identity
_NOT_ABOUT_SHAPE = ("transformers_version", "architectures", "dtype", "torch_dtype", "auto_map", "_name_or_path", "id2label", "label2id")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SILENT = 50  # level above all that is logged
_OWN = "backbone."
_ONE_AT_A_TIME = threading.Lock()  # these networks keep what they collect of a pass where another thread's would come between


@dataclasses.dataclass(frozen=True)
class Vision:
    """A backbone of `transformers` and how pixels are scaled for it.

    Parameters
    ----------
    config : mapping
        Its configuration, JSON-able; `model_type` names its kind.
    mean, spread : tuple of three float
        Of pixels in [0, 1], by channel.
    """

    config: Mapping[str, Any]
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    def __post_init__(self) -> None:
        _check(self.config, "config")
        if not isinstance(self.config.get("model_type"), str):
            raise ModelFileError("The stored network has no `model_type`; save the detector again.")
        for values in (self.mean, self.spread):
            if len(values) != 3 or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
                raise ModelFileError("The stored network's scaling of pixels must be three numbers; save the detector again.")


class VisionNetwork(AbstractStagedNetwork):
    """A backbone of `transformers`, from pixels to one feature map a stage.

    Parameters
    ----------
    vision : Vision
    weights : mapping of str to Tensor
        All floating weights of the backbone, by its own names after "backbone.".

    Raises
    ------
    RuntimeError
        If the weights do not fit the configuration.
    MissingDependencyError, ParameterError
        If the package is missing, or has no such backbone.
    """

    def __init__(self, vision: Vision, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        kind, config = _kind_of(vision.config)
        weights = {name.removeprefix(_OWN): value for name, value in weights.items()}
        with _quiet():
            with torch.device("meta"):  # where nothing is allocated: the sizes of the weights decide about memory
                _load(kind._from_config(config, attn_implementation="eager"), weights, assign=True)
            self.backbone: nn.Module = kind._from_config(config, attn_implementation="eager").eval()
        _load(self.backbone, weights, assign=False)
        self.patch = int(config.patch_size) if isinstance(getattr(config, "patch_size", None), int) else 1
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", 255 * torch.tensor(vision.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", 255 * torch.tensor(vision.spread).reshape(1, 3, 1, 1), persistent=False)
        with torch.inference_mode():
            probed = self(torch.zeros(1, 3, _PROBED, _PROBED))
        self.outputs = tuple(
            Stage(name, max(1, round(_PROBED / int(output.shape[2]))), int(output.shape[1]))
            for name, output in zip(config.out_features, probed, strict=True)
        )
        self.roles = usual_roles(self.outputs)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map pixels (n, 3, height, width), 0..255, to the output of each stage; sides are brought to whole patches first."""
        sides = [max(1, round(int(side) / self.patch)) * self.patch for side in x.shape[2:]]
        if sides != [int(side) for side in x.shape[2:]]:
            x = functional.interpolate(x, size=sides, mode="bilinear", align_corners=False)
        with _ONE_AT_A_TIME:
            return list(self.backbone((x - self.mean) / self.spread).feature_maps)


def read_vision(name: str) -> tuple[Vision, dict[str, Tensor], str]:
    """Return a backbone from a folder, or from what `hf download` has put on this machine, with its weights and their SHA-256.

    Parameters
    ----------
    name : str
        A folder with config.json and model.safetensors, or the name of a repository.

    Raises
    ------
    MissingDependencyError
        If `transformers` is not installed.
    ParameterError
        If there is no such backbone on this machine, or it lacks weights.
    """
    transformers = _package()
    folder = _folder_of(name)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ParameterError(
            f"`backbone`: {folder} has no backbone of transformers in it ({_first_line(error)}); give a folder with config.json and"
            " model.safetensors."
        ) from error
    kind, config = _kind_of(config.to_diff_dict())
    try:
        with _quiet():
            network, told = kind.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation="eager",
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise ParameterError(
            f"`backbone`: the weights of {name} cannot be read ({_first_line(error)}); they must be a safetensors file that fits its"
            " config.json."
        ) from error
    missing = sorted(key for key in told["missing_keys"] if not key.startswith(_FRESH))
    if missing:
        raise ParameterError(f"`backbone`: {name} lacks {len(missing)} weights of a {kind.__name__} ({missing[0]}, …); take another one.")
    weights = {f"{_OWN}{key}": value.half() for key, value in network.state_dict().items() if value.is_floating_point()}
    mean, spread = _scaling_of(folder)
    kept = {key: value for key, value in config.to_diff_dict().items() if key not in _NOT_ABOUT_SHAPE}
    return Vision(json.loads(json.dumps(kept)), mean, spread), weights, _digest(weights)


def _package() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            "Backbones called hf:… need the package transformers, which is not installed; install it with `pip install 'insphere[hf]'`."
        ) from error
    return transformers


def _kind_of(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the class of a backbone and its configuration, with all stages but the stem for output."""
    transformers = _package()
    from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

    model_type = config.get("model_type")
    if model_type not in transformers.CONFIG_MAPPING:
        raise ParameterError(f"`backbone`: this version of transformers knows no {model_type!r}; install a newer one.")
    of_kind = transformers.CONFIG_MAPPING[model_type]
    if of_kind not in MODEL_FOR_BACKBONE_MAPPING or model_type == "timm_backbone":
        raise ParameterError(
            f"`backbone`: a {model_type!r} is not a vision backbone of transformers; take one that is: a ConvNeXt, DINOv2, ResNet, Swin, …"
        )
    left_out = (*_NOT_ABOUT_SHAPE, "model_type", "out_features", "out_indices", "stage_names")
    made = of_kind(**{name: value for name, value in config.items() if name not in left_out})
    made.out_features = list(made.stage_names[1:])
    return MODEL_FOR_BACKBONE_MAPPING[of_kind], made


def _load(network: nn.Module, weights: Mapping[str, Tensor], *, assign: bool) -> None:
    wanted = {name for name, value in network.state_dict().items() if value.is_floating_point()}
    if wanted != set(weights):
        raise RuntimeError(f"{len(wanted ^ set(weights))} weights are missing or too many, {min(wanted ^ set(weights))} among them")
    network.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False, assign=assign)


def _folder_of(name: str) -> Path:
    """Return the folder of a backbone: itself, or where what was downloaded of a repository lies."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"`backbone`: hf:{name} is neither a folder nor on this machine already; run `hf download {name}` first, or give a folder."
            " Nothing is downloaded by itself."
        ) from error


def _scaling_of(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and spread of pixels as the backbone's own file says, those of ImageNet where there is none."""
    path = folder / "preprocessor_config.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return tuple(told.get("image_mean", _IMAGENET[0])), tuple(told.get("image_std", _IMAGENET[1]))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the package's progress and reports to itself, and leave PyTorch's random state as it was."""
    from transformers.utils import logging as of_package

    logging: Any = of_package
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity(_SILENT)
        logging.disable_progress_bar()
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _check(value: Any, where: str) -> None:
    """Refuse a configuration with numbers or lists beyond all networks: building it would take all memory or time."""
    if isinstance(value, Mapping):
        for name, entry in value.items():
            _check(entry, f"{where}.{name}")
            is_depth = "layers" in name or name == "depths"
            if is_depth and sum(entry if isinstance(entry, list) else [entry or 0]) > _MOST_ENTRIES:
                raise ModelFileError(f"The stored network's {where}.{name} is beyond all networks; save the detector again.")
    elif isinstance(value, list):
        if len(value) > _MOST_ENTRIES:
            raise ModelFileError(f"The stored network's {where} has {len(value)} entries; save the detector again.")
        for entry in value:
            _check(entry, where)
    elif isinstance(value, int | float) and not abs(value) <= _LARGEST:
        raise ModelFileError(f"The stored network's {where} is {value}, which is beyond all networks; save the detector again.")


def _digest(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:160] if text else type(error).__name__
