#!/usr/bin/env python3
"""Compares duet's encoders and classifiers with Hugging Face Transformers, torchvision and timm on real texts and images.
Not part of the test suite; needs numpy, pillow, safetensors, torch, transformers and tokenizers; torchvision and timm
where they are there.

    venv/bin/python bench/parity/check_models.py --data DIR [--duet build/release/duet] [--model DIR...]

--data is a dataset directory with images and texts (duet data openclipart). Without --model: small random models of
every class that duet reads (BERT: model, masked language model, classifier; ViT: model, classifier; dual encoder; ViT as
torchvision and as timm name it). --model adds directories of pretrained BERT or ViT models. Each runs on 200 texts of
the data set, chosen for variety, or on 20 of its images as `duet preprocess` prepares them; last hidden state, pooled
output, projections and probabilities in float32 may differ by 2e-5 from those of PyTorch in float32. The models' token
ids are Transformers' own.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import save_file

TOLERANCE = 2e-5
TEXTS, IMAGES = 200, 20
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


class Report:
    def __init__(self):
        self.failed = False

    def compare(self, what, actual, expected):
        actual, expected = np.asarray(actual), np.asarray(expected)
        assert actual.shape == expected.shape, (what, actual.shape, expected.shape)
        difference = float(np.abs(actual.astype(np.float64) - expected).max())
        good = difference <= TOLERANCE
        self.failed |= not good
        print(f"{'ok  ' if good else 'FAIL'} {difference:.1e}  {what} {actual.shape}", flush=True)


def run(duet, *arguments):
    result = subprocess.run([duet, *arguments], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"duet {' '.join(arguments)} failed: {result.stderr}")
    return result.stdout


def choose(directory, where):
    """Dataset directories with varied texts and images of `directory`: shortest, longest, most unusual characters."""
    rows = [json.loads(line) for line in open(os.path.join(directory, "manifest.jsonl"))]
    texts = sorted({row["text"] for row in rows if row.get("text", "").strip()}, key=lambda t: (len(t), t))
    strange = sorted(texts, key=lambda t: -sum(ord(c) > 127 for c in t))[: TEXTS // 4]
    step = max(1, len(texts) // (TEXTS * 3 // 4))
    chosen = list(dict.fromkeys(strange + texts[-10:] + texts[::step]))[:TEXTS]
    assert len(chosen) == TEXTS, f"{directory} has too few texts"
    images = [os.path.join(os.path.abspath(directory), row["image"]) for row in rows if row.get("image")]
    images = images[:: len(images) // IMAGES][:IMAGES]
    data = os.path.join(where, "data")
    os.makedirs(data)
    for i, image in enumerate(images):
        shutil.copy(image, os.path.join(data, f"{i}{os.path.splitext(image)[1]}"))
    with open(os.path.join(data, "manifest.jsonl"), "w") as f:
        for i, text in enumerate(chosen):
            row = {"id": str(i), "text": text, "label": "a", "split": "test"}
            if i < len(images):
                row["image"] = f"{i}{os.path.splitext(images[i])[1]}"
            f.write(json.dumps(row) + "\n")
    return data, chosen, images


def write_vocabulary(duet, directory, where):
    path = os.path.join(where, "vocab.txt")
    run(duet, "vocab", "--data", directory, "--vocab-size", "2000", "--out", path)
    return path


def randomise(model, seed=0):
    """Numbers far from the usual start, so that every term of a formula shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            one = p.ndim == 1 and name.endswith(("weight", "gamma"))
            p.copy_(1 + 0.1 * noise if one else 2 + 0 * noise if p.ndim == 0 else 0.5 / p.shape[-1] ** 0.5 * noise)
    return model.eval()


def tokens(directory, texts, longest):
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    return tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")


def embed(duet, model, data, modality, where, *more):
    path = os.path.join(where, "vectors.safetensors")
    run(duet, "embed", "--model", model, "--data", data, "--modality", modality, "--hidden", "--output", path, *more)
    with safe_open(path, "np") as f:
        ids = json.loads(f.metadata()["ids"])
    tensors = load_file(path)
    order = np.argsort([int(i) for i in ids])
    return {name: value[order] for name, value in tensors.items()}


def compare_text(report, name, found, hidden, pooled, mask, projected=None):
    mask = mask.numpy().astype(bool)
    assert (found["attention_mask"].astype(bool) == mask).all(), f"{name}: other tokens"
    report.compare(f"{name} last hidden state", found["last_hidden_state"][mask], hidden.numpy()[mask])
    report.compare(f"{name} pooled", found["pooled"], pooled.numpy())
    if projected is not None:
        report.compare(f"{name} projected", found["projected"], projected.numpy())


def check_bert(report, duet, directory, data, texts, where, name, longest=64):
    model = transformers.BertModel.from_pretrained(directory, attn_implementation="eager").eval()
    inputs = tokens(directory, texts, longest)
    with torch.no_grad():
        outputs = model(**inputs)
    found = embed(duet, directory, data, "text", where, "--max-length", str(longest))
    compare_text(report, name, found, outputs.last_hidden_state, outputs.pooler_output, inputs["attention_mask"])


def pixels(duet, directory, images, where):
    path, listing = os.path.join(where, "pixels.safetensors"), os.path.join(where, "images.txt")
    with open(listing, "w") as f:
        f.write("".join(image + "\n" for image in images))
    run(duet, "preprocess", "--model", directory, "--list", listing, "--output", path)
    tensors = load_file(path)
    return torch.from_numpy(np.stack([tensors[f"pixels.{i}"] for i in range(len(images))]))


def predict(duet, directory, data):
    lines = [json.loads(line) for line in run(duet, "predict", "--model", directory, "--data", data).splitlines()]
    lines.sort(key=lambda line: int(line["id"]))
    return np.array([list(line["probabilities"].values()) if isinstance(line["probabilities"], dict)
                     else line["probabilities"] for line in lines])


def only(data, key, where):
    """The data set with rows that have `key` alone beside the label."""
    directory = os.path.join(where, f"only-{key}")
    if not os.path.exists(directory):
        os.makedirs(directory)
        with open(os.path.join(directory, "manifest.jsonl"), "w") as f:
            for line in open(os.path.join(data, "manifest.jsonl")):
                row = json.loads(line)
                if key in row:
                    f.write(json.dumps({k: row[k] for k in ("id", key, "label", "split")}) + "\n")
        for entry in os.listdir(data):
            if entry != "manifest.jsonl":
                shutil.copy(os.path.join(data, entry), directory)
    return directory


def save_processors(directory, vocabulary, side):
    if vocabulary:
        transformers.BertTokenizer(vocabulary).save_pretrained(directory)
        with open(vocabulary) as source, open(os.path.join(directory, "vocab.txt"), "w") as target:
            target.write(source.read())
    if side:
        with open(os.path.join(directory, "preprocessor_config.json"), "w") as f:
            json.dump({"image_processor_type": "ViTImageProcessor", "size": {"height": side, "width": side},
                       "resample": 3, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.3, 0.2, 0.25]}, f)


def check_random(report, duet, data, texts, images, vocabulary, where):
    entries = sum(1 for _ in open(vocabulary))
    bert = dict(vocab_size=entries, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
                max_position_embeddings=64, attn_implementation="eager")
    vit = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, image_size=48,
               patch_size=8, attn_implementation="eager")
    text_data, image_data = only(data, "text", where), only(data, "image", where)

    def save(model, name, side=0, with_text=True):
        directory = os.path.join(where, name)
        randomise(model).save_pretrained(directory)
        save_processors(directory, vocabulary if with_text else None, side)
        return directory

    directory = save(transformers.BertModel(transformers.BertConfig(**bert)), "bert")
    check_bert(report, duet, directory, data, texts, where, "BertModel")

    model = transformers.BertForMaskedLM(transformers.BertConfig(**bert))
    directory = save(model, "bert-mlm")
    inputs = tokens(directory, texts, 64)
    with torch.no_grad():
        hidden = model.bert(**inputs).last_hidden_state
    found = embed(duet, directory, data, "text", where)
    compare_text(report, "BertForMaskedLM", found, hidden, hidden[:, 0], inputs["attention_mask"])

    model = transformers.BertForSequenceClassification(transformers.BertConfig(**bert, num_labels=5))
    directory = save(model, "bert-classifier")
    with torch.no_grad():
        expected = model(**tokens(directory, texts, 64)).logits.softmax(-1)
    report.compare("BertForSequenceClassification probabilities", predict(duet, directory, text_data), expected)

    model = transformers.ViTModel(transformers.ViTConfig(**vit))
    directory = save(model, "vit", 48, False)
    values = pixels(duet, directory, images, where)
    with torch.no_grad():
        outputs = model(values)
    found = embed(duet, directory, image_data, "image", where)
    report.compare("ViTModel last hidden state", found["last_hidden_state"], outputs.last_hidden_state.numpy())
    report.compare("ViTModel pooled", found["pooled"], outputs.pooler_output.numpy())

    model = transformers.ViTForImageClassification(transformers.ViTConfig(**vit, num_labels=5))
    directory = save(model, "vit-classifier", 48, False)
    with torch.no_grad():
        expected = model(values).logits.softmax(-1)
    report.compare("ViTForImageClassification probabilities", predict(duet, directory, image_data), expected)

    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
        transformers.ViTConfig(**vit), transformers.BertConfig(**bert), projection_dim=24)
    model = transformers.VisionTextDualEncoderModel(config)
    directory = save(model, "dual", 48)
    inputs = tokens(directory, texts, 64)
    with torch.no_grad():
        text, image = model.text_model(**inputs), model.vision_model(values)
        projected = [torch.nn.functional.normalize(project(part.pooler_output), dim=-1) for project, part in
                     ((model.text_projection, text), (model.visual_projection, image))]
    found = embed(duet, directory, data, "text", where)
    compare_text(report, "VisionTextDualEncoderModel text", found, text.last_hidden_state, text.pooler_output,
                 inputs["attention_mask"], projected[0])
    found = embed(duet, directory, data, "image", where)
    report.compare("VisionTextDualEncoderModel image hidden state", found["last_hidden_state"],
                   image.last_hidden_state.numpy())
    report.compare("VisionTextDualEncoderModel image projected", found["projected"], projected[1].numpy())

    for name, make in foreign_models().items():
        model = randomise(make())
        directory = os.path.join(where, name)
        os.makedirs(directory)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()},
                  os.path.join(directory, "model.safetensors"), {"format": "pt"})
        save_processors(directory, None, 48)
        with torch.no_grad():
            expected = model(pixels(duet, directory, images, where)).softmax(-1)
        report.compare(f"{name} ViT probabilities", predict(duet, directory, image_data), expected)


def foreign_models():
    models = {}
    try:
        import torchvision
        models["torchvision"] = lambda: torchvision.models.VisionTransformer(
            image_size=48, patch_size=8, num_layers=3, num_heads=2, hidden_dim=128, mlp_dim=96, num_classes=5)
    except ImportError:
        print("skip          torchvision is not installed")
    try:
        import timm
        models["timm"] = lambda: timm.models.vision_transformer.VisionTransformer(
            img_size=48, patch_size=8, embed_dim=128, depth=3, num_heads=2, mlp_ratio=0.75, num_classes=5,
            init_values=0.1)
    except ImportError:
        print("skip          timm is not installed")
    return models


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duet", default="build/release/duet")
    parser.add_argument("--data", required=True, help="dataset directory with images and texts")
    parser.add_argument("--model", action="append", default=[], help="directory of a pretrained BERT model")
    arguments = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as where:
        data, texts, images = choose(arguments.data, where)
        vocabulary = write_vocabulary(arguments.duet, arguments.data, where)
        check_random(report, arguments.duet, data, texts, images, vocabulary, where)
        for directory in arguments.model:
            check_bert(report, arguments.duet, directory, data, texts, where, os.path.basename(os.path.abspath(directory)),
                       longest=128)
    sys.exit(report.failed)


if __name__ == "__main__":
    main()
