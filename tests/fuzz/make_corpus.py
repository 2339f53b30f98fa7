#!/usr/bin/env python3
"""Writes the seeds of tests/fuzz/corpus: small, valid or nearly valid inputs of every kind that a target reads.

Inputs that broke something once are there too, named found-*, and stay. Needs Pillow; the result is committed.
"""

import io
import json
import pathlib
import shutil
import struct
import zlib

from PIL import Image

HERE = pathlib.Path(__file__).parent
CORPUS = HERE / "corpus"
IMAGES = HERE.parent / "train" / "fixtures" / "images"

VIT = {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
       "intermediate_size": 24, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0,
       "initializer_range": 0.02, "layer_norm_eps": 1e-12, "image_size": 16, "patch_size": 8, "num_channels": 3,
       "qkv_bias": True}
BERT = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 24, "hidden_act": "gelu", "vocab_size": 99, "max_position_embeddings": 32,
        "type_vocab_size": 2, "pad_token_id": 0, "position_embedding_type": "absolute"}
LABELS = {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}


def seed(target, name, content):
    if not isinstance(content, (str, bytes)):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode()
    (CORPUS / target / name).write_bytes(content)


def make_json():
    seed("json", "vit", VIT)
    seed("json", "bert", BERT)
    seed("json", "vit-labels", VIT | LABELS | {"problem_type": "single_label_classification"})
    seed("json", "bert-labels", BERT | {"num_labels": 3, "classifier_dropout": None})
    parts = {"vision_config": VIT, "text_config": BERT}
    seed("json", "dual", {"model_type": "vision-text-dual-encoder", "projection_dim": 8} | parts)
    seed("json", "multimodal", {"model_type": "duet-multimodal-classifier"} | parts | LABELS)
    seed("json", "image-pair", VIT | {"image_size": [16, 16], "patch_size": [8, 8], "hidden_act": "gelu_new"})
    seed("json", "scalars", '[0, -1, 1.5e308, 2e-320, 18446744073709551615, "\\u00e9\\ud83d\\ude00", true, null, {}]')
    seed("json", "deep", "[" * 40 + "{\"a\": {}}" + "]" * 40)
    seed("json", "twice", '{"hidden_size": 1, "hidden_size": 2}')
    seed("json", "cut", '{"hidden_size": 1')


def make_images():
    for path in sorted(IMAGES.glob("*.png")) + sorted(IMAGES.glob("*.jpg")):
        if path.name.startswith(("c0_d8", "c2_d8", "c3_d4", "c4_d16", "c6_d8", "exif6", "cmyk", "ycck", "grey",
                                 "progressive", "rgb.", "ycc420")):
            shutil.copy(path, CORPUS / "image" / path.name)
    data = (IMAGES / "c2_d8.png").read_bytes()
    seed("image", "cut.png", data[: len(data) // 2])
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 6, 0, 0, 1)
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    seed("image", "giant.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    out = io.BytesIO()
    Image.new("L", (20000, 3), 9).save(out, "JPEG")
    seed("image", "wide.jpg", out.getvalue())
    jpeg = (IMAGES / "ycc420.jpg").read_bytes()
    seed("image", "cut.jpg", jpeg[: len(jpeg) - 30])


def make_manifests():
    rows = [{"id": "1", "image": "a/b.png", "text": "red cat", "label": "x", "split": "train"},
            {"id": "2", "image": "f.idx#17", "label": "y", "split": "val"},
            {"id": "3", "text": "", "split": "test", "more": [1, {}]},
            {"id": "4", "text": None, "image": "c.png", "label": None, "split": "test"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    seed("manifest", "rows", lines)
    seed("manifest", "described", json.dumps({"name": "n", "labels": ["x", "y"]}) + "\0" + lines)
    seed("manifest", "unknown-label", json.dumps({"labels": ["x"]}) + "\0" + lines)
    seed("manifest", "blank-lines", "\n \t\r\n" + lines.replace("\n", "\r\n"))
    for name, row in {"climbs": {"id": "1", "image": "../a.png", "split": "train"},
                      "absolute": {"id": "1", "image": "/a.png", "split": "train"},
                      "split": {"id": "1", "text": "", "split": "dev"},
                      "number": {"id": 1, "text": "", "split": "train"},
                      "empty-label": {"id": "1", "text": "", "label": "", "split": "train"}}.items():
        seed("manifest", name, json.dumps(row))
    seed("manifest", "twice", lines + lines)
    seed("manifest", "no-object", "[1]\n" + lines)
    seed("manifest", "labels-twice", '{"labels": ["x", "x"]}\0' + lines)


def make_preprocessors():
    seed("preprocessor", "empty", {})
    seed("preprocessor", "vit", {"image_processor_type": "ViTImageProcessor", "do_resize": True, "resample": 2,
                                 "size": {"height": 8, "width": 9}, "do_rescale": True, "rescale_factor": 1 / 255,
                                 "do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": 0.5})
    seed("preprocessor", "clip", {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 10},
                                  "crop_size": {"height": 8, "width": 9}, "do_center_crop": True, "resample": "bicubic"})
    seed("preprocessor", "old-clip", {"feature_extractor_type": "CLIPFeatureExtractor", "size": 7, "crop_size": 8})
    seed("preprocessor", "old-vit", {"feature_extractor_type": "ViTFeatureExtractor", "size": 7, "resample": 1})
    seed("preprocessor", "pad", {"duet_fit": "pad", "size": 7, "resample": 0})
    seed("preprocessor", "off", {"do_resize": False, "do_rescale": False, "do_normalize": False})
    seed("preprocessor", "longest", {"size": {"longest_edge": 8}, "do_pad": True})
    seed("preprocessor", "other", {"image_processor_type": "BeitImageProcessor", "crop_pct": 0.9})


def dictionary(target, words, raw=()):
    """JSON keys and values, quoted, and strings of C for bytes."""
    lines = ['"\\"%s\\""' % w for w in words] + ['"%s"' % r for r in raw]
    (HERE / "dictionary" / f"{target}.dict").write_text("\n".join(lines) + "\n")


def make_dictionaries():
    signs = ["{}", "[]", ":", ",", "null", "true", "false", "1e308", "-1", "0", "0.5"]
    keys = set(VIT) | set(BERT) | set(LABELS) | {"vision_config", "text_config", "projection_dim", "num_labels"}
    types = ["vit", "bert", "vision-text-dual-encoder", "duet-multimodal-classifier", "gelu_new", "relu"]
    dictionary("json", sorted(keys | {"logit_scale_init_value", "classifier_dropout", "problem_type"}) + types, signs)
    dictionary("manifest", ["id", "image", "text", "label", "split", "train", "val", "test", "name", "labels"],
               signs + ["\\x00", "\\x0A", "../", "#1"])
    dictionary("preprocessor", ["image_processor_type", "feature_extractor_type", "do_resize", "size", "height",
                                "width", "shortest_edge", "resample", "do_center_crop", "crop_size", "do_rescale",
                                "rescale_factor", "do_normalize", "image_mean", "image_std", "duet_fit", "pad",
                                "stretch", "ViTImageProcessor", "CLIPImageProcessor", "lanczos", "nearest"], signs)
    dictionary("image", [], ["IHDR", "PLTE", "tRNS", "IDAT", "IEND", "eXIf", "\\x89PNG\\x0D\\x0A\\x1A\\x0A",
                             "\\xFF\\xD8", "\\xFF\\xC0", "\\xFF\\xC2", "\\xFF\\xC4", "\\xFF\\xDA", "\\xFF\\xDB",
                             "\\xFF\\xE1", "Exif\\x00\\x00", "MM\\x00*", "II*\\x00", "Adobe"])


def weights(header, data=b"", pad=0):
    text = (header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))).encode() + b" " * pad
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype, shape, begin, end, **more):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]} | more


def make_safetensors():
    floats = struct.pack("<2f", 1, 2)
    seed("safetensors", "golden", weights({"__metadata__": {"format": "pt"}, "b": entry("F32", [2], 0, 8),
                                           "a": entry("F16", [1], 8, 10)}, floats + b"\x00\x3c", 5))
    for dtype, size in (("BOOL", 1), ("I8", 1), ("F8_E4M3", 1), ("BF16", 2), ("I32", 4), ("F64", 8), ("I64", 8),
                        ("U64", 8), ("C64", 8)):
        seed("safetensors", dtype.lower(), weights({"x": entry(dtype, [1, 2], 0, 2 * size)}, bytes(2 * size)))
    seed("safetensors", "f4", weights({"x": entry("F4", [4], 0, 2)}, b"ab"))
    seed("safetensors", "rank-7", weights({"x": entry("U8", [1] * 7, 0, 1)}, b"a"))
    seed("safetensors", "empty", weights({}))
    seed("safetensors", "scalar-and-none", weights({"s": entry("F32", [], 0, 4), "n": entry("F32", [0, 3], 4, 4)}, floats[:4]))
    seed("safetensors", "overlap", weights({"x": entry("U8", [4], 0, 4), "y": entry("U8", [4], 2, 6)}, b"123456"))
    seed("safetensors", "overflow", weights({"x": entry("F32", [2**32, 2**32], 0, 8)}, floats))
    seed("safetensors", "twice", weights('{"x":' + json.dumps(entry("U8", [0], 0, 0)) + ',"x":{}}'))
    seed("safetensors", "spaces", weights(" \n{} \t"))
    seed("safetensors", "cut", weights({"x": entry("F32", [2], 0, 8)}, floats[:7]))
    seed("safetensors", "too-long", struct.pack("<Q", 2**63) + b"{}")
    seed("safetensors", "lfs-pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", ",",
         "low", "lowest", "\u535a", "\u03b1", "##\u03b2"]
TEXT = "UNwant\u00c9d,running [MASK] \u535a\u63a8 \ud55c lowest"


def pipeline(**changes):
    special = {t: {"id": t, "ids": [WORDS.index(t)], "tokens": [t]} for t in ("[CLS]", "[SEP]")}
    cls, sep = ({"SpecialToken": {"id": t, "type_id": 0}} for t in ("[CLS]", "[SEP]"))
    a, b = ({"Sequence": {"id": s, "type_id": i}} for i, s in enumerate("AB"))
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True} for i, t in enumerate(WORDS[:5])],
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                           "strip_accents": None, "lowercase": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing", "single": [cls, a, sep],
                               "pair": [cls, a, sep, b, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
                               "special_tokens": special},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": {t: i for i, t in enumerate(WORDS)}}} | changes


def make_tokenizers():
    def tokenizer(name, tokens, config=None, text=TEXT):
        parts = [json.dumps(tokens), json.dumps(config) if config is not None else "", text]
        seed("tokenizer", name, "\0".join(parts))

    tokenizer("plain", pipeline())
    tokenizer("cased", pipeline(), {"do_lower_case": False, "strip_accents": False, "tokenize_chinese_chars": False})
    tokenizer("settings", pipeline(), {"tokenizer_class": "BertTokenizer", "model_max_length": 1e30,
                                       "unk_token": {"content": "[UNK]"}, "truncation_side": "left",
                                       "added_tokens_decoder": {"4": {"content": "[MASK]", "lstrip": True}}})
    tokenizer("cut", pipeline(truncation={"direction": "Left", "max_length": 6, "strategy": "LongestFirst", "stride": 0}))
    tokenizer("pad", pipeline(padding={"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": 8,
                                       "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}))
    tokenizer("bert-processing", pipeline(post_processor={"type": "BertProcessing", "sep": ["[SEP]", 3],
                                                          "cls": ["[CLS]", 2]}))
    added = {"id": 18, "content": "new word", "single_word": True, "lstrip": True, "rstrip": True, "normalized": True,
             "special": False}
    tokenizer("added", pipeline(added_tokens=pipeline()["added_tokens"] + [added]), text="a New  Word, b")
    tokenizer("far-id", pipeline(added_tokens=[added | {"id": 2**31 - 1}]))
    tokenizer("negative-id", pipeline(model={"vocab": {"[UNK]": -1}}))
    tokenizer("other-model", pipeline(model={"type": "BPE", "vocab": {}, "merges": []}))
    tokenizer("empty", {})


def make_vocabularies():
    words = "\n".join(WORDS) + "\n"
    for choice in (0, 1, 2, 3, 5, 13, 16, 19, 31):
        seed("vocab", f"options-{choice}", bytes([choice]) + (words + "\0" + TEXT).encode())
    seed("vocab", "crlf-twice", b"\x03" + (words + words).replace("\n", "\r\n").encode() + b"\0low")
    seed("vocab", "no-special", b"\x03want\n\0want")
    seed("vocab", "invalid-utf8", b"\x03" + words.encode() + b"\0lo\xffw \xe5\x8d \xf4\x90\x80\x80")
    seed("vocab", "controls", b"\x03" + words.encode() + "\0a\u200bb\u0085c\ufeff \u202ed\u0345\U0001f600".encode())
    seed("vocab", "long-word", b"\x03" + words.encode() + b"\0" + b"low" * 60)


def main():
    for target in ("json", "image", "manifest", "preprocessor", "safetensors", "tokenizer", "vocab"):
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for old in (CORPUS / target).iterdir():
            if not old.name.startswith("found-"):
                old.unlink()
    make_json()
    make_images()
    make_manifests()
    make_preprocessors()
    make_safetensors()
    make_tokenizers()
    make_vocabularies()
    make_dictionaries()


main()
