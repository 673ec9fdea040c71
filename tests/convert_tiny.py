"""Converts models of transformers to GGUF by llama.cpp's own convert_hf_to_gguf.py: `convert_tiny.py CONVERTER_FOLDER FOLDER...`, each to FOLDER.gguf.

In a process of its own: the converter brings its own gguf package, whose names and layouts are those that ours are held against. Two things are given to
it: the config as it is in config.json, not as a newer transformers would write it, and the tokenizer (vocabulary.py), which is of no model that it knows.
"""

import json
import sys
import types
from pathlib import Path

converter_folder, *folders = map(Path, sys.argv[1:])
sys.path[:0] = [str(converter_folder / "gguf-py"), str(converter_folder)]
import transformers  # noqa: E402, F401 - before there is what it would take for the real one

# Imported by the converter, and not used: it would read a tokenizer.
sys.modules["sentencepiece"] = types.ModuleType("sentencepiece")
sys.modules["sentencepiece"].SentencePieceProcessor = None

import convert_hf_to_gguf as converter  # noqa: E402 - from the folder that was just named
import torch  # noqa: E402

from vocabulary import SCORES, TOKENS, TYPES  # noqa: E402


def set_vocab(model):
    writer = model.gguf_writer
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(TOKENS)
    writer.add_token_scores(SCORES)
    writer.add_token_types(TYPES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


with torch.inference_mode():
    for folder in folders:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        converter.ModelBase.load_hparams = staticmethod(lambda _, config=config: config)
        kind = converter.ModelBase.from_model_architecture(config["architectures"][0], model_type=converter.ModelType.TEXT)
        kind.set_vocab = set_vocab
        kind._create_vocab_sentencepiece = lambda _: (TOKENS, SCORES, TYPES)
        kind(folder, converter.gguf.LlamaFileType.ALL_F32, folder.with_suffix(".gguf")).write()
