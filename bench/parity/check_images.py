#!/usr/bin/env python3
"""Compares `duet preprocess` with Pillow and NumPy on real images, byte for byte and float for float.

    python bench/parity/check_images.py --duet build/release/duet --images /usr/share/openclipart/png

Every configuration prepares the same images. The reference opens a file with Pillow, applies the EXIF orientation,
converts to RGB (alpha dropped, see convert() for the cases that Pillow treats otherwise), resizes and crops; the bytes
must be equal. The floats must be within one unit in the last place of float32((value * factor) in double), minus mean,
divided by deviation.

Pillow 13 resizes columns before rows when the height shrinks more than the width, which moves some values by one level;
duet always takes rows first, as Pillow did before. The reference therefore makes two resizes of one axis each, rows
first. How many images one call of this Pillow's resize would have given the same bytes is reported beside it.
"""

import argparse
import collections
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import PIL
from PIL import Image, ImageOps
from safetensors.numpy import load_file

LARGEST = 50_000_000
CHUNK = 50
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
VIT = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
CLIP = {"image_processor_type": "CLIPImageProcessor", "image_mean": MEAN, "image_std": STD}
CONFIGURATIONS = {
    "vit bilinear 224": VIT | {"size": {"height": 224, "width": 224}, "resample": 2},
    "vit bicubic 384": VIT | {"size": 384, "resample": 3},
    "clip bicubic 224": CLIP | {"size": {"shortest_edge": 224}, "crop_size": 224, "resample": 3},
    "clip odd 100 > 131": CLIP | {"size": 100, "crop_size": {"height": 131, "width": 87}, "resample": 2},
    "lanczos 160x96": VIT | {"size": {"height": 96, "width": 160}, "resample": 1},
    "box 64": VIT | {"size": 64, "resample": "box", "rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0},
    "hamming 77": VIT | {"size": 77, "resample": 5, "do_normalize": False},
    "nearest 200": VIT | {"size": 200, "resample": 0, "do_rescale": False},
}


def convert(image):
    """RGB as duet makes it with --no-white. Pillow clips 16-bit grey to 255; duet takes the high byte, as for colour."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    return image.convert("RGB")


def target_size(image, config):
    size, (width, height) = config["size"], image.size
    if isinstance(size, int):
        size = {"shortest_edge": size} if config["image_processor_type"].startswith("CLIP") else {"height": size, "width": size}
    if "height" in size:
        return size["width"], size["height"]
    edge, short, long = size["shortest_edge"], min(width, height), max(width, height)
    other = int(edge * long / short)
    return (edge, other) if width <= height else (other, edge)


def crop(values, config):
    if not config["image_processor_type"].startswith("CLIP"):
        return values
    size = config["crop_size"]
    height, width = (size, size) if isinstance(size, int) else (size["height"], size["width"])
    top, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    padded = np.pad(values, [(height, height), (width, width), (0, 0)])
    return padded[top + height : top + 2 * height, left + width : left + 2 * width]


def resampling(config):
    value = config["resample"]
    return Image.Resampling[value.upper()] if isinstance(value, str) else Image.Resampling(value)


def floats(values, config):
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    scaled = (values.astype(np.float64) * factor).astype(np.float32)
    if config.get("do_normalize", True):
        mean = np.broadcast_to(np.array(config["image_mean"], np.float32), 3)
        std = np.broadcast_to(np.array(config["image_std"], np.float32), 3)
        scaled = (scaled - mean) / std
    return scaled.transpose(2, 0, 1)


def choose(directory, count, seed):
    """`count` readable images under the directory, and what was left out."""
    paths = sorted(p for p in pathlib.Path(directory).rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
    random.Random(seed).shuffle(paths)
    chosen, large, modes = [], 0, collections.Counter()
    for path in paths:
        if len(chosen) == count:
            break
        try:
            with Image.open(path) as image:
                pixels, mode = image.width * image.height, image.mode
        except OSError as error:
            sys.exit(f"check_images: {path}: {error}")
        if pixels > LARGEST:
            large += 1
            continue
        modes[mode] += 1
        chosen.append(path)
    return chosen, large, modes


def run_duet(duet, config, paths, directory):
    processor, listing, output = directory / "processor.json", directory / "list.txt", directory / "out.safetensors"
    processor.write_text(json.dumps(config))
    listing.write_text("".join(f"{p}\n" for p in paths))
    command = [duet, "preprocess", "--processor", processor, "--list", listing, "--output", output, "--bytes", "--no-white"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"check_images: duet failed: {done.stderr}")
    return load_file(output)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duet", default="build/release/duet")
    parser.add_argument("--images", required=True, help="directory of PNG and JPEG files, searched recursively")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of palettes with transparency, and of large images
    paths, large, modes = choose(arguments.images, arguments.count, arguments.seed)
    print(f"images    {len(paths)} ({', '.join(f'{m} {n}' for m, n in modes.most_common())}); "
          f"{large} of more than {LARGEST // 1_000_000} megapixels skipped; Pillow {PIL.__version__}")
    totals = {name: collections.Counter() for name in CONFIGURATIONS}
    worst = dict.fromkeys(CONFIGURATIONS, 0.0)
    with tempfile.TemporaryDirectory() as directory:
        for begin in range(0, len(paths), CHUNK):
            part = paths[begin : begin + CHUNK]
            results = {n: run_duet(arguments.duet, c, part, pathlib.Path(directory)) for n, c in CONFIGURATIONS.items()}
            for i, path in enumerate(part):
                with Image.open(path) as opened:
                    image = convert(opened)
                for name, config in CONFIGURATIONS.items():
                    size, filter_ = target_size(image, config), resampling(config)
                    rows_first = image.resize((size[0], image.height), filter_).resize(size, filter_)
                    expected = crop(np.asarray(rows_first), config)
                    got = results[name][f"bytes.{i}"]
                    same = got.shape == expected.shape and np.array_equal(got, expected)
                    totals[name]["same" if same else "different"] += 1
                    totals[name]["one_call"] += np.array_equal(expected, crop(np.asarray(image.resize(size, filter_)), config))
                    if not same:
                        print(f"differs   {name}: {path} {image.size} -> {expected.shape}")
                    reference, pixels = floats(got, config), results[name][f"pixels.{i}"]
                    error = np.abs(pixels - reference) / np.spacing(np.abs(reference))
                    worst[name] = max(worst[name], float(error.max()))
    print(f"{'configuration':20} {'same bytes':>10} {'different':>10} {'float error, ulp':>17} {'one Pillow call same':>21}")
    for name, total in totals.items():
        print(f"{name:20} {total['same']:10} {total['different']:10} {worst[name]:17.2f} {total['one_call']:21}")
    bad = sum(t["different"] for t in totals.values())
    if bad or max(worst.values()) > 1:
        sys.exit(f"check_images: {bad} images with other bytes, largest float error {max(worst.values()):.2f} ulp")


main()
