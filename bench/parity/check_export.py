#!/usr/bin/env python3
"""Loads model directories that duet wrote in Hugging Face Transformers and compares. Not part of the test suite; needs
the packages of tests/golden/make_fixtures.py, torchvision and pillow.

    venv/bin/python bench/parity/check_export.py [--duet build/release/duet] [DIR...]
    DUET_EXPORT_DIR=/tmp/export build/release/tests/test_golden --gtest_filter='*Export*'
    venv/bin/python bench/parity/check_export.py --fixtures /tmp/export

Of each model or run directory DIR (without any: one of every class, trained in some seconds on drawings made here):
- it loads without a missing, unexpected or mismatched key;
- what Transformers saves of it holds the same tensors, to the bit, and duet reads it into the same parameters, to the
  bit (the files that `duet export` makes of both are equal);
- the program in README.md runs, and for the multimodal classifier gives the probabilities of `duet predict`.
With --fixtures: the directories also give the outputs of the fixtures that they are named after.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import safetensors.torch
import torch
import transformers
from PIL import Image

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
from make_fixtures import FIXTURES, Multimodal  # noqa: E402

PROBLEMS = ("missing_keys", "unexpected_keys", "mismatched_keys")
COLOURS = {"red": (200, 40, 30), "green": (40, 180, 60), "blue": (30, 60, 200)}


def read_config(directory):
    with open(os.path.join(directory, "config.json")) as f:
        return json.load(f)


def read_weights(directory):
    return safetensors.torch.load_file(os.path.join(directory, "model.safetensors"))


def architecture_of(config):
    return config.get("architectures", [{"vit": "ViTModel", "bert": "BertModel"}.get(config["model_type"])])[0]


def load(directory):
    """The model and the keys that did not fit."""
    config = read_config(directory)
    if architecture_of(config) != "DuetMultimodalClassifier":
        model, info = getattr(transformers, architecture_of(config)).from_pretrained(
            directory, output_loading_info=True, attn_implementation="eager")
        return model, set().union(*(info[k] for k in PROBLEMS))
    # Ours, not one of Transformers: its parts are.
    model = Multimodal(transformers.ViTConfig(**config["vision_config"], attn_implementation="eager"),
                       transformers.BertConfig(**config["text_config"], attn_implementation="eager"),
                       len(config["id2label"]))
    without_pooler = ["vision_model"]
    if config.get("text_pooling") == "mean":
        model.text_model.pooler = None
        without_pooler.append("text_model")
    weights = read_weights(directory)
    problems = set(weights) ^ set(model.tensors())
    for part in ("vision_model", "text_model"):
        own = {k[len(part) + 1:]: v for k, v in weights.items() if k.startswith(part + ".")}
        module, info = type(getattr(model, part)).from_pretrained(
            None, config=getattr(model, part).config, state_dict=own, output_loading_info=True,
            **({"add_pooling_layer": False} if part in without_pooler else {}))
        setattr(model, part, module)
        problems |= set().union(*(info[k] for k in PROBLEMS))
    model.classifier.load_state_dict({k[11:]: v for k, v in weights.items() if k.startswith("classifier.")})
    return model, problems


def largest_difference(name, model):
    """Between the outputs of the loaded model and the fixture's, relative to the latter's largest magnitude."""
    path = os.path.join(FIXTURES, name, "expected.safetensors")
    expected = safetensors.torch.load_file(path)
    inputs = {k[6:]: v for k, v in expected.items() if k.startswith("input.") and "target" not in k}
    inputs = {k: v.long() if v.dtype == torch.int32 else v for k, v in inputs.items()}
    if name == "multimodal":
        with safetensors.safe_open(path, "pt") as f:
            inputs["label_smoothing"] = json.loads(f.metadata()["settings"])["label_smoothing"]
    model = model.double().eval()
    with torch.no_grad():
        outputs = model(**inputs)
    worst, compared = 0.0, 0
    for key in ("logits", "last_hidden_state", "pooler_output", "logits_per_text", "image_embeds"):
        if f"output.{key}" in expected:
            wanted = expected[f"output.{key}"]
            worst = max(worst, ((outputs[key] - wanted).abs().max() / wanted.abs().max()).item())
            compared += 1
    assert compared, name
    return worst


def same_tensors(a, b):
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].numpy().tobytes() == b[k].numpy().tobytes()
        for k in a)


def exports(duet, directory, where):
    """The bytes of the ONNX files of every part."""
    config = read_config(directory)
    parts = ["classifier"] if "Classif" in architecture_of(config) else []
    parts += ["vision"] if "vision_config" in config or config["model_type"] == "vit" else []
    parts += ["text"] if "text_config" in config or config["model_type"] == "bert" else []
    files = {}
    for part in parts:
        path = os.path.join(where, part + ".onnx")
        subprocess.run([duet, "export", "--model", directory, "--part", part, "--onnx", path], check=True,
                       stdout=subprocess.DEVNULL)
        with open(path, "rb") as f:
            files[part] = f.read()
    return files


def round_trip(duet, directory, model):
    """duet -> Transformers -> duet: what is not the same afterwards."""
    with tempfile.TemporaryDirectory() as where:
        again = os.path.join(where, "again")
        if isinstance(model, Multimodal):
            os.makedirs(again)
            safetensors.torch.save_file({k: v.contiguous() for k, v in model.tensors().items()},
                                        os.path.join(again, "model.safetensors"), {"format": "pt"})
            shutil.copy(os.path.join(directory, "config.json"), again)
        else:
            model.save_pretrained(again)
        problems = [] if same_tensors(read_weights(directory), read_weights(again)) else ["tensors differ"]
        return problems + ([] if exports(duet, directory, where) == exports(duet, again, where) else
                           ["duet reads other parameters"])


def make_data(where):
    """Drawings of all shapes, some transparent, with texts that the labels follow from."""
    os.makedirs(where)
    random = np.random.default_rng(1)
    rows = []
    for split, count in (("train", 16), ("val", 4), ("test", 6)):
        for i in range(count):
            for label, colour in COLOURS.items():
                width, height = random.integers(20, 70, 2)
                pixels = np.clip(np.array(colour) + random.integers(-30, 30, (height, width, 3)), 0, 255)
                alpha = random.integers(0, 256, (height, width, 1)) if i % 2 else np.full((height, width, 1), 255)
                row = {"id": f"{split}-{label}-{i}", "text": f"The {label} {['cup', 'hat', 'box', 'car'][i % 4]}, {i}!",
                       "label": label, "split": split, "image": f"{split}-{label}-{i}.png"}
                rgba = np.concatenate([pixels, alpha], axis=2).astype(np.uint8)
                Image.fromarray(rgba if i % 2 else rgba[:, :, :3]).save(os.path.join(where, row["image"]))
                rows.append(row)
    with open(os.path.join(where, "manifest.jsonl"), "w") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)
    with open(os.path.join(where, "dataset.json"), "w") as f:
        json.dump({"name": "drawings", "labels": list(COLOURS)}, f)


def train_miniatures(duet, where):
    """A run directory of each class of model."""
    data, vocab = os.path.join(where, "data"), os.path.join(where, "vocab.txt")
    make_data(data)
    subprocess.run([duet, "vocab", "--data", data, "--out", vocab, "--vocab-size", "100"], check=True,
                   capture_output=True)
    common = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    for name, more in (("vision", {"image_size": 32, "patch_size": 8}), ("text", {"max_position_embeddings": 24})):
        with open(os.path.join(where, name + ".json"), "w") as f:
            json.dump(common | more, f)
    runs = {"image": ["pretrain", "vision"], "text": ["pretrain", "text"],
            "masked": ["pretrain", "text", "--objective", "mlm"], "joint": ["pretrain", "joint"],
            "pad": ["finetune", "--strategy", "concat-scratch", "--fit", "pad"],
            "stretch": ["finetune", "--strategy", "concat-scratch", "--fit", "stretch"],
            "mean": ["finetune", "--strategy", "concat-scratch", "--text-pooling", "mean"]}
    for name, command in runs.items():
        subprocess.run([duet, *command, "--data", data, "--out", os.path.join(where, name), "--vocab", vocab,
                        "--vision-config", os.path.join(where, "vision.json"), "--text-config",
                        os.path.join(where, "text.json"), "--max-length", "12", "--steps", "60", "--batch", "16", "--lr",
                        "3e-3", "--threads", "1"], check=True, capture_output=True)
    return [os.path.join(where, name) for name in runs], data


def run_readme(directory, *arguments):
    with open(os.path.join(directory, "README.md")) as f:
        program = re.search(r"^```python\n(.*?)^```$", f.read(), re.MULTILINE | re.DOTALL).group(1)
    with tempfile.TemporaryDirectory() as where:
        path = os.path.join(where, "classify.py")
        with open(path, "w") as f:
            f.write(program)
        done = subprocess.run([sys.executable, path, directory, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_readme(duet, directory, data, samples=3):
    """The largest difference of a probability from duet's; None when the README only loads the model."""
    if architecture_of(read_config(directory)) != "DuetMultimodalClassifier":
        run_readme(directory)
        return None
    with open(os.path.join(data, "manifest.jsonl")) as f:
        rows = [json.loads(line) for line in f]
    worst, rows = 0.0, [row for row in rows if row["split"] == "test" and "text" in row and "image" in row]
    for row in rows[::max(1, len(rows) // samples)][:samples]:
        image, text = os.path.join(data, row["image"]), row["text"]
        done = subprocess.run([duet, "predict", "--model", directory, "--image", image, "--text", text], check=True,
                              capture_output=True, text=True)
        wanted = json.loads(done.stdout)["probabilities"]
        got = dict(reversed(line.split("  ", 1)) for line in run_readme(directory, image, text).splitlines())
        assert got.keys() == wanted.keys(), (got, wanted)
        worst = max([worst] + [abs(float(got[label]) - wanted[label]) for label in wanted])
    return worst


def check(duet, directory, data=None, fixture=None):
    if os.path.exists(os.path.join(directory, "model", "config.json")):  # a run
        directory = os.path.join(directory, "model")
    model, problems = load(directory)
    problems = sorted(map(str, problems)) + round_trip(duet, directory, model)
    notes = [type(model).__name__]
    if os.path.exists(os.path.join(directory, "README.md")):
        difference = check_readme(duet, directory, data) if data else None
        if difference is not None:
            notes.append(f"README.md's program and duet predict differ by {difference:.1e}")
            problems += ["probabilities differ"] if difference > 1e-4 else []
        elif data:
            notes.append("README.md's program runs")
    if fixture:
        difference = largest_difference(fixture, model)
        notes.append(f"largest relative difference from the fixture {difference:.1e}")
        problems += ["outputs differ"] if difference >= 1e-10 else []
    print("FAIL" if problems else "ok  ", directory, ", ".join(notes), *problems, flush=True)
    return not problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duet", default=os.path.join(ROOT, "build", "release", "duet"))
    parser.add_argument("--fixtures", metavar="DIR", help="holds directories named after fixtures")
    parser.add_argument("--data", help="dataset directory whose test split README.md's program is run on")
    parser.add_argument("directories", nargs="*", metavar="DIR")
    options = parser.parse_args()
    if options.fixtures:
        names = sorted(os.listdir(options.fixtures))
        results = [check(options.duet, os.path.join(options.fixtures, name), fixture=name) for name in names]
    elif options.directories:
        results = [check(options.duet, directory, options.data) for directory in options.directories]
    else:
        with tempfile.TemporaryDirectory() as where:
            directories, data = train_miniatures(options.duet, where)
            results = [check(options.duet, directory, data) for directory in directories]
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
