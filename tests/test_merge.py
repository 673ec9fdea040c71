"""Merging: untouched tensors byte for byte, changed ones as a plain sum says, in each type that is offered; and what happens where the disk is full."""

from __future__ import annotations

import json
import os
import resource
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from conftest import Repo
from ollamake.digest import digest_bytes, digest_file
from ollamake.errors import BuildError
from ollamake.lora import quants
from ollamake.lora.adapter import LoraAdapter, Pair
from ollamake.lora.changes import KEEP, WEIGHTS_TYPES, Form, LoraSum
from ollamake.lora.gguf_file import GgufHead, read_head
from ollamake.lora.importance import read_importance
from ollamake.lora.in_order import AHEAD, Work, write_in_order
from ollamake.lora.merge import write_merged, write_merged_gguf
from ollamake.lora.tensor_file import BLOCK, PIECE
from ollamake.stages.known import LARGE, remember
from ollamake.state.digests import file_digest

libgguf = pytest.importorskip("libgguf", reason="libgguf has no wheel for this machine: K-quants are not written then")

Q, UP, ODD, EMBEDDING, NORM = "blk.0.attn_q.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight", "token_embd.weight", "output_norm.weight"
SHAPES = {
    EMBEDDING: (2300, 512),
    Q: (512, 512),
    UP: (1100, 512),
    ODD: (512, 96),
}  # rows, columns; EMBEDDING is of several pieces, UP of several blocks
RANK, SCALE = 3, 0.5
BASE_TYPES = [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_1, Type.Q5_0, Type.Q6_K, Type.Q5_K, Type.Q4_K]


def weights_in(kind: Type, columns: int) -> Type:
    """The type of a tensor of a base that is of this one: K-quants are of 256 columns."""
    return kind if columns % 256 == 0 or kind in {Type.F32, Type.F16, Type.BF16} else Type.Q8_0


def as_bytes(weights: NDArray[np.float32], kind: Type) -> bytes:
    """By the reference where it can, else by libgguf, the whole tensor at once."""
    try:
        return bytes(np.ascontiguousarray(gguf.quantize(weights, kind)).tobytes())
    except NotImplementedError:
        return bytes(libgguf.quantize_rows(weights, int(kind)).tobytes())


def write_base(path: Path, kind: Type) -> Path:
    chance = np.random.default_rng(5)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_array("general.languages", ["en"])
    for name, (rows, columns) in SHAPES.items():
        own = weights_in(kind, columns)
        few = chance.standard_normal((min(rows, 1100), columns), dtype=np.float32) / 20
        data = np.resize(np.frombuffer(as_bytes(few, own), dtype=np.uint8).reshape(len(few), -1), (rows, len(as_bytes(few[:1], own))))
        writer.add_tensor(name, data, raw_dtype=own)
    writer.add_tensor(NORM, chance.standard_normal(512, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Type], Path]:
    """A base of this type, to be read alone."""
    folder = tmp_path_factory.mktemp("bases")
    return cache(lambda kind: write_base(folder / f"{kind.name}.gguf", kind))


def adapter() -> LoraAdapter:
    chance = np.random.default_rng(6)
    pairs = []
    for name in (Q, UP, ODD):
        rows, columns = SHAPES[name]
        a, b = (chance.standard_normal(shape, dtype=np.float32) / 5 for shape in ((RANK, columns), (rows, RANK)))
        pairs.append(Pair(tensor=name, a=a, b=b, scale=SCALE))
    return LoraAdapter(alpha=RANK * SCALE, pairs=tuple(pairs))


def tensors(path: Path) -> dict[str, tuple[Type, bytes, NDArray[np.float32]]]:
    reader = gguf.GGUFReader(path)
    return {
        tensor.name: (tensor.tensor_type, tensor.data.tobytes(), np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        for tensor in reader.tensors
    }


@pytest.mark.parametrize(
    ("kind", "weights_type"), [*((kind, KEEP) for kind in BASE_TYPES), *product((Type.F16, Type.Q8_0, Type.Q4_K), WEIGHTS_TYPES)]
)
def test_a_merged_model_is_what_a_plain_sum_says(tmp_path: Path, base_of: Callable[[Type], Path], kind: Type, weights_type: str) -> None:
    assert SHAPES[UP][0] * SHAPES[UP][1] > 2 * BLOCK
    base, target = base_of(kind), tmp_path / "merged.gguf"
    digest = write_merged_gguf(base, read_head(base), adapter(), weights_type, target)
    assert digest == digest_file(target)
    before, after = tensors(base), tensors(target)
    assert list(before) == list(after)
    wanted = None if weights_type == KEEP else WEIGHTS_TYPES[weights_type]
    for pair in adapter().pairs:
        written, _, weights = after[pair.tensor]
        reference = before.pop(pair.tensor)
        # 96 columns are no whole blocks of 256: the next finer type is taken.
        own = reference[0] if wanted is None else wanted
        assert written == weights_in(own, pair.a.shape[1]), pair.tensor
        sum_of_both = reference[2] + np.float32(SCALE) * pair.b @ pair.a
        data = np.frombuffer(as_bytes(sum_of_both, written), dtype=np.uint8).reshape(len(sum_of_both), -1)
        best = np.asarray(gguf.dequantize(data.view({Type.F32: np.float32, Type.F16: np.float16}.get(written, np.uint8)), written), dtype=np.float32)
        # The sum may differ in its last bit, as it is made block by block, and so be rounded to the neighbouring step.
        assert np.abs(weights - sum_of_both).max() <= 1.2 * np.abs(best - sum_of_both).max() + 1e-6, pair.tensor
        assert (weights != best).mean() < 0.01, pair.tensor
    for name, (_, data, _) in before.items():
        assert after[name][1] == data, name
    old, new = gguf.GGUFReader(base), gguf.GGUFReader(target)
    assert {key: field.contents() for key, field in old.fields.items()} == {key: field.contents() for key, field in new.fields.items()}


def test_halves_are_read_as_numpy_reads_them() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16)
    read = quants.dequantized(halves.data.cast("B"), Type.F16, 256)
    np.testing.assert_array_equal(read.reshape(-1), halves.view(np.float16).astype(np.float32))
    read = quants.dequantized(halves.data.cast("B"), Type.BF16, 256)
    np.testing.assert_array_equal(read.reshape(-1).view(np.uint32) >> 16, halves)


def test_floats_are_rounded_as_numpy_rounds_them() -> None:
    """Ties, the least numbers, those that are too large, and infinity."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    between = (halves[:-1] + halves[1:]) / 2
    near = np.concatenate(
        [halves, between, np.nextafter(between, np.float32(0)), np.nextafter(between, np.float32(1e6)), [65519.9, 65520, 1e9, np.inf]]
    )
    weights = np.concatenate([near, -near]).astype(np.float32).reshape(2, -1)
    with np.errstate(over="ignore"):
        assert bytes(quants.quantized(weights, Type.F16)) == weights.astype(np.float16).tobytes()


def test_pieces_are_written_in_their_order_and_few_are_ahead(tmp_path: Path) -> None:
    running, most, lock = 0, 0, threading.Lock()
    asked = 0

    def work(number: int) -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002 * (number % 3))  # later ones are done before earlier ones
        with lock:
            running -= 1
        return bytes([number % 256]) * 100

    def pieces() -> Iterator[Callable[[], bytes]]:
        nonlocal asked
        for number in range(200):
            asked = number
            size = (tmp_path / "x").stat().st_size
            assert number <= size // 100 + AHEAD + 1
            yield Work(work, number) if number % 4 else lambda number=number: work(number)

    digest = write_in_order(pieces(), tmp_path / "x")
    content = b"".join(bytes([number % 256]) * 100 for number in range(200))
    assert (tmp_path / "x").read_bytes() == content
    assert digest == digest_bytes(content)
    assert asked == 199


def test_what_a_piece_raises_ends_the_writing(tmp_path: Path) -> None:
    def bad() -> bytes:
        msg = "no such tensor"
        raise BuildError(msg)

    made = []
    with pytest.raises(BuildError, match="no such tensor"):
        write_in_order((Work(bad) if number == 3 else Work(lambda: made.append(1) or b"x") for number in range(1000)), tmp_path / "x")
    assert len(made) < 100


def test_a_disk_that_is_full_is_said() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_in_order((Work(bytes, PIECE) for _ in range(100)), Path("/dev/full"))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may be larger: writing on fails, as it does on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_where_there_is_no_room_nothing_is_left_and_the_next_build_goes_on(repo: Repo) -> None:
    repo.replace("    data: [shared]\n", "    data: [shared]\n    serve: {weights: merged}\n")
    assert repo.doit("train:legal").code == 0
    with largest_file(30_000):
        result = repo.doit("package:legal")
    assert result.code == 1
    assert "package:legal failed:\nbuild/legal/merged.gguf can't be written: File too large\n  fix: " in result.out
    assert not [path.name for path in Path("build/legal").iterdir() if "gguf" in path.name or path.name == "served.json"]
    assert repo.doit("package:legal").ran == ["package:legal"]
    served = json.loads(Path("build/legal/served.json").read_text(encoding="utf-8"))
    assert served["files"] == {"merged.gguf": digest_file(Path("build/legal/merged.gguf"))}


def test_a_large_file_that_was_just_written_is_not_read_for_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, size in (("large", LARGE), ("small", LARGE - 1)):
        with Path(name).open("wb") as file:
            file.truncate(size)
        remember([name], "sha256:as it was written")
    assert file_digest("large") == "sha256:as it was written"
    assert file_digest("small") == digest_file(Path("small"))
    with Path("large").open("r+b") as file:
        file.write(b"x")
    assert file_digest("large") == digest_file(Path("large"))


def test_a_large_file_that_goes_meanwhile_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several models are packaged at once, and have links to one file."""
    monkeypatch.chdir(tmp_path)
    with Path("large").open("wb") as file:
        file.truncate(LARGE)
    os.link("large", "link")
    threading.Timer(0.05, Path("link").unlink).start()
    remember(["large", "link", "gone"], "sha256:as it was written")
    assert not Path("link").exists()
    assert file_digest("large") == digest_file(Path("large"))  # its times are others since


def test_a_base_that_is_one_of_several_files_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    content = tiny_base.read_bytes()
    key = struct.pack("<Q", 11) + b"split.count" + struct.pack("<IH", 2, 3)
    base = tmp_path / "tiny-00001-of-00003.gguf"
    base.write_bytes(content[:16] + struct.pack("<Q", read_head(tiny_base).key_count + 1) + key + content[24:])
    with pytest.raises(BuildError) as caught:
        write_merged_gguf(base, read_head(base), LoraAdapter(alpha=1.0, pairs=()), "q8_0", tmp_path / "merged.gguf")
    assert str(caught.value).startswith(f"{base}: one of 3 files of a model, which has a part of its tensors\n  fix: join them: ")


def test_a_type_that_needs_an_importance_matrix_is_not_kept_without(tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    writer = gguf.GGUFWriter(base, "llama")
    writer.add_block_count(1)
    writer.add_tensor(Q, np.zeros((512, 2 * 74), dtype=np.uint8), raw_dtype=Type.IQ2_XS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    pairs = tuple(pair for pair in adapter().pairs if pair.tensor == Q)
    head = read_head(base)
    with pytest.raises(BuildError) as caught:
        write_merged_gguf(base, head, LoraAdapter(alpha=1.0, pairs=pairs), KEEP, tmp_path / "merged.gguf")
    assert str(caught.value) == (
        f"tensor {Q!r} can't be written as IQ2_XS without an importance matrix\n  fix: write `weights_type: q8_0` in the model's `serve:`"
    )


def write_importance(path: Path, numbers: dict[str, NDArray[np.float32]]) -> Path:
    """As llama-imatrix does: GGUF, or, where it is asked for, its older format."""
    if path.suffix == ".dat":
        parts = [struct.pack("<i", len(numbers))]
        for name, some in numbers.items():
            parts += [struct.pack("<i", len(name)), name.encode(), struct.pack("<ii", 2, len(some)), (2 * some).astype("<f4").tobytes()]
        path.write_bytes(b"".join(parts))
        return path
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    for name, some in numbers.items():
        writer.add_tensor(f"{name}.in_sum2", (4 * some)[None])
        writer.add_tensor(f"{name}.counts", np.array([[4]], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", ["imatrix.gguf", "imatrix.dat"])
def test_columns_that_count_more_are_written_more_exactly(tmp_path: Path, base_of: Callable[[Type], Path], name: str) -> None:
    base = base_of(Type.F16)
    head = read_head(base)
    counts = np.where(np.arange(512) % 8 == 0, 1000, 1).astype(np.float32)
    importance = read_importance(write_importance(tmp_path / name, {Q: counts, UP: counts}), head)
    np.testing.assert_array_equal(importance[Q], counts)
    errors = []
    for some in ({}, importance):
        write_merged(base, head, LoraSum(adapter()), Form(weights_type="q4_k", importance=some), tmp_path / "merged.gguf")
        pair = adapter().pairs[0]
        wanted = tensors(base)[Q][2] + np.float32(SCALE) * pair.b @ pair.a
        errors.append(np.abs(tensors(tmp_path / "merged.gguf")[Q][2] - wanted)[:, ::8].mean())
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"blk.9.attn_q.weight": np.ones(512)}, "it is of no tensor that the base has"),
        ({Q: np.ones(64)}, f"tensor {Q!r} has 64 columns, where that of the base has 512"),
        ({Q: np.full(512, np.nan)}, f"tensor {Q!r} holds negative, NaN or infinite numbers"),
    ],
)
def test_an_importance_matrix_of_another_model_is_refused(
    tmp_path: Path, base_of: Callable[[Type], Path], numbers: dict[str, Any], said: str
) -> None:
    path = write_importance(tmp_path / "imatrix.gguf", {name: some.astype(np.float32) for name, some in numbers.items()})
    head = read_head(base_of(Type.F16))
    with pytest.raises(BuildError) as caught:
        read_importance(path, head)
    assert str(caught.value).startswith(f"{path}: {said}\n  fix: make it of this base with llama.cpp's llama-imatrix")


def test_what_is_no_importance_matrix_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    head: GgufHead = read_head(tiny_base)
    for content in (b"", b"GGUF\3\0", b"\xff" * 40, b"<!DOCTYPE html>"):
        path = tmp_path / "imatrix.dat"
        path.write_bytes(content)
        with pytest.raises(BuildError, match="not an importance matrix"):
            read_importance(path, head)


def test_another_importance_matrix_only_packages_again(repo: Repo) -> None:
    ones = {"blk.0.attn_q.weight": np.ones(64, dtype=np.float32)}
    write_importance(repo.path / "imatrix.gguf", ones)
    repo.replace("    data: [shared]\n", "    data: [shared]\n    serve: {weights: merged, weights_type: keep, imatrix: imatrix.gguf}\n")
    assert "package:legal" in repo.doit("package:legal").ran
    assert repo.doit("package:legal").ran == []
    write_importance(repo.path / "imatrix.gguf", {name: 2 * numbers for name, numbers in ones.items()})
    assert repo.doit("package:legal").ran == ["package:legal"]
    (repo.path / "imatrix.gguf").unlink()
    result = repo.doit("package:legal")
    assert result.code != 0
    assert "imatrix.gguf" in result.out + result.err
