"""Load any open_clip ViT as a DenseCLIP, and write checkpoints that carry their own config."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..core.files import data_dir, whole_file
from ..core.lookup import check_options, nearest
from .model import DenseCLIP
from .stem import Stem
from .templates import COLLAGE_TEMPLATES, imagenet_templates

if TYPE_CHECKING:
    from open_clip.model import CLIP

FORMAT = "infoclip-lite-clip-2"  # of checkpoints that carry their own config, in their metadata
Card = dict[str, Any]  # scores and provenance as JSON has them, nested


def load_clip(
    name: str = "collage-mini",
    pretrained: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    quick_gelu: bool | None = None,
) -> DenseCLIP:
    """A CLIP with a dense read-out, in evaluation mode.

    Args:
        name: "collage-mini", which ships with the package; an open_clip model name such as
            "ViT-B-16-quickgelu"; or the path of a checkpoint written by `save_clip`.
        pretrained: an open_clip tag ("openai", "laion2b_s34b_b88k", ...), the path of a checkpoint,
            or None for random weights.
        device: where to put it.
        quick_gelu: the activation a checkpoint file was trained with
            (True for OpenAI, MetaCLIP and DFN), needed when `pretrained` is a file that does not say.

    Returns:
        The model, its weights in float32.

    Raises:
        ValueError: unknown name or tag, an image tower that is no ViT, an activation other than
            the weights were trained with, or a checkpoint that is damaged or of another architecture.
        FileNotFoundError: no such checkpoint.
        ConnectionError: the weights are on open_clip's hub and it cannot be reached.
    """
    own = str(name).endswith(".safetensors") or "/" in str(name) and Path(name).exists()
    if name == "collage-mini" or own:
        for option, value in (("pretrained", pretrained), ("quick_gelu", quick_gelu)):
            if value is not None:
                raise ValueError(
                    f"{name} carries its weights and says how they compute; "
                    f"got {option}={str(value)!r}, expected None (or another model's name)"
                )
        clip = _load_own(Path(name) if own else data_dir() / "checkpoints" / "collage-mini.safetensors")
    else:
        clip = _load_open_clip(name, pretrained, quick_gelu)
    return clip.to(device).eval()


def save_clip(clip: DenseCLIP, path: Path, config: Mapping[str, object], *, card: Card | None = None) -> None:
    """Write weights in half precision with config and card; token embeddings only
    of the words in `clip.known_tokens`.

    Args:
        clip: the model.
        path: a .safetensors file, written whole or not at all.
        config: what rebuilds it: {"model": open_clip config, "stem": options of
            `Stem` or None, "mean", "std", "name", "read_out": names of the dense read-outs to average}.
        card: scores and provenance, JSON.

    Raises:
        ValueError: a weight that is not finite in half precision; says which.
    """
    # The file ships with the package: half precision halves it.
    state = {k: v.detach().half().contiguous() for k, v in clip.model.state_dict().items()}
    if clip.known_tokens is not None:
        # Of 49,408 token embeddings captions use some hundreds; the rest never learnt anything.
        known = clip.known_tokens.cpu()
        state["token_embedding.weight"] = state["token_embedding.weight"][known].clone()
        state["token_ids"] = known.to(torch.int32)
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f"{broken[0]} is not finite in half precision; expected weights of a sound training")
    metadata = {"format": FORMAT, "config": json.dumps(config), "card": json.dumps(card or {})}
    with whole_file(Path(path)) as scratch:
        scratch.write_bytes(save(state, metadata))


def read_card(path: Path | None = None) -> Card:
    """Scores and provenance of a checkpoint written by `save_clip`.

    Args:
        path: the checkpoint; None is collage-mini's.

    Returns:
        The card, as JSON had it.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: a file that is damaged, or was not written by `save_clip`.
    """
    return json.loads(_open(path or data_dir() / "checkpoints" / "collage-mini.safetensors")[1]["card"])


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.exists():
        raise FileNotFoundError(
            f"no checkpoint {path}; expected a .safetensors file written by infoclip-lite"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(
            f"{path} cannot be read as safetensors ({error}); "
            "it is truncated or another kind of file: copy it again"
        ) from error
    if metadata.get("format") == "infoclip-lite-clip-1":
        raise ValueError(
            f"{path} is a checkpoint of the first format, from before the model had a stem; "
            "expected one of this version: pretrain it again with `infoclip-lite pretrain`"
        )
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} carries no infoclip-lite config; for plain weights name their architecture too: "
            f'load_clip("ViT-B-16-quickgelu", pretrained="{path}", quick_gelu=True)'
        )
    return state, metadata


def _load_own(path: Path) -> DenseCLIP:
    import open_clip  # here: it takes seconds to load

    state, metadata = _open(path)
    config = json.loads(metadata["config"])
    model = build_clip(config["model"], config.get("stem"))
    known = None
    if "token_ids" in state:
        known = state.pop("token_ids").long()
        # Words that the model never saw get zeros; DenseCLIP warns of them by `known_tokens`.
        table = torch.zeros(model.token_embedding.weight.shape, dtype=torch.float16)
        table[known] = state["token_embedding.weight"]
        state["token_embedding.weight"] = table
    _fill(model, state, str(path))
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    return DenseCLIP(
        model,
        tokenizer,
        mean=config["mean"],
        std=config["std"],
        name=config["name"],
        templates=COLLAGE_TEMPLATES,
        read_outs=config["read_out"],
        known_tokens=known,
    )


def build_clip(model: Mapping[str, Any], stem: Mapping[str, Any] | None) -> CLIP:
    """An open_clip model with random weights from torch's global generator; its stem's trunk is empty.

    Args:
        model: open_clip's config.
        stem: options of `Stem`; None leaves the patch embedding as it is.

    Raises:
        ValueError: unknown options of the stem, or one whose patches are not the config's.
    """
    from open_clip.model import CLIP  # here: it takes seconds to load

    clip = CLIP(**model)
    if stem is None:
        return clip
    check_options(Stem, stem, "stem", 1)
    trunk = Stem(clip.visual.conv1.out_channels, **stem)
    if trunk.kernel_size != clip.visual.conv1.kernel_size:
        got, expected = trunk.kernel_size[0], clip.visual.conv1.kernel_size[0]
        raise ValueError(
            f"the stem has patches of {got} pixels, the model's config says {expected}; change `enlarge`"
        )
    clip.visual.conv1 = trunk
    return clip


def _load_open_clip(name: str, pretrained: str | Path | None, quick_gelu: bool | None) -> DenseCLIP:
    import open_clip  # here: it takes seconds to load

    config = open_clip.get_model_config(name)
    if config is None:
        hint = nearest(name, [*open_clip.list_models(), "collage-mini"])
        meant = f"; {hint}" if hint.startswith("did") else ""  # else it would be a list of a hundred
        raise ValueError(
            f"unknown model {name!r}; expected collage-mini or a model of open_clip.list_models(){meant}"
        )
    # By its ending too: a path with a slip in it is a missing file, and not an unknown tag.
    is_file = pretrained is not None and (
        Path(pretrained).is_file() or Path(pretrained).suffix in {".pt", ".pth", ".bin", ".safetensors"}
    )
    # Weights load into a model with the other activation without a complaint, and are then a little
    # wrong everywhere; for a file open_clip says nothing of it.
    trained_quick = quick_gelu
    if is_file:
        if not Path(str(pretrained)).is_file():
            raise FileNotFoundError(f"no checkpoint {pretrained}; expected a file, or an open_clip tag")
        state, says = _read_weights(Path(str(pretrained)))
        trained_quick = says if quick_gelu is None else quick_gelu
        if trained_quick is None:
            raise ValueError(
                f"{pretrained} does not say which activation it was trained with; "
                "pass quick_gelu=True (OpenAI, MetaCLIP, DFN) or False"
            )
    elif pretrained is not None:
        tags = open_clip.list_pretrained_tags_by_model(name)
        if pretrained not in tags:
            raise ValueError(
                f"unknown tag {pretrained!r} for {name}; "
                f"expected one of {', '.join(tags) or 'none: it has no weights'}"
            )
        trained_quick = bool(open_clip.get_pretrained_cfg(name, str(pretrained)).get("quick_gelu", False))
    if trained_quick is not None and trained_quick != bool(config.get("quick_gelu", False)):
        trained, computes = ("QuickGELU", "GELU") if trained_quick else ("GELU", "QuickGELU")
        other = f"{name}-quickgelu" if trained_quick else name.removesuffix("-quickgelu")
        raise ValueError(
            f"{pretrained} was trained with {trained} and {name} computes {computes}; "
            f"expected the same: use {other!r}"
        )
    model = _build(name, None if is_file else pretrained)
    if is_file:
        _fill(model, state, str(pretrained))
    # Newer versions of open_clip keep the statistics in `preprocess_cfg`, older ones as two attributes.
    visual = model.visual
    preprocess = getattr(visual, "preprocess_cfg", {})
    mean = preprocess.get("mean") or getattr(visual, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN
    std = preprocess.get("std") or getattr(visual, "image_std", None) or open_clip.OPENAI_DATASET_STD
    label = f"{name}/{pretrained}" if pretrained else name
    return DenseCLIP(
        model, open_clip.get_tokenizer(name), mean=mean, std=std, name=label, templates=imagenet_templates()
    )


def _build(name: str, tag: str | Path | None) -> nn.Module:
    import open_clip  # here: it takes seconds to load

    try:
        return open_clip.create_model(name, pretrained=tag)
    # The hub's client has a dozen kinds of network error, and open_clip wraps some.
    except Exception as error:
        if tag is None:
            raise
        raise ConnectionError(
            f"could not get {name}/{tag} from open_clip's hub ({type(error).__name__}: "
            f"{str(error)[:200]}); connect once to fill the cache, "
            "give the path of a checkpoint, or work offline with load_clip('collage-mini')"
        ) from error


def _read_weights(path: Path) -> tuple[dict[str, Tensor], bool | None]:
    """The state dict of a file, and whether it was trained with QuickGELU (None: the file does not say)."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(
                f"{path} cannot be read as safetensors ({error}); it is truncated or another kind of file"
            ) from error
        config = json.loads(metadata["config"])["model"] if metadata.get("format") == FORMAT else {}
        return state, bool(config.get("quick_gelu", False)) if config else None
    try:
        # OpenAI's own files are TorchScript archives, which torch.load refuses under weights_only;
        # what tells them from other archives of torch is the file of the script's constants.
        scripted = zipfile.is_zipfile(path) and any(
            name.endswith("/constants.pkl") for name in zipfile.ZipFile(path).namelist()
        )
        if scripted:
            state = torch.jit.load(path, map_location="cpu").state_dict()
            # Three numbers of the script stand among the weights.
            numbers = ("input_resolution", "context_length", "vocab_size")
            return {name: value for name, value in state.items() if name not in numbers}, True
    except Exception as error:
        raise _unreadable(path, error) from error
    # Weights that were saved from a DistributedDataParallel have its prefix.
    return {k.removeprefix("module."): v for k, v in read_pickle(path, "state_dict").items()}, None


def read_pickle(path: Path, key: str) -> dict[str, Tensor]:
    """The state dict of a torch pickle, read with weights_only.

    Args:
        path: the file.
        key: where in it the state dict may be; without that key the file is the state dict itself.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ValueError: a file that cannot be read or holds no state dict.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unreadable(path, error) from error
    state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise ValueError(
            f"{path} holds no state dict; expected tensors by name, or a dict with them under {key!r}"
        )
    return state


def _unreadable(path: Path, error: Exception) -> ValueError:
    """What to raise for a damaged file; torch.load itself raises whatever the damage happens to break."""
    return ValueError(
        f"{path} cannot be read as a checkpoint ({type(error).__name__}); "
        "it is truncated or another kind of file"
    )


def _fill(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load `state`, or say in one line how it differs from the architecture."""
    # load_state_dict would list hundreds of keys; the first that differs says as much.
    expected = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    got = {k: tuple(v.shape) for k, v in state.items()}
    wrong = [f"{k} is {got[k]}, expected {s}" for k, s in expected.items() if k in got and got[k] != s]
    missing, extra = sorted(expected.keys() - got.keys()), sorted(got.keys() - expected.keys())
    if wrong or missing or extra:
        first = (wrong + [f"no {k}" for k in missing] + [f"unexpected {k}" for k in extra])[0]
        raise ValueError(
            f"{source} is of another architecture: {len(wrong)} tensors of another shape, "
            f"{len(missing)} missing, {len(extra)} unexpected ({first})"
        )
    model.load_state_dict(state)
