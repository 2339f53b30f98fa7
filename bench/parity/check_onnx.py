#!/usr/bin/env python3
"""Runs the ONNX files that `duet export` writes in ONNX Runtime and compares what they give. Not part of the test suite;
needs numpy, onnx, onnxruntime, pillow, safetensors, torch and transformers.

    venv/bin/python bench/parity/check_onnx.py [--duet build/release/duet] [--model DIR...]

Without --model: every class of model among tests/golden/fixtures, against the outputs that Transformers computed in
float64, as a whole batch, row by row and with more padding; and a text of padding alone against Transformers.
With --model: model or run directories, against `duet predict` and `duet embed --hidden` on images and texts of
different lengths. Every file also passes onnx.checker. A difference above 1e-4 fails.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import safetensors.numpy

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FIXTURES = os.path.join(ROOT, "tests", "golden", "fixtures")
TOLERANCE = 1e-4
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")

# Fixture, part, and which expected output each output of the file is. ViT's hidden states lack the final norm.
CASES = [("vit_model", "vision", {"last_hidden_state": "last_hidden_state", "pooler_output": "pooler_output"}),
         ("vit_classifier", "classifier", {"logits": "logits"}),
         ("bert_model", "text", {"last_hidden_state": "last_hidden_state", "pooler_output": "pooler_output"}),
         ("bert_classifier", "classifier", {"logits": "logits"}),
         ("bert_classifier", "text", {"last_hidden_state": "hidden.2"}),
         ("bert_masked_lm", "text", {"last_hidden_state": "hidden.2"}),
         ("dual_encoder", "vision", {"image_embeds": "image_embeds"}),
         ("dual_encoder", "text", {"text_embeds": "text_embeds"}),
         ("multimodal", "classifier", {"logits": "logits"}),
         ("multimodal", "text", {"last_hidden_state": "text.hidden.2"})]

TEXTS = ["a red bird on a branch", "house", "", "two cups and a very long spoon in a drawing of a kitchen", "!?"]


class Exported:
    """A part of a model directory as an ONNX Runtime session."""

    def __init__(self, duet, directory, part):
        with tempfile.TemporaryDirectory() as temporary:
            path = os.path.join(temporary, "model.onnx")
            subprocess.run([duet, "export", "--model", directory, "--onnx", path] + (["--part", part] if part else []),
                           check=True, stdout=subprocess.DEVNULL)
            model = onnx.load(path)
            onnx.checker.check_model(model, full_check=True)
            self.metadata = {p.key: p.value for p in model.metadata_props}
            self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.inputs = [i.name for i in self.session.get_inputs()]
        self.outputs = [o.name for o in self.session.get_outputs()]

    def run(self, inputs):
        values = self.session.run(None, {name: inputs[name] for name in self.inputs})
        for name, value in zip(self.outputs, values):
            assert np.isfinite(value).all(), name
        return dict(zip(self.outputs, values))


class Report:
    def __init__(self):
        self.failed = False

    def compare(self, what, actual, expected):
        assert actual.shape == expected.shape, (what, actual.shape, expected.shape)
        difference = float(np.abs(actual - expected).max())
        good = difference <= TOLERANCE
        self.failed |= not good
        print(f"{'ok  ' if good else 'FAIL'} {difference:.1e}  {what} {actual.shape}")


def with_padding(inputs, columns):
    """Text inputs with more padding at the end."""
    return {k: np.pad(v, ((0, 0), (0, columns))) if k in TEXT_INPUTS else v for k, v in inputs.items()}


def check_fixture(report, duet, name, part, outputs):
    directory = os.path.join(FIXTURES, name)
    expected = safetensors.numpy.load_file(os.path.join(directory, "expected.safetensors"))
    model = Exported(duet, directory, part)
    inputs = {k: expected[f"input.{k}"].astype(np.float32 if k == "pixel_values" else np.int64) for k in model.inputs}
    rows = len(next(iter(inputs.values())))
    whole = model.run(inputs)
    single = [model.run({k: v[i:i + 1] for k, v in inputs.items()}) for i in range(rows)]
    for output, key in outputs.items():
        wanted = expected[f"output.{key}"]
        what = f"{name} {part} {output}"
        report.compare(what, whole[output], wanted)
        report.compare(what + ", row by row", np.concatenate([s[output] for s in single]), wanted)
        if "input_ids" in inputs:
            padded = model.run(with_padding(inputs, 1))[output]
            padded = padded[:, :wanted.shape[1]] if output == "last_hidden_state" else padded
            report.compare(what + ", more padding", padded, wanted)


def check_all_padding(report, duet):
    """A text of padding alone attends to all of it evenly."""
    import torch
    import transformers
    directory = os.path.join(FIXTURES, "bert_model")
    reference = transformers.BertModel.from_pretrained(directory, attn_implementation="eager").eval()
    inputs = {"input_ids": np.arange(1, 11).reshape(2, 5), "attention_mask": np.array([[0] * 5, [1, 1, 1, 0, 0]]),
              "token_type_ids": np.zeros((2, 5), np.int64)}
    with torch.no_grad():
        wanted = reference(**{k: torch.from_numpy(v) for k, v in inputs.items()})
    got = Exported(duet, directory, "text").run(inputs)
    for output in ("last_hidden_state", "pooler_output"):
        report.compare(f"bert_model text {output}, a row of padding alone", got[output], wanted[output].numpy())


def run_duet(duet, *arguments, text=None):
    done = subprocess.run([duet, *arguments], input=text, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def make_samples(duet, directory, config, where):
    """A dataset directory with texts, and images that have the model's size already; what the files' inputs are."""
    from PIL import Image
    inputs = {}
    vision = config.get("vision_config", config if config["model_type"] == "vit" else None)
    rows = [{"id": str(i), "text": text, "split": "test"} for i, text in enumerate(TEXTS)]
    if vision:
        side = vision["image_size"]
        pixels = np.random.default_rng(1).integers(0, 256, (len(rows), side, side, 3), dtype=np.uint8)
        for row, image in zip(rows, pixels):
            row["image"] = row["id"] + ".png"
            Image.fromarray(image).save(os.path.join(where, row["image"]))
        path = os.path.join(directory, "preprocessor_config.json")
        with open(path) as f:
            processor = json.load(f)
        mean, deviation = (np.array(processor[k], np.float32) for k in ("image_mean", "image_std"))
        inputs["pixel_values"] = (((pixels / 255).astype(np.float32) - mean) / deviation).transpose(0, 3, 1, 2)
    if config["model_type"] != "vit":
        longest = config.get("text_config", config)["max_position_embeddings"]
        path = os.path.join(directory, "tokenizer_config.json")
        if os.path.exists(path):
            with open(path) as f:
                longest = int(min(longest, json.load(f).get("model_max_length", longest)))
        ids = [line["ids"] for line in run_duet(duet, "tokenize", "--model", directory, "--max-length", str(longest),
                                                text="".join(text + "\n" for text in TEXTS))]
        width = max(map(len, ids))
        inputs["input_ids"] = np.array([i + [0] * (width - len(i)) for i in ids])
        inputs["attention_mask"] = np.array([[1] * len(i) + [0] * (width - len(i)) for i in ids])
        inputs["token_type_ids"] = np.zeros_like(inputs["input_ids"])
    with open(os.path.join(where, "manifest.jsonl"), "w") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)
    return inputs


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def check_classifier(report, duet, directory, data, inputs):
    model = Exported(duet, directory, "classifier")
    labels = json.loads(model.metadata["labels"])
    lines = run_duet(duet, "predict", "--model", directory, "--data", data)
    wanted = np.array([[line["probabilities"][label] for label in labels] for line in lines])
    report.compare(f"{directory} classifier, probabilities", softmax(model.run(inputs)["logits"]), wanted)


def check_encoder(report, duet, directory, data, part, inputs):
    model = Exported(duet, directory, part)
    # duet embed by itself takes as many tokens as the encoder can, more than a model trained on short texts was given.
    choice = ["image"] if part == "vision" else ["text", "--max-length", str(inputs["input_ids"].shape[1])]
    lines = run_duet(duet, "embed", "--model", directory, "--hidden", "--data", data, "--modality", *choice)
    got = model.run(inputs)
    single = [model.run({k: v[i:i + 1] for k, v in inputs.items()}) for i in range(len(lines))]
    for i, line in enumerate(lines):  # without padding
        for name, outputs in (("in the batch", {k: v[i] for k, v in got.items()}),
                              ("on its own", {k: v[0] for k, v in single[i].items()})):
            wanted = np.array(line["last_hidden_state"])
            hidden = outputs["last_hidden_state"][:len(wanted)]
            what = f"{directory} {part}, sample {i} {name}"
            report.compare(what + ", last_hidden_state", hidden, wanted)
            report.compare(what + ", pooled", outputs.get("pooler_output", hidden[0]), np.array(line["pooled"]))
            if "projected" in line:
                embeds = outputs["image_embeds" if part == "vision" else "text_embeds"]
                report.compare(what + ", projected", embeds, np.array(line["projected"]))


def check_model(report, duet, directory):
    if os.path.exists(os.path.join(directory, "model", "config.json")):  # a run
        directory = os.path.join(directory, "model")
    with open(os.path.join(directory, "config.json")) as f:
        config = json.load(f)
    with tempfile.TemporaryDirectory() as data:
        inputs = make_samples(duet, directory, config, data)
        if config.get("architectures", [""])[0] in ("ViTForImageClassification", "BertForSequenceClassification",
                                                    "DuetMultimodalClassifier"):
            check_classifier(report, duet, directory, data, inputs)
        if "pixel_values" in inputs:
            check_encoder(report, duet, directory, data, "vision", inputs)
        if "input_ids" in inputs:
            check_encoder(report, duet, directory, data, "text", inputs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duet", default=os.path.join(ROOT, "build", "release", "duet"))
    parser.add_argument("--model", nargs="+", metavar="DIR")
    options = parser.parse_args()
    report = Report()
    for directory in options.model or []:
        check_model(report, options.duet, directory)
    if not options.model:
        for case in CASES:
            check_fixture(report, options.duet, *case)
        check_all_padding(report, options.duet)
    print("failed" if report.failed else "all within", TOLERANCE)
    return report.failed


if __name__ == "__main__":
    sys.exit(main())
