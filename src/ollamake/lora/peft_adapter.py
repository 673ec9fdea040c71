"""A PEFT directory, held against the base that it shall be served with.

Nothing is carried that is not understood: several malformed adapters crash Ollama, or load as the plain base, so each is refused here by
the name of its tensor.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from ollamake.digest import pointed_to
from ollamake.errors import BuildError
from ollamake.lora.adapter import Examined, LoraAdapter, Matrix, Named, Pair, shape_fault, side_fault, zero_verdicts
from ollamake.lora.architecture import Architecture, module_name
from ollamake.lora.peft_claims import base_verdicts, target_verdicts
from ollamake.lora.peft_config import CONFIG, DEFAULTS, PICKLE, PLAIN, WEIGHTS, config_verdicts, rank_of, read_config, scale_of
from ollamake.lora.verdict import CARRIED, REFUSED, WARNING, Verdict, as_verdict, is_factor, of_kind

__all__ = ["CONFIG", "WEIGHTS", "examined_peft", "read_peft_adapter", "refuse_pickle_beside"]

_LORA_TENSOR = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.(?P<side>lora_[AB])(?:\.default)?\.weight$")
# peft saves these two, as they are in the base, beside a LoRA on one of them.
_COPY = re.compile(r"^(?:base_model\.model\.)?(?P<module>lm_head|model\.embed_tokens)(?:\.base_layer)?\.weight$")
# What else peft saves, by parts of the tensors' names.
_OTHERS = {
    "lora_magnitude_vector": "the magnitudes of DoRA",
    "lora_embedding_": "a LoRA on an embedding",
    ".bias": "a bias",
    "modules_to_save": "a module that was trained whole",
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "prompt_embeddings": "a prompt that was tuned",
    "vblora_": "a VB-LoRA",
    "vera_": "a VeRA",
    "oft_": "an OFT",
    "ia3_": "an IA3",
}

_FLOATS: dict[str, type[np.generic]] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
# Reads numbers alone: what else a pickle may do, `weights_only` refuses.
_CONVERTS = (
    "import sys, torch; from safetensors.torch import save_file; "
    "save_file({name: tensor.clone().contiguous() for name, tensor in torch.load(sys.argv[1], map_location='cpu', weights_only=True).items()}, sys.argv[2])"
)


def read_peft_adapter(folder: Path, architecture: Architecture, base: str | None = None) -> LoraAdapter:
    """The adapter in this folder, all of its tensors for tensors of the base. Raises BuildError with everything that is refused.

    `base`: what the base is called on Hugging Face.
    """
    return examined_peft(folder, architecture, base).adapter(architecture)


def examined_peft(folder: Path, architecture: Architecture, base: str | None = None) -> Examined:
    """All that is found of the adapter in this folder, for a base of this architecture. Raises nothing: what can't be read is refused as well."""
    return _Examination(folder, architecture).examined(base)


class _Examination:
    """The verdicts on one folder, as they come up."""

    def __init__(self, folder: Path, architecture: Architecture) -> None:
        self.folder = folder
        self.architecture = architecture
        self.shapes = {tensor.name: tensor.shape for tensor in architecture.head.tensors}
        self.verdicts: list[Verdict] = []
        self.modules: dict[str, dict[str, Named]] = {}  # as the language model alone calls them
        self.called: dict[str, str] = {}  # module -> as the file calls it
        self.broken: set[str] = set()  # modules of which a side can't be read: the other one lacks nothing more

    def examined(self, base: str | None) -> Examined:
        """All of it."""
        config = self.read_config()
        is_config_right = bool(config) and not of_kind(REFUSED, self.verdicts)
        if config:
            self.verdicts += base_verdicts(config, base, self.folder)
        has_tensors = self.read_tensors(config)
        pairs = {
            sides["lora_B"][0]: pair
            for module, sides in self.modules.items()
            if (pair := self.pair(module, sides, config if is_config_right else {})) is not None
        }
        self.verdicts += zero_verdicts(pairs, str(self.folder))
        if has_tensors and is_config_right:
            self.verdicts += target_verdicts(config, [self.called[module] for module in self.modules], self.architecture, self.folder)
        return Examined(
            verdicts=tuple(self.verdicts),
            alpha=float(config.get("lora_alpha", DEFAULTS["lora_alpha"])) if is_config_right else 0.0,
            pairs=tuple(pairs.values()),
        )

    def refuse(self, what: str, text: str, fix: str) -> None:
        """Add that this is not carried."""
        self.verdicts.append(Verdict(kind=REFUSED, what=what, text=text, file=str(self.folder), fix=fix))

    def read_config(self) -> dict[str, Any]:
        """The config; empty where it can't be read."""
        path = self.folder / CONFIG
        try:
            config = read_config(path)
        except BuildError as error:
            self.verdicts.append(as_verdict(error, str(path)))
            return {}
        self.verdicts += config_verdicts(config, self.folder)
        return config

    def read_tensors(self, config: Mapping[str, Any]) -> bool:
        """Sort the tensors of the file to their modules. Are there some?"""
        path = self.folder / WEIGHTS
        try:
            found = _tensors(path)
        except BuildError as error:
            self.verdicts.append(as_verdict(error, str(path), str(path.with_name(PICKLE))))
            return False
        if not found:
            self.refuse(WEIGHTS, f"{WEIGHTS} holds no tensor", "train or fetch the adapter again")
        for name, tensor in sorted(found.items()):
            match = _LORA_TENSOR.match(name)
            if match is None and self.is_copy(name, tensor, config):
                text = f"tensor {name!r} is taken for the base's own, as peft saves it beside a LoRA on lm_head; it is left out"
                self.verdicts.append(Verdict(kind=WARNING, what=name, text=text, file=str(self.folder)))
                continue
            if match is None:
                kind = next((what for part, what in _OTHERS.items() if part in name), None)
                self.refuse(name, f"tensor {name!r} is none of a plain LoRA's{f': {kind}' if kind else ''}", PLAIN)
                continue
            module = module_name(match["module"])
            self.called[module] = match["module"]
            numbers = self.numbers(name, tensor)
            if numbers is None:
                self.broken.add(module)
                continue
            sides = self.modules.setdefault(module, {})
            if match["side"] in sides:
                self.refuse(name, f"tensors {sides[match['side']][0]!r} and {name!r} are of one layer", "save the adapter again, alone")
            sides[match["side"]] = (name, numbers)
        return bool(found)

    def numbers(self, name: str, tensor: Mapping[str, Any]) -> Matrix | None:
        """The weights in a tensor; None where they are none, which is refused."""
        if tensor["dtype"] not in _FLOATS:
            self.refuse(name, f"tensor {name!r} is {tensor['dtype']}, not floats", "save the adapter in float32, float16 or bfloat16")
            return None
        numbers = _float32(tensor)
        if np.isfinite(numbers).all():
            return numbers
        fix = "train it again, with a lower learning rate: its training has diverged"
        self.refuse(name, f"tensor {name!r} holds NaN or infinite numbers", fix)
        return None

    def is_copy(self, name: str, tensor: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
        """Is this a weight of the base itself, for all that can be told by its size and the config?"""
        match = _COPY.match(name)
        if match is None or not config or config.get("modules_to_save"):
            return False
        stored = self.shapes.get(self.architecture.stored(match["module"]) or "")
        return stored is not None and stored[::-1] == tuple(tensor["shape"])

    def pair(self, module: str, sides: Mapping[str, Named], config: Mapping[str, Any]) -> Pair | None:
        """A module's LoRA, where nothing is wrong with it; without a config its scale is not known."""
        if module in self.broken:
            return None
        called, tensor = self.called[module], self.architecture.tensor_name(module)
        fault = side_fault(sides, "lora_A", "lora_B")
        if fault is not None:
            self.refuse(next(iter(sides.values()))[0], fault, "train or fetch the adapter again: its file is not whole")
            return None
        a, b = sides["lora_A"], sides["lora_B"]
        if tensor is None or tensor not in self.shapes:
            self.refuse(a[0], f"tensor {a[0]!r}: the base has no module {called!r} that takes a LoRA", self.without(module))
            return None
        fault = shape_fault(a, b, tensor, self.shapes[tensor])
        if fault is not None:
            self.refuse(a[0], fault, "give the base that it was trained on")
            return None
        rank = a[1].shape[0]
        if config and rank != rank_of(config, called):
            text = f"tensor {a[0]!r} has rank {rank}, where the config has r {rank_of(config, called)!r}"
            self.refuse(a[0], text, f"write the r, and the rank_pattern, that it was trained with into {CONFIG}")
            return None
        scale = scale_of(config, called, rank) if config else 1.0
        ratio = scale * rank / float(config.get("lora_alpha", DEFAULTS["lora_alpha"])) if config else 1.0  # by which a GGUF LoRA has B
        largest = max(scale, -scale, ratio, -ratio) * max(1.0, float(np.abs(b[1]).max()))
        if not (is_factor(scale) and is_factor(ratio) and is_factor(largest)):
            self.refuse(a[0], f"tensor {a[0]!r} has scale {scale:g}, which a float32 can't hold, or can't with its B", f"mend the alphas in {CONFIG}")
            return None
        text = f"{called}: rank {rank}, scale {scale:g}, on {tensor}"
        self.verdicts.append(Verdict(kind=CARRIED, what=called, text=text, file=str(self.folder)))
        return Pair(tensor=tensor, a=a[1], b=self.architecture.in_file_order(tensor, b[1]), scale=scale)

    def without(self, module: str) -> str:
        """What to do where a module takes no LoRA."""
        if module == "lm_head":
            return "train without lm_head: in this base, embedding and output layer are one matrix, which can't be changed for one of them alone"
        return PLAIN


def refuse_pickle_beside(weights: Path) -> None:
    """Raise BuildError where the weights that are missing are there as a pickle; says the command that converts it."""
    pickle = weights.with_name(PICKLE)
    if pickle.exists():
        msg = f"{pickle}: a pickle, which may run any program when it is loaded: it is never loaded"
        raise BuildError(msg, fix=f"convert it; this loads numbers alone: python -c {shlex.join([_CONVERTS, str(pickle), str(weights)])}")


def _tensors(path: Path) -> dict[str, Mapping[str, Any]]:
    content = b""
    try:
        content = path.read_bytes()
        found: list[tuple[str, dict[str, Any]]] = deserialize(content)  # type: ignore[no-untyped-call]  # safetensors types its other calls
    except (FileNotFoundError, NotADirectoryError):
        refuse_pickle_beside(path)
        msg = f"{path}: no such file"
        raise BuildError(msg, fix=f"give a PEFT directory: {CONFIG} and {WEIGHTS}") from None
    except (OSError, SafetensorError) as error:
        what, fix = f"not a whole safetensors file: {error}", "train or fetch the adapter again"
        if pointed_to(content) is not None:
            what, fix = "a pointer of git-lfs, in the place of the weights", "`git lfs pull`"
        msg = f"{path}: {what}"
        raise BuildError(msg, fix=fix) from error
    return dict(found)


def _float32(tensor: Mapping[str, Any]) -> Matrix:
    numbers = np.frombuffer(tensor["data"], dtype=_FLOATS[tensor["dtype"]]).reshape(tensor["shape"])
    if tensor["dtype"] == "BF16":  # the upper half of a float32
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # of float64, to infinity: told of as that
        return np.asarray(numbers, dtype=np.float32)
