#!/usr/bin/env python3
"""Loads model directories that duet wrote in Hugging Face Transformers and compares what they compute. Not part of the
test suite; needs the packages of make_fixtures.py. To run it:

    DUET_EXPORT_DIR=/tmp/export build/release/tests/test_golden --gtest_filter='*Export*'
    venv/bin/python tests/golden/check_export.py /tmp/export

Every directory must load without a missing, unexpected or mismatched key and give the outputs of its fixture. For a
directory of another model, e.g. RUN/model of a training run, pass it as --load DIR: only its keys are checked then.
"""
import json
import os
import sys

import safetensors.torch
import torch
import transformers

from make_fixtures import FIXTURES, Multimodal


def load(directory):
    """The model and the keys that did not fit."""
    with open(os.path.join(directory, "config.json")) as f:
        config = json.load(f)
    architecture = config.get("architectures", [{"vit": "ViTModel", "bert": "BertModel"}.get(config["model_type"])])[0]
    if architecture == "DuetMultimodalClassifier":  # ours, not one of Transformers: its parts are
        model = Multimodal(transformers.ViTConfig(**config["vision_config"], attn_implementation="eager"),
                           transformers.BertConfig(**config["text_config"], attn_implementation="eager"),
                           len(config["id2label"]))
        weights = safetensors.torch.load_file(os.path.join(directory, "model.safetensors"))
        problems = set(weights) ^ set(model.tensors())
        for part in ("vision_model", "text_model"):
            own = {k[len(part) + 1:]: v for k, v in weights.items() if k.startswith(part + ".")}
            module, info = type(getattr(model, part)).from_pretrained(
                None, config=getattr(model, part).config, state_dict=own, output_loading_info=True,
                **({"add_pooling_layer": False} if part == "vision_model" else {}))
            setattr(model, part, module)
            problems |= set().union(*(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")))
        model.classifier.load_state_dict({k[11:]: v for k, v in weights.items() if k.startswith("classifier.")})
        return model, problems
    model, info = getattr(transformers, architecture).from_pretrained(directory, output_loading_info=True,
                                                                      attn_implementation="eager")
    return model, set().union(*(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")))


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


def main(arguments):
    failed = False
    if arguments[:1] == ["--load"]:
        directories = {directory: None for directory in arguments[1:]}
    else:
        root = arguments[0]
        directories = {os.path.join(root, name): name for name in sorted(os.listdir(root))}
    for directory, fixture in directories.items():
        model, problems = load(directory)
        difference = largest_difference(fixture, model) if fixture else 0.0
        good = not problems and difference < 1e-10
        failed |= not good
        print("ok  " if good else "FAIL", directory, type(model).__name__, sorted(map(str, problems)),
              f"largest difference {difference:.1e}" if fixture else "")
    return 1 if failed or not directories else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
